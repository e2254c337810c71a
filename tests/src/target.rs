//! A server of recorded pages, in place of a kubelet or kube-proxy.

use std::{fs, net::SocketAddr, path::Path};

use crate::page_server::serve;

/// Serves `fixtures/<version>/pages/<name>.txt` at `/<name>`, as long as the test runs.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    address: SocketAddr,
}

impl Target {
    /// Starts one for the pages of a version of Kubernetes.
    #[must_use]
    pub fn start(version: &'static str) -> Self {
        Self::start_with(version, |page| page)
    }

    /// The same with something done to each page before it is served.
    #[must_use]
    pub fn start_with(
        version: &'static str,
        change: impl Fn(String) -> String + Send + Sync + 'static,
    ) -> Self {
        let page =
            move |path: &str| change(recorded(version, path.trim_start_matches('/'))).into_bytes();
        Self { address: serve("text/plain; version=0.0.4; charset=utf-8", page) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.address
    }

    /// The URL of a page.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }
}

/// A recorded page.
#[must_use]
pub fn recorded(version: &str, name: &str) -> String {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version).join("pages");
    let path = pages.join(format!("{name}.txt"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

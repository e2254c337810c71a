//! A real Kubernetes API server with its etcd, in a temporary folder and on free ports of this machine.
//!
//! There are no controllers: a test makes owners and pods itself, and writes their status, so that it decides what is seen
//! and when. `cargo xtask test cluster` brings the programs; without them a test says that it is skipped.

mod api_server;
mod certificates;
mod etcd;
pub mod kubectl;
pub mod service_account;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use self::{
    api_server::ApiServer, certificates::Certificates, etcd::Etcd, kubectl::Kubectl,
    service_account::ServiceAccount,
};
use crate::tools::tool;

/// How long a test waits for a component: on a busy machine the API server alone takes half a minute to start.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the programs are.
#[derive(Clone, Debug)]
struct Programs(PathBuf);

impl Programs {
    fn find() -> Option<Self> {
        tool("PODMETER_KUBERNETES").map(Self)
    }

    /// A component of Kubernetes.
    fn compiled(&self, name: &str) -> PathBuf {
        self.0.join("compiled").join(name)
    }

    /// A program of a Debian package, by its path there.
    fn debian(&self, path: &str) -> PathBuf {
        self.0.join("debian").join(path)
    }
}

/// A running API server, and what a test does with it.
#[derive(Debug)]
pub struct Cluster {
    kubectl: Kubectl,
    certificates: Certificates,
    programs: Programs,
    // Ends before its etcd.
    api_server: ApiServer,
    etcd: Etcd,
    dir: TempDir,
}

impl Cluster {
    /// Starts one, or gives nothing after saying that the programs are not there.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further flags of the API server.
    ///
    /// `--watch-cache-sizes=pods#0` makes it answer every watch from etcd: then a compaction is seen at once.
    #[must_use]
    pub fn start_with(flags: &[&str]) -> Option<Self> {
        let programs = Programs::find()?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let certificates = Certificates::make(dir.path());
        let etcd = Etcd::start(&programs, dir.path());
        let api_server = ApiServer::start(&programs, dir.path(), &certificates, etcd.url(), flags);
        let kubectl = Kubectl::admin(&programs, dir.path(), &certificates, &api_server);
        let cluster = Self { kubectl, certificates, programs, api_server, etcd, dir };
        cluster.api_server.wait_until_ready(&cluster.certificates);
        Some(cluster)
    }

    /// Where the API is.
    #[must_use]
    pub fn url(&self) -> &str {
        self.api_server.url()
    }

    /// The certificate that the API server's is signed with.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        self.certificates.ca_file()
    }

    /// `kubectl` as an administrator.
    #[must_use]
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Writes the status of an object, as its controller or the kubelet would.
    ///
    /// The path is the object's in the API, such as `/api/v1/namespaces/shop/pods/web-0`.
    pub fn set_status(&self, path: &str, status: &Value) {
        let mut object = self.kubectl.get_raw(path);
        let fields = object.as_object_mut().expect("an object of the API");
        fields.insert("status".into(), status.clone());
        let path = format!("{path}/status");
        self.kubectl.with_input(&["replace", "--raw", &path, "-f", "-"], &object);
    }

    /// A ServiceAccount that exists, with a token of its own, as a pod would have them mounted.
    #[must_use]
    pub fn service_account(&self, namespace: &str, name: &str) -> ServiceAccount {
        ServiceAccount::mount(self, namespace, name)
    }

    /// Ends the API server at once, as a crash would: connections are reset, nothing is said.
    pub fn kill_api_server(&mut self) {
        self.api_server.kill();
    }

    /// Starts it again, on the same port and with the same objects, and waits until it serves.
    pub fn restart_api_server(&mut self) {
        self.api_server.kill();
        self.api_server.spawn();
        self.api_server.wait_until_ready(&self.certificates);
    }

    /// Stops the API server in mid-breath: connections stay open, and nothing comes through them.
    pub fn freeze_api_server(&self) {
        self.api_server.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw_api_server(&self) {
        self.api_server.signal("-CONT");
    }

    /// Makes etcd forget all history, and gives the revision that it forgot all before.
    ///
    /// A watch from a `resourceVersion` is gone if more than one change of anything came after it. But the API server still
    /// serves watches from its own cache, unless it is restarted or started without one.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn compact(&self) -> u64 {
        self.etcd.compact()
    }
}

/// Waits until the condition gives something, or fails the test.
pub fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        // Asking without a pause would take the CPU from the one that is asked.
        thread::park_timeout(PAUSE);
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    free.expect("there is a free port").port()
}

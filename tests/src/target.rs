//! A server of recorded pages, in place of a kubelet or kube-proxy.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
};

/// Serves `fixtures/<version>/pages/<name>.txt` at `/<name>`, as long as the test runs.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    address: SocketAddr,
}

impl Target {
    /// Starts one for the pages of a version of Kubernetes.
    #[must_use]
    pub fn start(version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        // The thread ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(&stream, version));
            }
        });
        Self { address }
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

/// Answers one request after the other; an end of the connection is no concern of the test.
fn serve(stream: &TcpStream, version: &str) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        let name = request.split(' ').nth(1)?.trim_start_matches('/').to_owned();
        while !lines.next()?.ok()?.is_empty() {}
        let page = recorded(version, &name);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            page.len()
        );
        let mut stream = stream;
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(page.as_bytes()).ok()?;
    }
}

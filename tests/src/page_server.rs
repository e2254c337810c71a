//! A server of pages, in place of another exporter.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// What is sent for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A whole page.
    Page(Vec<u8>),
    /// What there is so far: the answer stays open, as a watch does, and nothing more comes.
    Open(Vec<u8>),
    /// Nothing is at this path.
    NotFound,
    /// Another status, such as `401 Unauthorized`.
    Status(&'static str),
}

impl From<Vec<u8>> for Reply {
    fn from(page: Vec<u8>) -> Self {
        Self::Page(page)
    }
}

/// Serves what `page` gives for a path, under this `Content-Type`, as long as the test runs.
#[must_use]
pub fn serve<R: Into<Reply>>(
    content_type: &'static str,
    page: impl Fn(&str) -> R + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("a listener has an address");
    let page = Arc::new(page);
    // The thread ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let page = Arc::clone(&page);
            thread::spawn(move || answer(&stream, content_type, &|path: &str| page(path).into()));
        }
    });
    address
}

/// Answers one request after the other; an end of the connection is no concern of the test.
fn answer(mut stream: &TcpStream, content_type: &str, page: &dyn Fn(&str) -> Reply) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        let path = request.split(' ').nth(1)?;
        while !lines.next()?.ok()?.is_empty() {}
        let (status, length, body) = match page(path) {
            Reply::Page(page) => ("200 OK", format!("Content-Length: {}", page.len()), page),
            Reply::NotFound => ("404 Not Found", "Content-Length: 0".to_owned(), Vec::new()),
            Reply::Status(status) => (status, "Content-Length: 0".to_owned(), Vec::new()),
            Reply::Open(beginning) => {
                let mut chunk = format!("{:x}\r\n", beginning.len()).into_bytes();
                chunk.extend(beginning);
                chunk.extend(b"\r\n");
                ("200 OK", "Transfer-Encoding: chunked".to_owned(), chunk)
            }
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{length}\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&body).ok()?;
    }
}

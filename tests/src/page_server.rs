//! A server of pages, in place of another exporter.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError, mpsc::Receiver},
    thread,
};

/// What is sent for a path.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole page.
    Page(Vec<u8>),
    /// What there is so far: the answer stays open, as a watch does, and nothing more comes.
    Open(Vec<u8>),
    /// What there is so far, and then each piece as it comes, until nobody is left to give one.
    Stream(Arc<Mutex<Receiver<Vec<u8>>>>),
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
            Reply::Open(beginning) => ("200 OK", CHUNKED.to_owned(), chunk(&beginning)),
            Reply::Stream(pieces) => {
                stream.write_all(head("200 OK", content_type, CHUNKED).as_bytes()).ok()?;
                for piece in &*pieces.lock().unwrap_or_else(PoisonError::into_inner) {
                    stream.write_all(&chunk(&piece)).ok()?;
                }
                stream.write_all(b"0\r\n\r\n").ok()?;
                continue;
            }
        };
        stream.write_all(head(status, content_type, &length).as_bytes()).ok()?;
        stream.write_all(&body).ok()?;
    }
}

/// The header of an answer whose end is not known yet.
const CHUNKED: &str = "Transfer-Encoding: chunked";

fn head(status: &str, content_type: &str, length: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{length}\r\n\r\n")
}

fn chunk(piece: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}

//! A server of pages, in place of another exporter.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// Serves what `page` gives for a path, under this `Content-Type`, as long as the test runs.
#[must_use]
pub fn serve(
    content_type: &'static str,
    page: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("a listener has an address");
    let page = Arc::new(page);
    // The thread ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let page = Arc::clone(&page);
            thread::spawn(move || answer(&stream, content_type, page.as_ref()));
        }
    });
    address
}

/// Answers one request after the other; an end of the connection is no concern of the test.
fn answer(
    mut stream: &TcpStream,
    content_type: &str,
    page: &dyn Fn(&str) -> Vec<u8>,
) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        let path = request.split(' ').nth(1)?;
        while !lines.next()?.ok()?.is_empty() {}
        let page = page(path);
        let n_bytes = page.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {n_bytes}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&page).ok()?;
    }
}

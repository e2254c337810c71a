//! A target that serves one page, as a recorded exporter would.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Serves a page at every path until the test ends.
#[must_use]
pub fn serve(content_type: &'static str, page: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("a listener has an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let page = page.clone();
            thread::spawn(move || stream.and_then(|stream| answer(stream, content_type, &page)));
        }
    });
    address
}

/// Answers each request of a connection; one that has a body is none that a scraper sends.
fn answer(stream: TcpStream, content_type: &str, page: &[u8]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut stream = stream;
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
                page.len()
            )?;
            stream.write_all(page)?;
        }
    }
    Ok(())
}

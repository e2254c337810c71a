//! A server that is posted to, in place of a receiver of remote write that is broken in a way that no real one can be told
//! to be.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::net::sockopt;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is answered by this status, such as `429 Too Many Requests`, which headers may follow on lines of their own.
    Status(&'static str),
    /// It is not answered, and the connection stays.
    Silence,
    /// The connection is reset.
    Reset,
}

/// What a receiver of 1.0 says that has taken a request.
pub const TAKEN: Answer = Answer::Status("204 No Content");

/// Answers each request by what `answer` makes of its first line and its headers, which are in small letters, as long as
/// the test runs.
#[must_use]
pub fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("a listener has an address");
    let answer = Arc::new(answer);
    // The thread ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || one_after_the_other(&stream, &*answer));
        }
    });
    address
}

/// An end of the connection is no concern of the test.
fn one_after_the_other(mut stream: &TcpStream, answer: &dyn Fn(&str) -> Answer) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let n_bytes = reader.read_line(&mut head).ok()?;
            (n_bytes > 0).then_some(())?;
        }
        head.make_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        match answer(&head) {
            Answer::Status(status) => {
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).ok()?;
            }
            Answer::Silence => {
                // The client ends it.
                reader.read_exact(&mut [0]).ok()?;
            }
            Answer::Reset => {
                sockopt::set_socket_linger(stream, Some(Duration::ZERO)).ok()?;
                return None;
            }
        }
    }
}

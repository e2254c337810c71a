//! The floor under the costs of any relay: a process that fetches the page when it is asked, and gives the same bytes
//! away. It looks at nothing; what it costs are its sockets.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result};

/// Where it stands.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where it serves.
    #[arg(long)]
    listen: SocketAddr,
    /// Whom it asks.
    #[arg(long)]
    target: SocketAddr,
}

/// Is the copier, until it is stopped.
pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen)
        .with_context(|| format!("failed to listen on {}", options.listen))?;
    let mut target = TcpStream::connect(options.target)
        .with_context(|| format!("failed to connect to {}", options.target))?;
    target.set_nodelay(true)?;
    let mut answer = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.context("failed to accept")?;
        if stream.read(&mut [0; 4096]).context("failed to read the request")? == 0 {
            continue;
        }
        let n_bytes = fetch(&mut target, &mut answer)?;
        let answer = answer.get(..n_bytes).unwrap_or_default();
        // Whoever asked may have left.
        drop(stream.write_all(answer));
    }
    Ok(())
}

/// Reads one answer, with its head, into a buffer that only grows; says how long it is.
fn fetch(target: &mut TcpStream, answer: &mut Vec<u8>) -> Result<usize> {
    target
        .write_all(b"GET /metrics/cadvisor HTTP/1.1\r\nHost: target\r\n\r\n")
        .context("failed to ask the target")?;
    let mut n_bytes = 0;
    let mut expected = None;
    while expected.is_none_or(|expected| n_bytes < expected) {
        let n_wanted = expected.unwrap_or(1 << 16);
        if answer.len() < n_wanted {
            answer.resize(n_wanted, 0);
        }
        let room = answer.get_mut(n_bytes..n_wanted).unwrap_or_default();
        let n_read = target.read(room).context("failed to read the page")?;
        anyhow::ensure!(n_read > 0, "the target closed in the middle of its page");
        n_bytes += n_read;
        if expected.is_none() {
            expected = length(answer.get(..n_bytes).unwrap_or_default());
        }
    }
    Ok(n_bytes)
}

/// How long an answer is, with its head, once the head is there.
fn length(answer: &[u8]) -> Option<usize> {
    const NAME: &str = "content-length:";

    let text = String::from_utf8_lossy(answer);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let of_body = head.lines().find_map(|line| {
        let value = line.to_ascii_lowercase().strip_prefix(NAME)?.trim().to_owned();
        value.parse::<usize>().ok()
    });
    Some(head.len() + 4 + of_body.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn an_answer_is_as_long_as_its_head_says() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"), None);
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), Some(38 + 5));
        assert_eq!(length(b"HTTP/1.1 204 No\r\n\r\n"), Some(19));
    }
}

//! One run of the exporter, and its page.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::measured::{self, Measured};

/// How long the exporter may take to give its first page, before the bench gives up.
const START_TIME: Duration = Duration::from_secs(20);
const SCRAPE_TIME: Duration = Duration::from_secs(10);

/// A running exporter; dropping this stops it.
#[derive(Debug)]
pub(crate) struct Exporter {
    process: Measured,
    address: SocketAddr,
}

impl Exporter {
    /// Starts it on a free port, with the rest of its configuration as it is given.
    pub(crate) fn start(podmeter: &Path, configuration: &str) -> Result<Self> {
        let address = measured::free_address()?;
        let config = measured::dir()?.join("podmeter.yaml");
        fs::write(&config, format!("listen: {address}\n{configuration}"))
            .context("failed to write the configuration")?;
        let mut command = Command::new(podmeter);
        command.args(["run", "--config"]).arg(&config);
        Ok(Self { process: Measured::start(&mut command, "podmeter")?, address })
    }

    /// The process.
    pub(crate) fn process(&self) -> &Measured {
        &self.process
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks until there is a complete page.
    pub(crate) fn first_page(&mut self) -> Result<String> {
        let deadline = Instant::now() + START_TIME;
        loop {
            match self.scrape() {
                Ok(page) => return Ok(page),
                Err(error) if self.process.has_ended() || Instant::now() > deadline => {
                    let log = self.process.log().display();
                    return Err(error)
                        .with_context(|| format!("there is no page; the log is {log}"));
                }
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Gets the page once.
    pub(crate) fn scrape(&self) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, SCRAPE_TIME)
            .with_context(|| format!("failed to connect to {}", self.address))?;
        stream.set_read_timeout(Some(SCRAPE_TIME))?;
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: text/plain\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).context("failed to send the request")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context("failed to read the answer")?;
        complete(&String::from_utf8_lossy(&answer)).map(Into::into)
    }
}

/// The body of an answer, if it is a whole 200.
fn complete(answer: &str) -> Result<&str> {
    let (head, body) =
        answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("the answer is {status}");
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let is_whole = match length {
        Some(length) => body.len() == length,
        None => body.ends_with("0\r\n\r\n"),
    };
    if !is_whole || body.is_empty() {
        bail!("the answer ends early, after {} bytes", body.len());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn an_answer_must_be_whole() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(complete(&format!("{head}abc")).unwrap(), "abc");
        assert!(complete(&format!("{head}ab")).is_err());
        assert!(complete("HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\na").is_err());
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
        assert!(complete(chunked).is_err());
        assert!(complete(&format!("{chunked}0\r\n\r\n")).is_ok());
    }
}

//! One run of the exporter: its start and stop, its page, and what the kernel says it costs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::cargo;

/// How long the exporter may take to give its first page, before the bench gives up.
const START_TIME: Duration = Duration::from_secs(20);
const SCRAPE_TIME: Duration = Duration::from_secs(10);
const STOP_TIME: Duration = Duration::from_secs(10);
/// `USER_HZ`: the unit of times in `/proc/<pid>/stat` on every architecture that Podmeter runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A running exporter; dropping this stops it.
#[derive(Debug)]
pub(crate) struct Exporter {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

/// Time on the CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Exporter {
    /// Starts it on a free port, with the rest of its configuration as it is given.
    pub(crate) fn start(podmeter: &Path, configuration: &str) -> Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
        let address = free.local_addr().context("a bound port has a number")?;
        drop(free);
        let dir = cargo::target_dir().join("bench");
        fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
        let config = dir.join("podmeter.yaml");
        fs::write(&config, format!("listen: {address}\n{configuration}"))
            .context("failed to write the configuration")?;
        let log = dir.join("podmeter.log");
        let log_file = fs::File::create(&log).context("failed to create the exporter's log")?;
        let mut command = Command::new(podmeter);
        command.args(["run", "--config"]).arg(&config);
        command.stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file);
        let child =
            command.spawn().with_context(|| format!("failed to start {}", podmeter.display()))?;
        Ok(Self { child, address, log })
    }

    /// Asks until there is a complete page.
    pub(crate) fn first_page(&mut self) -> Result<String> {
        let deadline = Instant::now() + START_TIME;
        loop {
            match self.scrape() {
                Ok(page) => return Ok(page),
                Err(error) if has_ended(&mut self.child) || Instant::now() > deadline => {
                    let log = self.log.display();
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

    /// What it has used of the CPU so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        cpu(&stat).with_context(|| format!("{path} has no times"))
    }

    /// What it has in memory.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes =
            resident.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kilobytes.with_context(|| format!("{path} has no VmRSS"))? * 1024)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // SIGTERM is the graceful way, and the standard library cannot send it.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + STOP_TIME;
        while asked.is_ok() && Instant::now() < deadline {
            if has_ended(&mut self.child) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Errors mean that it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
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

/// The fields `utime` and `stime`; the name before them may hold spaces and parentheses.
fn cpu(stat: &str) -> Option<Cpu> {
    let (_, fields) = stat.rsplit_once(')')?;
    // The first field after the name is the third of all, the state; utime is the 14th.
    let mut fields = fields.split_whitespace().skip(11);
    let mut time = || {
        let n_ticks: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_millis(n_ticks * 1000 / TICKS_PER_SECOND))
    };
    Some(Cpu { user: time()?, system: time()? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{complete, cpu};

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

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0";
        let cpu = cpu(stat).unwrap();
        assert_eq!(
            (cpu.user, cpu.system),
            (Duration::from_millis(1500), Duration::from_millis(250))
        );
    }
}

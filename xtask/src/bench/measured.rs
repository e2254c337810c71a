//! A process that is measured: its start and stop, and what the kernel says it costs.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, process};

const STOP_TIME: Duration = Duration::from_secs(10);
/// `USER_HZ`: the unit of times in `/proc/<pid>/stat` on every architecture that Podmeter runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A running process with its log; dropping this stops it.
#[derive(Debug)]
pub(crate) struct Measured {
    child: Child,
    log: PathBuf,
}

/// Time on the CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

/// What a process has in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// `VmRSS`.
    pub(crate) resident_bytes: u64,
    /// The most that this ever was: `VmHWM`.
    pub(crate) peak_bytes: u64,
}

/// The folder for what a bench writes.
pub(crate) fn dir() -> Result<PathBuf> {
    let dir = cargo::target_dir().join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
    Ok(dir)
}

/// An address on this machine that is free now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    free.local_addr().context("a bound port has a number")
}

/// Bytes for people.
pub(crate) fn megabytes(n_bytes: u64) -> String {
    format!("{}.{} MB", n_bytes / 1_000_000, n_bytes / 100_000 % 10)
}

impl Measured {
    /// Starts it; what it says goes into a log of that name.
    pub(crate) fn start(command: &mut Command, name: &str) -> Result<Self> {
        let log = dir()?.join(format!("{name}.log"));
        let file = fs::File::create(&log)
            .with_context(|| format!("failed to create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("failed to start {}", process::line(command)))?;
        Ok(Self { child, log })
    }

    /// Where the log is.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it is no longer there.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has used of the CPU so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let stat = self.file("stat")?;
        cpu(&stat).context("the process's stat has no times")
    }

    /// What it has in memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = self.file("status")?;
        let bytes = |name: &str| kilobytes(&status, name).map(|kilobytes| kilobytes * 1024);
        let (Some(resident_bytes), Some(peak_bytes)) = (bytes("VmRSS:"), bytes("VmHWM:")) else {
            bail!("the process's status has no VmRSS or VmHWM");
        };
        Ok(Memory { resident_bytes, peak_bytes })
    }

    fn file(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // SIGTERM is the graceful way, and the standard library cannot send it.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + STOP_TIME;
        while asked.is_ok() && Instant::now() < deadline {
            if self.has_ended() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Errors mean that it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A line of `/proc/<pid>/status`.
fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
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

impl Cpu {
    /// What was used since an earlier look.
    pub(crate) fn since(self, before: Self) -> Self {
        let user = self.user.saturating_sub(before.user);
        Self { user, system: self.system.saturating_sub(before.system) }
    }

    /// User and system time together.
    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{cpu, kilobytes};

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0";
        let cpu = cpu(stat).unwrap();
        assert_eq!(
            (cpu.user, cpu.system),
            (Duration::from_millis(1500), Duration::from_millis(250))
        );
    }

    #[test]
    fn memory_is_read_by_its_name() {
        let status = "VmPeak:\t   9 kB\nVmHWM:\t  12 kB\nVmRSS:\t  10 kB\n";
        assert_eq!(kilobytes(status, "VmHWM:"), Some(12));
        assert_eq!(kilobytes(status, "VmRSS:"), Some(10));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }
}

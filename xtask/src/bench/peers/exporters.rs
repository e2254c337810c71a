//! Exporters of a node's own figures: Podmeter's families without a relay, cAdvisor, `node_exporter`. Each measures the
//! same machine with the same cgroups, and is asked by the bench.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::pods::{self, Pods};
use crate::bench::{
    exporter::Exporter,
    measured::{self, Measured},
    pace::Pace,
};

/// How long one may take until its page is as it should be.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Podmeter,
    Cadvisor,
    NodeExporter,
}

/// Where the programs are.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) podmeter: PathBuf,
    pub(super) cadvisor: PathBuf,
    pub(super) node_exporter: PathBuf,
}

/// A running one.
#[derive(Debug)]
pub(super) struct Running {
    process: Process,
    address: SocketAddr,
    pace: Pace,
}

#[derive(Debug)]
enum Process {
    Podmeter(Exporter),
    Other(Measured),
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Podmeter, Self::Cadvisor, Self::NodeExporter];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Podmeter => "Podmeter, its own families",
            Self::Cadvisor => "cAdvisor",
            Self::NodeExporter => "node_exporter",
        }
    }

    /// Starts it, and waits until its page has the pods, if it has any.
    pub(super) fn start(
        self,
        programs: &Programs,
        pods: &Pods,
        interval: Duration,
    ) -> Result<Running> {
        let pace = Pace::new(interval);
        let mut running = match self {
            Self::Podmeter => {
                let exporter =
                    Exporter::start(&programs.podmeter, "kubernetes: { enabled: false }\n")?;
                let address = exporter.address();
                Running { process: Process::Podmeter(exporter), address, pace }
            }
            Self::Cadvisor => cadvisor(programs, pace, interval)?,
            Self::NodeExporter => node_exporter(programs, pace)?,
        };
        running.wait(|page| self.has_pods(page, pods))?;
        Ok(running)
    }

    /// Whether the page is about all cgroups that were made.
    fn has_pods(self, page: &str, pods: &Pods) -> bool {
        let n_about = |wanted: &str| page.lines().filter(|line| line.contains(wanted)).count();
        match self {
            // One line for each pod at least: without the API it is known by its UID.
            Self::Podmeter => n_about("-0000-4000-8000-000000000000") >= pods.n_made,
            Self::Cadvisor => n_about(pods::NAME) >= pods.n_cgroups,
            Self::NodeExporter => n_about("node_cpu_seconds_total") > 0,
        }
    }
}

/// It measures by a clock of its own, here as often as it is asked, so that each page has new values as the others' have.
fn cadvisor(programs: &Programs, pace: Pace, interval: Duration) -> Result<Running> {
    let address = measured::free_address()?;
    let mut command = Command::new(&programs.cadvisor);
    command
        .arg(format!("-listen_ip={}", address.ip()))
        .arg(format!("-port={}", address.port()))
        .arg(format!("-housekeeping_interval={}ms", interval.as_millis()))
        .arg("-allow_dynamic_housekeeping=false")
        .arg("-logtostderr");
    let process = Process::Other(Measured::start(&mut command, "cadvisor")?);
    Ok(Running { process, address, pace })
}

fn node_exporter(programs: &Programs, pace: Pace) -> Result<Running> {
    let address = measured::free_address()?;
    let mut command = Command::new(&programs.node_exporter);
    command.arg(format!("--web.listen-address={address}"));
    let process = Process::Other(Measured::start(&mut command, "node-exporter")?);
    Ok(Running { process, address, pace })
}

impl Running {
    pub(super) fn process(&self) -> &Measured {
        match &self.process {
            Process::Podmeter(exporter) => exporter.process(),
            Process::Other(process) => process,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks once, when it is time to.
    pub(super) fn scrape(&mut self) -> Result<String> {
        self.pace.wait();
        self.page()
    }

    fn wait(&mut self, is_so: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = self.page();
            if page.as_deref().is_ok_and(&is_so) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = self.process().log().display();
                page.with_context(|| format!("there is no page; the log is {log}"))?;
                bail!("the page has not what it should have; the log is {log}");
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn page(&self) -> Result<String> {
        let mut stream = TcpStream::connect(self.address).context("failed to connect")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).context("failed to send the request")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context("failed to read the answer")?;
        let answer = String::from_utf8(answer).context("the page is no text")?;
        let (head, page) =
            answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
        if head.split(' ').nth(1) != Some("200") {
            bail!("the answer is {}", head.lines().next().unwrap_or_default());
        }
        Ok(page.to_owned())
    }
}

/// How many samples a page has.
pub(super) fn n_samples(page: &str) -> usize {
    page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::n_samples;

    #[test]
    fn comments_are_no_samples() {
        assert_eq!(n_samples("# HELP a b\n# TYPE a gauge\na 1\na{b=\"c\"} 2\n\n"), 2);
    }
}

//! Workloads: each is prepared once, then run again and again for some seconds, and says how fast it was.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::place::{Cpus, FAR, FAR_ADDRESS, NEAR, Network, hurried, within};
use crate::{bench::load::Kind, console, process};

/// A workload that has all it needs.
pub(super) trait Workload {
    /// Runs it for that many seconds, and gives how much was done per second.
    fn run(&mut self, seconds: u32) -> Result<f64>;
}

/// Gives a workload what it needs.
pub(super) type Prepare = fn(Cpus) -> Result<Box<dyn Workload>>;

/// One of the bench's own loads, alone on a CPU and in a network namespace.
pub(super) fn own(cpus: Cpus, kind: Kind) -> Result<Box<dyn Workload>> {
    Ok(Box::new(Own { cpus, kind, _network: Network::create()? }))
}

struct Own {
    cpus: Cpus,
    kind: Kind,
    _network: Network,
}

impl Workload for Own {
    fn run(&mut self, seconds: u32) -> Result<f64> {
        let own = env::current_exe().context("this program has a path")?;
        let mut command = hurried(&own.to_string_lossy(), Some(self.cpus.first));
        command.args(["bench", "load", self.kind.as_str(), "--seconds", &seconds.to_string()]);
        let said = process::output(&mut within(NEAR, &command))?;
        said.trim().parse().with_context(|| format!("the load says no rate, but {said}"))
    }
}

/// Random reads of 4 KiB past the page cache, 16 at a time, from the fastest block device that can be had.
pub(super) fn reads(cpus: Cpus) -> Result<Box<dyn Workload>> {
    let disk = Disk::find()?;
    console::note(&format!("fio reads {}", disk.described()));
    Ok(Box::new(Reads { cpus, disk }))
}

struct Reads {
    cpus: Cpus,
    disk: Disk,
}

impl Workload for Reads {
    fn run(&mut self, seconds: u32) -> Result<f64> {
        let mut fio = hurried("fio", Some(self.cpus.first));
        fio.args(["--name=bench", "--readonly", "--direct=1", "--rw=randread", "--bs=4k"]);
        fio.args(["--ioengine=libaio", "--iodepth=16", "--time_based", "--output-format=json"]);
        fio.arg(format!("--runtime={seconds}")).arg("--filename").arg(self.disk.path());
        number(&process::output(&mut fio)?, "/jobs/0/read/iops")
    }
}

/// What is read from.
enum Disk {
    /// A device that completes every request at once.
    Null(PathBuf),
    /// A loop device over a file in memory; dropping this detaches the one and removes the other.
    Loop { device: PathBuf, file: PathBuf },
}

const NULL_DEVICE: &str = "/dev/nullb0";
const MEMORY_FILE: &str = "/dev/shm/podmeter-bench";
const DISK_BYTES: usize = 64 << 20;

impl Disk {
    fn find() -> Result<Self> {
        if Path::new(NULL_DEVICE).exists() {
            return Ok(Self::Null(NULL_DEVICE.into()));
        }
        // Whole pages, not holes, so that every read copies.
        fs::write(MEMORY_FILE, vec![1; DISK_BYTES])
            .with_context(|| format!("failed to write {MEMORY_FILE}"))?;
        let device = process::output(Command::new("losetup").args([
            "--find",
            "--show",
            "--nooverlap",
            MEMORY_FILE,
        ]));
        let device = device.inspect_err(|_| remove(Path::new(MEMORY_FILE)))?;
        Ok(Self::Loop { device: device.trim().into(), file: MEMORY_FILE.into() })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Null(device) | Self::Loop { device, .. } => device,
        }
    }

    fn described(&self) -> String {
        match self {
            Self::Null(device) => device.display().to_string(),
            Self::Loop { device, .. } => {
                format!("{}, a loop device over a file in memory", device.display())
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let Self::Loop { device, file } = self else {
            return;
        };
        let mut detach = Command::new("losetup");
        if let Err(error) = process::output(detach.arg("--detach").arg(&*device)) {
            console::note(&format!("{} stays: {error:#}", device.display()));
        }
        remove(file);
    }
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        console::note(&format!("{} stays: {error}", file.display()));
    }
}

/// Datagrams with 64 bytes, as many as one CPU can send.
pub(super) fn datagrams(cpus: Cpus) -> Result<Box<dyn Workload>> {
    let options = &["--udp", "--bandwidth", "0", "--length", "64"];
    Ok(Box::new(Iperf::start(cpus, options, per_second_of_datagrams)?))
}

/// One TCP stream over a link with all offloads.
pub(super) fn stream(cpus: Cpus) -> Result<Box<dyn Workload>> {
    let per_second = |said: &str| Ok(number(said, "/end/sum_sent/bits_per_second")? / 1e6);
    Ok(Box::new(Iperf::start(cpus, &[], per_second)?))
}

fn per_second_of_datagrams(said: &str) -> Result<f64> {
    Ok(number(said, "/end/sum/packets")? / number(said, "/end/sum/seconds")?)
}

/// A client and a server of iperf3, each on a CPU and in a namespace of its own; dropping this ends the server.
struct Iperf {
    cpus: Cpus,
    options: &'static [&'static str],
    per_second: fn(&str) -> Result<f64>,
    server: Child,
    _network: Network,
}

/// How long the server may take until it listens.
const LISTEN_TIME: Duration = Duration::from_secs(10);
const PORT: &str = "5201";

impl Iperf {
    fn start(
        cpus: Cpus,
        options: &'static [&'static str],
        per_second: fn(&str) -> Result<f64>,
    ) -> Result<Self> {
        let network = Network::create()?;
        let mut server =
            within(FAR, hurried("iperf3", Some(cpus.last)).args(["--server", "--port", PORT]));
        let server =
            server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = server.context("failed to start the server of iperf3")?;
        let iperf = Self { cpus, options, per_second, server, _network: network };
        let deadline = Instant::now() + LISTEN_TIME;
        let mut listeners =
            within(FAR, Command::new("ss").args(["--tcp", "--listening", "--numeric"]));
        while !process::output(&mut listeners)?.contains(&format!(":{PORT}")) {
            if Instant::now() > deadline {
                bail!("the server of iperf3 does not listen");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(iperf)
    }
}

impl Workload for Iperf {
    fn run(&mut self, seconds: u32) -> Result<f64> {
        let mut client = hurried("iperf3", Some(self.cpus.first));
        client.args(["--client", FAR_ADDRESS, "--port", PORT, "--json"]);
        client.arg("--time").arg(seconds.to_string()).args(self.options);
        (self.per_second)(&process::output(&mut within(NEAR, &client))?)
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        // Errors mean that it has ended.
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// A number in what a tool says; words that are no JSON may come before it.
fn number(said: &str, pointer: &str) -> Result<f64> {
    let json = said.find('{').and_then(|start| said.get(start..)).context("there is no JSON")?;
    let value: Value = serde_json::from_str(json).context("the JSON is not whole")?;
    let number = value.pointer(pointer).and_then(Value::as_f64);
    number.with_context(|| format!("the JSON has no number {pointer}"))
}

#[cfg(test)]
mod tests {
    use super::{number, per_second_of_datagrams};

    #[test]
    fn rates_are_found_in_what_tools_say() {
        let fio = "fio: a remark\n{\"jobs\": [{\"read\": {\"iops\": 1500.5}}]}\n";
        assert!((number(fio, "/jobs/0/read/iops").unwrap() - 1500.5).abs() < 1e-9);
        assert!(number(fio, "/jobs/1/read/iops").is_err());
        assert!(number("fio: failed", "/jobs").is_err());
        let iperf = "{\"end\": {\"sum\": {\"seconds\": 2.0, \"packets\": 5000}}}";
        assert!((per_second_of_datagrams(iperf).unwrap() - 2500.0).abs() < 1e-9);
    }
}

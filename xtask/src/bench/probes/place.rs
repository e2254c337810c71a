//! Where workloads run: on which CPUs, at which priority, and in which networks.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{console, process};

/// Before all others, so that what else the machine does disturbs as little as it can.
const PRIORITY: &str = "-20";

/// Two CPUs that this process may run on; one twice, if there is but one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cpus {
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Cpus {
    /// Those that the kernel lets this process run on.
    pub(super) fn allowed() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").context("failed to read the CPUs")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.and_then(cpus).context("/proc/self/status has no list of CPUs")
    }
}

/// The first and the last of a list like `0-3,8`.
fn cpus(list: &str) -> Option<Cpus> {
    let mut numbers = list.split([',', '-']).map(|number| number.trim().parse::<u32>().ok());
    let first = numbers.next()??;
    Some(Cpus { first, last: numbers.next_back().unwrap_or(Some(first))? })
}

/// A program before all others, on one CPU if one is given.
pub(super) fn hurried(program: &str, cpu: Option<u32>) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", PRIORITY]);
    if let Some(cpu) = cpu {
        command.args(["taskset", "--cpu-list", &cpu.to_string()]);
    }
    command.arg(program);
    command
}

/// Two network namespaces, each with its loopback device, and a link between them; dropping this removes both.
#[derive(Debug)]
pub(super) struct Network {
    made: Vec<&'static str>,
}

/// The namespace of the clients.
pub(super) const NEAR: &str = "podmeter-bench-near";
/// The namespace of the servers.
pub(super) const FAR: &str = "podmeter-bench-far";
/// The server's address; the network is one for documentation (RFC 5737).
pub(super) const FAR_ADDRESS: &str = "192.0.2.2";
const NEAR_ADDRESS: &str = "192.0.2.1";
/// More closed connections do not wait for late segments, so that the first round finds what the last one finds.
const MAX_WAITING_CONNECTIONS: &str = "1000";

impl Network {
    pub(super) fn create() -> Result<Self> {
        let mut network = Self { made: Vec::new() };
        for namespace in [NEAR, FAR] {
            // An interrupted bench has left it.
            if std::path::Path::new("/run/netns").join(namespace).exists() {
                ip(&format!("netns delete {namespace}"))?;
            }
            ip(&format!("netns add {namespace}"))?;
            network.made.push(namespace);
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        ip(&format!("-n {NEAR} link add link0 type veth peer name link0 netns {FAR}"))?;
        for (namespace, address) in [(NEAR, NEAR_ADDRESS), (FAR, FAR_ADDRESS)] {
            ip(&format!("-n {namespace} address add {address}/24 dev link0"))?;
            ip(&format!("-n {namespace} link set link0 up"))?;
        }
        let file = "/proc/sys/net/ipv4/tcp_max_tw_buckets";
        let write = format!("echo {MAX_WAITING_CONNECTIONS} > {file}");
        process::output(within(NEAR, &Command::new("sh")).args(["-c", &write]))?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.made {
            if let Err(error) = ip(&format!("netns delete {namespace}")) {
                console::note(&format!("{namespace} stays: {error:#}"));
            }
        }
    }
}

/// The same command in a network namespace.
pub(super) fn within(namespace: &str, command: &Command) -> Command {
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", namespace]).arg(command.get_program()).args(command.get_args());
    inside
}

fn ip(words: &str) -> Result<()> {
    process::output(Command::new("ip").args(words.split(' '))).map(drop)
}

/// Whether an emulator makes up this CPU, on which no time means anything.
pub(super) fn refuse_emulation() -> Result<()> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if is_emulated(&cpuinfo) {
        bail!("qemu emulates this CPU (TCG), and times of an emulator say nothing of any machine");
    }
    Ok(())
}

fn is_emulated(cpuinfo: &str) -> bool {
    let models = cpuinfo.lines().filter(|line| line.starts_with("model name"));
    models.into_iter().any(|line| line.contains("QEMU") && line.contains("TCG"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Cpus, cpus, is_emulated, within};
    use crate::process;

    #[test]
    fn first_and_last_cpu_are_found() {
        let check = |list: &str, first, last| assert_eq!(cpus(list), Some(Cpus { first, last }));
        check("\t0-3,8", 0, 8);
        check("2-5", 2, 5);
        check("1", 1, 1);
        assert_eq!(cpus("\t"), None);
    }

    #[test]
    fn an_emulated_cpu_is_known() {
        assert!(is_emulated("processor\t: 0\nmodel name\t: QEMU TCG CPU version 2.5+\n"));
        assert!(!is_emulated("model name\t: AMD EPYC\nflags\t: TCG QEMU\n"));
    }

    #[test]
    fn a_command_keeps_its_words_in_a_namespace() {
        let inside = within("a", Command::new("b").args(["-c", "d e"]));
        assert_eq!(process::line(&inside), "ip netns exec a b -c 'd e'");
    }
}

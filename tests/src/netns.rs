//! Network namespaces of a test: two of them, joined by a pair of veth links, which threads of the test enter.
//!
//! A socket belongs to the namespace of the thread that makes it, and to the cgroup of its process
//! (`TestCgroup::enter`), so a test needs no other programs to be a client and a server in two pods.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    panic,
    path::PathBuf,
    process::Command,
    thread,
};

use podmeter::subject::{NetworkNamespaceId, Subject};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::{Hierarchy, TestCgroup};

/// Two namespaces that reach each other, and nobody else.
#[derive(Debug)]
pub struct Network {
    /// One end.
    pub client: NetworkNamespace,
    /// The other end.
    pub server: NetworkNamespace,
}

/// A network namespace with one link, which is removed with its owner.
#[derive(Debug)]
pub struct NetworkNamespace {
    name: String,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

/// What the kernel counted on a link, with the link's own headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// What came in.
    pub receive: PacketCounters,
    /// What went out.
    pub transmit: PacketCounters,
}

/// Packets in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCounters {
    /// Their bytes.
    pub bytes: u64,
    /// Their number.
    pub packets: u64,
}

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

/// The name of the link in each namespace.
const LINK: &str = "veth0";

impl IpFamily {
    /// The value of the label `ip_family`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// Whom a socket is of that was made in a cgroup and a network namespace: on cgroup v1 it is in no cgroup.
#[must_use]
pub fn socket_subject(hierarchy: &Hierarchy, cgroup: &TestCgroup, namespace: u64) -> Subject {
    if hierarchy.is_v2() {
        Subject::Cgroup(cgroup.id())
    } else {
        Subject::NetworkNamespace(NetworkNamespaceId(namespace))
    }
}

/// The inode number of the namespace that the tests run in.
#[must_use]
pub fn host_inode() -> u64 {
    fs::metadata("/proc/self/ns/net").expect("procfs is mounted").ino()
}

impl Network {
    /// Makes both namespaces.
    #[must_use]
    pub fn create(name: &str) -> Self {
        let [client, server] = [("client", 1_u8), ("server", 2)].map(|(end, host)| {
            NetworkNamespace::create(format!("podmeter-{}-{name}-{end}", std::process::id()), host)
        });
        let peer = ["peer", "name", LINK, "netns", &server.name];
        client.ip(&[&["link", "add", LINK, "type", "veth"], peer.as_slice()].concat());
        client.bring_up();
        server.bring_up();
        Self { client, server }
    }
}

impl NetworkNamespace {
    fn create(name: String, host: u8) -> Self {
        run(Command::new("ip").args(["netns", "add", &name]));
        let ipv4 = Ipv4Addr::new(10, 96, 0, host);
        let ipv6 = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, host.into());
        Self { name, ipv4, ipv6 }
    }

    fn bring_up(&self) {
        self.ip(&["link", "set", "lo", "up"]);
        self.ip(&["addr", "add", &format!("{}/24", self.ipv4), "dev", LINK]);
        // Nobody else has the address, so there is nobody to ask for a second first.
        self.ip(&["addr", "add", &format!("{}/64", self.ipv6), "dev", LINK, "nodad"]);
        self.ip(&["link", "set", LINK, "up"]);
    }

    /// Its address.
    #[must_use]
    pub fn address(&self, family: IpFamily) -> IpAddr {
        match family {
            IpFamily::V4 => self.ipv4.into(),
            IpFamily::V6 => self.ipv6.into(),
        }
    }

    /// The name of its link.
    #[must_use]
    pub fn link(&self) -> &'static str {
        LINK
    }

    /// Its inode number, by which the kernel's programs know it.
    #[must_use]
    pub fn inode(&self) -> u64 {
        fs::metadata(self.path()).expect("the namespace is there").ino()
    }

    /// Runs `ip` in it.
    pub fn ip(&self, words: &[&str]) {
        run(Command::new("ip").args(["-n", &self.name]).args(words));
    }

    /// Runs `tc` in it.
    pub fn tc(&self, words: &[&str]) {
        run(Command::new("tc").args(["-n", &self.name]).args(words));
    }

    /// Lets packets of its link wait or be lost, as `tc netem` says it, or says why not: some kernels have no netem.
    pub fn netem(&self, words: &[&str]) -> Result<(), String> {
        let mut command = Command::new("tc");
        command.args(["-n", &self.name, "qdisc", "replace", "dev", LINK, "root", "netem"]);
        let output = command.args(words).output().expect("tc starts");
        if output.status.success() {
            return Ok(());
        }
        Err(format!("netem: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Switches a feature of its link, as `ethtool -K` calls it.
    pub fn set_feature(&self, feature: &str, state: &str) {
        self.enter(|| run(Command::new("ethtool").args(["-K", LINK, feature, state])));
    }

    /// What the kernel counted on its link.
    #[must_use]
    pub fn link_counters(&self) -> LinkCounters {
        let text = self.enter(|| fs::read_to_string("/proc/thread-self/net/dev"));
        let text = text.expect("a thread may read its own");
        link_counters_in(&text, LINK).unwrap_or_else(|| panic!("no counters of {LINK} in {text}"))
    }

    /// How many packets the queueing discipline of its link has dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let mut command = Command::new("tc");
        command.args(["-n", &self.name, "-s", "qdisc", "show", "dev", LINK, "root"]);
        let output = command.output().expect("tc starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let dropped = text.split_once("(dropped ").and_then(|(_, rest)| rest.split_once(','));
        let dropped = dropped.and_then(|(number, _)| number.parse().ok());
        dropped.unwrap_or_else(|| panic!("tc says nothing of drops: {text}"))
    }

    /// The link address of its link.
    #[must_use]
    pub fn link_address(&self) -> String {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-oneline", "link", "show", LINK]);
        let output = command.output().expect("ip starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let address = text.split_once("link/ether ").and_then(|(_, rest)| rest.split_once(' '));
        let (address, _) = address.unwrap_or_else(|| panic!("ip says no address: {text}"));
        address.to_owned()
    }

    /// Writes a file below `/proc/sys/net`.
    pub fn set(&self, name: &str, value: &str) {
        let path = PathBuf::from("/proc/sys/net").join(name);
        let written = self.enter(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }

    /// A number from the file below `/proc/<pid>/net` that `nstat` reads: `("snmp", "Tcp", "RetransSegs")`, for instance.
    #[must_use]
    pub fn counter(&self, file: &str, protocol: &str, name: &str) -> u64 {
        let path = PathBuf::from("/proc/thread-self/net").join(file);
        let text = self.enter(|| fs::read_to_string(&path)).expect("a thread may read its own");
        let value = counter_in(&text, protocol, name);
        value.unwrap_or_else(|| panic!("{} has no {protocol} {name}", path.display()))
    }

    /// How many TCP sockets of it are neither listeners nor what is left of a connection in `TIME_WAIT`.
    #[must_use]
    pub fn n_open_connections(&self) -> usize {
        let read = |family: &str| fs::read_to_string(format!("/proc/thread-self/net/{family}"));
        let texts = self.enter(|| ["tcp", "tcp6"].map(read));
        texts.iter().flatten().map(|text| n_open_in(text)).sum()
    }

    /// Does something in it, on a thread of its own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(self.path()).expect("the namespace is there");
        let inside = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).expect("root may enter it");
            work()
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        let deleted = Command::new("ip").args(["netns", "del", &self.name]).status();
        if !deleted.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("left behind: network namespace {}: {deleted:?}", self.name);
        }
    }
}

/// The files have two lines for each protocol: names, and numbers below them.
fn counter_in(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let prefix = format!("{protocol}: ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
    let (names, values) = (lines.next()?, lines.next()?);
    let found = names.split(' ').zip(values.split(' ')).find(|(found, _)| *found == name);
    found?.1.parse().ok()
}

/// A line has the link's name, eight numbers of what came in, and eight of what went out; bytes and packets lead each.
fn link_counters_in(text: &str, link: &str) -> Option<LinkCounters> {
    let prefix = format!("{link}:");
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(&prefix))?;
    let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let counters = |first: usize| {
        let (bytes, packets) = (*numbers.get(first)?, *numbers.get(first + 1)?);
        Some(PacketCounters { bytes, packets })
    };
    Some(LinkCounters { receive: counters(0)?, transmit: counters(8)? })
}

/// A line has the local address, the remote one, and the state in hexadecimal digits behind its number.
fn n_open_in(text: &str) -> usize {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let states = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
    states.filter(|state| ![TIME_WAIT, LISTEN].contains(state)).count()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

#[cfg(test)]
mod tests {
    use super::{LinkCounters, PacketCounters, counter_in, link_counters_in, n_open_in};

    #[test]
    fn both_directions_of_a_link_are_found() {
        let text = "Inter-|   Receive\n    lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n veth0: 5 6 0 0 0 0 0 0 7 8 0 0 0 0 0 0\n";
        let receive = PacketCounters { bytes: 5, packets: 6 };
        let transmit = PacketCounters { bytes: 7, packets: 8 };
        assert_eq!(link_counters_in(text, "veth0"), Some(LinkCounters { receive, transmit }));
        assert_eq!(link_counters_in(text, "veth1"), None);
    }

    #[test]
    fn a_number_stands_below_its_name() {
        let text = "Ip: Forwarding\nIp: 1\nTcp: RtoMin MaxConn RetransSegs\nTcp: 200 -1 42\n";
        assert_eq!(counter_in(text, "Tcp", "RetransSegs"), Some(42));
        assert_eq!(counter_in(text, "Tcp", "InErrs"), None);
        assert_eq!(counter_in(text, "Udp", "InErrors"), None);
    }

    #[test]
    fn listeners_and_time_wait_are_not_open() {
        let text = "  sl  local_address rem_address   st\n   0: 0100007F:0019 00000000:0000 0A 0:0\n   1: 0100007F:0019 0100007F:8000 06 0:0\n   2: 0100007F:0019 0100007F:8001 01 0:0\n";
        assert_eq!(n_open_in(text), 1);
    }
}

//! What the `network` probe says of sockets in two network namespaces is what the kernel counted on the link between
//! them, and what it says of sockets in the host's is what the test sent.

use std::{
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use podmeter::{config::Config, source::probe::HookKind, subject::Subject};
use podmeter_tests::{
    cgroup::wait_for,
    endpoint::{Endpoint, client_and_server},
    netns::{IpFamily, LinkCounters, Network, PacketCounters, host_inode, socket_subject},
    page::TestAgent,
    probe::{Reading, TestProbe},
};

use super::hierarchy;

const BYTES: &str = "podmeter_network_bytes_total";
const PACKETS: &str = "podmeter_network_packets_total";
const BUFFERS: &str = "podmeter_network_buffers_total";

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

/// Bytes of an Ethernet header, which the link counts and the probe does not see.
const LINK_HEADER: u64 = 14;

/// Bytes that a connection carries one way.
const LOAD_BYTES: u64 = 64_000_000;

/// Largest difference to what the link counted: packets that are no socket's, such as those that ask for a neighbour.
const TOLERANCE_PERCENT: f64 = 1.0;

#[test]
fn without_offload_packets_and_bytes_are_those_of_the_link() {
    let Some(mut test) = Setting::create("wire") else { return };
    test.set_offload("off");
    for family in FAMILIES {
        let measured = test.measure(family, |test| test.send_by_tcp(family));
        for Flow { end, direction, link, ours } in measured.iter().flatten() {
            let case = format!("{end}, {direction}, {} tcp, no offload", family.as_str());
            check(BYTES, &case, ours.bytes, less_link_headers(*link));
            check(PACKETS, &case, ours.packets, link.packets);
        }
    }
}

/// The link counts a buffer of many packets as one, with the headers of the first; those of the others are added here,
/// by the number of segments that TCP itself has counted.
#[test]
fn with_offload_they_are_those_of_tcp_and_the_link_counts_buffers() {
    let Some(mut test) = Setting::create("offload") else { return };
    test.set_offload("on");
    for family in FAMILIES {
        let before = n_segments(&test.client);
        let [[_, sent], [received, _]] = test.measure(family, |test| test.send_by_tcp(family));
        let n_sent = n_segments(&test.client) - before;
        for Flow { end, direction, link, ours } in [sent, received] {
            let case = format!("{end}, {direction}, {} tcp, offload", family.as_str());
            assert!(link.packets * 2 < n_sent, "the link has seen buffers of many packets");
            let wire = less_link_headers(link) + (n_sent - link.packets) * headers(family);
            check(BYTES, &case, ours.bytes, wire);
            check(PACKETS, &case, ours.packets, n_sent);
            check(BUFFERS, &case, ours.buffers, link.packets);
        }
    }
}

#[test]
fn datagrams_are_those_of_the_link() {
    let Some(mut test) = Setting::create("datagrams") else { return };
    for family in FAMILIES {
        let measured = test.measure(family, |test| test.send_by_udp(family));
        for Flow { end, direction, link, ours } in measured.iter().flatten() {
            let case = format!("{end}, {direction}, {} udp", family.as_str());
            check(BYTES, &case, ours.bytes, less_link_headers(*link));
            check(PACKETS, &case, ours.packets, link.packets);
        }
    }
}

/// Containers of pods with `hostNetwork` share the host's namespace and its links, and each has its own numbers; on
/// cgroup v1 they and the host cannot be told apart.
#[test]
fn in_the_hosts_namespace_each_cgroup_has_its_own() {
    check_the_hosts_namespace();
}

/// Sends datagrams from a cgroup to another in the host's namespace, and compares.
pub(super) fn check_the_hosts_namespace() {
    let Some(hierarchy) = hierarchy() else { return };
    let ends = ["asks", "answers"].map(|name| (name, hierarchy.create(name)));
    let Some(mut probe) = TestProbe::start("network", &[HookKind::CgroupSkb]) else { return };
    for (family, loopback) in
        FAMILIES.into_iter().zip([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    {
        let before = probe.read();
        let [asking, answering] = ends.each_ref().map(|(_, cgroup)| {
            let _inside = cgroup.enter();
            bind(loopback)
        });
        ask_and_answer(&asking, &answering);
        let after = probe.read();
        let n_bytes = N_DATAGRAMS * (DATAGRAM_BYTES as u64 + udp_headers(family));
        for (end, cgroup) in &ends {
            let subject = socket_subject(&hierarchy, cgroup, host_inode());
            for direction in DIRECTIONS {
                let ours = Counted::between(&before, &after, subject, direction, family);
                let case = format!("{end}, {direction}, {} udp, host's namespace", family.as_str());
                if hierarchy.is_v2() {
                    check_exactly(BYTES, &case, ours.bytes, n_bytes);
                    check_exactly(PACKETS, &case, ours.packets, N_DATAGRAMS);
                } else {
                    // The whole host's, and that of both ends.
                    assert!(ours.bytes >= 2.0 * n_bytes as f64, "{case}: {}", ours.bytes);
                    assert!(ours.packets >= 2.0 * N_DATAGRAMS as f64, "{case}: {}", ours.packets);
                }
            }
        }
    }
}

/// The page has what a container of a pod sent under the container's labels, and on cgroup v1 under the pod's.
#[test]
fn a_pod_has_what_its_containers_sent() {
    const UID: &str = "0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10";
    let Some(hierarchy) = hierarchy() else { return };
    // On a machine that refuses the probe there is nothing to look for.
    if TestProbe::start("network", &[HookKind::CgroupSkb]).is_none() {
        return;
    }
    let agent = TestAgent::start(&Config::default());
    let network = Network::create("pod");
    let node = hierarchy.create("node");
    let kubepods = node.create_child("kubepods");
    let pod = kubepods.create_child(&format!("pod{UID}"));
    let mut container = pod.create_child(&"0123456789abcdef".repeat(4));
    network.client.enter(|| container.burn(1));
    let [asking, answering] = [&network.client, &network.server].map(|end| {
        let inside = (end.inode() == network.client.inode()).then(|| container.enter());
        let socket = end.enter(|| bind(end.address(IpFamily::V4)));
        drop(inside);
        socket
    });
    ask_and_answer(&asking, &answering);
    let page = agent.collect();
    let mut labels = vec![("pod_uid", UID), ("direction", "transmit"), ("ip_family", "ipv4")];
    let container_id = "0123456789abcdef".repeat(4);
    if hierarchy.is_v2() {
        labels.push(("container_id", &container_id));
    }
    let n_packets = page.number(PACKETS, &labels).expect("it has sent something");
    println!("report: pod | {labels:?} | {n_packets} packets");
    assert!(n_packets >= N_DATAGRAMS as f64, "{n_packets}");
}

/// Two ends of a link, and the probe.
struct Setting {
    client: Endpoint,
    server: Endpoint,
    probe: TestProbe,
}

/// What passed one end in one direction.
#[derive(Clone, Copy, Debug)]
struct Flow {
    end: &'static str,
    direction: &'static str,
    /// By the link.
    link: PacketCounters,
    /// By the probe.
    ours: Counted,
}

/// What the probe has of a flow.
#[derive(Clone, Copy, Debug)]
struct Counted {
    bytes: f64,
    packets: f64,
    buffers: f64,
}

/// In the order of a link's counters.
const DIRECTIONS: [&str; 2] = ["receive", "transmit"];

impl Setting {
    fn create(name: &str) -> Option<Self> {
        let [client, server] = client_and_server(&hierarchy()?, name);
        let probe = TestProbe::start("network", &[HookKind::CgroupSkb])?;
        Some(Self { client, server, probe })
    }

    fn ends(&self) -> [&Endpoint; 2] {
        [&self.client, &self.server]
    }

    /// Whether the links of both ends take and give buffers of many packets.
    fn set_offload(&self, state: &str) {
        for end in self.ends() {
            for feature in ["tso", "gso", "gro"] {
                end.namespace.set_feature(feature, state);
            }
        }
    }

    /// What passed the client and the server meanwhile, each with what it received and what it sent.
    fn measure(&mut self, family: IpFamily, load: impl FnOnce(&Self)) -> [[Flow; 2]; 2] {
        // Both ends know each other's link address then.
        let [client, server] = self.ends().map(|end| bind_beside(end, family));
        ask_and_answer(&client, &server);
        let counters = |test: &Self| test.ends().map(|end| end.namespace.link_counters());
        let [of_client, of_server] = counters(self);
        let before = self.probe.read();
        load(self);
        let ends = self.ends();
        let n_open = || ends.iter().map(|end| end.namespace.n_open_connections()).sum::<usize>();
        wait_for("all connections are closed", || n_open() == 0);
        let [of_client_after, of_server_after] = counters(self);
        let after = self.probe.read();
        assert_eq!(after.n_lost(&[]), 0, "{:?}", after.stats());
        let flows = |end: &Endpoint, before_of: LinkCounters, after_of: LinkCounters| {
            let [receive, transmit] = DIRECTIONS
                .map(|direction| Counted::between(&before, &after, end.subject, direction, family));
            [
                Flow::of(end, "receive", before_of.receive, after_of.receive, receive),
                Flow::of(end, "transmit", before_of.transmit, after_of.transmit, transmit),
            ]
        };
        [
            flows(&self.client, of_client, of_client_after),
            flows(&self.server, of_server, of_server_after),
        ]
    }

    /// The client sends, the server closes first, so that every packet finds a whole socket.
    fn send_by_tcp(&self, family: IpFamily) {
        let address = self.server.namespace.address(family);
        let listen = || TcpListener::bind((address, 0)).expect("a port is free");
        let listener = self.server.enter(listen);
        let address = listener.local_addr().expect("it is bound");
        let mut client = self.client.enter(|| TcpStream::connect(address).expect("it listens"));
        let (mut server, _) = listener.accept().expect("somebody connects");
        thread::scope(|scope| {
            scope.spawn(|| {
                let n_received = io::copy(&mut server, &mut io::sink()).expect("it is connected");
                assert_eq!(n_received, LOAD_BYTES);
                drop(server);
            });
            io::copy(&mut io::repeat(0).take(LOAD_BYTES), &mut client).expect("it is connected");
            client.shutdown(Shutdown::Write).expect("it is connected");
            assert_eq!(client.read(&mut [0]).expect("the server closes it"), 0);
        });
    }

    fn send_by_udp(&self, family: IpFamily) {
        let [client, server] =
            self.ends().map(|end| end.enter(|| bind(end.namespace.address(family))));
        ask_and_answer(&client, &server);
    }
}

/// A socket in the end's namespace that is not its own.
fn bind_beside(end: &Endpoint, family: IpFamily) -> UdpSocket {
    end.namespace.enter(|| bind(end.namespace.address(family)))
}

fn n_segments(end: &Endpoint) -> u64 {
    end.namespace.counter("snmp", "Tcp", "OutSegs")
}

impl Flow {
    fn of(
        end: &Endpoint,
        direction: &'static str,
        before: PacketCounters,
        after: PacketCounters,
        ours: Counted,
    ) -> Self {
        let link = PacketCounters {
            bytes: after.bytes - before.bytes,
            packets: after.packets - before.packets,
        };
        Self { end: end.name, direction, link, ours }
    }
}

impl Counted {
    fn between(
        before: &Reading,
        after: &Reading,
        subject: Subject,
        direction: &str,
        family: IpFamily,
    ) -> Self {
        let labels = [("direction", direction), ("ip_family", family.as_str())];
        let number = |reading: &Reading, metric| reading.number(metric, subject, &labels);
        let since =
            |metric| number(after, metric).unwrap_or(0.0) - number(before, metric).unwrap_or(0.0);
        Self { bytes: since(BYTES), packets: since(PACKETS), buffers: since(BUFFERS) }
    }
}

fn less_link_headers(link: PacketCounters) -> u64 {
    link.bytes - link.packets * LINK_HEADER
}

/// Bytes of the headers of a segment: IP's, and TCP's with a time stamp, which Linux sends by default.
fn headers(family: IpFamily) -> u64 {
    ip_header(family) + 20 + 12
}

fn udp_headers(family: IpFamily) -> u64 {
    ip_header(family) + 8
}

fn ip_header(family: IpFamily) -> u64 {
    match family {
        IpFamily::V4 => 20,
        IpFamily::V6 => 40,
    }
}

const N_DATAGRAMS: u64 = 2000;
const DATAGRAM_BYTES: usize = 1000;

fn bind(address: IpAddr) -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(address, 0)).expect("a port is free")
}

/// One datagram after the other, each way, so that none is dropped.
fn ask_and_answer(asking: &UdpSocket, answering: &UdpSocket) {
    let mut datagram = [0; DATAGRAM_BYTES];
    let pass = |from: &UdpSocket, to: &UdpSocket, datagram: &mut [u8]| {
        let address = to.local_addr().expect("it is bound");
        from.send_to(datagram, address).expect("there is a way");
        assert_eq!(to.recv(datagram).expect("it comes"), DATAGRAM_BYTES);
    };
    for _ in 0..N_DATAGRAMS {
        pass(asking, answering, &mut datagram);
        pass(answering, asking, &mut datagram);
    }
}

fn check(family: &str, case: &str, ours: f64, kernel: u64) {
    let difference_percent = report(family, case, ours, kernel);
    assert!(kernel > 0, "{family} {case}");
    assert!(difference_percent.abs() <= TOLERANCE_PERCENT, "{family} {case}: {ours} {kernel}");
}

fn check_exactly(family: &str, case: &str, ours: f64, kernel: u64) {
    report(family, case, ours, kernel);
    assert!((ours - kernel as f64).abs() < 0.5, "{family} {case}: {ours} {kernel}");
}

fn report(family: &str, case: &str, ours: f64, kernel: u64) -> f64 {
    let difference_percent = (ours / kernel as f64 - 1.0) * 100.0;
    println!(
        "report: truth | {family} | {case} | ours {ours} | kernel {kernel} | {difference_percent:+.3} %"
    );
    difference_percent
}

//! Packets that a test has the kernel throw away are counted by the reason for it, and belong to the socket that they
//! were of or for.

use std::{
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixDatagram,
};

use podmeter::{
    paths::HostPaths,
    source::probe::{HookKind, btf::KernelTypes},
    subject::{CgroupId, Subject},
};
use podmeter_tests::{
    cgroup::wait_for,
    endpoint::{Endpoint, client_and_server},
    machine::is_test_vm,
    netns::IpFamily,
    probe::TestProbe,
    skip::skipped,
};

use super::hierarchy;

const DROPS: &str = "podmeter_packet_drops_total";

/// Packets of which no socket is known.
const NOBODY: Subject = Subject::Cgroup(CgroupId(0));

/// A port on which nobody listens.
const CLOSED_PORT: u16 = 9;

const N_PACKETS: u32 = 50;

/// More than fit into a receive buffer of the default size, and fewer than a CPU's backlog takes.
const N_FLOOD: u32 = 900;

#[test]
fn packets_for_a_closed_port_have_no_socket() {
    let Some(mut test) = Setting::create("no-socket") else { return };
    let before = test.number(NOBODY, "no_socket");
    let address = SocketAddr::new(test.server.namespace.address(IpFamily::V4), CLOSED_PORT);
    test.send(address, N_PACKETS);
    let refused = || test.server.namespace.counter("snmp", "Udp", "NoPorts");
    wait_for("all have arrived", || refused() >= u64::from(N_PACKETS));
    let kernel = refused() as f64;
    let ours = test.number(NOBODY, "no_socket") - before;
    let difference = report("UDP to a closed port, no_socket", ours, kernel);
    if is_test_vm() {
        assert!(difference.abs() < f64::EPSILON);
    } else {
        assert!(difference >= 0.0, "others may send to closed ports, too: {ours}");
    }
}

#[test]
fn packets_that_find_a_full_buffer_belong_to_the_receiver() {
    let Some(mut test) = Setting::create("buffer") else { return };
    let before = test.number(NOBODY, "socket_rcvbuff");
    let address = (test.server.namespace.address(IpFamily::V4), 0);
    let receiver = test.server.enter(|| UdpSocket::bind(address).expect("a port is free"));
    test.send(receiver.local_addr().expect("it is bound"), N_FLOOD);
    let counter = |protocol, name| test.server.namespace.counter("snmp", protocol, name);
    receiver.set_nonblocking(true).expect("it is a socket");
    let mut n_received = 0;
    wait_for("each was received or found the buffer full", || {
        let all_have_arrived = counter("Ip", "InDelivers") >= u64::from(N_FLOOD);
        while all_have_arrived && receiver.recv(&mut [0]).is_ok() {
            n_received += 1;
        }
        n_received + counter("Udp", "RcvbufErrors") >= u64::from(N_FLOOD)
    });
    let kernel = counter("Udp", "RcvbufErrors") as f64;
    assert!(kernel > 0.0, "the buffer was full");
    let of_receiver = test.number(test.server.subject, "socket_rcvbuff");
    let of_nobody = test.number(NOBODY, "socket_rcvbuff") - before;
    if test.kernel.says_receiver {
        let case = "full receive buffer, socket_rcvbuff, of the receiver";
        assert!(report(case, of_receiver, kernel).abs() < f64::EPSILON);
    } else {
        report("full receive buffer, socket_rcvbuff, of nobody", of_nobody, kernel);
        assert_eq!((of_receiver, of_nobody), (0.0, kernel), "this kernel does not say who it was");
    }
}

#[test]
fn packets_that_are_lost_on_their_way_out_belong_to_the_sender() {
    let Some(mut test) = Setting::create("sender") else { return };
    // A message of another kind of socket is freed by the same function, and is no packet.
    let (one, other) = test.client.enter(|| UnixDatagram::pair().expect("it can be made"));
    one.send(b"never read").expect("there is room");
    drop((one, other));
    if let Err(error) = test.client.namespace.netem(&["loss", "100%"]) {
        return skipped(error);
    }
    let before = test.client.namespace.dropped();
    let address = SocketAddr::new(test.server.namespace.address(IpFamily::V4), CLOSED_PORT);
    test.resolve(&address);
    test.send(address, N_PACKETS);
    let kernel = (test.client.namespace.dropped() - before) as f64;
    let reading = test.probe.read();
    let ours = reading.number(DROPS, test.client.subject, &[]).unwrap_or(0.0);
    report("netem loss 100 %, of the sender", ours, kernel);
    assert_eq!((ours, kernel), (f64::from(N_PACKETS), f64::from(N_PACKETS)));
    assert_eq!(reading.n_lost(&[]), 0, "{:?}", reading.stats());
    let unnamed = reading.number(DROPS, test.client.subject, &[("reason", "other")]);
    assert_eq!(unnamed, None, "the kernel has a word for each reason");
}

/// A client, a server, and the probe.
struct Setting {
    client: Endpoint,
    server: Endpoint,
    probe: TestProbe,
    kernel: Kernel,
}

/// What the tracepoint of this kernel says beside the packet.
struct Kernel {
    says_reason: bool,
    says_receiver: bool,
}

impl Setting {
    fn create(name: &str) -> Option<Self> {
        let [client, server] = client_and_server(&hierarchy()?, name);
        // The kernel's own packets may not be lost among those of a test: reports of IPv6 multicast groups go out by
        // timers, and old kernels give no reason by which to tell them apart.
        for end in [&client, &server] {
            end.namespace.set("ipv6/conf/all/disable_ipv6", "1");
        }
        let probe = TestProbe::start("drops", &[HookKind::BtfTracepoint, HookKind::RawTracepoint])?;
        let types = KernelTypes::read(&HostPaths::default()).expect("the probe could");
        let n_arguments = types.n_tracepoint_arguments("kfree_skb").expect("the probe could");
        let kernel = Kernel { says_reason: n_arguments > 2, says_receiver: n_arguments > 3 };
        Some(Self { client, server, probe, kernel })
    }

    /// The packets of an owner that were dropped for this reason, or for any where the kernel gives none.
    fn number(&mut self, subject: Subject, reason: &'static str) -> f64 {
        let reason = if self.kernel.says_reason { reason } else { "not_specified" };
        self.probe.read().number(DROPS, subject, &[("reason", reason)]).unwrap_or(0.0)
    }

    /// The client sends this many packets of one byte.
    fn send(&self, to: SocketAddr, n_packets: u32) {
        let from = (self.client.namespace.address(IpFamily::V4), 0);
        let sender = self.client.enter(|| UdpSocket::bind(from).expect("a port is free"));
        for _ in 0..n_packets {
            sender.send_to(b"x", to).expect("there is a way");
        }
    }

    /// Tells the client the server's link address, which it would ask for first otherwise.
    fn resolve(&self, address: &SocketAddr) {
        let (client, server) = (&self.client.namespace, &self.server.namespace);
        let (ip, lladdr) = (address.ip().to_string(), server.link_address());
        client.ip(&["neigh", "replace", &ip, "lladdr", &lladdr, "dev", client.link()]);
    }
}

/// Gives the difference.
fn report(case: &str, ours: f64, kernel: f64) -> f64 {
    let difference = ours - kernel;
    println!("report: truth | {DROPS} | {case} | ours {ours} | kernel {kernel} | {difference:+}");
    difference
}

//! What the `tcp` probe says of sockets in two network namespaces is what the test did with them, and what the kernel
//! itself counted for the namespaces.

#![expect(
    clippy::float_cmp,
    clippy::needless_for_each,
    clippy::struct_field_names,
    clippy::unused_self,
    reason = "counts are whole numbers, and a setting reads best with its words in one place"
)]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use podmeter::source::probe::HookKind;
use podmeter_tests::{
    cgroup::wait_for,
    endpoint::{Endpoint, client_and_server},
    machine::is_test_vm,
    netns::IpFamily,
    probe::{Reading, TestProbe},
    skip::skipped,
};

use super::hierarchy;

const CONNECTIONS: &str = "podmeter_tcp_connections_total";
const RETRANSMITTED: &str = "podmeter_tcp_retransmitted_segments_total";
const RESETS: &str = "podmeter_tcp_resets_total";
const CONNECT_LATENCY: &str = "podmeter_tcp_connect_latency_seconds";
const RTT: &str = "podmeter_tcp_rtt_seconds";

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

/// A port on which nobody listens.
const CLOSED_PORT: u16 = 9;

/// Reasons that other connections of the machine may give: a handshake was under way when the probe attached.
const OF_OTHERS: &[&str] = &["no_entry"];

#[test]
fn handshakes_are_counted_by_role_and_result() {
    let Some(mut test) = Setting::create("handshakes") else { return };
    test.client.namespace.set("ipv4/tcp_syn_retries", "1");
    let mut expected = Expected::default();
    for family in FAMILIES {
        let listener = test.listen(family);
        let address = local_address(&listener);
        for _ in 0..N_CONNECTIONS {
            test.converse(&listener, address);
        }
        expected.n_established += N_CONNECTIONS;
        for _ in 0..N_REFUSED {
            let address = SocketAddr::new(address.ip(), CLOSED_PORT);
            assert_eq!(test.fail_to_connect(address), ErrorKind::ConnectionRefused);
        }
        expected.n_refused += N_REFUSED;
        let silent = test.silent_address(family);
        assert_eq!(test.fail_to_connect(silent), ErrorKind::TimedOut);
        expected.n_timed_out += 1;
        test.give_up_connecting(silent, Duration::from_millis(10));
        expected.n_aborted += 1;
        assert_eq!(test.connect_without_a_port(address), ErrorKind::AddrNotAvailable);
        // The one that has the port is a connection, too.
        test.accept(&listener);
        expected.n_established += 1;
        expected.n_no_port += 1;
    }
    let unreachable = test.fail_to_connect(test.unreachable_address());
    assert_eq!(unreachable, ErrorKind::HostUnreachable);
    expected.n_unreachable += 1;
    test.check_handshakes(&expected);
}

const N_CONNECTIONS: u32 = 20;
const N_REFUSED: u32 = 5;

/// What the test did.
#[derive(Default)]
struct Expected {
    n_established: u32,
    n_refused: u32,
    n_timed_out: u32,
    n_unreachable: u32,
    n_aborted: u32,
    n_no_port: u32,
}

#[test]
fn retransmitted_segments_are_those_of_the_namespaces() {
    let Some(mut test) = Setting::create("retransmits") else { return };
    let ends = [&test.client.namespace, &test.server.namespace];
    let lossy = ends.map(|end| end.netem(&["loss", "5%"]));
    if let Some(error) = lossy.iter().find_map(|set| set.as_ref().err()) {
        skipped(format_args!("no data is sent again, only SYN | {error}"));
    }
    for family in FAMILIES {
        let listener = test.listen(family);
        test.send(&listener, BYTES_SENT);
    }
    // Their last words must get through before nothing does.
    test.wait_until_closed();
    // Where the answer is lost, both ends send again what they began with.
    test.server.namespace.set("ipv4/tcp_synack_retries", "1");
    if test.server.namespace.netem(&["loss", "100%"]).is_ok() {
        let listener = test.listen(IpFamily::V4);
        test.give_up_connecting(local_address(&listener), LONGER_THAN_A_RETRY);
        test.wait_until_closed();
    }
    // One that nobody answers sends its SYN again.
    test.client.namespace.set("ipv4/tcp_syn_retries", "1");
    let silent = test.silent_address(IpFamily::V4);
    assert_eq!(test.fail_to_connect(silent), ErrorKind::TimedOut);
    test.wait_until_closed();
    let reading = test.probe.read();
    for end in [&test.client, &test.server] {
        let network = &end.namespace;
        let kernel = network.counter("snmp", "Tcp", "RetransSegs");
        let n_not_sent = network.counter("netstat", "TcpExt", "TCPRetransFail");
        let ours = reading.number(RETRANSMITTED, end.subject, &[]).unwrap_or(0.0);
        report(RETRANSMITTED, end.name, ours, kernel as f64);
        let is_lossy = lossy[0].is_ok() || end.name == "client";
        assert!(kernel > 0 || !is_lossy, "nothing was lost of the {}", end.name);
        assert_eq!((ours, n_not_sent), (kernel as f64, 0), "{}", end.name);
    }
    assert_eq!(reading.n_lost(OF_OTHERS), 0, "{:?}", reading.stats());
}

const BYTES_SENT: usize = 1_000_000;

/// A SYN is sent again after a second.
const LONGER_THAN_A_RETRY: Duration = Duration::from_millis(1500);

/// A link that takes 50 ms one way: the handshake and the round trip take as long, so both are in the bucket above it.
#[test]
fn a_slow_link_is_seen_in_the_histograms() {
    let Some(mut test) = Setting::create("slow") else { return };
    let listeners = FAMILIES.map(|family| test.listen(family));
    // The first packets also ask for the other's link address.
    listeners.iter().for_each(|listener| test.converse(listener, local_address(listener)));
    test.wait_until_closed();
    let before = test.probe.read();
    if let Err(error) = test.client.namespace.netem(&["delay", "50ms"]) {
        return skipped(error);
    }
    for listener in &listeners {
        for _ in 0..N_SLOW {
            test.converse(listener, local_address(listener));
        }
    }
    test.wait_until_closed();
    let after = test.probe.read();
    let n_slow = u64::from(N_SLOW) * FAMILIES.len() as u64;
    for family in [CONNECT_LATENCY, RTT] {
        let histogram = |reading: &Reading| reading.histogram(family, test.client.subject, &[]);
        let [before, after] = [&before, &after].map(|reading| histogram(reading).expect("it is"));
        let place = after.bounds.iter().position(|bound| *bound >= 0.1).expect("a bound");
        assert_eq!(after.bounds[place - 1..=place], [0.05, 0.1]);
        let slow = after.buckets.iter().zip(&before.buckets).map(|(after, before)| after - before);
        let slow: Vec<u64> = slow.collect();
        let right = slow[place] as f64;
        report(family, "netem delay 50ms, between 50 and 100 ms", right, n_slow as f64);
        assert_eq!(slow.iter().sum::<u64>(), n_slow);
        assert_eq!(slow[..place], vec![0; place], "none is faster than the link");
        // A guest without KVM may take tens of milliseconds for a packet, but not for each.
        assert!(right * 2.0 > n_slow as f64, "{slow:?}");
    }
}

const N_SLOW: u32 = 5;

#[test]
fn resets_belong_to_the_end_that_sends_or_receives_them() {
    let Some(mut test) = Setting::create("resets") else { return };
    for family in FAMILIES {
        let listener = test.listen(family);
        for _ in 0..N_RESETS {
            test.reset(&listener);
        }
    }
    test.wait_until_closed();
    let reading = test.probe.read();
    let number = |end: &Endpoint, direction| {
        reading.number(RESETS, end.subject, &[("direction", direction)]).unwrap_or(0.0)
    };
    let n_expected = f64::from(N_RESETS) * FAMILIES.len() as f64;
    for (end, direction) in [(&test.client, "transmit"), (&test.server, "receive")] {
        let ours = number(end, direction);
        report(RESETS, &format!("{}, {direction}", end.name), ours, n_expected);
        assert_eq!(ours, n_expected, "{direction}");
    }
    let others = [number(&test.client, "receive"), number(&test.server, "transmit")];
    assert_eq!(others, [0.0, 0.0]);
    let kernel = test.client.namespace.counter("snmp", "Tcp", "OutRsts");
    assert_eq!(kernel as f64, n_expected, "the kernel counts them, too");
}

const N_RESETS: u32 = 5;

/// A client, a server, and the probe.
struct Setting {
    client: Endpoint,
    server: Endpoint,
    probe: TestProbe,
}

impl Setting {
    fn create(name: &str) -> Option<Self> {
        let hierarchy = hierarchy()?;
        let [client, server] = client_and_server(&hierarchy, name);
        let probe = TestProbe::start("tcp", &[HookKind::RawTracepoint])?;
        Some(Self { client, server, probe })
    }

    /// A listener of the server.
    fn listen(&self, family: IpFamily) -> TcpListener {
        let address = self.server.namespace.address(family);
        self.server.enter(|| TcpListener::bind((address, 0)).expect("a port is free"))
    }

    fn connect(&self, address: SocketAddr) -> TcpStream {
        self.client.enter(|| TcpStream::connect(address)).expect("somebody listens")
    }

    /// Takes a connection. This process is in neither cgroup then: the socket's is the listener's.
    fn accept(&self, listener: &TcpListener) -> TcpStream {
        listener.accept().expect("somebody connects").0
    }

    /// A connection with a question and an answer, closed by the client.
    fn converse(&self, listener: &TcpListener, address: SocketAddr) {
        let mut client = self.connect(address);
        let mut server = self.accept(listener);
        let mut answer = [0; 4];
        client.write_all(b"ping").expect("it is connected");
        server.read_exact(&mut answer).expect("it is connected");
        server.write_all(&answer).expect("it is connected");
        client.read_exact(&mut answer).expect("it is connected");
        drop(client);
        assert_eq!(server.read(&mut answer).expect("the client closed it"), 0);
    }

    /// Each end sends this much, the client first.
    fn send(&self, listener: &TcpListener, n_bytes: usize) {
        let mut client = self.connect(local_address(listener));
        let mut server = self.accept(listener);
        let pass = |from: &mut TcpStream, to: &mut TcpStream| {
            thread::scope(|scope| {
                scope.spawn(|| from.write_all(&vec![0; n_bytes]).expect("it is connected"));
                to.read_exact(&mut vec![0; n_bytes]).expect("it is connected");
            });
        };
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
    }

    /// The client closes a connection on which there is something that it has not read, so it sends a reset.
    fn reset(&self, listener: &TcpListener) {
        let client = self.connect(local_address(listener));
        let mut server = self.accept(listener);
        server.write_all(b"x").expect("it is connected");
        client.peek(&mut [0]).expect("something comes");
        drop(client);
        let error = server.read(&mut [0]).expect_err("it was reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    fn fail_to_connect(&self, address: SocketAddr) -> ErrorKind {
        self.client.enter(|| TcpStream::connect(address)).expect_err("nobody listens").kind()
    }

    fn give_up_connecting(&self, address: SocketAddr, patience: Duration) {
        let connected = self.client.enter(|| TcpStream::connect_timeout(&address, patience));
        assert_eq!(connected.expect_err("nobody answers").kind(), ErrorKind::TimedOut);
    }

    /// Connects twice to the same address where there is but one local port.
    fn connect_without_a_port(&self, address: SocketAddr) -> ErrorKind {
        let client = &self.client.namespace;
        client.set("ipv4/ip_local_port_range", "40000 40000");
        let first = self.connect(address);
        let second = self.fail_to_connect(address);
        drop(first);
        client.set("ipv4/ip_local_port_range", "32768 60999");
        second
    }

    /// An address whose link address nobody has, so that nobody answers.
    fn silent_address(&self, family: IpFamily) -> SocketAddr {
        let ip = match family {
            IpFamily::V4 => "10.96.0.9",
            IpFamily::V6 => "fd96::9",
        };
        let client = &self.client.namespace;
        let neighbour = ["lladdr", "02:00:00:00:00:09", "dev", client.link(), "nud", "permanent"];
        client.ip(&[&["neigh", "replace", ip], neighbour.as_slice()].concat());
        SocketAddr::new(ip.parse().expect("an address"), CLOSED_PORT)
    }

    /// An address of which the server, as a router, says that there is no way to it.
    fn unreachable_address(&self) -> SocketAddr {
        let (client, server) = (&self.client.namespace, &self.server.namespace);
        server.set("ipv4/ip_forward", "1");
        server.ip(&["route", "add", "unreachable", "10.97.0.0/24"]);
        let router = server.address(IpFamily::V4).to_string();
        client.ip(&["route", "add", "10.97.0.0/24", "via", &router]);
        SocketAddr::from(([10, 97, 0, 1], CLOSED_PORT))
    }

    /// Waits until both namespaces have no connection any more that could send something.
    fn wait_until_closed(&self) {
        for Endpoint { namespace, .. } in [&self.client, &self.server] {
            wait_for("all connections are closed", || namespace.n_open_connections() == 0);
        }
    }

    fn check_handshakes(&mut self, expected: &Expected) {
        let reading = self.probe.read();
        let cases = [
            (&self.client, "client", "established", expected.n_established),
            (&self.client, "client", "refused", expected.n_refused),
            (&self.client, "client", "timed_out", expected.n_timed_out),
            (&self.client, "client", "unreachable", expected.n_unreachable),
            (&self.client, "client", "aborted", expected.n_aborted),
            (&self.client, "client", "no_port", expected.n_no_port),
            (&self.server, "server", "established", expected.n_established),
        ];
        for (end, role, result, n_expected) in cases {
            let labels = [("role", role), ("result", result)];
            let ours = reading.number(CONNECTIONS, end.subject, &labels).unwrap_or(0.0);
            report(CONNECTIONS, &format!("{role}, {result}"), ours, n_expected.into());
            assert_eq!(ours, f64::from(n_expected), "{role} {result}");
        }
        for end in [&self.client, &self.server] {
            let of_cases = cases.iter().filter(|case| case.0.name == end.name);
            let n_expected: u32 = of_cases.map(|case| case.3).sum();
            let ours = reading.number(CONNECTIONS, end.subject, &[]);
            assert_eq!(ours, Some(n_expected.into()), "nothing else is counted");
        }
        let connect = reading.histogram(CONNECT_LATENCY, self.client.subject, &[]);
        let n_connected = connect.expect("it connected").count();
        assert_eq!(n_connected, u64::from(expected.n_established));
        let n_skipped = reading.n_lost(if is_test_vm() { &[] } else { OF_OTHERS });
        assert_eq!(n_skipped, 0, "{:?}", reading.stats());
    }
}

fn local_address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("it is bound")
}

fn report(family: &str, case: &str, ours: f64, kernel: f64) {
    let difference = ours - kernel;
    println!("report: truth | {family} | {case} | ours {ours} | kernel {kernel} | {difference:+}");
}

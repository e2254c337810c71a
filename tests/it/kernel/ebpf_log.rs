//! Programs that are asked to say what they skip pass the verifier of every kernel, and count as before; what they say is
//! in the log.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use podmeter::{
    paths::HostPaths,
    source::probe::{EbpfLog, PROBES, ProbeHost},
};
use podmeter_tests::{
    cgroup::wait_for,
    exporter::{Exporter, with_listen},
    probe::TestProbe,
    skip::skipped,
    tools::{podmeter, write},
    whole::NodePage,
};
use rustix::{
    fd::OwnedFd,
    net::{self, AddressFamily, SocketFlags, SocketType},
};

#[test]
fn every_probe_attaches_with_its_diagnostics_on() {
    let host = ProbeHost { ebpf_log: EbpfLog::On, ..ProbeHost::find(&HostPaths::default()) };
    for def in PROBES {
        for hook in def.hooks {
            // Not every kernel has what every hook needs.
            if let Some(mut probe) = TestProbe::start_where_types_fit(&host, def.name, &[hook.kind])
            {
                // Reading flushes the lines.
                assert_eq!(probe.read().n_lost(NO_LOSS), 0);
            }
        }
    }
}

/// Reasons that an event may have for which nothing is lost, or that was under way when the probe attached.
const NO_LOSS: &[&str] = &["no_duration", "returned_early", "no_entry"];

/// What the log and the page have of a handshake of TCP that was under way when the probe attached.
#[test]
fn a_skipped_event_is_a_line_of_the_log_if_asked_for() {
    let Some(binary) = podmeter() else { return };
    for (options, is_asked) in [(&["--ebpf-log"][..], true), (&[], false)] {
        let handshake = Handshake::begin();
        let exporter = start(&binary, options);
        let page = NodePage::of(&exporter);
        if page.count("podmeter_probe_attached", &[("probe", "tcp")]) < 0.5 {
            return skipped("the kernel refuses the probe tcp");
        }
        handshake.end();
        let no_entry = [("probe", "tcp"), ("reason", "no_entry")];
        let mut n_skipped = 0.0;
        wait_for("it is counted", || {
            let page = NodePage::of(&exporter);
            n_skipped = page.count("podmeter_probe_skipped_events_total", &no_entry);
            n_skipped > 0.0
        });
        // A collection reads lines that wait; the one that counted the event may have looked for them too early.
        drop(NodePage::of(&exporter));
        let (_, log) = exporter.terminate();
        let said: Vec<&str> = log.lines().filter(|line| line.contains("event skipped")).collect();
        let is_it = |line: &&str| {
            ["probe=\"tcp\"", "reason=\"no_entry\"", "owner=0"]
                .iter()
                .all(|field| line.contains(field))
        };
        println!("report: ebpf_log | {options:?} | skipped {n_skipped} | said {said:?}");
        assert_eq!(said.iter().any(is_it), is_asked, "{log}");
        assert_eq!(
            log.contains("event skipped") || log.contains("a program says"),
            is_asked,
            "{log}"
        );
    }
}

/// Runs the binary with the probe `tcp` alone.
fn start(binary: &Path, options: &[&str]) -> Exporter {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let probes: Vec<String> = PROBES
        .iter()
        .map(|def| format!("{}: {{ enabled: {} }}", def.name, def.name == "tcp"))
        .collect();
    let config = format!("probes: {{ {} }}\nkubernetes: {{ enabled: false }}\n", probes.join(", "));
    let file = write(dir.path(), "podmeter.yaml", &with_listen(&config));
    let mut command = Command::new(binary);
    command.arg("run").args(options).arg("--config").arg(&file);
    Exporter::of_command(&mut command, dir, file)
}

/// A client that has asked for a connection and gets no answer, because the one before it waits to be accepted and no
/// more may.
struct Handshake {
    listener: TcpListener,
    _first: TcpStream,
    _second: OwnedFd,
}

impl Handshake {
    fn begin() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        // Of a socket that listens already, it changes how many may wait: one more than this.
        net::listen(&listener, 0).expect("it listens");
        listener.set_nonblocking(true).expect("a socket can");
        let address = listener.local_addr().expect("it has an address");
        let first = TcpStream::connect(address).expect("one may wait");
        Self { listener, _first: first, _second: call(address) }
    }

    /// Accepts both; the second one asks again after a second, two, four …
    fn end(&self) {
        for _ in 0..2 {
            wait_for("a connection comes", || match self.listener.accept() {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) => panic!("{error}"),
            });
        }
    }
}

/// A socket whose first SYN is sent, and nothing more.
fn call(address: SocketAddr) -> OwnedFd {
    let socket =
        net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None)
            .expect("there may be one more");
    let connected = net::connect(&socket, &address);
    assert_eq!(connected, Err(rustix::io::Errno::INPROGRESS));
    socket
}

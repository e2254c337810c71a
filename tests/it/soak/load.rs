//! Load that no pod makes: cgroups by the score, connections and datagrams on the loopback, and processes that run out of
//! memory.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use podmeter_tests::{
    cgroup::{Hierarchy, TestCgroup},
    memory::{Memory, let_go, wait_until_killed},
};

/// Cgroups that are alive at once: each for two seconds, so that a page sees it.
pub(super) const N_ALIVE: usize = 40;

/// Cgroups that come, and as many that go, in a quarter of a second.
const N_AT_ONCE: usize = 5;

/// Between two exchanges on the loopback.
const PAUSE: Duration = Duration::from_millis(50);

/// Exchanges of one cgroup.
const N_EXCHANGES: usize = 20;

/// Between two kills, in pauses.
const KILL_EVERY: usize = 200;

const LIMIT_BYTES: u64 = 16 << 20;

/// A port on which nobody listens.
const CLOSED_PORT: u16 = 9;

/// What was done; each thread counts for itself.
#[derive(Debug, Default)]
pub(super) struct LoadCount {
    pub(super) n_connections: AtomicU64,
    pub(super) n_kills: AtomicU64,
}

/// Cgroups without a name that means anything.
pub(super) struct Plain {
    hierarchies: Vec<Hierarchy>,
    alive: VecDeque<Vec<TestCgroup>>,
    pub(super) n_made: u64,
}

impl Plain {
    /// Those of each hierarchy that Podmeter follows.
    pub(super) fn new<'a>(hierarchies: impl Iterator<Item = &'a Hierarchy>) -> Self {
        Self { hierarchies: hierarchies.cloned().collect(), alive: VecDeque::new(), n_made: 0 }
    }

    /// Makes some, and removes the oldest.
    pub(super) fn tick(&mut self) {
        for _ in 0..N_AT_ONCE {
            self.make();
        }
        while self.alive.len() > N_ALIVE {
            self.alive.pop_front();
        }
    }

    /// Makes so many.
    pub(super) fn make_many(&mut self, n_cgroups: usize) {
        (0..n_cgroups).for_each(|_| self.make());
    }

    /// Removes all that are left.
    pub(super) fn remove_all(&mut self) {
        self.alive.clear();
    }

    fn make(&mut self) {
        let name = format!("plain-{}", self.n_made);
        let cgroups: Vec<_> =
            self.hierarchies.iter().map(|hierarchy| hierarchy.create(&name)).collect();
        // One with a quota has series of its own.
        if let (Some(cgroup), true) = (cgroups.first(), self.n_made.is_multiple_of(4)) {
            cgroup.set_quota(50_000);
        }
        self.alive.push_back(cgroups);
        self.n_made += 1;
    }
}

/// Talks on the loopback, from one cgroup after the other.
pub(super) fn talk(hierarchy: &Hierarchy, is_over: &AtomicBool, count: &LoadCount) {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(loopback(0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let mut n_cgroups = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        let cgroup = hierarchy.create(&format!("talker-{n_cgroups}"));
        n_cgroups += 1;
        let _inside = cgroup.enter();
        for _ in 0..N_EXCHANGES {
            let mut client = TcpStream::connect(address).expect("it listens");
            let (mut server, _) = listener.accept().expect("a client is there");
            client.write_all(b"ping").expect("the server is there");
            server.read_exact(&mut [0; 4]).expect("the client has written");
            let refused = TcpStream::connect(loopback(CLOSED_PORT));
            assert!(refused.is_err(), "nobody listens on port {CLOSED_PORT}");
            let sender = UdpSocket::bind(loopback(0)).expect("a port is free");
            // What comes back of the first one is the error of the second.
            drop(sender.send_to(b"datagram", loopback(CLOSED_PORT)));
            count.n_connections.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
    }
}

/// Lets a process run out of its cgroup's memory, now and then.
pub(super) fn run_out_of_memory(hierarchy: &Hierarchy, is_over: &AtomicBool, count: &LoadCount) {
    if !Memory::is_there(hierarchy) {
        return;
    }
    let mut n_cgroups = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        let cgroup = hierarchy.create(&format!("glutton-{n_cgroups}"));
        let memory = Memory::of(hierarchy, &cgroup);
        n_cgroups += 1;
        memory.set_limit(LIMIT_BYTES);
        let mut glutton = memory.glutton();
        let_go(&mut glutton);
        wait_until_killed(glutton);
        count.n_kills.fetch_add(1, Ordering::Relaxed);
        drop(memory);
        drop(cgroup);
        for _ in 0..KILL_EVERY {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

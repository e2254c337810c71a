//! Clients that speak HTTP by themselves, from an address of their own choice among the loopback's: what no library sends,
//! and what a crowd of machines sends.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// Longest that a client waits for the next bytes.
const PATIENCE: Duration = Duration::from_mins(1);

/// What scrapers of these tests ask for.
pub const SCRAPE: &[u8] =
    b"GET /metrics HTTP/1.1\r\nHost: node\r\nX-Prometheus-Scrape-Timeout-Seconds: 25\r\nConnection: close\r\n\r\n";

/// A socket at an address of the loopback that has begun to connect, and may not be connected for long.
#[must_use]
pub fn begin_connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = bound(from, flags, None);
    match connect(&stream, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => stream.into(),
        Err(error) => panic!("connect {from} to {to}: {error}"),
    }
}

/// A connection from an address of the loopback.
#[must_use]
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    connected(bound(from, SocketFlags::CLOEXEC, None), to)
}

/// The same of a client for whom the kernel keeps few bytes that it has not read.
#[must_use]
pub fn connect_narrow(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    connected(bound(from, SocketFlags::CLOEXEC, Some(4096)), to)
}

fn bound(from: Ipv4Addr, flags: SocketFlags, receive_bytes: Option<usize>) -> OwnedFd {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
    let socket = socket.expect("a descriptor is free");
    if let Some(n_bytes) = receive_bytes {
        sockopt::set_socket_recv_buffer_size(&socket, n_bytes).expect("the kernel takes it");
    }
    bind(&socket, &SocketAddrV4::new(from, 0)).expect("the loopback has the address");
    socket
}

fn connected(socket: OwnedFd, to: SocketAddr) -> TcpStream {
    connect(&socket, &to).unwrap_or_else(|error| panic!("connect to {to}: {error}"));
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not nought");
    stream
}

/// An address of the loopback, by number.
#[must_use]
pub fn loopback(idx: u16) -> Ipv4Addr {
    let [high, low] = idx.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// Sends bytes, and gives all that comes back until the server ends the connection, in whatever way.
///
/// The client does not end its own side: hyper takes that for its leaving, and answers no more.
#[must_use]
pub fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    // A server that has refused the beginning does not read the rest.
    let sent = stream.write_all(bytes);
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("no end comes (sent: {sent:?}): {error}"),
    }
    answer
}

/// Scrapes from an address of the loopback, and gives status and body.
#[must_use]
pub fn scrape(from: Ipv4Addr, to: SocketAddr) -> (u16, String) {
    let mut stream = connect_from(from, to);
    stream.write_all(SCRAPE).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer comes");
    split(&answer)
}

/// Status and body of an answer that has a length.
#[must_use]
pub fn split(answer: &[u8]) -> (u16, String) {
    let text = str::from_utf8(answer).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).expect("an answer has a status");
    (status.parse().expect("a status is a number"), body.to_owned())
}

/// Lifts the limit of this process's descriptors as far as it goes, and says whether there may be so many.
#[must_use]
pub fn may_open(n_files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let is_raised = setrlimit(Resource::Nofile, raised).is_ok();
    is_raised && limit.maximum.is_none_or(|maximum| maximum >= n_files)
}

/// The address as an IP address and a port.
#[must_use]
pub fn socket_address(text: &str) -> SocketAddr {
    let address: SocketAddr = text.parse().expect("an address and a port");
    assert!(matches!(address.ip(), IpAddr::V4(_)), "{address}");
    address
}

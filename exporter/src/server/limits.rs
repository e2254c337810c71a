//! The bounds of the server, and the words by which each is counted.

use std::time::Duration;

/// The server's bounds. [`Limits::default`] is what Podmeter runs with; tests have smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers, together.
    pub header_bytes: usize,
    /// Headers of one request.
    pub n_headers: usize,
    /// From the first byte of a request, or from the start of a connection, to the end of the headers.
    pub header_time: Duration,
    /// From the start of a connection to the end of its TLS handshake.
    pub handshake_time: Duration,
    /// Between two requests on one connection.
    pub idle_time: Duration,
    /// How long a client may take nothing of an answer that waits for it.
    pub write_stall_time: Duration,
    /// Connections that are open at once; further clients wait until one is free.
    pub n_connections: usize,
    /// How long a client may ask for nothing while others wait for its connection.
    pub room_time: Duration,
    /// Connections of one address that are open at once; further ones are closed at once.
    pub n_connections_of_address: usize,
    /// Scrapes that run at once, from the request to the last bytes of the answer; further ones get 503.
    pub n_scrapes: usize,
    /// One scrape, from the request to the last bytes of the answer.
    pub scrape_time: Duration,
    /// How long requests may go on after the server was told to stop.
    pub drain_time: Duration,
}

/// Prometheus' longest header is below 1 KiB; the rest is for cookies and proxies.
const HEADER_BYTES: usize = 16 * 1024;
/// Browsers behind proxies send about 30.
const N_HEADERS: usize = 64;
/// A request is one packet; only a broken or a hostile client takes seconds for it.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Two round trips and one signature; a client that takes longer will not be in time for a scrape either.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// Two of Prometheus' default intervals of a minute, so that its connection is kept.
const IDLE_TIME: Duration = Duration::from_mins(2);
/// Prometheus' default scrape timeout: who takes nothing for so long has gone.
const WRITE_STALL_TIME: Duration = Duration::from_secs(10);
/// Each costs some 20 KiB while idle.
const N_CONNECTIONS: usize = 256;
/// A request comes with the connection; a round trip around the world is in it, too.
const ROOM_TIME: Duration = Duration::from_millis(250);
/// One address cannot keep the others out; many scrapers behind one translated address still fit.
const N_CONNECTIONS_OF_ADDRESS: usize = 64;
/// Two Prometheus servers and a person at a terminal, with room; each holds a page in memory.
const N_SCRAPES: usize = 8;
/// Longer than any sane scrape timeout: the client has given up by then.
const SCRAPE_TIME: Duration = Duration::from_mins(1);
/// A third of the 30 s that Kubernetes gives a pod between SIGTERM and SIGKILL.
const DRAIN_TIME: Duration = Duration::from_secs(10);

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: HEADER_BYTES,
            n_headers: N_HEADERS,
            header_time: HEADER_TIME,
            handshake_time: HANDSHAKE_TIME,
            idle_time: IDLE_TIME,
            write_stall_time: WRITE_STALL_TIME,
            n_connections: N_CONNECTIONS,
            room_time: ROOM_TIME,
            n_connections_of_address: N_CONNECTIONS_OF_ADDRESS,
            n_scrapes: N_SCRAPES,
            scrape_time: SCRAPE_TIME,
            drain_time: DRAIN_TIME,
        }
    }
}

/// A bound that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::header_bytes`] or [`Limits::n_headers`]: the request got 431.
    Headers,
    /// [`Limits::header_time`]: the connection was cut.
    HeaderTime,
    /// [`Limits::handshake_time`]: the connection was cut.
    HandshakeTime,
    /// [`Limits::idle_time`]: the connection was closed.
    IdleTime,
    /// [`Limits::write_stall_time`]: the connection was cut.
    WriteStallTime,
    /// A request had a body: it got 413.
    RequestBody,
    /// [`Limits::n_connections`]: a client waited until another left, or was sent away because it asked for nothing.
    Connections,
    /// [`Limits::n_connections_of_address`]: the connection was closed.
    ConnectionsOfAddress,
    /// The process or the machine has no file descriptor left: clients wait until there is one.
    Files,
    /// [`Limits::n_scrapes`]: the scrape got 503.
    Scrapes,
    /// [`Limits::scrape_time`]: the scrape got 503, or was cut if it had got something already.
    ScrapeTime,
    /// Too many passwords or tokens were being checked, in all or of one address: the request got 503.
    Authentications,
    /// [`Limits::drain_time`]: the connection was cut.
    DrainTime,
}

impl Limit {
    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::HeaderTime => "header_time",
            Self::HandshakeTime => "handshake_time",
            Self::IdleTime => "idle_time",
            Self::WriteStallTime => "write_stall_time",
            Self::RequestBody => "request_body",
            Self::Connections => "connections",
            Self::ConnectionsOfAddress => "connections_of_address",
            Self::Files => "files",
            Self::Scrapes => "scrapes",
            Self::ScrapeTime => "scrape_time",
            Self::Authentications => "authentications",
            Self::DrainTime => "drain_time",
        }
    }
}

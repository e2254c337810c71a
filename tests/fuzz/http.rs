//! All that a client sends on a connection, to the real server over a real socket: request lines, headers, several
//! requests at once, and what is none.

use std::{
    cell::OnceCell,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use podmeter::{
    demand::{Demand, DemandError, Offer},
    metric::{Desc, Kind, Value},
    page::{Labels, Page, PageFamily, Series},
    server::{
        Server,
        app::{App, Handler, Landing, Readiness, TlsFailure, TokenVerdict},
        limits::{Limit, Limits},
        listen,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::{Builder, Runtime},
    task, time,
};

/// Whoever shows this may read the guarded page.
const TOKEN: &str = "letmein";

/// Longer than an answer takes on a busy machine: a client that has said all is done with by then.
const DEADLINE: Duration = Duration::from_secs(8);
/// Turns of the one thread in which the server answers what it was asked, before the client says that it is done.
const N_TURNS: usize = 48;
/// After so many inputs the server must still answer a request that is none of them.
const N_BETWEEN_CHECKS: usize = 256;

/// What the server may say to anybody, whatever he sends.
const STATUSES: &[&str] = &["200", "400", "401", "403", "404", "405", "413", "414", "431", "503"];
/// Those that hyper says, where there is no request for Podmeter.
const OF_HYPER: &[&str] = &["400", "414", "431"];

static DESC: Desc = Desc {
    name: "podmeter_fuzz_total",
    help: "Inputs.",
    kind: Kind::Counter,
    unit: "",
    labels: &[],
    origin: "fuzz",
};

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

/// The servers, and the thread's runtime in which they and their clients take turns.
struct Place {
    runtime: Runtime,
    open: Endpoint,
    guarded: Endpoint,
    n_inputs: AtomicUsize,
}

struct Endpoint {
    address: SocketAddr,
    n_observed: Arc<AtomicUsize>,
}

/// The first byte says which server gets the rest.
pub(crate) fn check(input: &[u8]) {
    let Some((first, request)) = input.split_first() else { return };
    PLACE.with(|place| {
        let place = place.get_or_init(Place::new);
        let is_guarded = first % 2 == 1;
        let endpoint = if is_guarded { &place.guarded } else { &place.open };
        let n_before = endpoint.n_observed.load(Ordering::Relaxed);
        let said = place.runtime.block_on(exchange(endpoint.address, request));
        let n_observed = endpoint.n_observed.load(Ordering::Relaxed) - n_before;
        check_answers(&said, request, n_observed);
        if is_guarded {
            check_guarded(&said, request);
        }
        if place.n_inputs.fetch_add(1, Ordering::Relaxed) % N_BETWEEN_CHECKS == 0 {
            let asked = exchange(place.open.address, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
            let said = place.runtime.block_on(asked);
            assert!(said.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", said.escape_ascii());
        }
    });
}

impl Place {
    fn new() -> Self {
        // Whether there is something to read is looked for in each turn.
        let runtime = Builder::new_current_thread().enable_all().event_interval(1).build();
        let runtime = runtime.expect("a runtime");
        let (open, guarded) =
            runtime.block_on(async { (Endpoint::start(false), Endpoint::start(true)) });
        Self { runtime, open, guarded, n_inputs: AtomicUsize::new(0) }
    }
}

impl Endpoint {
    fn start(is_guarded: bool) -> Self {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let server = Server::new(listener, Limits::default()).expect("a listener");
        let address = server.local_addr();
        let n_observed = Arc::new(AtomicUsize::new(0));
        let app = Fuzzed { is_guarded, n_observed: Arc::clone(&n_observed) };
        // It serves as long as the process runs.
        drop(task::spawn(server.serve(Arc::new(app), std::future::pending())));
        Self { address, n_observed }
    }
}

/// Sends it all at once, and gives what is said until the server closes.
async fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    // So many connections a second would leave no port free.
    stream.set_zero_linger().expect("it is a socket");
    // A server that has refused takes no more.
    drop(stream.write_all(request).await);
    for _ in 0..N_TURNS {
        task::yield_now().await;
    }
    drop(stream.shutdown().await);
    let mut said = Vec::new();
    let read = time::timeout(DEADLINE, stream.read_to_end(&mut said)).await;
    assert!(read.is_ok(), "still open after {} s: {}", DEADLINE.as_secs(), request.escape_ascii());
    said
}

/// Each answer has a status that there is and as many bytes as it says, and is of a request that was seen.
fn check_answers(said: &[u8], request: &[u8], n_observed: usize) {
    // An answer to HEAD has a length and no bytes; so which is which cannot be told.
    let has_head = contains(request, b"HEAD");
    let (mut rest, mut n_own) = (said, 0);
    while !rest.is_empty() {
        let Some(answer) = Answer::parse(rest) else {
            panic!("{} is no answer, to {}", rest.escape_ascii(), request.escape_ascii());
        };
        assert!(STATUSES.contains(&answer.status), "{}: {}", answer.status, request.escape_ascii());
        n_own += usize::from(!OF_HYPER.contains(&answer.status));
        if has_head {
            return;
        }
        let Some((_body, after)) = answer.rest.split_at_checked(answer.n_body_bytes) else {
            panic!("{} is cut off, to {}", rest.escape_ascii(), request.escape_ascii());
        };
        rest = after;
    }
    assert!(n_own <= n_observed, "{n_own} answers to {n_observed} requests");
}

/// Whoever does not have the token gets nothing but whether Podmeter runs.
fn check_guarded(said: &[u8], request: &[u8]) {
    if contains(request, TOKEN.as_bytes()) {
        return;
    }
    let mut rest = said;
    while let Some(answer) = Answer::parse(rest) {
        let body = answer.rest.get(..answer.n_body_bytes).unwrap_or_default();
        let is_harmless = answer.status != "200" || body == b"ok\n" || answer.n_body_bytes == 3;
        assert!(is_harmless, "{} got {}", request.escape_ascii(), said.escape_ascii());
        rest = answer.rest.get(answer.n_body_bytes..).unwrap_or_default();
    }
    assert!(!contains(said, DESC.name.as_bytes()), "{}", request.escape_ascii());
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// An answer, and what follows its head.
struct Answer<'a> {
    status: &'a str,
    n_body_bytes: usize,
    rest: &'a [u8],
}

impl<'a> Answer<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, rest) = bytes.split_at_checked(at + 4)?;
        let head = str::from_utf8(head).ok()?;
        let first = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "))?;
        let status = first.get(..3)?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then_some(value)
        });
        let n_body_bytes = length?.parse().ok()?;
        Some(Self { status, n_body_bytes, rest })
    }
}

/// A page of one series, for all or for who has the token.
struct Fuzzed {
    is_guarded: bool,
    n_observed: Arc<AtomicUsize>,
}

/// There is always a page.
#[derive(Debug)]
struct NoPage;

impl fmt::Display for NoPage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("there is no page")
    }
}

impl std::error::Error for NoPage {}

impl App for Fuzzed {
    type Error = NoPage;

    fn demand(&self, query: &str) -> Result<Demand, DemandError> {
        Offer { sources: vec!["fuzz"], jobs: vec!["cadvisor".into()] }.demand(query)
    }

    async fn metrics(&self, _: Demand, time_limit: Option<Duration>) -> Result<Arc<Page>, NoPage> {
        assert!(time_limit.is_none_or(|limit| limit < Limits::default().scrape_time));
        let labels = Labels::new::<&str, String>([]).expect("none");
        let series = vec![Series { labels, value: Value::Number(1.0) }];
        Ok(Arc::new(Page::new(vec![PageFamily { desc: &DESC, series }])))
    }

    fn ready(&self) -> Readiness {
        Readiness::Ready
    }

    fn landing(&self) -> Landing {
        Landing {
            version: DESC.name.to_owned(),
            node_name: String::new(),
            kernel: String::new(),
            uptime: Duration::from_secs(1),
            busy: None,
            configuration: Vec::new(),
            kubernetes: Vec::new(),
            probes: Vec::new(),
            sources: Vec::new(),
            targets_from: String::new(),
            targets: Vec::new(),
            remote_write: Vec::new(),
        }
    }

    fn reviews_tokens(&self) -> bool {
        self.is_guarded
    }

    async fn review(&self, token: &str) -> TokenVerdict {
        if token == TOKEN { TokenVerdict::Allowed } else { TokenVerdict::Unknown }
    }

    fn observe(&self, _: Handler, _: u16) {
        self.n_observed.fetch_add(1, Ordering::Relaxed);
    }

    fn limit_hit(&self, _: Limit) {}

    fn tls_failed(&self, _: TlsFailure) {}

    fn web_config_read(&self, _: bool) {}
}

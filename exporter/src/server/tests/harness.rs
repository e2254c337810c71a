//! The fake application and the client. Nothing here sleeps: every wait is for an event, with a deadline.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    demand::{Demand, DemandError, Offer},
    metric::{Desc, Kind, Value},
    page::{Labels, Page, PageFamily, Series},
    server::{
        Server,
        app::{App, Attachment, Handler, Landing, ProbeState, Readiness, TlsFailure, TokenVerdict},
        limits::{Limit, Limits},
        listen,
        web::Web,
    },
};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

static DESC: Desc = Desc {
    name: "podmeter_test_total",
    help: "Tests.",
    kind: Kind::Counter,
    unit: "",
    labels: &["name"],
    origin: "test",
};

/// What the server told the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Collecting,
    Asked { whole: bool, time_limit: Option<Duration> },
    Observed(Handler, u16),
    Hit(Limit),
    TlsFailed(TlsFailure),
    Reviewed,
    WebConfigRead { is_good: bool },
}

/// How the fake application behaves.
pub(super) struct Behaviour {
    pub(super) page: Page,
    pub(super) fails: bool,
    pub(super) ready: fn() -> Readiness,
    /// How many scrapes may pass until [`Harness::open`].
    pub(super) n_passes: usize,
    /// What the Kubernetes API says of a token, if it is asked.
    pub(super) review: Option<fn(&str) -> TokenVerdict>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            page: page(1, 1),
            fails: false,
            ready: || Readiness::Ready,
            n_passes: 1_000,
            review: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no source gave anything")]
pub(super) struct NoPage {
    #[source]
    cause: std::fmt::Error,
}

struct TestApp {
    behaviour: Behaviour,
    page: Arc<Page>,
    gate: Arc<Semaphore>,
    events: mpsc::UnboundedSender<Event>,
}

impl TestApp {
    fn tell(&self, event: Event) {
        // The harness may be gone at the end of a test.
        self.events.send(event).ok();
    }
}

impl App for TestApp {
    type Error = NoPage;

    fn demand(&self, query: &str) -> Result<Demand, DemandError> {
        let offer = Offer { sources: vec!["test"], jobs: vec!["cadvisor".into()] };
        offer.demand(query)
    }

    async fn metrics(
        &self,
        demand: Demand,
        time_limit: Option<Duration>,
    ) -> Result<Arc<Page>, NoPage> {
        self.tell(Event::Collecting);
        self.tell(Event::Asked { whole: demand.is_whole(), time_limit });
        self.gate.acquire().await.expect("the gate is never closed").forget();
        if self.behaviour.fails {
            return Err(NoPage { cause: std::fmt::Error });
        }
        Ok(Arc::clone(&self.page))
    }

    fn ready(&self) -> Readiness {
        (self.behaviour.ready)()
    }

    fn landing(&self) -> Landing {
        let attachment = Attachment::Absent { reason: "no <BTF>".to_owned() };
        Landing {
            version: "0.1.0".to_owned(),
            node_name: "node-1".to_owned(),
            kernel: "6.12".to_owned(),
            uptime: Duration::from_secs(1),
            busy: None,
            configuration: Vec::new(),
            kubernetes: Vec::new(),
            probes: vec![ProbeState { name: "cpu_throttle".to_owned(), attachment }],
            sources: Vec::new(),
            targets_from: String::new(),
            remote_write: Vec::new(),
            targets: Vec::new(),
        }
    }

    fn reviews_tokens(&self) -> bool {
        self.behaviour.review.is_some()
    }

    async fn review(&self, token: &str) -> TokenVerdict {
        self.tell(Event::Reviewed);
        (self.behaviour.review.expect("tokens are reviewed"))(token)
    }

    fn observe(&self, handler: Handler, status: u16) {
        self.tell(Event::Observed(handler, status));
    }

    fn limit_hit(&self, limit: Limit) {
        self.tell(Event::Hit(limit));
    }

    fn tls_failed(&self, failure: TlsFailure) {
        self.tell(Event::TlsFailed(failure));
    }

    fn web_config_read(&self, is_good: bool) {
        self.tell(Event::WebConfigRead { is_good });
    }
}

/// A page of `n_series` series, each with a label of `size_bytes`.
pub(super) fn page(n_series: usize, size_bytes: usize) -> Page {
    let series = |idx: usize| {
        let labels = [("idx", idx.to_string()), ("name", "x".repeat(size_bytes))];
        let labels = Labels::new(labels).expect("two names");
        Series { labels, value: Value::Number(1.0) }
    };
    Page::new(vec![PageFamily { desc: &DESC, series: (0..n_series).map(series).collect() }])
}

/// A running server.
pub(super) struct Harness {
    pub(super) address: SocketAddr,
    events: mpsc::UnboundedReceiver<Event>,
    gate: Arc<Semaphore>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Harness {
    pub(super) async fn start(behaviour: Behaviour, limits: Limits) -> Self {
        Self::start_with(behaviour, limits, Web::none()).await
    }

    #[expect(
        clippy::unused_async,
        reason = "a listener needs the runtime that an async function has"
    )]
    pub(super) async fn start_with(behaviour: Behaviour, limits: Limits, web: Web) -> Self {
        let server = listen(([127, 0, 0, 1], 0).into())
            .and_then(|listener| Server::new(listener, limits))
            .expect("a free port");
        let server = server.guarded_by(web);
        let address = server.local_addr();
        let (events_in, events) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(behaviour.n_passes));
        let app = TestApp {
            page: Arc::new(behaviour.page.clone()),
            gate: Arc::clone(&gate),
            behaviour,
            events: events_in,
        };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(Arc::new(app), async {
            stopped.await.expect("the harness tells when to stop");
        }));
        Self { address, events, gate, stop: Some(stop), serving }
    }

    /// Lets scrapes pass.
    pub(super) fn open(&self) {
        self.gate.add_permits(1_000);
    }

    pub(super) fn stop(&mut self) {
        let stop = self.stop.take().expect("a server is stopped once");
        stop.send(()).expect("the server runs");
    }

    pub(super) async fn stopped(self) {
        in_time(self.serving).await.expect("the server does not panic");
    }

    /// How often something of that kind has happened since it was last asked or waited for.
    pub(super) fn count(&mut self, expected: Event) -> usize {
        std::iter::from_fn(|| self.events.try_recv().ok())
            .filter(|event| *event == expected)
            .count()
    }

    /// Waits for an event; earlier ones are passed over.
    pub(super) async fn wait_for(&mut self, expected: Event) {
        in_time(async { while self.events.recv().await.expect("the server runs") != expected {} })
            .await;
    }

    pub(super) async fn connect(&self) -> Client {
        Client(in_time(TcpStream::connect(self.address)).await.expect("the server listens"))
    }

    /// A client whose socket takes little.
    pub(super) async fn connect_narrowly(&self) -> Client {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        Client(in_time(socket.connect(self.address)).await.expect("the server listens"))
    }

    /// One request on a connection of its own; `head` is its first line and headers.
    pub(super) async fn ask(&self, head: &str) -> Reply {
        let mut client = self.connect().await;
        client.send(&format!("{head}\r\nHost: test\r\nConnection: close\r\n\r\n")).await;
        let mut replies = client.replies().await;
        assert_eq!(replies.len(), 1);
        replies.remove(0)
    }
}

pub(super) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}

/// A client that sends what it likes.
pub(super) struct Client(TcpStream);

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        in_time(self.0.write_all(text.as_bytes())).await.expect("the server takes it");
    }

    /// Reads until the server closes.
    pub(super) async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        in_time(self.0.read_to_end(&mut bytes)).await.map(|_| bytes)
    }

    /// Whether a request gets any answer.
    pub(super) async fn is_answered(&mut self) -> bool {
        let request = b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        self.0.write_all(request).await.is_ok() && self.takes_one_byte().await
    }

    /// Reads one byte; false at the end or after a reset.
    pub(super) async fn takes_one_byte(&mut self) -> bool {
        in_time(self.0.read_u8()).await.is_ok()
    }

    /// Reads answers to `GET` or `HEAD` until the server closes.
    pub(super) async fn replies(&mut self) -> Vec<Reply> {
        let bytes = self.rest().await.expect("the connection is not reset");
        let mut replies = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (reply, after) = Reply::parse(rest);
            replies.push(reply);
            rest = after;
        }
        replies
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// The first answer, and what follows it; an answer to `HEAD` must come last.
    fn parse(bytes: &[u8]) -> (Self, &[u8]) {
        let head_len = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head ends");
        let (head, rest) = bytes.split_at(head_len + 4);
        let head = String::from_utf8(head.to_vec()).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut reply = Self { status: status.expect("a status"), head, body: Vec::new() };
        let body_len = reply.header("content-length").expect("a length").parse().expect("a number");
        let (body, rest) = rest.split_at(rest.len().min(body_len));
        reply.body = body.to_vec();
        (reply, rest)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

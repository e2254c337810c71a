//! Whole receivers against a server that answers as a broken one does.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time,
};

use super::{
    endpoint::{Endpoint, Push},
    status::{DropReason, EndpointStatus},
};
use crate::{
    config::Config,
    metric::{Desc, Kind, Value},
    page::{Labels, Page, PageFamily, Series},
};

const PATIENT: Duration = Duration::from_secs(20);
const TAKEN: &str = "204 No Content\r\n";

static GAUGE: Desc =
    Desc { name: "g", help: "H.", kind: Kind::Gauge, unit: "", labels: &[], origin: "" };

/// A page of so many series.
fn page(n_series: u32) -> Arc<Page> {
    let series = |idx: u32| Series {
        labels: Labels::new([("idx", idx.to_string().as_str())]).unwrap(),
        value: Value::Number(idx.into()),
    };
    let series = (0..n_series).map(series).collect();
    Arc::new(Page::new(vec![PageFamily { desc: &GAUGE, series }]))
}

/// A server that answers by a list, whose last answer it repeats: a status, and headers if need be.
struct Receiver {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<(String, Vec<u8>)>,
    answers: Arc<Mutex<Vec<&'static str>>>,
}

impl Receiver {
    async fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Vec<_> = answers.iter().rev().copied().collect();
        let answers = Arc::new(Mutex::new(answers));
        let (sender, requests) = mpsc::unbounded_channel();
        let given = Arc::clone(&answers);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&given), sender.clone()));
            }
        });
        Self { address, requests, answers }
    }

    async fn request(&mut self) -> (String, Vec<u8>) {
        time::timeout(PATIENT, self.requests.recv()).await.expect("a request comes").unwrap()
    }

    fn answer_from_now_on(&self, answer: &'static str) {
        *self.answers.lock().unwrap() = vec![answer];
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: Arc<Mutex<Vec<&'static str>>>,
    requests: mpsc::UnboundedSender<(String, Vec<u8>)>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_closed) => return,
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        let answer = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.pop().unwrap() } else { answers[0] }
        };
        // The test may have ended, and the client gone.
        if requests.send((head, body)).is_err() {
            return;
        }
        let answer = format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn endpoint(address: SocketAddr, more: &str) -> Arc<Endpoint> {
    endpoint_behind(None, address, more)
}

/// The same as a reload makes it.
fn endpoint_behind(before: Option<&Endpoint>, address: SocketAddr, more: &str) -> Arc<Endpoint> {
    let yaml = format!(
        "remote_write: [{{ url: 'http://{address}/w?a=b', metadata_config: {{ send: false }}{more} }}]"
    );
    let config = Config::parse(&yaml, "f", &|_| None).unwrap().remote_write.remove(0);
    Arc::new(Endpoint::new(config, "n1", before).unwrap())
}

async fn push(endpoint: &Arc<Endpoint>, instant: i64, n_series: u32) {
    let push = Push { page: page(n_series), instant, next: None };
    Arc::clone(endpoint).push(push).await;
}

async fn wait_for(
    endpoint: &Endpoint,
    condition: impl Fn(&EndpointStatus) -> bool,
) -> EndpointStatus {
    let deadline = Instant::now() + PATIENT;
    loop {
        let status = endpoint.status();
        if condition(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:#?}");
        time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_request_says_what_it_is() {
    let mut receiver = Receiver::start(&[TAKEN]).await;
    let more = ", headers: { X-Scope-OrgID: t1 }, authorization: { credentials: secret }";
    let first = endpoint(receiver.address, more);
    push(&first, 1000, 3).await;
    let (head, body) = receiver.request().await;
    for line in [
        "post /w?a=b http/1.1\r\n",
        "content-encoding: snappy\r\n",
        "content-type: application/x-protobuf\r\n",
        "x-prometheus-remote-write-version: 0.1.0\r\n",
        "user-agent: podmeter/",
        "x-scope-orgid: t1\r\n",
        "authorization: bearer secret\r\n",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(snap::raw::Decoder::new().decompress_vec(&body).unwrap().len() > 100);
    let second = endpoint(receiver.address, ", protobuf_message: io.prometheus.write.v2.Request");
    push(&second, 1000, 3).await;
    let (head, _) = receiver.request().await;
    let kind = "content-type: application/x-protobuf;proto=io.prometheus.write.v2.request\r\n";
    assert!(head.contains(kind) && head.contains("version: 2.0.0\r\n"), "{head}");
}

#[tokio::test]
async fn what_may_pass_is_sent_again_as_it_was() {
    let answers = ["503 No\r\n", "429 No\r\nRetry-After: 0\r\n", "500 No\r\n", TAKEN];
    let mut receiver = Receiver::start(&answers).await;
    let endpoint = endpoint(receiver.address, "");
    push(&endpoint, 1000, 3).await;
    let first = receiver.request().await;
    for _ in 0..3 {
        assert_eq!(receiver.request().await, first);
    }
    let status = wait_for(&endpoint, |status| status.totals.samples == 3).await;
    assert_eq!((status.totals.retries, status.totals.requests), (3, 1));
    assert!(status.is_well() && status.last_error.unwrap().1.contains("500"));
    assert_eq!(status.totals.newest, 1000);
}

#[tokio::test]
async fn what_will_not_pass_is_dropped_and_counted_and_the_next_goes_on() {
    let answers = ["400 No\r\n", "401 No\r\n", "404 No\r\n", "302 No\r\n", TAKEN];
    let receiver = Receiver::start(&answers).await;
    let endpoint = endpoint(receiver.address, ", queue_config: { max_samples_per_send: 2 }");
    push(&endpoint, 1000, 10).await;
    let status = wait_for(&endpoint, |status| status.n_pending_samples == 0).await;
    let dropped = |reason| status.totals.dropped(reason);
    assert_eq!(dropped(DropReason::BadRequest), 2);
    assert_eq!(dropped(DropReason::Unauthorized), 2);
    assert_eq!(dropped(DropReason::Rejected), 4);
    assert_eq!((status.totals.samples, status.totals.retries), (2, 0));
}

#[tokio::test]
async fn a_429_is_dropped_where_the_configuration_says_so() {
    let receiver = Receiver::start(&["429 No\r\n", TAKEN]).await;
    let endpoint = endpoint(receiver.address, ", queue_config: { retry_on_http_429: false }");
    push(&endpoint, 1000, 1).await;
    let n_dropped = |status: &EndpointStatus| status.totals.dropped(DropReason::TooManyRequests);
    wait_for(&endpoint, |status| n_dropped(status) == 1).await;
}

#[tokio::test]
async fn a_receiver_of_the_second_protocol_says_how_much_it_took() {
    let written = "204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: 3\r\n";
    let receiver = Receiver::start(&[written, TAKEN]).await;
    let more = ", protobuf_message: io.prometheus.write.v2.Request";
    let endpoint = endpoint(receiver.address, more);
    push(&endpoint, 1000, 5).await;
    let n_missing = |status: &EndpointStatus| status.totals.dropped(DropReason::NotWritten);
    wait_for(&endpoint, |status| (status.totals.samples, n_missing(status)) == (3, 2)).await;
    // One that says nothing has understood nothing.
    push(&endpoint, 2000, 5).await;
    let status = wait_for(&endpoint, |status| n_missing(status) == 7).await;
    assert_eq!(status.totals.samples, 3);
    assert!(status.last_error.unwrap().1.contains("taken 0 of 5 samples"));
}

#[tokio::test]
async fn memory_is_bounded_and_the_newest_stay() {
    let receiver = Receiver::start(&["503 No\r\n"]).await;
    let more = ", queue_config: { capacity: 20, max_samples_per_send: 5, max_backoff: 50ms }";
    let endpoint = endpoint(receiver.address, more);
    for instant in 1..=10 {
        push(&endpoint, instant * 1000, 10).await;
    }
    let status = endpoint.status();
    // One request is under way.
    assert!(status.n_pending_samples <= 25, "{status:#?}");
    let n_full = |status: &EndpointStatus| status.totals.dropped(DropReason::QueueFull);
    assert!(n_full(&status) >= 75, "{status:#?}");
    receiver.answer_from_now_on(TAKEN);
    let status = wait_for(&endpoint, |status| status.n_pending_samples == 0).await;
    assert_eq!(status.totals.samples + n_full(&status), 100, "each is sent or counted");
    assert_eq!(status.totals.newest, 10_000);
}

#[tokio::test]
async fn what_is_left_at_the_end_is_counted_or_lies_on_disk() {
    let receiver = Receiver::start(&["503 No\r\n"]).await;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().display();
    let buffer = format!(", buffer: {{ directory: '{directory}', size_limit: 1MB }}");
    for (more, n_lost) in [("", 4), (&*buffer, 0)] {
        let endpoint = endpoint(receiver.address, more);
        push(&endpoint, 1000, 4).await;
        Arc::clone(&endpoint).close(Instant::now()).await;
        assert_eq!(endpoint.status().totals.dropped(DropReason::Stopped), n_lost);
    }
    receiver.answer_from_now_on(TAKEN);
    let endpoint = endpoint(receiver.address, &buffer);
    push(&endpoint, 2000, 4).await;
    let status = wait_for(&endpoint, |status| status.n_pending_samples == 0).await;
    assert_eq!((status.totals.samples, status.buffer_error), (8, None));
}

/// The receiver is away while the configuration changes: what waits is older than what comes, and must be there first.
#[tokio::test]
async fn a_successor_sends_nothing_before_the_one_before_it_has_ended() {
    let mut receiver = Receiver::start(&["503 No\r\n"]).await;
    let more =
        |turn| format!(", headers: {{ X-Turn: {turn} }}, queue_config: {{ max_backoff: 50ms }}");
    let first = endpoint(receiver.address, &more("first"));
    push(&first, 1000, 3).await;
    let second = endpoint_behind(Some(&first), receiver.address, &more("second"));
    let closing = tokio::spawn(Arc::clone(&first).close(Instant::now() + PATIENT));
    push(&second, 2000, 3).await;
    let mut turns = Vec::new();
    for n_requests in 0.. {
        let (head, _) = receiver.request().await;
        turns.push(if head.contains("x-turn: first\r\n") { 1 } else { 2 });
        if n_requests == 5 {
            receiver.answer_from_now_on(TAKEN);
        }
        if turns.ends_with(&[2]) {
            break;
        }
    }
    closing.await.unwrap();
    let status = wait_for(&second, |status| status.n_pending_samples == 0).await;
    assert!(turns.len() > 6 && turns.is_sorted(), "{turns:?}");
    assert_eq!((status.totals.samples, status.totals.dropped(DropReason::Stopped)), (6, 0));
}

#[tokio::test]
async fn who_is_closed_has_sent_what_was_open_and_refuses_the_next_page() {
    let receiver = Receiver::start(&[TAKEN]).await;
    let endpoint = endpoint(receiver.address, "");
    let next = |instant| Push { page: page(3), instant, next: Some(Duration::from_secs(1)) };
    assert!(Arc::clone(&endpoint).push(next(1000)).await);
    assert_eq!(endpoint.status().n_pending_samples, 3, "it waits for more");
    Arc::clone(&endpoint).close(Instant::now() + PATIENT).await;
    assert!(!Arc::clone(&endpoint).push(next(2000)).await);
    let status = endpoint.status();
    assert_eq!((status.totals.samples, status.n_pending_samples), (3, 0));
}

#[tokio::test]
async fn a_request_without_samples_tries_a_receiver_out() {
    let mut receiver = Receiver::start(&[TAKEN, "401 No\r\n"]).await;
    let endpoint = endpoint(receiver.address, "");
    endpoint.try_out().await.unwrap();
    assert_eq!(receiver.request().await.1, [0]);
    let error = endpoint.try_out().await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("check authorization"), "{error}");
}

//! What each path answers.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use expect_test::{Expect, expect};
use flate2::read::GzDecoder;

use super::harness::{Behaviour, Event, Harness, page};
use crate::{
    encode::{Format, encode},
    server::{
        ServerError,
        app::{Handler, Readiness},
        limits::{Limit, Limits},
        listen,
    },
};

async fn start(behaviour: Behaviour) -> Harness {
    Harness::start(behaviour, Limits::default()).await
}

/// Sends a request without a body, and looks at the answer and at what the application was told of it.
async fn check(request: &str, status: u16, handler: Handler, content_type: &str, part: &str) {
    let mut harness = start(Behaviour::default()).await;
    let reply = harness.ask(&format!("{request} HTTP/1.1")).await;
    assert_eq!(reply.status, status, "{request}");
    assert_eq!(reply.header("content-type"), Some(content_type), "{request}");
    assert_eq!(reply.header("allow"), (status == 405).then_some("GET, HEAD"), "{request}");
    assert!(reply.text().contains(part), "{request}: {}", reply.text());
    harness.wait_for(Event::Observed(handler, status)).await;
}

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

#[tokio::test]
async fn every_path_answers_and_is_counted() {
    let page = Format::Text004.content_type();
    check("GET /metrics", 200, Handler::Metrics, page, "# HELP").await;
    check("GET /metrics?a=b", 200, Handler::Metrics, page, "# HELP").await;
    check("GET /healthz", 200, Handler::Healthz, TEXT, "ok\n").await;
    check("GET /readyz", 200, Handler::Readyz, TEXT, "ok\n").await;
    check("GET /", 200, Handler::Landing, HTML, "no &lt;BTF&gt;").await;
}

#[tokio::test]
async fn a_part_of_the_page_is_asked_for_in_the_query() {
    let page = Format::Text004.content_type();
    check("GET /metrics?job=cadvisor", 200, Handler::Metrics, page, "# HELP").await;
    check("HEAD /metrics?job=x", 400, Handler::Metrics, TEXT, "").await;
    check("GET /metrics?job=x", 400, Handler::Metrics, TEXT, "the jobs are cadvisor\n").await;
    check("GET /metrics?exclude[]=x", 400, Handler::Metrics, TEXT, "no source \"x\"").await;
    let mut harness = start(Behaviour::default()).await;
    for (head, whole, time_limit) in [
        ("GET /metrics HTTP/1.1", true, None),
        ("GET /metrics?exclude[]=test HTTP/1.1", false, None),
        ("GET /metrics HTTP/1.1\r\nX-Prometheus-Scrape-Timeout-Seconds: 3", true, Some(2_500)),
        ("GET /metrics HTTP/1.1\r\nX-Prometheus-Scrape-Timeout-Seconds: soon", true, None),
    ] {
        assert_eq!(harness.ask(head).await.status, 200, "{head}");
        let time_limit = time_limit.map(Duration::from_millis);
        harness.wait_for(Event::Asked { whole, time_limit }).await;
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_told_what_there_is() {
    check("GET /metrics/", 404, Handler::Unknown, TEXT, "\n/readyz").await;
    check("POST /x", 404, Handler::Unknown, TEXT, "\n/metrics").await;
    check("OPTIONS *", 404, Handler::Unknown, TEXT, "\n/healthz").await;
    check("POST /metrics", 405, Handler::Metrics, TEXT, "GET and HEAD").await;
    check("DELETE /", 405, Handler::Landing, TEXT, "GET and HEAD").await;
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let harness = start(Behaviour::default()).await;
    for path in ["/metrics", "/healthz", "/readyz", "/", "/nothing"] {
        let get = harness.ask(&format!("GET {path} HTTP/1.1")).await;
        let head = harness.ask(&format!("HEAD {path} HTTP/1.1")).await;
        assert_eq!(head.status, get.status, "{path}");
        for name in ["content-length", "content-type", "vary"] {
            assert_eq!(head.header(name), get.header(name), "{path}");
        }
        assert!(!get.body.is_empty());
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn the_format_follows_accept() {
    let harness = start(Behaviour::default()).await;
    for (header, format) in [
        ("", Format::Text004),
        ("\r\nAccept: application/openmetrics-text;version=1.0.0", Format::OpenMetrics100),
        ("\r\nAccept: image/png\r\nAccept: application/openmetrics-text", Format::OpenMetrics100),
        ("\r\nAccept: \u{fffd}garbage;;;,,", Format::Text004),
        ("\r\nAccept: more garbage", Format::Text004),
    ] {
        let reply = harness.ask(&format!("GET /metrics HTTP/1.1{header}")).await;
        assert_eq!(reply.status, 200, "{header}");
        assert_eq!(reply.header("content-type"), Some(format.content_type()), "{header}");
        assert_eq!(reply.header("vary"), Some("Accept, Accept-Encoding"));
        assert_eq!(reply.body, encode(&page(1, 1), format), "{header}");
    }
}

#[tokio::test]
async fn a_compressed_page_is_the_same_page() {
    // Below and above what is written by the connection's own task.
    for n_series in [1, 1_000] {
        let page = page(n_series, 100);
        let expected = encode(&page, Format::Text004);
        let harness = start(Behaviour { page, ..Behaviour::default() }).await;
        let plain = harness.ask("GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip;q=0").await;
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.body, expected);
        let gzip = harness.ask("GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip").await;
        assert_eq!(gzip.header("content-encoding"), Some("gzip"));
        let mut body = Vec::new();
        GzDecoder::new(gzip.body.as_slice()).read_to_end(&mut body).expect("it is gzip");
        assert_eq!(body, expected);
        let zstd = harness.ask("GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip, zstd").await;
        assert_eq!(zstd.header("content-encoding"), Some("zstd"));
        assert_eq!(zstd.header("vary"), Some("Accept, Accept-Encoding"));
        assert_eq!(zstd::decode_all(zstd.body.as_slice()).expect("it is zstd"), expected);
    }
}

#[tokio::test]
async fn not_ready_says_why() {
    let ready = || Readiness::NotReady { reason: "no source has run yet".to_owned() };
    let harness = start(Behaviour { ready, ..Behaviour::default() }).await;
    let reply = harness.ask("GET /readyz HTTP/1.1").await;
    assert_eq!((reply.status, reply.text()), (503, "not ready: no source has run yet\n"));
}

#[tokio::test]
async fn a_page_that_cannot_be_made_says_why() {
    let harness = start(Behaviour { fails: true, ..Behaviour::default() }).await;
    let reply = harness.ask("GET /metrics HTTP/1.1").await;
    assert_eq!(reply.status, 500);
    let cause = std::fmt::Error;
    let expected = format!("failed to collect the metrics: no source gave anything: {cause}\n");
    assert_eq!(reply.text(), expected);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let harness = start(Behaviour::default()).await;
    let mut client = harness.connect().await;
    let request = |path, more| format!("GET {path} HTTP/1.1\r\nHost: test\r\n{more}\r\n");
    let requests = [
        request("/healthz", ""),
        request("/metrics", ""),
        request("/nothing", ""),
        request("/healthz", "Connection: close\r\n"),
    ];
    client.send(&requests.concat()).await;
    let replies = client.replies().await;
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 404, 200]);
    assert_eq!(replies[1].body, encode(&page(1, 1), Format::Text004));
}

#[tokio::test]
async fn a_request_with_a_body_is_refused() {
    let mut harness = start(Behaviour::default()).await;
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 100000000\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    ] {
        let mut client = harness.connect().await;
        client.send(&format!("POST /metrics HTTP/1.1\r\nHost: test\r\n{body}")).await;
        let replies = client.replies().await;
        assert_eq!(replies.len(), 1, "{body}");
        assert_eq!(replies[0].status, 413, "{body}");
        assert_eq!(replies[0].header("connection"), Some("close"), "{body}");
        harness.wait_for(Event::Hit(Limit::RequestBody)).await;
    }
}

#[tokio::test]
async fn a_refused_client_can_finish_sending() {
    let mut harness = start(Behaviour::default()).await;
    let mut client = harness.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n").await;
    harness.wait_for(Event::Observed(Handler::Landing, 413)).await;
    for _ in 0..200 {
        client.send(&"x".repeat(1_000)).await;
    }
    assert_eq!(client.replies().await[0].status, 413);
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    let ready = || panic!("a bug of the test");
    let harness = start(Behaviour { ready, ..Behaviour::default() }).await;
    let mut client = harness.connect().await;
    client.send("GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.rest().await.expect("the connection is closed"), b"");
    assert_eq!(harness.ask("GET /healthz HTTP/1.1").await.status, 200);
}

#[test]
fn an_address_in_use_is_an_error() {
    let first = listen(([127, 0, 0, 1], 0).into()).expect("free");
    let taken = first.local_addr().expect("it has one");
    let error = listen(taken);
    assert!(matches!(error, Err(ServerError::AddressInUse { address, .. }) if address == taken));
}

#[test]
fn an_address_of_another_machine_is_an_error() {
    // TEST-NET-1 of RFC 5737 is nobody's.
    let error = listen(([192, 0, 2, 1], 9643).into());
    assert!(matches!(error, Err(ServerError::NoSuchAddress { .. })));
}

#[test]
fn errors_say_where_and_what_to_do() {
    let check = |kind: io::ErrorKind, expected: Expect| {
        let error = ServerError::new(([0, 0, 0, 0], 80).into(), kind.into());
        expected.assert_eq(&error.to_string());
    };
    check(
        io::ErrorKind::AddrInUse,
        expect![
            "failed to listen on 0.0.0.0:80, which is in use: stop the process that has it (`ss -ltnp 'sport = :80'` shows it), or set `listen:` to another address"
        ],
    );
    check(
        io::ErrorKind::PermissionDenied,
        expect![
            "failed to listen on 0.0.0.0:80 for want of permission: set `listen:` to a port above 1023, or give the process CAP_NET_BIND_SERVICE"
        ],
    );
    check(
        io::ErrorKind::AddrNotAvailable,
        expect![
            "failed to listen on 0.0.0.0:80, which is no address of this machine: set `listen:` to one that is, or to 0.0.0.0:80 for all"
        ],
    );
    check(io::ErrorKind::OutOfMemory, expect!["failed to listen on 0.0.0.0:80: check `listen:`"]);
}

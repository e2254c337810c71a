//! Each bound of the server, met.

use std::{pin::pin, time::Duration};

use super::harness::{Behaviour, Event, Harness, in_time, page};
use crate::server::{
    app::Handler,
    limits::{Limit, Limits},
};

/// Long enough that a client on a busy machine does its part, short enough to wait for.
const SHORT: Duration = Duration::from_millis(500);

async fn start(limits: Limits) -> Harness {
    Harness::start(Behaviour::default(), limits).await
}

#[tokio::test]
async fn headers_that_are_too_large_or_too_many_get_431() {
    let mut harness = start(Limits::default()).await;
    let one_header = |size| format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(size));
    let many_headers = |n| format!("GET /healthz HTTP/1.1{}", "\r\nX: x".repeat(n));
    // What the harness adds is below 100 bytes and two headers.
    assert_eq!(harness.ask(&one_header(16 * 1024 - 100)).await.status, 200);
    assert_eq!(harness.ask(&many_headers(62)).await.status, 200);
    let long_path = format!("GET /{} HTTP/1.1", "x".repeat(17 * 1024));
    for head in [one_header(17 * 1024), one_header(200_000), many_headers(63), long_path] {
        assert_eq!(harness.ask(&head).await.status, 431, "{} bytes", head.len());
        harness.wait_for(Event::Hit(Limit::Headers)).await;
    }
}

#[tokio::test]
async fn a_client_that_is_slow_to_ask_is_cut_off() {
    for sent in ["", "GET /healthz HTTP/1.1\r\nHost: te"] {
        let mut harness = start(Limits { header_time: SHORT, ..Limits::default() }).await;
        let mut client = harness.connect().await;
        client.send(sent).await;
        harness.wait_for(Event::Hit(Limit::HeaderTime)).await;
        assert_eq!(client.rest().await.expect("the connection is closed"), b"");
    }
}

#[tokio::test]
async fn a_second_request_that_is_slow_is_cut_off() {
    let mut harness = start(Limits { header_time: SHORT, ..Limits::default() }).await;
    let mut client = harness.connect().await;
    client.send("GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    harness.wait_for(Event::Observed(Handler::Healthz, 200)).await;
    client.send("GET /hea").await;
    harness.wait_for(Event::Hit(Limit::HeaderTime)).await;
    assert_eq!(client.replies().await.len(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let mut harness = start(Limits { idle_time: SHORT, ..Limits::default() }).await;
    let mut client = harness.connect().await;
    client.send("GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    harness.wait_for(Event::Hit(Limit::IdleTime)).await;
    assert_eq!(client.replies().await.len(), 1);
}

#[tokio::test]
async fn a_slow_answer_is_not_taken_for_a_slow_client() {
    let limits = Limits {
        header_time: SHORT,
        idle_time: SHORT,
        write_stall_time: SHORT,
        ..Limits::default()
    };
    let mut harness =
        Harness::start(Behaviour { n_passes: 0, ..Behaviour::default() }, limits).await;
    let mut scraper = harness.connect().await;
    scraper.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    harness.wait_for(Event::Collecting).await;
    // A silent client is cut off after the same time, so that time has passed when it is.
    let mut silent = harness.connect().await;
    assert_eq!(silent.rest().await.expect("the connection is closed"), b"");
    harness.open();
    assert_eq!(scraper.replies().await[0].status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let limits = Limits { write_stall_time: SHORT, n_scrapes: 1, ..Limits::default() };
    // More than the kernel's buffers take.
    let behaviour = Behaviour { page: page(64, 512 * 1024), ..Behaviour::default() };
    let mut harness = Harness::start(behaviour, limits).await;
    let mut client = harness.connect_narrowly().await;
    client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    harness.wait_for(Event::Hit(Limit::WriteStallTime)).await;
    // Its place is free again, and a client that reads gets all of the page.
    assert!(harness.ask("GET /metrics HTTP/1.1").await.body.len() > 64 * 512 * 1024);
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_cut_off() {
    let limits = Limits { scrape_time: SHORT, ..Limits::default() };
    let behaviour = Behaviour { page: page(64, 512 * 1024), ..Behaviour::default() };
    let mut harness = Harness::start(behaviour, limits).await;
    let mut client = harness.connect_narrowly().await;
    client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    // Byte by byte, 32 MiB take a minute; the client never stalls.
    let mut cut_off = pin!(harness.wait_for(Event::Hit(Limit::ScrapeTime)));
    tokio::select! {
        () = &mut cut_off => return,
        () = async { while client.takes_one_byte().await {} } => {}
    }
    cut_off.await;
}

#[tokio::test]
async fn a_scrape_that_takes_too_long_gets_503() {
    let limits = Limits { scrape_time: SHORT, ..Limits::default() };
    let mut harness =
        Harness::start(Behaviour { n_passes: 0, ..Behaviour::default() }, limits).await;
    let reply = harness.ask("GET /metrics HTTP/1.1").await;
    assert_eq!((reply.status, reply.text()), (503, "the scrape took longer than 0.5 s\n"));
    harness.wait_for(Event::Hit(Limit::ScrapeTime)).await;
}

#[tokio::test]
async fn more_scrapes_than_allowed_get_503() {
    let limits = Limits { n_scrapes: 2, ..Limits::default() };
    let mut harness =
        Harness::start(Behaviour { n_passes: 0, ..Behaviour::default() }, limits).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = harness.connect().await;
        client.send("GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
        harness.wait_for(Event::Collecting).await;
        clients.push(client);
    }
    let reply = harness.ask("GET /metrics HTTP/1.1").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("1"));
    let expected = "too many scrapes run at once (2): let fewer scrapers ask, or less often\n";
    assert_eq!(reply.text(), expected);
    harness.wait_for(Event::Hit(Limit::Scrapes)).await;
    // Other paths are not in the way of scrapes, nor scrapes in theirs.
    assert_eq!(harness.ask("GET /healthz HTTP/1.1").await.status, 200);
    harness.open();
    for mut client in clients {
        assert_eq!(client.replies().await[0].status, 200);
    }
    assert_eq!(harness.ask("GET /metrics HTTP/1.1").await.status, 200);
}

#[tokio::test]
async fn a_scrape_whose_client_left_gives_its_place_back() {
    let limits = Limits { n_scrapes: 1, ..Limits::default() };
    let mut harness =
        Harness::start(Behaviour { n_passes: 0, ..Behaviour::default() }, limits).await;
    let mut client = harness.connect().await;
    client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    harness.wait_for(Event::Collecting).await;
    drop(client);
    harness.open();
    in_time(async { while harness.ask("GET /metrics HTTP/1.1").await.status != 200 {} }).await;
}

#[tokio::test]
async fn more_connections_than_allowed_wait() {
    let limits = Limits { n_connections: 1, ..Limits::default() };
    let mut harness =
        Harness::start(Behaviour { n_passes: 0, ..Behaviour::default() }, limits).await;
    let mut first = harness.connect().await;
    first.send("GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    harness.wait_for(Event::Collecting).await;
    let mut second = harness.connect().await;
    second.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    harness.wait_for(Event::Hit(Limit::Connections)).await;
    harness.open();
    // Who waits for an answer gets it, however many wait for the connection.
    assert_eq!(first.replies().await[0].status, 200);
    drop(first);
    assert_eq!(second.replies().await[0].status, 200);
}

#[tokio::test]
async fn who_asks_for_nothing_makes_room() {
    for sent in ["", "GET /heal", "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"] {
        let limits = Limits { n_connections: 1, room_time: SHORT, ..Limits::default() };
        let mut harness = start(limits).await;
        let mut silent = harness.connect().await;
        silent.send(sent).await;
        let mut scraper = harness.connect().await;
        scraper.send("GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
        harness.wait_for(Event::Hit(Limit::Connections)).await;
        assert_eq!(scraper.replies().await[0].status, 200, "{sent}");
        // It has what it asked for, and then the end.
        let n_replies = usize::from(sent.ends_with("\r\n\r\n"));
        assert_eq!(silent.replies().await.len(), n_replies, "{sent}");
    }
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let mut harness = start(Limits { n_connections_of_address: 1, ..Limits::default() }).await;
    let mut first = harness.connect().await;
    first.send("GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    harness.wait_for(Event::Observed(Handler::Healthz, 200)).await;
    let mut second = harness.connect().await;
    harness.wait_for(Event::Hit(Limit::ConnectionsOfAddress)).await;
    assert!(!second.takes_one_byte().await);
    first.send("GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(first.replies().await.len(), 2);
    drop(first);
    in_time(async { while !harness.connect().await.is_answered().await {} }).await;
}

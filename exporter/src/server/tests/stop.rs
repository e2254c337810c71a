//! The graceful stop.

use std::time::Duration;

use tokio::net::TcpStream;

use super::harness::{Behaviour, Event, Harness, in_time};
use crate::server::limits::{Limit, Limits};

async fn start(limits: Limits) -> Harness {
    Harness::start(Behaviour { n_passes: 0, ..Behaviour::default() }, limits).await
}

#[tokio::test]
async fn a_running_request_is_finished_and_no_new_one_accepted() {
    let mut harness = start(Limits::default()).await;
    let mut idle = harness.connect().await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let mut scraper = harness.connect().await;
    scraper.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    harness.wait_for(Event::Collecting).await;
    harness.stop();
    // The idle connection is closed at once, after its answer.
    assert_eq!(idle.replies().await.len(), 1);
    let address = harness.address;
    in_time(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    harness.open();
    assert_eq!(scraper.replies().await[0].status, 200);
    harness.stopped().await;
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut_off() {
    let drain_time = Duration::from_millis(100);
    let mut harness = start(Limits { drain_time, ..Limits::default() }).await;
    let mut scraper = harness.connect().await;
    scraper.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    harness.wait_for(Event::Collecting).await;
    harness.stop();
    harness.wait_for(Event::Hit(Limit::DrainTime)).await;
    assert_eq!(scraper.rest().await.expect("the connection is closed"), b"");
    harness.stopped().await;
}

#[tokio::test]
async fn without_clients_the_stop_is_at_once() {
    let mut harness = start(Limits { drain_time: Duration::ZERO, ..Limits::default() }).await;
    harness.stop();
    harness.stopped().await;
}

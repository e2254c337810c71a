//! Targets without TLS: pages, faults, credentials.

use std::fs;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{Behaviour, PAGE, PATIENT, SHORT, Target, config, outcome};
use crate::source::upstream::client::{
    Client,
    config::{ClientConfig, Credentials, Secret},
};

#[tokio::test]
async fn a_page_comes_over_one_connection_that_is_kept() {
    let mut target = Target::plain(Behaviour::Answers(PAGE)).await;
    let mut client = Client::new(target.config());
    for _ in 0..2 {
        let fetched = outcome(&mut client, PATIENT).await.unwrap();
        assert_eq!(fetched.body, b"a 1\n");
        assert_eq!(fetched.content_type.as_deref(), Some("text/plain; version=0.0.4"));
        let (connection, head) = target.request().await;
        assert_eq!(connection, 0);
        let head = head.to_lowercase();
        for expected in [
            "get /metrics?a=b http/1.1\r\n",
            "accept-encoding: gzip\r\n",
            "accept: application/openmetrics-text;version=1.0.0",
            "x-prometheus-scrape-timeout-seconds: 20\r\n",
            "user-agent: podmeter/",
        ] {
            assert!(head.contains(expected), "{expected}: {head}");
        }
        assert!(!head.contains("authorization"));
    }
}

#[tokio::test]
async fn each_fault_has_its_reason_and_says_what_to_do() {
    let check = async |behaviour, limit, reason: &str, text: &str| {
        let target = Target::plain(behaviour).await;
        let error = outcome(&mut Client::new(target.config()), limit).await.unwrap_err();
        assert_eq!(error.0, reason, "{}", error.1);
        assert!(error.1.contains(text), "{}", error.1);
    };
    let (hangs, closes) = (Behaviour::Hangs, Behaviour::Closes);
    check(hangs(b""), SHORT, "timeout", "within 0.3 s: before the target answered").await;
    check(hangs(b"HTTP/1.1 200 OK\r\nContent-"), SHORT, "timeout", "before the target").await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na 1\n";
    check(hangs(head), SHORT, "timeout", "in the middle of the page, after 4 bytes").await;
    let drip = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n";
    check(Behaviour::Drips(drip), SHORT, "timeout", "in the middle of the page").await;
    check(closes(head), PATIENT, "broken", "in the middle of the page, after 4 bytes").await;
    check(closes(b""), PATIENT, "broken", "before the target answered").await;
    check(closes(b"SSH-2.0-OpenSSH\r\n"), PATIENT, "broken", "before the target").await;
    let status = [
        (
            &b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"[..],
            "unauthorized",
            "credentials_file",
        ),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "forbidden", "nodes/metrics"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "status", "the target answered 500"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            "status",
            "not followed",
        ),
    ];
    for (head, reason, text) in status {
        check(Behaviour::Answers(head), PATIENT, reason, text).await;
    }
    let flood = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
    check(Behaviour::Floods(flood), PATIENT, "body_size_limit", "more than 1000 bytes").await;
    let packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope";
    check(Behaviour::Answers(packed), PATIENT, "encoding", "no valid gzip").await;
}

#[tokio::test]
async fn a_target_that_is_down_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut client = Client::new(config(&format!("http://{address}/metrics")));
    let (reason, text) = outcome(&mut client, PATIENT).await.unwrap_err();
    assert_eq!(reason, "connect");
    assert!(text.contains("cannot connect") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_token_is_read_again_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let mut target = Target::plain(Behaviour::Answers(PAGE)).await;
    let token = Secret::File(path.clone());
    let credentials = Credentials::Token { scheme: "Bearer".into(), token };
    assert!(!format!("{credentials:?}").contains("first"));
    let mut client =
        Client::new(ClientConfig { credentials: Some(credentials), ..target.config() });

    let (reason, text) = outcome(&mut client, PATIENT).await.unwrap_err();
    assert_eq!(reason, "credentials");
    assert!(text.contains("token") && text.contains("No such file"), "{text}");
    for (content, sent) in [("first\n", "first"), ("second", "second")] {
        fs::write(&path, content).unwrap();
        outcome(&mut client, PATIENT).await.unwrap();
        let (_, head) = target.request().await;
        assert!(
            head.to_lowercase().contains(&format!("authorization: bearer {sent}\r\n")),
            "{head}"
        );
    }
    for content in ["", " \n", "two\nlines"] {
        fs::write(&path, content).unwrap();
        let (reason, text) = outcome(&mut client, PATIENT).await.unwrap_err();
        assert_eq!(reason, "credentials", "{content:?}");
        assert!(text.contains("empty or no single line") && !text.contains("lines\n"), "{text}");
    }
}

#[tokio::test]
async fn a_token_that_changes_in_mid_scrape_is_that_of_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "first").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let rotated = path.clone();
    let target = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        for token in ["first", "second"] {
            let n_bytes = stream.read(&mut request).await.unwrap();
            let head = String::from_utf8_lossy(&request[..n_bytes]).to_lowercase();
            assert!(head.contains(&format!("authorization: bearer {token}\r\n")), "{head}");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\na 1\n").await.unwrap();
            fs::write(&rotated, "second").unwrap();
            stream.write_all(b"b 2\n").await.unwrap();
        }
    });
    let credentials = Credentials::Token { scheme: "Bearer".into(), token: Secret::File(path) };
    let mut client = Client::new(ClientConfig { credentials: Some(credentials), ..config(&url) });
    for _ in 0..2 {
        assert_eq!(outcome(&mut client, PATIENT).await.unwrap().body, b"a 1\nb 2\n");
    }
    target.await.unwrap();
}

#[tokio::test]
async fn basic_auth_is_a_pair() {
    let mut target = Target::plain(Behaviour::Answers(PAGE)).await;
    let password = Secret::Inline("open sesame".into());
    let credentials = Credentials::Basic { username: "Aladdin".into(), password };
    let config = ClientConfig { credentials: Some(credentials), ..target.config() };
    assert!(!format!("{config:?}").contains("sesame"));
    outcome(&mut Client::new(config), PATIENT).await.unwrap();
    let (_, head) = target.request().await;
    assert!(head.contains("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "{head}");
}

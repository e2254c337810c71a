//! Passwords over real sockets.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tempfile::TempDir;

use super::{
    harness::{Behaviour, Event, Harness, in_time},
    tls::Files,
};
use crate::server::{
    app::Handler,
    limits::{Limit, Limits},
    web::Web,
};

/// Users as the web configuration has them, with the lowest cost that there is.
fn users(users: &[(&str, &str)]) -> String {
    let user = |(name, password): &(&str, &str)| {
        format!("  {name}: {}\n", bcrypt::hash(password, 4).unwrap())
    };
    let users: String = users.iter().map(user).collect();
    format!("basic_auth_users:\n{users}")
}

async fn start(folder: &TempDir, text: &str, limits: Limits) -> Harness {
    let path = folder.path().join("web.yml");
    fs::write(&path, text).unwrap();
    Harness::start_with(Behaviour::default(), limits, Web::load(&path).unwrap()).await
}

fn get(path: &str, login: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nAuthorization: Basic {}", STANDARD.encode(login))
}

#[tokio::test]
async fn only_who_has_a_password_reads_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let text = users(&[("alice", "secret"), ("bob", "other")]);
    let mut harness = start(&folder, &text, Limits::default()).await;
    for (head, expected) in [
        (get("/metrics", "alice:secret"), 200),
        (get("/", "bob:other"), 200),
        (get("/metrics", "alice:secret").replace("Basic", "bAsIc"), 200),
        (get("/metrics", "alice:other"), 401),
        (get("/", "alice:other"), 401),
        (get("/metrics", "carol:secret"), 401),
        (get("/metrics", "alice"), 401),
        ("GET /metrics HTTP/1.1".to_owned(), 401),
        ("GET /nowhere HTTP/1.1".to_owned(), 401),
        ("GET /metrics HTTP/1.1\r\nAuthorization: Bearer abc".to_owned(), 401),
        (get("/metrics", "alice:secret") + "\r\nAuthorization: Basic YTpi", 401),
        ("GET /healthz HTTP/1.1".to_owned(), 200),
        ("GET /readyz HTTP/1.1".to_owned(), 200),
    ] {
        let reply = harness.ask(&head).await;
        assert_eq!(reply.status, expected, "{head}");
        let challenge = (expected == 401).then_some("Basic realm=\"podmeter\"");
        assert_eq!(reply.header("www-authenticate"), challenge, "{head}");
        assert!(!reply.text().contains("alice"), "{}", reply.text());
    }
    harness.wait_for(Event::Observed(Handler::Unknown, 401)).await;
}

#[tokio::test]
async fn who_is_refused_does_not_keep_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let harness = start(&folder, &users(&[("alice", "secret")]), Limits::default()).await;
    let mut client = harness.connect().await;
    client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let replies = client.replies().await;
    assert_eq!((replies.len(), replies[0].header("connection")), (1, Some("close")));
    let mut client = harness.connect().await;
    client.send("POST /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.replies().await[0].status, 405);
    // Who is let in keeps it.
    let mut client = harness.connect().await;
    let request = format!("{}\r\nHost: test\r\n", get("/metrics", "alice:secret"));
    client.send(&format!("{request}\r\n{request}Connection: close\r\n\r\n")).await;
    assert_eq!(client.replies().await.len(), 2);
}

#[tokio::test]
async fn guesses_of_one_address_wait_in_no_long_line() {
    let folder = tempfile::tempdir().unwrap();
    // One check takes longer than a request.
    let text = format!("basic_auth_users: {{ alice: '{}' }}", bcrypt::hash("secret", 8).unwrap());
    let mut harness = start(&folder, &text, Limits::default()).await;
    assert_eq!(harness.ask(&get("/metrics", "alice:secret")).await.status, 200);
    let mut guesses = Vec::new();
    for number in 0..4 {
        let mut client = harness.connect().await;
        let head = get("/metrics", &format!("alice:guess-{number}"));
        client.send(&format!("{head}\r\nHost: test\r\n\r\n")).await;
        guesses.push(client);
    }
    harness.wait_for(Event::Hit(Limit::Authentications)).await;
    // Who was let in before is not in line.
    assert_eq!(harness.ask(&get("/metrics", "alice:secret")).await.status, 200);
    for mut guess in guesses {
        assert!([401, 503].contains(&guess.replies().await[0].status));
    }
}

#[tokio::test]
async fn users_that_change_on_disk_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.yml");
    let harness = start(&folder, &users(&[("alice", "secret")]), Limits::default()).await;
    let status = async |login: &str| harness.ask(&get("/metrics", login)).await.status;
    assert_eq!(status("alice:secret").await, 200);
    fs::write(&path, users(&[("bob", "other"), ("carol", "third")])).unwrap();
    in_time(async { while status("bob:other").await != 200 {} }).await;
    assert_eq!(status("alice:secret").await, 401);
    // An empty file would let everybody in.
    fs::write(&path, "").unwrap();
    in_time(async {
        while !harness.ask(&get("/", "bob:other")).await.text().contains("no basic_auth_users") {}
    })
    .await;
    assert_eq!(status("bob:other").await, 200);
    assert_eq!(status("alice:secret").await, 401);
}

#[tokio::test]
async fn passwords_and_certificates_are_both_asked_for() {
    let guarded = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    let files = Files::new(&format!("{guarded}{}", users(&[("alice", "secret")])));
    let harness = Harness::start_with(Behaviour::default(), Limits::default(), files.web()).await;
    let own = files.authority.of_client("a");
    for (identity, login, expected) in [
        (Some(&own), "alice:secret", 200),
        (Some(&own), "alice:wrong", 401),
        (None, "alice:secret", 403),
    ] {
        let head = get("/metrics", login);
        let (status, _) = super::tls::ask(&harness, files.client(identity), &head).await.unwrap();
        assert_eq!(status, expected);
    }
}

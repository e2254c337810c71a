//! What people see of receivers: `podmeter check` and `/`, and no secret in either.

use std::{
    net::TcpListener,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use podmeter_tests::{
    cgroup::wait_for,
    exporter::{Exporter, with_listen},
    http::get,
    post_server::{Answer, TAKEN, serve},
    receiver::Kind,
    tools::{podmeter, write},
};

use super::{config_of, item, landing, number, own_page, setup, source::Source, wait_for_pages};

/// Texts that are secrets in the configuration below.
const SECRETS: &[&str] = &["url-s3cret", "header-s3cret", "t0ken-s3cret", "passw0rd-s3cret"];

/// A port that nobody listens on.
fn closed_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    free.local_addr().expect("it has an address").port()
}

#[test]
fn check_says_how_it_stands_with_each_receiver() {
    let Some((binary, receiver)) = setup(Kind::Prometheus) else { return };
    let source = Source::start();
    let answering =
        |answer| format!("http://{}/api/v1/write?key=url-s3cret", serve(move |_| answer));
    let away = format!("http://127.0.0.1:{}/api/v1/write?key=url-s3cret", closed_port());
    let cases = [
        ("first", receiver.write_url(), "", "ok  ", "takes prometheus.WriteRequest"),
        (
            "second",
            receiver.write_url(),
            ", protobuf_message: io.prometheus.write.v2.Request",
            "ok  ",
            "takes io.prometheus.write.v2.Request",
        ),
        ("away", away, "", "FAIL", "cannot connect: is the receiver running"),
        (
            "unknown",
            answering(Answer::Status("401 Unauthorized")),
            ", authorization: { credentials: t0ken-s3cret }",
            "FAIL",
            "401 Unauthorized (check authorization, basic_auth or the client certificate)",
        ),
        (
            "elsewhere",
            answering(Answer::Status("404 Not Found")),
            ", headers: { X-Key: header-s3cret }",
            "FAIL",
            "404 Not Found (check the path of `url`",
        ),
        (
            "newer",
            answering(Answer::Status("415 Unsupported Media Type")),
            ", basic_auth: { username: u, password: passw0rd-s3cret }",
            "FAIL",
            "set protobuf_message to the other one",
        ),
        (
            "silent",
            answering(Answer::Silence),
            ", remote_timeout: 1s",
            "FAIL",
            "no answer within 1 s (remote_timeout)",
        ),
        (
            "broken",
            answering(Answer::Reset),
            "",
            "FAIL",
            "the connection broke before the receiver answered",
        ),
    ];
    let items =
        cases.iter().map(|(name, url, more, ..)| item(url, &format!(", name: {name}{more}")));
    let items: Vec<String> = items.collect();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "podmeter.yaml", &with_listen(&config_of(&source, &items)));
    let output = Command::new(binary).arg("check").arg("--config").arg(file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    for (name, _, _, verdict, text) in &cases {
        let subject = format!("{verdict}  receiver {name} ");
        let line = said.lines().find(|line| line.starts_with(&subject));
        assert!(line.is_some_and(|line| line.contains(text)), "{name}: {said}");
    }
    assert!(SECRETS.iter().all(|secret| !said.contains(secret)), "{said}");
    let received = receiver.samples("{__name__!=\"\"}");
    assert!(received.is_empty(), "nothing is written: {received:?}");
}

#[test]
fn check_says_whether_buffers_can_be_where_they_are_to() {
    let Some(binary) = podmeter() else { return };
    let source = Source::start();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}/w", serve(|_| TAKEN));
    let file = write(dir.path(), "file", "");
    let folder = |name: &str| dir.path().join(name).display().to_string();
    let cases = [
        ("fits", folder("fits"), "1MB", "ok  ", "fits has room for 1 MB"),
        ("large", folder("large"), "512TB", "warn", "set buffer.size_limit lower"),
        (
            "file",
            file.display().to_string(),
            "1MB",
            "FAIL",
            "file: it must be a folder that Podmeter may write to",
        ),
    ];
    let items = cases.iter().map(|(name, directory, limit, ..)| {
        let buffer = format!("{{ directory: {directory}, size_limit: {limit} }}");
        item(&url, &format!(", name: {name}, buffer: {buffer}"))
    });
    let items: Vec<String> = items.collect();
    let config = write(dir.path(), "podmeter.yaml", &with_listen(&config_of(&source, &items)));
    let output = Command::new(binary).arg("check").arg("--config").arg(config).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for (name, _, _, verdict, text) in cases {
        let begin = format!("{verdict}  buffer {name} ");
        let about: Vec<_> =
            said.lines().skip_while(|line| !line.starts_with(&begin)).take(2).collect();
        assert!(about.concat().contains(text), "{name}: {said}");
    }
}

/// The row of a receiver on `/`.
fn row(exporter: &Exporter, name: &str) -> String {
    let page = landing(exporter);
    let row = page.lines().find(|line| line.contains(&format!("<td>{name}</td>")));
    row.unwrap_or_else(|| panic!("{name} is not on the page: {page}")).to_owned()
}

#[test]
fn the_landing_page_says_how_it_stands_and_nothing_shows_a_secret() {
    let Some(binary) = podmeter() else { return };
    let source = Source::start();
    let is_there = Arc::new(AtomicBool::new(false));
    let there = Arc::clone(&is_there);
    let address = serve(move |_| {
        if there.load(Ordering::Relaxed) {
            TAKEN
        } else {
            Answer::Status("503 Service Unavailable")
        }
    });
    let url = format!("http://{address}/w?key=url-s3cret");
    let more = ", headers: { X-Key: header-s3cret }, queue_config: { max_backoff: 1s }";
    let items = [
        item(&url, &format!(", name: main, authorization: {{ credentials: t0ken-s3cret }}{more}")),
        // Its name is the host and the port.
        item(
            &format!("http://127.0.0.1:{}/w?key=url-s3cret", closed_port()),
            ", basic_auth: { username: u, password: passw0rd-s3cret }",
        ),
    ];
    let exporter = Exporter::start(&binary, &config_of(&source, &items));
    assert!(row(&exporter, "main").contains("nothing taken yet"));
    wait_for("the receiver's error is shown", || {
        let row = row(&exporter, "main");
        row.contains("class=\"bad\"")
            && row.contains("nothing taken yet")
            && !row.contains("; 0 wait")
            && row.contains("last error: the receiver answered 503 Service Unavailable")
    });
    let mut seen = String::new();
    wait_for("the other one's error is shown", || {
        seen = landing(&exporter);
        seen.contains("cannot connect: is the receiver running, and is `url` right?")
    });
    is_there.store(true, Ordering::Relaxed);
    wait_for("it has taken what waited", || {
        let row = row(&exporter, "main");
        row.contains("class=\"good\"") && row.contains("samples taken, the last 0 s ago")
    });
    // The last error stays in sight.
    assert!(row(&exporter, "main").contains("last error: the receiver answered 503"));
    wait_for_pages(&source, 1);
    assert!(number(&own_page(&exporter), "podmeter_remote_write_retries_total") > 0.0);
    seen.push_str(&landing(&exporter));
    seen.push_str(get(&exporter.url("/metrics"), &[]).text());
    // The other one is away: it takes as long as there is for the last.
    let (_, log) = exporter.terminate();
    assert!(log.contains("samples were not sent in time, and are lost"), "{log}");
    seen.push_str(&log);
    for secret in SECRETS {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
}

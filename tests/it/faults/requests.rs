//! Requests that are none, or two in the guise of one: each gets one refusal or the end of its connection, and the next
//! client is served.

use std::iter;

use podmeter_tests::{
    client::{connect_from, exchange, loopback, socket_address, split},
    exporter::Exporter,
    tools::podmeter,
    whole::NodePage,
};

/// A second request, which only a reader that mistakes the length of the first one answers.
const HIDDEN: &str = "GET /healthz HTTP/1.1\r\nHost: hidden\r\n\r\n";

/// One that ends its connection.
const LAST: &str = "GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// One answer, with one of these statuses, or none at all.
    Refused(&'static [u16]),
    /// So many answers, all 200.
    Served(usize),
}

use Expected::{Refused, Served};

/// Head and hidden request: lengths that readers disagree on.
const SMUGGLED: &[(&str, &str, &[u16])] = &[
    ("length and chunks", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", &[400, 413]),
    ("chunks and length", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &[400, 413]),
    ("two lengths", "Content-Length: 0\r\nContent-Length: 44\r\n", &[400, 413]),
    ("two lengths in one", "Content-Length: 44, 0\r\n", &[400, 413]),
    ("a length with a sign", "Content-Length: +44\r\n", &[400, 413]),
    ("a negative length", "Content-Length: -1\r\n", &[400, 413]),
    ("a length in hexadecimal", "Content-Length: 0x2c\r\n", &[400, 413]),
    ("a length without end", "Content-Length: 99999999999999999999\r\n", &[400, 413]),
    ("an encoding that is none", "Transfer-Encoding: junk\r\n", &[400, 413, 501]),
    ("chunks within junk", "Transfer-Encoding: chunked, junk\r\n", &[400, 413, 501]),
    ("junk within chunks", "Transfer-Encoding: xchunked\r\n", &[400, 413, 501]),
    (
        "two encodings",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: junk\r\n",
        &[400, 413, 501],
    ),
    ("an encoding behind a tab", "Transfer-Encoding:\x0bchunked\r\n", &[400, 413, 501]),
    ("space before the colon", "Transfer-Encoding : chunked\r\n", &[400]),
    ("a folded line", "X-Folded: a\r\n Transfer-Encoding: chunked\r\n", &[400]),
    ("a folded length", "Content-Length:\r\n 44\r\n", &[400, 413]),
    ("a NUL in a value", "X-Nul: a\0b\r\n", &[400]),
    ("a NUL in a name", "X-N\0ul: a\r\n", &[400]),
    ("a carriage return alone", "X-Return: a\rContent-Length: 44\r\n", &[400]),
    ("a line without a colon", "no header at all\r\n", &[400]),
    ("a name that is empty", ": nothing\r\n", &[400]),
];

fn with_headers(headers: &str, behind: &str) -> Vec<u8> {
    format!("GET /healthz HTTP/1.1\r\nHost: node\r\n{headers}\r\n{behind}").into_bytes()
}

/// Requests that are wrong in another way, and some that only look so.
fn others() -> Vec<(&'static str, Vec<u8>, Expected)> {
    let many = "X-Many: a\r\n".repeat(1000);
    let long = "a".repeat(1_000_000);
    let bytes = |text: &str| text.as_bytes().to_vec();
    vec![
        ("a giant header", with_headers(&format!("X-Long: {long}\r\n"), ""), Refused(&[431])),
        ("too many headers", with_headers(&many, ""), Refused(&[431])),
        (
            "a giant line",
            bytes(&format!("GET /{long} HTTP/1.1\r\nHost: node\r\n\r\n")),
            Refused(&[414, 431]),
        ),
        ("a body", with_headers("Content-Length: 44\r\n", HIDDEN), Refused(&[413])),
        (
            "chunks that end",
            with_headers("Transfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}")),
            Refused(&[413]),
        ),
        (
            "a chunk of a size without end",
            with_headers(
                "Transfer-Encoding: chunked\r\n",
                &format!("fffffffffffffffff\r\n{HIDDEN}"),
            ),
            Refused(&[400, 413]),
        ),
        ("HTTP/0.9", bytes("GET /healthz\r\n"), Refused(&[400])),
        ("HTTP/0.9 with a version", bytes("GET /healthz HTTP/0.9\r\n\r\n"), Refused(&[400, 505])),
        ("HTTP/3", bytes("GET /healthz HTTP/3.0\r\nHost: node\r\n\r\n"), Refused(&[400, 505])),
        ("the preface of HTTP/2", bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Refused(&[400, 505])),
        ("a NUL in the line", bytes("GET /heal\0thz HTTP/1.1\r\nHost: n\r\n\r\n"), Refused(&[400])),
        (
            "a method that is none",
            bytes("G@T /healthz HTTP/1.1\r\nHost: n\r\n\r\n"),
            Refused(&[400]),
        ),
        (
            "CONNECT",
            bytes("CONNECT node:1 HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n"),
            Refused(&[400, 404, 405]),
        ),
        ("TLS", bytes("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03"), Refused(&[400])),
        ("NULs alone", vec![0; 64], Refused(&[400])),
        ("bytes that are no text", vec![0xff; 4096], Refused(&[400])),
        ("nothing", Vec::new(), Refused(&[])),
        ("half a line", bytes("GET /heal"), Refused(&[400])),
        ("half a head", bytes("GET /healthz HTTP/1.1\r\nHost: n\r\n"), Refused(&[400])),
        // RFC 9112, section 2.2 and 3.2.2, and 9.3.2: a server may take the first, and must take the others.
        (
            "line feeds alone",
            bytes("GET /healthz HTTP/1.1\nHost: n\nConnection: close\n\n"),
            Served(1),
        ),
        ("a whole URL", bytes(&LAST.replace("GET ", "GET http://node")), Served(1)),
        ("empty lines before", bytes(&format!("\r\n\r\n{LAST}")), Served(1)),
        ("a hundred at once", bytes(&(HIDDEN.repeat(99) + LAST)), Served(100)),
    ]
}

/// The statuses of all answers, of which none but the last may be cut.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut rest = answer;
    while !rest.is_empty() {
        let (status, _) = split(rest);
        statuses.push(status);
        let text = str::from_utf8(rest).expect("an answer is text");
        let (head, behind) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
        rest = behind.as_bytes().get(length..).expect("the body is whole");
    }
    statuses
}

#[test]
fn each_malformed_request_gets_one_refusal() {
    let Some(binary) = podmeter() else { return };
    let exporter = Exporter::start(&binary, "kubernetes: { enabled: false }");
    let address = socket_address(exporter.address());
    let smuggled = SMUGGLED
        .iter()
        .map(|(name, headers, expected)| (*name, with_headers(headers, HIDDEN), Refused(expected)));
    let cases: Vec<_> = smuggled.chain(others()).collect();
    let mut n_refused = 0;
    let mut n_closed = 0;
    for (name, bytes, expected) in &cases {
        let answer = exchange(connect_from(loopback(1), address), bytes);
        let got = statuses(&answer);
        match expected {
            Refused(allowed) => {
                assert!(got.len() <= 1, "{name}: one request has {} answers: {got:?}", got.len());
                assert!(got.iter().all(|status| allowed.contains(status)), "{name}: {got:?}");
                n_refused += got.len();
                n_closed += 1 - got.len();
            }
            Served(n_answers) => {
                let expected: Vec<u16> = iter::repeat_n(200, *n_answers).collect();
                assert_eq!(got, expected, "{name}");
            }
        }
        let next = exchange(connect_from(loopback(2), address), LAST.as_bytes());
        assert_eq!(statuses(&next), [200], "the client after {name}");
    }
    let page = NodePage::of(&exporter);
    let counted = ["headers", "request_body"].map(|limit| page.n_limit_hits(limit));
    assert!(counted.iter().all(|n_hits| *n_hits >= 2.0), "{counted:?}");
    println!(
        "report: faults | {} shapes of requests | {n_refused} refused, {n_closed} closed without a word, none answered twice | counted: {counted:?} headers and bodies | healed: the next client",
        cases.len()
    );
}

/// A hundred requests of a client that reads nothing until all are sent come back in order.
#[test]
fn pipelined_scrapes_are_answered_in_order() {
    let Some(binary) = podmeter() else { return };
    let exporter = Exporter::start(&binary, "kubernetes: { enabled: false }");
    let address = socket_address(exporter.address());
    let paths = ["/healthz", "/nowhere", "/readyz", "/metrics?collect[]=process"];
    let requests: String = (0..100)
        .map(|idx| format!("GET {} HTTP/1.1\r\nHost: node\r\n\r\n", paths[idx % paths.len()]))
        .chain([LAST.to_owned()])
        .collect();
    let answer = exchange(connect_from(loopback(1), address), requests.as_bytes());
    let got = statuses(&answer);
    let expected: Vec<u16> = (0..=100).map(|idx| if idx % 4 == 1 { 404 } else { 200 }).collect();
    assert_eq!(got, expected);
}

//! Targets that do whatever can go wrong, each over a real socket and all at once: each fault costs only itself, is named
//! on `/` and counted under a reason.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use podmeter_tests::{exporter::Exporter, http::get, tools::podmeter};

const PATIENT: (&str, &str) = ("X-Prometheus-Scrape-Timeout-Seconds", "25");
const TEXT: &str = "Content-Type: text/plain; version=0.0.4\r\n";

/// What a target does behind its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Close,
    Hang,
    /// Sends a byte now and then.
    Drip,
}

/// A target, and what is to become of it.
struct Case {
    job: &'static str,
    answer: Vec<u8>,
    then: Then,
    /// The reason that its `up` is 0, or nothing.
    reason: &'static str,
    /// What `/` says of it.
    said: &'static str,
    /// What is served of it, without the labels that Podmeter adds.
    served: &'static [&'static str],
    /// Why something is not, if it is up.
    dropped: Option<(&'static str, usize)>,
}

fn page(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend(body);
    answer
}

/// One that is down.
fn fails(
    job: &'static str,
    answer: impl Into<Vec<u8>>,
    then: Then,
    reason: &'static str,
    said: &'static str,
) -> Case {
    Case { job, answer: answer.into(), then, reason, said, served: &[], dropped: None }
}

/// One that is up, with what is served of this page.
fn serves(
    job: &'static str,
    body: &str,
    served: &'static [&'static str],
    dropped: Option<(&'static str, usize)>,
) -> Case {
    let answer = page(TEXT, body.as_bytes());
    Case { job, answer, then: Then::Close, reason: "", said: "", served, dropped }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// Targets that give no page.
fn failing() -> Vec<Case> {
    use Then::{Close, Drip, Hang};

    let gzip = format!("{TEXT}Content-Encoding: gzip\r\n");
    let head = format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 900\r\n\r\n");
    let half = format!("{head}half_a_page 1\nhalf_a_li");
    let line = b"large_page{of=\"a hundred megabytes\"} 1\n";
    let large = line.repeat(100_000_000 / line.len());
    let cut = packed(b"a 1\n").get(..12).map(<[u8]>::to_vec).expect("it is longer");
    let bomb = packed(&vec![b'\n'; 100_000_000]);
    let status = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    vec![
        fails("silent", "", Hang, "timeout", "before the target answered"),
        fails("half_a_head", "HTTP/1.1 200 OK\r\nCont", Hang, "timeout", "before the target"),
        fails("half_a_page", half.as_str(), Hang, "timeout", "in the middle of the page"),
        fails("drips", head.as_str(), Drip, "timeout", "in the middle of the page"),
        fails("cut", half.as_str(), Close, "broken", "in the middle of the page, after 23 bytes"),
        fails("hangs_up", "", Close, "broken", "before the target answered"),
        fails("unauthorized", status("401 Unauthorized"), Close, "unauthorized", "401"),
        fails("forbidden", status("403 Forbidden"), Close, "forbidden", "nodes/metrics"),
        fails("broken_inside", status("500 Oh"), Close, "status", "500"),
        fails("html", page("Content-Type: text/html\r\n", b"<p>"), Close, "content_type", "html"),
        fails("untyped", page("", b"a 1\n"), Close, "content_type", "no Content-Type"),
        fails("no_gzip", page(&gzip, b"a 1\n"), Close, "encoding", "no valid gzip"),
        fails("cut_gzip", page(&gzip, &cut), Close, "encoding", "no valid gzip"),
        fails("bomb", page(&gzip, &bomb), Close, "body_size_limit", "more than 67108864 bytes"),
        fails("large", page(TEXT, &large), Close, "body_size_limit", "raise body_size_limit"),
        fails("garbage", page(TEXT, b"\x00\xff\x01\n\x80\n"), Close, "no_metrics", "no metrics"),
    ]
}

/// Targets that give a page with something wrong in it.
fn serving() -> Vec<Case> {
    let mut labels = String::from("whole_before 1\nmany_labels{");
    for idx in 0..1_000_000 {
        write!(labels, "l{idx}=\"\",").expect("a string takes all");
    }
    labels.push_str("} 1\nwhole_behind 1\n");
    let mut cut = serves("cut_unseen", "", &["whole_line 1"], Some(("malformed", 1)));
    cut.answer = format!("HTTP/1.1 200 OK\r\n{TEXT}\r\nwhole_line 1\nhalf_a{{li").into_bytes();
    vec![
        serves("good", "# TYPE good counter\ngood 1\n", &["good 1"], None),
        cut,
        serves("labels", &labels, &["whole_before 1", "whole_behind 1"], Some(("malformed", 1))),
        serves(
            "bad_line",
            "one 1\ntwo x\nthree 3\n",
            &["one 1", "three 3"],
            Some(("malformed", 1)),
        ),
        serves("twice", "twice 1\ntwice 2\n", &["twice 1"], Some(("duplicate", 1))),
        serves(
            "split",
            "# TYPE split gauge\nsplit{a=\"1\"} 1\nbetween 1\nsplit{a=\"2\"} 2\n",
            &["split{a=\"1\"} 1", "split{a=\"2\"} 2", "between 1"],
            None,
        ),
        serves("late", "late 1\n# TYPE late gauge\n", &["late 1"], None),
        serves("helped", "# HELP helped One.\n# HELP helped Two.\nhelped 1\n", &["helped 1"], None),
        serves("counts", "# TYPE disputed counter\ndisputed 1\n", &["disputed 1"], None),
        serves("measures", "# TYPE disputed gauge\ndisputed 2\n", &["disputed 2"], None),
        serves(
            "skewed",
            "skewed{at=\"1970\"} 1 1\nskewed{at=\"2100\"} 1 4102444800000\nskewed{at=\"1960\"} 1 -315619200000\n",
            &[
                "skewed{at=\"1970\"} 1 1",
                "skewed{at=\"2100\"} 1 4102444800000",
                "skewed{at=\"1960\"} 1 -315619200000",
            ],
            None,
        ),
    ]
}

/// Serves each case under the name of its job.
fn serve(cases: &Arc<Vec<Case>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("a listener has an address");
    let cases = Arc::clone(cases);
    // The threads end with the process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let cases = Arc::clone(&cases);
            thread::spawn(move || answer(stream, &cases));
        }
    });
    address
}

/// Answers one request; that Podmeter hangs up is what some of the cases are for.
fn answer(mut stream: TcpStream, cases: &[Case]) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).ok()?;
    let job = head.split(['/', ' ']).nth(2)?;
    let case = cases.iter().find(|case| case.job == job)?;
    stream.write_all(&case.answer).ok()?;
    match case.then {
        Then::Close => Some(()),
        // Nothing comes but the end.
        Then::Hang => stream.read(&mut [0]).ok().map(|_n_bytes| ()),
        Then::Drip => loop {
            thread::sleep(Duration::from_millis(20));
            stream.write_all(b"#").ok()?;
        },
    }
}

/// The lines of a page about a job that are none of Podmeter's own.
fn served<'a>(page: &'a str, job: &str) -> Vec<&'a str> {
    let label = format!("job=\"{job}\"");
    let is_own = |line: &str| {
        ["#", "podmeter_", "scrape_", "up{"].iter().any(|start| line.starts_with(start))
    };
    page.lines().filter(|line| line.contains(&label) && !is_own(line)).collect()
}

/// A line without the labels that Podmeter adds, which stand behind its own.
fn bare(line: &str, job: &str) -> String {
    let added = format!("job=\"{job}\",node=\"n1\"");
    line.replace(&format!("{{{added}}}"), "").replace(&format!(",{added}}}"), "}")
}

fn check(page: &str, landing: &str, case: &Case) {
    let Case { job, reason, said, served: expected, dropped, .. } = case;
    let up = format!("up{{job=\"{job}\",node=\"n1\"}} {}\n", u8::from(reason.is_empty()));
    assert!(page.contains(&up), "{job}: {up}");
    let lines: Vec<String> = served(page, job).iter().map(|line| bare(line, job)).collect();
    let mut expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    expected.sort();
    let mut sorted = lines.clone();
    sorted.sort();
    assert_eq!(sorted, expected, "{job}");
    let counted = |family: &str, reason: &str, n: usize| {
        format!("podmeter_target_{family}_total{{job=\"{job}\",reason=\"{reason}\"}} {n}\n")
    };
    if !reason.is_empty() {
        let failures = counted("failures", reason, 1);
        assert!(page.contains(&failures), "{job}: {failures}");
        let row = landing.lines().find(|line| line.contains(&format!("<td>{job}</td>")));
        let row = row.unwrap_or_else(|| panic!("{job} is not on /: {landing}"));
        assert!(row.contains(said), "{job}: {row}");
    }
    if let Some((reason, n)) = dropped {
        let dropped = counted("dropped_samples", reason, *n);
        assert!(page.contains(&dropped), "{job}: {dropped}");
    }
}

/// The most memory that a process ever had.
fn peak_megabytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it has memory");
    let kilobytes = line.split_whitespace().nth(1).expect("a number");
    kilobytes.parse::<u64>().expect("a number") / 1024
}

#[test]
fn each_fault_costs_only_itself_and_has_its_reason() {
    let Some(binary) = podmeter() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token = |name: &str| folder.path().join(name).display().to_string();
    fs::write(token("empty"), "\n").expect("the folder takes it");
    let mut cases = failing();
    cases.extend(serving());
    let cases = Arc::new(cases);
    let address = serve(&cases);
    let mut config = String::from("node_name: n1\nscrape_configs:\n");
    let mut target = |job: &str, address: SocketAddr, options: &str| {
        writeln!(config, "- {{ job_name: {job}, url: 'http://{address}/{job}', {options} }}")
            .expect("a string takes all");
    };
    for case in &*cases {
        let seconds = if case.then == Then::Close { 20 } else { 1 };
        target(case.job, address, &format!("scrape_timeout: {seconds}s"));
    }
    // Port 9 is nobody's.
    target("nobody", SocketAddr::from(([127, 0, 0, 1], 9)), "scrape_timeout: 20s");
    for name in ["gone", "empty"] {
        let options = format!("authorization: {{ credentials_file: '{}' }}", token(name));
        target(&format!("token_{name}"), address, &options);
    }

    let exporter = Exporter::start(&binary, &config);
    let first = get(&exporter.url("/metrics"), &[PATIENT]);
    assert_eq!(first.status, 200);
    // What is counted of a scrape is on its own page.
    let landing = get(&exporter.url("/"), &[]);
    let page = first.text();
    for case in cases.iter() {
        check(page, landing.text(), case);
    }
    for (job, reason, said) in [
        ("nobody", "connect", "cannot connect"),
        ("token_gone", "credentials", "cannot read the credentials"),
        ("token_empty", "credentials", "are empty"),
    ] {
        check(page, landing.text(), &fails(job, "", Then::Close, reason, said));
    }
    // Families are whole, whoever tore them.
    for (family, family_type) in
        [("split", "gauge"), ("helped", "untyped"), ("disputed", "untyped"), ("good", "counter")]
    {
        let line = format!("# TYPE {family} {family_type}\n");
        assert_eq!(page.matches(&line).count(), 1, "{line}");
    }
    assert!(page.contains("# HELP helped One.\n") && !page.contains("Two."));
    assert!(page.contains("podmeter_target_bad_metadata_total{job=\"helped\"} 1\n"));
    // Behind its samples, a type is known from the second page on.
    let second = get(&exporter.url("/metrics?job=late&job=split"), &[PATIENT]);
    assert!(second.text().contains("# TYPE late gauge\n"), "{}", second.text());

    // Two hundred megabytes went by, and none of them stayed.
    let peak = peak_megabytes(exporter.id());
    assert!(peak < 200, "{peak} MB");
    println!("report: faults | peak MB {peak}");
}

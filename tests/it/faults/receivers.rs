//! Receivers of remote write break, alone and with everything else; a second one, which is well, shows what the first one
//! should have been given.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use podmeter_tests::{
    cgroup::wait_for,
    exposition::Exposition,
    http::get,
    post_server::{Answer, TAKEN, serve},
    skip::skipped,
    tools::podmeter,
    whole::{Around, JOBS, NodePage, Whole},
};

use super::limits::TinyDisk;

/// Scrapes while it is broken.
const N_SCRAPES: usize = 3;

/// In which a receiver loses nothing.
const PASSING: &[(&str, Answer)] = &[
    ("hangs", Answer::Silence),
    ("resets connections", Answer::Reset),
    ("answers 500", Answer::Status("500 Internal Server Error")),
    ("answers 429 with Retry-After", Answer::Status("429 Too Many Requests\r\nRetry-After: 1")),
];

/// A receiver whose answers change.
struct Receiver {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
}

impl Receiver {
    fn start() -> Self {
        let answer = Arc::new(Mutex::new(TAKEN));
        let given = Arc::clone(&answer);
        let address = serve(move |_| *given.lock().unwrap_or_else(PoisonError::into_inner));
        Self { address, answer }
    }

    fn answer_by(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

/// What is pushed to two receivers, of which the first one breaks and may have a buffer.
fn pushing(breaking: &Receiver, buffer: Option<&Path>) -> String {
    let well = serve(|_| TAKEN);
    let buffer = buffer
        .map(|folder| format!(", buffer: {{ directory: {}, size_limit: 64MB }}", folder.display()));
    let item = |name, address: SocketAddr, more: &str| {
        format!(
            "- {{ name: {name}, url: 'http://{address}/w', remote_timeout: 1s{more}, \
             queue_config: {{ batch_send_deadline: 100ms, max_backoff: 500ms }} }}\n"
        )
    };
    format!(
        "remote_write_interval: 2s\nremote_write:\n{}{}",
        item("breaking", breaking.address, &buffer.unwrap_or_default()),
        item("well", well, "")
    )
}

/// What Podmeter says of its receivers.
struct Counts(Exposition);

impl Counts {
    fn of(whole: &Whole) -> Self {
        let answer = get(&whole.exporter.url("/metrics?collect[]=podmeter"), &[]);
        Self(NodePage::read(&answer).0)
    }

    fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0.sum(&format!("podmeter_remote_write_{name}"), labels).unwrap_or_default()
    }

    fn of_breaking(&self, name: &str) -> f64 {
        self.count(name, &[("remote_name", "breaking")])
    }

    /// Whether nothing waits, and the broken one has got what the one that is well has, but for what was dropped.
    fn is_even(&self) -> bool {
        let [breaking, well] =
            ["breaking", "well"].map(|name| self.count("samples_total", &[("remote_name", name)]));
        let missing = well - breaking - self.of_breaking("dropped_samples_total");
        self.count("pending_samples", &[]) < 0.5 && breaking > 0.5 && missing.abs() < 0.5
    }
}

/// Waits until the receivers are even, and gives how many looks it took.
fn looks_until_even(whole: &Whole) -> usize {
    let mut n_looks = 0;
    wait_for("what waited has been sent", || {
        n_looks += 1;
        Counts::of(whole).is_even()
    });
    n_looks
}

/// The page is whole while the receiver is broken, and the other one goes on.
fn expect_served(whole: &Whole, before: &NodePage) {
    for _ in 0..N_SCRAPES {
        let page = whole.page();
        assert_eq!(page.n_up(), JOBS.len());
        assert!(page.knows_pods());
        assert_eq!(page.0.fallen_since(&before.0), <[String; 0]>::default());
    }
    let sent = || Counts::of(whole).count("samples_total", &[("remote_name", "well")]);
    let n_sent = sent();
    wait_for("the other one gets pages", || sent() > n_sent);
    assert!(Counts::of(whole).count("dropped_samples_total", &[("remote_name", "well")]) < 0.5);
}

#[test]
fn a_receiver_that_breaks_costs_no_page_and_no_sample() {
    let Some(binary) = podmeter() else { return };
    let receiver = Receiver::start();
    let around = Around::start().configured(&pushing(&receiver, None));
    let whole = Whole::start_in(around, Command::new(binary));
    looks_until_even(&whole);
    for (name, answer) in PASSING {
        let before = whole.page();
        let counted = Counts::of(&whole);
        receiver.answer_by(*answer);
        let mut n_waiting = 0.0;
        wait_for("it is tried again", || {
            let counts = Counts::of(&whole);
            n_waiting = counts.of_breaking("pending_samples");
            counts.of_breaking("retries_total") > counted.of_breaking("retries_total")
        });
        assert!(n_waiting > 0.5, "{name}: what it does not take waits");
        expect_served(&whole, &before);
        receiver.answer_by(TAKEN);
        let n_looks = looks_until_even(&whole);
        let counts = Counts::of(&whole);
        assert!(counts.of_breaking("dropped_samples_total") < 0.5, "{name}: nothing is lost");
        println!(
            "report: faults | receiver {name} | served: {N_SCRAPES} of {N_SCRAPES} pages, all of the other receiver | counted: {} retries, 0 dropped | healed: even at look {n_looks} without a pause",
            counts.of_breaking("retries_total") - counted.of_breaking("retries_total")
        );
    }

    let before = whole.page();
    receiver.answer_by(Answer::Status("400 Bad Request"));
    let refused = [("remote_name", "breaking"), ("reason", "bad_request")];
    wait_for("it is counted", || Counts::of(&whole).count("dropped_samples_total", &refused) > 0.5);
    expect_served(&whole, &before);
    assert!(whole.landing().contains("the receiver answered 400 Bad Request"));
    receiver.answer_by(TAKEN);
    let n_taken = Counts::of(&whole).of_breaking("samples_total");
    wait_for("it takes samples again", || {
        Counts::of(&whole).of_breaking("samples_total") > n_taken
    });
    let n_looks = looks_until_even(&whole);
    let counts = Counts::of(&whole);
    let n_dropped = counts.count("dropped_samples_total", &refused);
    assert!((n_dropped - counts.of_breaking("dropped_samples_total")).abs() < 0.5);
    println!(
        "report: faults | receiver answers 400 | served: {N_SCRAPES} of {N_SCRAPES} pages, all of the other receiver | counted: {n_dropped} bad_request, as many as it lacks | healed: even at look {n_looks} without a pause"
    );

    // It hangs when Podmeter is to end.
    receiver.answer_by(Answer::Silence);
    wait_for("it is tried again", || Counts::of(&whole).of_breaking("pending_samples") > 0.5);
    let Whole { exporter, around } = whole;
    let (status, log) = exporter.terminate();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("samples were not sent in time, and are lost"), "{log}");
    assert!(log.contains("all samples were sent"), "{log}");
    drop(around);
}

/// The receiver hangs, the disk of its buffer is full, and there are neither targets nor an API server.
#[test]
fn receiver_buffer_targets_and_api_server_at_once() {
    let Some(binary) = podmeter() else { return };
    let disk = match TinyDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => return skipped(format_args!("full disk of a buffer | {reason}")),
    };
    let receiver = Receiver::start();
    let folder = disk.dir.path().join("buffer");
    let around = Around::start().configured(&pushing(&receiver, Some(&folder)));
    let mut whole = Whole::start_in(around, Command::new(binary));
    looks_until_even(&whole);
    let before = whole.page();
    receiver.answer_by(Answer::Silence);
    wait_for("the disk is full", || Counts::of(&whole).of_breaking("buffer_errors_total") > 0.5);
    whole.around.targets.close();
    whole.around.api.close();
    for _ in 0..N_SCRAPES {
        let page = whole.page();
        assert!(page.0.sum("podmeter_build_info", &[]).is_some());
        assert!(page.count("kube_pod_info", &[]) > 0.5, "the pods are remembered");
        assert_eq!(page.n_up(), 0);
        assert_eq!(page.0.fallen_since(&before.0), <[String; 0]>::default());
    }
    assert!(whole.landing().contains("the buffer does not work"), "{}", whole.landing());
    let counts = Counts::of(&whole);
    let n_waiting = counts.of_breaking("pending_samples");
    let n_errors = counts.of_breaking("buffer_errors_total");

    whole.around.targets.open();
    whole.around.api.open();
    receiver.answer_by(TAKEN);
    assert_eq!(whole.page().n_up(), JOBS.len(), "the first scrape has the targets back");
    let n_looks = looks_until_even(&whole);
    wait_for("its pods are watched again", || {
        let page = whole.page();
        page.n_up() == JOBS.len() && page.is_watching() && page.knows_pods()
    });
    wait_for("what was sent has made room, and the buffer works", || {
        !whole.landing().contains("the buffer does not work")
    });
    assert!(Counts::of(&whole).of_breaking("dropped_samples_total") < 0.5, "nothing is lost");
    let (status, log) = whole.exporter.terminate();
    assert!(status.success(), "{status}: {log}");
    assert_eq!(log.matches("all samples were sent").count(), 2, "{log}");
    println!(
        "report: faults | receiver hangs, its buffer's disk is full, targets and API server gone | served: own series and pods | counted: {n_errors} buffer errors, {n_waiting} samples wait, 0 dropped | healed: targets at scrape 1, receiver even at look {n_looks} without a pause"
    );
}

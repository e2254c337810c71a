//! What arrives is what the page shows: all of its series, and the values of those that stand still meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use podmeter_tests::{
    exporter::Exporter,
    http::get,
    page_server::serve,
    receiver::{Kind, Labels, Receiver, Samples, page_samples},
};

use super::{
    config_of, item, setup,
    source::{Source, is_kept, now},
    wait_for_pages,
};

/// Gauges that are the same on each page of a process.
const CONSTANT: &[&str] = &[
    "podmeter_build_info",
    "podmeter_config_last_reload_success_timestamp_seconds",
    "podmeter_config_last_reload_successful",
    "podmeter_probe_attached",
    "podmeter_probe_map_capacity",
    "process_max_fds",
    "process_start_time_seconds",
];

/// How the names of counters end, those of histograms among them: one that is the same before and after stood still.
const COUNTERS: &[&str] = &["_total", "_bucket", "_count", "_sum"];

/// The job of a target that always gives the same page.
const STILL: &str = "still";

const STILL_PAGE: &[u8] = b"# TYPE still gauge
still{of=\"third\"} 0.3333333333333333
still{of=\"nought\"} -0
still{of=\"huge\"} 1.7976931348623157e308
still{of=\"endless\"} -Inf
still{of=\"\xc3\xa4\\\\\\n\\\"\"} 1
# TYPE still_seconds summary
still_seconds{quantile=\"0.5\"} 0.1
still_seconds_sum 1e-9
still_seconds_count 9007199254740993
";

/// A page as a scrape of it would be stored.
type Shown = BTreeMap<Labels, f64>;

fn shown(exporter: &Exporter) -> Shown {
    let as_scraped = |(mut labels, value): (Labels, f64)| {
        // What a scrape of the page would have put on it.
        labels.entry("job".into()).or_insert_with(|| "podmeter".into());
        labels.entry("instance".into()).or_insert_with(|| "n1".into());
        (labels, value)
    };
    let page = get(&exporter.url("/metrics"), &[]);
    page_samples(page.text()).into_iter().map(as_scraped).collect()
}

#[test]
fn what_arrives_by_the_first_protocol_is_what_the_page_shows() {
    check(Kind::Prometheus, "prometheus.WriteRequest");
}

#[test]
fn what_arrives_by_the_second_protocol_is_what_the_page_shows() {
    check(Kind::Prometheus, "io.prometheus.write.v2.Request");
}

#[test]
fn what_arrives_at_victoria_metrics_is_what_the_page_shows() {
    check(Kind::VictoriaMetrics, "prometheus.WriteRequest");
}

fn check(kind: Kind, message: &str) {
    let Some((binary, receiver)) = setup(kind) else { return };
    let source = Source::start();
    let still = serve("text/plain; version=0.0.4", |_| STILL_PAGE.to_vec());
    let receivers = [item(&receiver.write_url(), &format!(", protobuf_message: {message}"))];
    let config = config_of(&source, &receivers).replace(
        "scrape_configs: [",
        &format!("scrape_configs: [{{ job_name: {STILL}, url: 'http://{still}/metrics' }}, "),
    );
    let exporter = Exporter::start(&binary, &config);
    wait_for_pages(&source, 2);
    // The counters of the first request are on the second page.
    let _first = shown(&exporter);
    let before = shown(&exporter);
    let since = now();
    let received = wait_until_received(&source, &receiver, &before);
    // What is counted for the first time has come onto the page meanwhile.
    let after = shown(&exporter);
    let shown_by_now: BTreeSet<&Labels> = before.keys().chain(after.keys()).collect();
    let more: Vec<&Labels> = received
        .keys()
        .filter(|labels| !shown_by_now.contains(labels) && !may_change(labels))
        .collect();
    let missing = missing(&before, &received);
    assert!(missing.is_empty() && more.is_empty(), "missing: {missing:#?}\nmore: {more:#?}");
    let sent = "podmeter_remote_write_samples_total";
    assert!(before.keys().any(|labels| labels["__name__"] == sent));
    check_values(kind, (&before, &after), since, &received);
}

/// Whether it blinks, or is of a cgroup, which come and go on a machine with other tests, and pods with them.
fn may_change(labels: &Labels) -> bool {
    labels.get("of").is_some_and(|of| of == "blinking")
        || ["cgroup", "pod_uid"].iter().any(|label| labels.contains_key(*label))
}

fn missing<'a>(shown: &'a Shown, received: &Samples) -> Vec<&'a Labels> {
    let is_missing = |labels: &&Labels| !received.contains_key(*labels) && !may_change(labels);
    shown.keys().filter(is_missing).collect()
}

/// What a receiver has once it has all that is shown: what is pushed waits for the pages of five seconds.
fn wait_until_received(source: &Source, receiver: &Receiver, shown: &Shown) -> Samples {
    let mut received = Samples::new();
    for _ in 0..20 {
        wait_for_pages(source, 1);
        received = receiver.samples("{__name__!=\"\"}");
        if missing(shown, &received).is_empty() {
            break;
        }
    }
    received
}

/// Fails unless each value since then is the one on both pages, of all series that cannot have had another meanwhile.
fn check_values(kind: Kind, (before, after): (&Shown, &Shown), since: i64, received: &Samples) {
    let mut n_samples: BTreeMap<&str, usize> = BTreeMap::new();
    for (labels, value) in before {
        let name = labels["__name__"].as_str();
        let is_counter = COUNTERS.iter().any(|end| name.ends_with(end));
        let stands_still = labels["job"] == STILL && name.starts_with(STILL)
            || CONSTANT.contains(&name)
            || is_counter
                && after.get(labels).is_some_and(|later| later.to_bits() == value.to_bits());
        let samples = received.get(labels).map(Vec::as_slice).unwrap_or_default();
        for (time, got) in samples.iter().filter(|(time, _)| stands_still && *time >= since) {
            assert!(is_kept(kind, *got, *value), "{labels:?} at {time}: {got}, not {value}");
            *n_samples.entry(name).or_default() += 1;
        }
    }
    let wanted = CONSTANT.iter().filter(|name| before.keys().any(|one| one["__name__"] == **name));
    for name in wanted.chain(&["still", "still_seconds_count"]) {
        assert!(n_samples.contains_key(name), "{name} was compared: {n_samples:?}");
    }
    let n_families = n_samples.len();
    let n_samples: usize = n_samples.values().sum();
    println!(
        "report: remote write | {kind:?}, as shown | {n_families} names | {n_samples} samples, all equal"
    );
}

//! What is pushed arrives at real receivers: each value once, in order, with the labels and the time of the page.

mod buffer;
mod guarded;
mod looks;
mod reload;
mod shown;
mod source;

use std::path::{Path, PathBuf};

use podmeter_tests::{
    cgroup::wait_for,
    exporter::Exporter,
    http::get,
    receiver::{Kind, Labels, Receiver, Samples, page_samples},
    tools::{podmeter, tool},
};

use self::source::{JOB, Source};

/// What a push of the source's series has beside its own labels.
const MORE: &[(&str, &str)] =
    &[("job", JOB), ("node", "n1"), ("instance", "n1"), ("cluster", "c1")];

/// Pushes to that receiver each second.
fn config(source: &Source, receiver: &Receiver, more: &str) -> String {
    config_of(source, &[item(&receiver.write_url(), more)])
}

/// Pushes to these receivers each second.
fn config_of(source: &Source, items: &[String]) -> String {
    format!(
        "node_name: n1\nkubernetes: {{ enabled: false }}\nexternal_labels: {{ cluster: c1 }}\n{}\
         remote_write_interval: 1s\nremote_write: [{}]\n",
        source.config(),
        items.join(", "),
    )
}

/// An item of `remote_write`.
fn item(url: &str, more: &str) -> String {
    format!("{{ url: '{url}'{more} }}")
}

/// Waits for so many more pages.
fn wait_for_pages(source: &Source, n_pages: usize) {
    // Each has its own patience.
    for _ in 0..n_pages {
        let n_before = source.n_pages();
        wait_for("a page is collected", || source.n_pages() > n_before);
    }
}

/// A receiver of that kind, and the binary, if both are there.
fn setup(kind: Kind) -> Option<(PathBuf, Receiver)> {
    let variable = match kind {
        Kind::Prometheus => "PODMETER_PROMETHEUS",
        Kind::VictoriaMetrics => "PODMETER_VICTORIA_METRICS",
    };
    Some((podmeter()?, Receiver::start(kind, &tool(variable)?)))
}

/// What a receiver has of the source's own series.
fn received_of_source(receiver: &Receiver) -> Samples {
    receiver.samples(&format!("{{job=\"{JOB}\",__name__!~\"up|scrape_.*|podmeter_.*\"}}"))
}

/// One of each kind, and the binary, if all are there.
fn setup_both() -> Option<(PathBuf, [Receiver; 2])> {
    let (binary, prometheus) = setup(Kind::Prometheus)?;
    let (_, victoria_metrics) = setup(Kind::VictoriaMetrics)?;
    Some((binary, [prometheus, victoria_metrics]))
}

/// Fails unless the receiver has each value of each page once, in order, with equal labels, at the time of the page.
fn assert_all_arrived(case: &str, source: &Source, receiver: &Receiver) {
    let expected = source.expected(MORE);
    let n_expected: usize = expected.values().map(Vec::len).sum();
    let mut received = Samples::new();
    let mut n_samples = 0;
    // VictoriaMetrics shows what it has taken a moment later.
    wait_for("as many samples as were given", || {
        received = received_of_source(receiver);
        n_samples = received.values().map(Vec::len).sum();
        n_samples >= n_expected
    });
    source.assert_same(receiver.kind(), &received, &expected);
    let n_pages = source.n_pages();
    println!("report: remote write | {case} | {n_pages} pages | {n_samples} samples, all equal");
}

/// Pushes some pages, ends by SIGTERM, and compares.
fn check(kind: Kind, message: &str) {
    let Some((binary, receiver)) = setup(kind) else { return };
    let source = Source::start();
    let more = format!(", protobuf_message: {message}");
    let exporter = Exporter::start(&binary, &config(&source, &receiver, &more));
    wait_for_pages(&source, 7);
    let (status, log) = source.terminate(exporter);
    assert!(status.success(), "{log}");
    assert!(log.contains("all samples were sent"), "{log}");
    assert_all_arrived(&format!("{kind:?}, {message}"), &source, &receiver);
}

#[test]
fn prometheus_has_each_value_once_by_the_first_protocol() {
    check(Kind::Prometheus, "prometheus.WriteRequest");
}

#[test]
fn prometheus_has_each_value_once_by_the_second_protocol() {
    check(Kind::Prometheus, "io.prometheus.write.v2.Request");
}

#[test]
fn victoria_metrics_has_each_value_once() {
    check(Kind::VictoriaMetrics, "prometheus.WriteRequest");
}

/// All receivers end for so long, and are there again.
fn check_outage(binary: &Path, receivers: &mut [Receiver], seconds: usize, more: &str) {
    let source = Source::start();
    let items = receivers.iter().map(|receiver| item(&receiver.write_url(), more));
    let exporter = Exporter::start(binary, &config_of(&source, &items.collect::<Vec<_>>()));
    wait_for_pages(&source, 3);
    receivers.iter_mut().for_each(Receiver::stop);
    wait_for_pages(&source, seconds);
    let page = own_page(&exporter);
    for family in ["podmeter_remote_write_retries_total", "podmeter_remote_write_pending_samples"] {
        let of_each = page_samples(&page).into_iter();
        let of_each =
            of_each.filter(|(labels, value)| labels["__name__"] == family && *value > 0.0);
        assert_eq!(of_each.count(), receivers.len(), "{page}");
    }
    receivers.iter_mut().for_each(Receiver::start_again);
    wait_for_pages(&source, 3);
    let (_, log) = source.terminate(exporter);
    for said in ["all samples were sent", "the receiver takes nothing; it is sent again"] {
        assert!(log.matches(said).count() >= receivers.len(), "{log}");
    }
    for receiver in receivers {
        let case = format!("{:?}, away for {seconds} s{more}", receiver.kind());
        assert_all_arrived(&case, &source, receiver);
    }
}

#[test]
fn both_receivers_are_away_for_a_minute_and_miss_nothing() {
    let Some((binary, mut receivers)) = setup_both() else { return };
    check_outage(&binary, &mut receivers, 60, "");
}

#[test]
fn shards_keep_the_order_of_each_series() {
    let Some((binary, receiver)) = setup(Kind::Prometheus) else { return };
    let more = ", queue_config: { min_shards: 3, max_shards: 4, max_samples_per_send: 10 }";
    check_outage(&binary, &mut [receiver], 5, more);
}

/// Podmeter's own counters, without asking the target.
fn own_page(exporter: &Exporter) -> String {
    get(&exporter.url("/metrics?collect[]=podmeter"), &[]).text().to_owned()
}

/// The sum of a family's series.
fn number(page: &str, family: &str) -> f64 {
    number_of(page, family, &[])
}

/// The sum of those of them that have these labels.
fn number_of(page: &str, family: &str, wanted: &[(&str, &str)]) -> f64 {
    let samples = page_samples(page);
    let is_one = |labels: &Labels| {
        labels["__name__"] == family
            && wanted.iter().all(|(name, value)| labels.get(*name).is_some_and(|has| has == value))
    };
    samples.iter().filter(|(labels, _)| is_one(labels)).map(|(_, value)| value).sum()
}

/// The text of `/`.
fn landing(exporter: &Exporter) -> String {
    get(&exporter.url("/"), &[]).text().to_owned()
}

#[test]
fn a_series_that_is_gone_ends_at_once_in_prometheus() {
    let Some((binary, receiver)) = setup(Kind::Prometheus) else { return };
    let source = Source::start();
    let _exporter = Exporter::start(&binary, &config(&source, &receiver, ""));
    let blinking = "level{of=\"blinking\"}";
    for _ in 0..2 {
        wait_for("it is there", || receiver.n_series(blinking) == 1);
        // Prometheus itself would show a series without a stale marker for five minutes.
        wait_for("it is gone", || receiver.n_series(blinking) == 0);
    }
    assert_eq!(receiver.n_series("level{of=\"less\"}"), 1);
}

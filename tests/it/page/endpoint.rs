//! Routes, formats and a graceful end of the real process.

use std::io::Read as _;

use flate2::read::GzDecoder;
use podmeter_tests::{exporter::Exporter, http::get, tools::podmeter};

const OPENMETRICS: (&str, &str) = ("Accept", "application/openmetrics-text;version=1.0.0");

#[test]
fn every_route_answers() {
    let Some(binary) = podmeter() else { return };
    let exporter = Exporter::start(&binary, "");
    let check = |path: &str, status: u16, content_type: &str, contains: &str| {
        let answer = get(&exporter.url(path), &[]);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.content_type.starts_with(content_type), "{path}: {}", answer.content_type);
        assert!(answer.text().contains(contains), "{path}: {}", answer.text());
    };
    check("/metrics", 200, "text/plain; version=0.0.4", "podmeter_build_info{version=");
    check("/metrics", 200, "text/plain; version=0.0.4", "podmeter_probe_attached{");
    check("/healthz", 200, "text/plain", "ok");
    check("/readyz", 200, "text/plain", "ok");
    check("/", 200, "text/html", "cpu_throttle");
    check("/nowhere", 404, "text/plain", "/metrics");
}

#[test]
fn the_format_follows_the_request() {
    let Some(binary) = podmeter() else { return };
    let exporter = Exporter::start(&binary, "external_labels: { cluster: test }");
    let url = exporter.url("/metrics");

    let openmetrics = get(&url, &[OPENMETRICS]);
    assert!(openmetrics.content_type.starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(openmetrics.text().ends_with("# EOF\n"));

    let zipped = get(&url, &[("Accept-Encoding", "gzip")]);
    assert_eq!(zipped.content_encoding, "gzip");
    let mut text = String::new();
    GzDecoder::new(zipped.body.as_slice()).read_to_string(&mut text).unwrap();
    assert!(text.contains("podmeter_build_info{cluster=\"test\",version="));

    let garbage = get(&url, &[("Accept", ";;;=garbage,,")]);
    assert_eq!(garbage.status, 200);
    assert!(garbage.content_type.starts_with("text/plain; version=0.0.4"));
    let (_, log) = exporter.terminate();
    assert!(log.contains("accept header"), "one line says what was wrong: {log}");
}

#[test]
fn sigterm_ends_it_with_success() {
    let Some(binary) = podmeter() else { return };
    let (status, log) = Exporter::start(&binary, "").terminate();
    assert!(status.success(), "{status}");
    assert!(log.contains("stopped"), "{log}");
}

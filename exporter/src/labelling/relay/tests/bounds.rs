//! What is remembered, for how long, and how much of it there can be.

use std::fmt::Write as _;

use super::{FakePods, pass, relay, text};
use crate::{
    labelling::relay::{LabelLimits, RelayError, Settings},
    source::upstream::exposition::Dialect,
};

#[test]
fn more_samples_than_allowed_are_none() {
    let settings = Settings { sample_limit: Some(2), ..Settings::default() };
    let mut relay = relay(settings);
    pass(&mut relay, "a 1\nb 2\nb 3\n", &FakePods::default());
    let refused = relay.relay(b"a 1\nb 2\nc 3\n", Dialect::Text, &FakePods::default());
    let error = refused.expect_err("three are too many");
    assert_eq!(error.to_string(), "the page has 3 samples, sample_limit is 2");
}

#[test]
fn longer_labels_than_allowed_are_none() {
    let check = |labels, name_bytes, value_bytes, expected| {
        let label_limits = LabelLimits { labels, name_bytes, value_bytes };
        let mut relay = relay(Settings { label_limits, ..Settings::default() });
        for _ in 0..2 {
            let page = b"a 1\nmetric{label_name=\"value56789\"} 1\n";
            let refused = relay.relay(page, Dialect::Text, &FakePods::default());
            let limit_name = match refused {
                Err(RelayError::LabelLimit { line: 2, limit_name }) => Some(limit_name),
                Err(_) | Ok(_) => None,
            };
            assert_eq!(limit_name, expected);
        }
    };
    check(Some(2), Some(10), Some(10), None);
    check(Some(1), None, None, Some("label_limit"));
    check(None, Some(9), None, Some("label_name_length_limit"));
    check(None, None, Some(9), Some("label_value_length_limit"));
}

/// `n` series of which the first is the `first`-th.
fn numbered(first: usize, n: usize) -> String {
    let mut page = String::new();
    for idx in first..first + n {
        writeln!(page, "a{{idx=\"{idx}\",namespace=\"n{idx}\",pod=\"p\"}} 1")
            .expect("a string takes all");
    }
    page
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut relay = relay(Settings { max_series: 100, ..Settings::default() });
    for _ in 0..2 {
        let page = numbered(0, 150);
        let relayed = pass(&mut relay, &page, &FakePods::default());
        assert_eq!(text(&relayed), page, "what has no room is served all the same");
        assert_eq!(relayed.counts.n_uncached, 50);
        assert_eq!(relay.n_series(), 100);
    }
    // Each page has other series: the old ones go, and so do the pods.
    let mut n_evicted = 0;
    for page_idx in 1..200 {
        let page = numbered(page_idx * 10, 10);
        let relayed = pass(&mut relay, &page, &FakePods::default());
        assert_eq!(text(&relayed), page);
        n_evicted += relayed.counts.n_evicted;
        assert!(relay.n_series() <= 100 && relay.owners.len() <= 1200);
    }
    assert!(n_evicted > 1000, "{n_evicted}");
}

#[test]
fn a_series_that_goes_and_one_that_comes_cost_only_themselves() {
    let mut relay = relay(Settings::default());
    let mut next = |page: &str, n_misses, n_added| {
        let relayed = pass(&mut relay, page, &FakePods::default());
        assert_eq!(text(&relayed), page);
        assert_eq!((relayed.counts.n_misses, relayed.counts.n_added), (n_misses, n_added));
    };
    next("a 1\nb 2\nc 3\n", 3, 3);
    next("a 1\nc 3\n", 0, 0);
    next("a 1\nb 2\nc 3\n", 0, 1);
    next("a 1\nd 2\nb 2\nc 3\n", 1, 1);
    next("c 1\nd 2\nb 2\na 3\n", 0, 0);
}

#[test]
fn equal_series_are_found_whenever_they_were_read() {
    // They become equal on the first page, behind their samples.
    let buckets = "h_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 2\n";
    let page = format!("{buckets}# TYPE h histogram\n{buckets}");
    let mut relay = relay(Settings::default());
    pass(&mut relay, &page, &FakePods::default());
    for _ in 0..2 {
        let relayed = pass(&mut relay, &page, &FakePods::default());
        assert_eq!(text(&relayed), "h_bucket{le=\"1\"} 1\n");
    }
    // They were read on a page that was not served.
    let relay_of = || {
        let yaml = "- {regex: id, action: labeldrop}";
        super::relay(Settings { rules: vec![super::rules(yaml)], ..Settings::default() })
    };
    let (mut relay, page) = (relay_of(), "a{id=\"1\"} 1\na{id=\"2\"} 2\n");
    let mut incoming = relay.begin(Dialect::Text, &FakePods::default());
    relay.take(&mut incoming, page.as_bytes(), &FakePods::default()).expect("it is no page yet");
    drop(incoming);
    assert_eq!(text(&pass(&mut relay, page, &FakePods::default())), "a 1\n");
    let mut relay = relay_of();
    let no_eof = relay.relay(page.as_bytes(), Dialect::OpenMetrics, &FakePods::default());
    assert_eq!(no_eof.err(), Some(RelayError::NoEof));
    assert_eq!(text(&pass(&mut relay, page, &FakePods::default())), "a 1\n");
}

#[test]
fn what_came_with_a_page_that_never_ended_is_not_new() {
    let mut relay = relay(Settings::default());
    pass(&mut relay, "a 1\nb 2\nc 3\n", &FakePods::default());
    for _ in 0..2 {
        let mut incoming = relay.begin(Dialect::Text, &FakePods::default());
        relay.take(&mut incoming, b"a 1\nb 2\nc", &FakePods::default()).expect("it is no page yet");
        drop(incoming);
    }
    let relayed = pass(&mut relay, "a 1\nb 2\nc 3\n", &FakePods::default());
    assert_eq!((relayed.counts.n_misses, relayed.counts.n_added), (0, 0));
}

//! What is sent of successive pages.

use expect_test::{Expect, expect};

use super::{STALE, SeriesCache};
use crate::{
    labelling::relabel::{Rules, rule::RuleConfig},
    remote_write::{lines::PageSample, status::DropReason},
};

fn rules(yaml: &str) -> Rules {
    let rules: Vec<RuleConfig> = serde_saphyr::from_str(yaml).unwrap();
    Rules::new(&rules).unwrap()
}

/// A page: `series value [timestamp]` by line.
fn push(cache: &mut SeriesCache, instant: i64, page: &str) -> String {
    let mut out = Vec::new();
    let mut sink = |symbols: &super::Symbols, sent: &super::Outgoing<'_>| {
        let labels = sent.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{}={}", symbols.text(*name), symbols.text(*value)))
            .collect();
        let is_stale = sent.value.to_bits() == STALE.to_bits();
        let value = if is_stale { "stale".to_owned() } else { sent.value.to_string() };
        out.push(format!("{} {value} {}\n", labels.join(","), sent.timestamp));
    };
    cache.begin();
    for line in page.lines() {
        let mut words = line.split(' ');
        let series = words.next().unwrap().as_bytes();
        let value = words.next().unwrap().parse().unwrap();
        let timestamp = words.next().map(|text| text.parse().unwrap());
        let sample = PageSample { series, value, timestamp, family: None };
        cache.sample(sample, instant, &mut sink);
    }
    cache.end(instant, &mut sink);
    out.concat()
}

fn check(rules: Rules, pages: &[&str], expected: Expect) -> SeriesCache {
    let mut cache = SeriesCache::new(rules, "n1");
    let mut all = String::new();
    for (instant, page) in (1000..).step_by(1000).zip(pages) {
        all.push_str(&push(&mut cache, instant, page));
        all.push_str("--\n");
    }
    expected.assert_eq(&all);
    cache
}

fn dropped(cache: &mut SeriesCache, reason: DropReason) -> u64 {
    cache.take_dropped()[reason as usize]
}

#[test]
fn labels_are_sorted_and_a_series_that_is_gone_ends() {
    let cache = check(
        Rules::default(),
        &["m{z=\"1\",A=\"2\",job=\"j\"} 1\nn 5", "m{z=\"1\",A=\"2\",job=\"j\"} 2", ""],
        expect![[r#"
            A=2,__name__=m,instance=n1,job=j,z=1 1 1000
            __name__=n,instance=n1,job=podmeter 5 1000
            --
            A=2,__name__=m,instance=n1,job=j,z=1 2 2000
            __name__=n,instance=n1,job=podmeter stale 2000
            --
            A=2,__name__=m,instance=n1,job=j,z=1 stale 3000
            --
        "#]],
    );
    assert_eq!((cache.len(), cache.symbols.len(), cache.known.len()), (0, 0, 0));
}

#[test]
fn a_sample_is_sent_once_and_none_goes_back() {
    let mut cache = check(
        Rules::default(),
        &["m 1 700", "m 1 700", "m 2 1900", "m 3 1800", ""],
        expect![[r#"
            __name__=m,instance=n1,job=podmeter 1 700
            --
            --
            __name__=m,instance=n1,job=podmeter 2 1900
            --
            --
            __name__=m,instance=n1,job=podmeter stale 5000
            --
        "#]],
    );
    assert_eq!(dropped(&mut cache, DropReason::OutOfOrder), 1);
}

#[test]
fn rules_drop_and_rename_and_their_own_labels_are_not_sent() {
    let mut cache = check(
        rules(
            "[{ source_labels: [__name__], regex: drop, action: drop }, { target_label: __tmp, replacement: a }, { source_labels: [__tmp, z], target_label: instance }]",
        ),
        &["m{z=\"1\"} 1\ndrop 2"],
        expect![[r#"
            __name__=m,instance=a;1,job=podmeter,z=1 1 1000
            --
        "#]],
    );
    assert_eq!(dropped(&mut cache, DropReason::Relabel), 1);
}

#[test]
fn of_equal_series_one_is_sent_and_the_next_goes_on_with_it() {
    let mut cache = check(
        rules("[{ regex: uid, action: labeldrop }]"),
        &["m{uid=\"a\"} 1\nm{uid=\"b\"} 9", "m{uid=\"b\"} 2", "m{uid=\"b\"} 3\nm{uid=\"a\"} 9", ""],
        expect![[r#"
            __name__=m,instance=n1,job=podmeter 1 1000
            --
            __name__=m,instance=n1,job=podmeter 2 2000
            --
            __name__=m,instance=n1,job=podmeter 3 3000
            --
            __name__=m,instance=n1,job=podmeter stale 4000
            --
        "#]],
    );
    assert_eq!(dropped(&mut cache, DropReason::Duplicate), 2);
    assert_eq!((cache.symbols.len(), cache.owners.len()), (0, 0));
}

#[test]
fn a_series_without_a_name_is_none() {
    let mut cache = check(
        rules("[{ regex: __name__, action: labeldrop }]"),
        &["m 1"],
        expect![[r#"
            --
        "#]],
    );
    assert_eq!(dropped(&mut cache, DropReason::Invalid), 1);
}

#[test]
fn a_clock_that_was_set_back_stops_nothing() {
    let mut cache = SeriesCache::new(Rules::default(), "n1");
    push(&mut cache, 9000, "m 1");
    assert_eq!(push(&mut cache, 5000, "m 2"), "");
    cache.forget_order();
    assert_eq!(push(&mut cache, 5000, "m 3"), "__name__=m,instance=n1,job=podmeter 3 5000\n");
}

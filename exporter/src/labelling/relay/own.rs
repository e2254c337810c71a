//! The page's `relabel_configs` on Podmeter's own series: they go through a relay of their own, as if they were a
//! target's, so that rules mean the same for both and what they did to a series is remembered.
//!
//! Without rules there is no such relay, and own series stay values to the end.

use std::sync::Arc;

use super::{NamedPods, Relay, RelayError, Relayed, Settings};
use crate::{
    labelling::relabel::Rules, page::relayed::SeriesHasher, source::upstream::exposition::Dialect,
};

/// The relay of Podmeter's own series.
#[derive(Debug)]
pub struct OwnRelay(Relay);

impl OwnRelay {
    /// One with these rules. External labels are put on behind them, as on the series of targets.
    #[must_use]
    pub fn new(
        rules: Arc<Rules>,
        external_labels: Vec<(String, String)>,
        hasher: SeriesHasher,
    ) -> Self {
        let settings = Settings { rules: vec![rules], external_labels, ..Settings::default() };
        Self(Relay::new(settings, hasher))
    }

    /// Relays own families as they stand in text 0.0.4, which has no units; those come beside it, by family.
    pub fn relay<'a>(
        &mut self,
        text: &[u8],
        units: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Relayed, RelayError> {
        for (family, unit) in units {
            self.0.families.declare_unit(family, unit);
        }
        // Own series have the labels of their pods already.
        self.0.relay(text, Dialect::Text, &NamedPods::default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};

    use super::OwnRelay;
    use crate::{
        encode::{Format, encode},
        labelling::relabel::{Rules, rule::RuleConfig},
        metric::{Desc, Histogram, Kind, Value},
        page::{Labels, Page, PageFamily, Series, relayed::SeriesHasher},
    };

    const fn desc(name: &'static str, kind: Kind, unit: &'static str) -> Desc {
        Desc { name, help: "H.", kind, unit, labels: &[], origin: "" }
    }

    static COUNTER: Desc = desc("c_total", Kind::Counter, "");
    static HISTOGRAM: Desc = desc("h_seconds", Kind::Histogram, "seconds");

    fn page() -> Page {
        let labels = |pod| Labels::new([("namespace", "n"), ("pod", pod)]).unwrap();
        let number = |pod, value| Series { labels: labels(pod), value: Value::Number(value) };
        let histogram = Histogram { bounds: &[1.0], buckets: vec![1, 2], sum: 3.5 };
        Page::new(vec![
            PageFamily { desc: &COUNTER, series: vec![number("a", 1.0), number("b", 2.0)] },
            PageFamily {
                desc: &HISTOGRAM,
                series: vec![Series { labels: labels("a"), value: Value::Histogram(histogram) }],
            },
        ])
    }

    fn rule(rule: RuleConfig) -> RuleConfig {
        RuleConfig { source_labels: rule.source_labels.or(Some(vec!["pod".into()])), ..rule }
    }

    fn check(rules: &[RuleConfig], n_dropped: &[usize], format: Format, expected: Expect) {
        let hasher = SeriesHasher::default();
        let external = vec![("cluster".to_owned(), "x".to_owned())];
        let rules = Arc::new(Rules::new(rules).unwrap());
        let mut own = OwnRelay::new(rules, external, hasher.clone());
        let page = page();
        let text = encode(&page, Format::Text004);
        for n_misses in [6, 0] {
            let units = page.families().iter().map(|family| (family.desc.name, family.desc.unit));
            let relayed = own.relay(&text, units).unwrap();
            assert_eq!(relayed.counts.n_misses, n_misses, "the second time nothing is new");
            assert_eq!(relayed.counts.n_dropped, n_dropped);
            let merged = Page::merged(Vec::new(), vec![relayed.page], &hasher);
            expected.assert_eq(&String::from_utf8(encode(&merged, format)).unwrap());
        }
    }

    #[test]
    fn a_rule_sees_what_stands_on_the_page() {
        let drop = RuleConfig {
            source_labels: Some(vec!["__name__".into(), "pod".into()]),
            regex: Some("h_seconds_bucket;.*|c_total;b".into()),
            action: Some("drop".into()),
            ..RuleConfig::default()
        };
        let rename = rule(RuleConfig {
            regex: Some("(.+)".into()),
            target_label: Some("app".into()),
            ..RuleConfig::default()
        });
        check(
            &[drop, rename],
            &[0, 3, 0, 0, 0, 0],
            Format::Text004,
            expect![[r#"
                # HELP c_total H.
                # TYPE c_total counter
                c_total{app="a",cluster="x",namespace="n",pod="a"} 1
                # HELP h_seconds H.
                # TYPE h_seconds histogram
                h_seconds_sum{app="a",cluster="x",namespace="n",pod="a"} 3.5
                h_seconds_count{app="a",cluster="x",namespace="n",pod="a"} 3
            "#]],
        );
    }

    #[test]
    fn equal_series_and_empty_names_are_settled() {
        let merge = RuleConfig {
            regex: Some("pod".into()),
            action: Some("labeldrop".into()),
            ..RuleConfig::default()
        };
        let unname = RuleConfig {
            source_labels: Some(vec!["__name__".into()]),
            regex: Some("h_seconds_.*".into()),
            target_label: Some("__name__".into()),
            replacement: Some(String::new()),
            ..RuleConfig::default()
        };
        check(
            &[merge, unname],
            &[0, 4, 1, 0, 0, 0],
            Format::Text004,
            expect![[r#"
                # HELP c_total H.
                # TYPE c_total counter
                c_total{cluster="x",namespace="n"} 1
            "#]],
        );
    }

    #[test]
    fn what_no_rule_changes_stays_in_openmetrics_too() {
        let keep = rule(RuleConfig { action: Some("keep".into()), ..RuleConfig::default() });
        check(
            &[keep],
            &[0; 6],
            Format::OpenMetrics100,
            expect![[r##"
                # TYPE c counter
                # HELP c H.
                c_total{namespace="n",pod="a",cluster="x"} 1
                c_total{namespace="n",pod="b",cluster="x"} 2
                # TYPE h_seconds histogram
                # UNIT h_seconds seconds
                # HELP h_seconds H.
                h_seconds_bucket{namespace="n",pod="a",le="1.0",cluster="x"} 1
                h_seconds_bucket{namespace="n",pod="a",le="+Inf",cluster="x"} 3
                h_seconds_sum{namespace="n",pod="a",cluster="x"} 3.5
                h_seconds_count{namespace="n",pod="a",cluster="x"} 3
                # EOF
            "##]],
        );
    }
}

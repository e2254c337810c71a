//! Whole pages in both formats: small ones by eye, random ones by a reader that knows nothing of the writer.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them so")]

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

use super::{Format, encode};
use crate::{
    metric::{Desc, Histogram, Kind, Value},
    page::{Labels, Page, PageFamily, Series},
};

static COUNTER: Desc = Desc {
    name: "podmeter_io_bytes_total",
    help: "Bytes read \\ written,\nby \"operation\".",
    kind: Kind::Counter,
    unit: "bytes",
    labels: &["operation"],
    origin: "test",
};
static BARE_COUNTER: Desc = Desc {
    name: "podmeter_runs",
    help: "Runs.",
    kind: Kind::Counter,
    unit: "",
    labels: &[],
    origin: "test",
};
static GAUGE: Desc = Desc {
    name: "podmeter_cpu_quota_cores",
    help: "The quota.",
    kind: Kind::Gauge,
    unit: "cores",
    labels: &[],
    origin: "test",
};
static MISNAMED_GAUGE: Desc = Desc {
    name: "podmeter_milliseconds",
    help: "A unit that is not a word of the name.",
    kind: Kind::Gauge,
    unit: "seconds",
    labels: &[],
    origin: "test",
};
static HISTOGRAM: Desc = Desc {
    name: "podmeter_wait_seconds",
    help: "Waits.",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    origin: "test",
};

fn series(labels: &[(&'static str, &str)], value: Value) -> Series {
    let labels = labels.iter().map(|(name, value)| (*name, *value));
    Series { labels: Labels::new(labels).expect("no label stands twice"), value }
}

fn page() -> Page {
    let histogram =
        Histogram { bounds: &[0.000_01, 0.5, 1.0, 1e6], buckets: vec![1, 0, 2, 0, 4], sum: 7.25 };
    Page::new(vec![
        PageFamily {
            desc: &COUNTER,
            series: vec![
                series(&[("operation", "write")], Value::Number(12.0)),
                series(&[("operation", "read")], Value::Number(1e21)),
            ],
        },
        PageFamily { desc: &BARE_COUNTER, series: vec![series(&[], Value::Number(3.0))] },
        PageFamily {
            desc: &GAUGE,
            series: vec![
                series(&[("cgroup", "a\\b\"c\nd€"), ("empty", "")], Value::Number(0.1)),
                series(&[("cgroup", "/x")], Value::Number(f64::INFINITY)),
                series(&[("cgroup", "/y")], Value::Number(f64::NAN)),
            ],
        },
        PageFamily { desc: &MISNAMED_GAUGE, series: vec![series(&[], Value::Number(-2.0))] },
        PageFamily {
            desc: &HISTOGRAM,
            series: vec![
                series(&[], Value::Histogram(histogram.clone())),
                series(&[("node", "n1"), ("zone", "z")], Value::Histogram(histogram)),
            ],
        },
    ])
}

fn check(page: &Page, format: Format, expected: &Expect) {
    expected.assert_eq(&String::from_utf8(encode(page, format)).expect("a page is UTF-8"));
}

#[test]
fn text_004() {
    check(
        &page(),
        Format::Text004,
        &expect![[r##"
        # HELP podmeter_cpu_quota_cores The quota.
        # TYPE podmeter_cpu_quota_cores gauge
        podmeter_cpu_quota_cores{cgroup="/x"} +Inf
        podmeter_cpu_quota_cores{cgroup="/y"} NaN
        podmeter_cpu_quota_cores{cgroup="a\\b\"c\nd€"} 0.1
        # HELP podmeter_io_bytes_total Bytes read \\ written,\nby "operation".
        # TYPE podmeter_io_bytes_total counter
        podmeter_io_bytes_total{operation="read"} 1e+21
        podmeter_io_bytes_total{operation="write"} 12
        # HELP podmeter_milliseconds A unit that is not a word of the name.
        # TYPE podmeter_milliseconds gauge
        podmeter_milliseconds -2
        # HELP podmeter_runs Runs.
        # TYPE podmeter_runs counter
        podmeter_runs 3
        # HELP podmeter_wait_seconds Waits.
        # TYPE podmeter_wait_seconds histogram
        podmeter_wait_seconds_bucket{le="1e-05"} 1
        podmeter_wait_seconds_bucket{le="0.5"} 1
        podmeter_wait_seconds_bucket{le="1"} 3
        podmeter_wait_seconds_bucket{le="1e+06"} 3
        podmeter_wait_seconds_bucket{le="+Inf"} 7
        podmeter_wait_seconds_sum 7.25
        podmeter_wait_seconds_count 7
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="1e-05"} 1
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="0.5"} 1
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="1"} 3
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="1e+06"} 3
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="+Inf"} 7
        podmeter_wait_seconds_sum{node="n1",zone="z"} 7.25
        podmeter_wait_seconds_count{node="n1",zone="z"} 7
    "##]],
    );
}

#[test]
fn openmetrics_100() {
    check(
        &page(),
        Format::OpenMetrics100,
        &expect![[r##"
        # TYPE podmeter_cpu_quota_cores gauge
        # UNIT podmeter_cpu_quota_cores cores
        # HELP podmeter_cpu_quota_cores The quota.
        podmeter_cpu_quota_cores{cgroup="/x"} +Inf
        podmeter_cpu_quota_cores{cgroup="/y"} NaN
        podmeter_cpu_quota_cores{cgroup="a\\b\"c\nd€"} 0.1
        # TYPE podmeter_io_bytes counter
        # UNIT podmeter_io_bytes bytes
        # HELP podmeter_io_bytes Bytes read \\ written,\nby \"operation\".
        podmeter_io_bytes_total{operation="read"} 1e+21
        podmeter_io_bytes_total{operation="write"} 12.0
        # TYPE podmeter_milliseconds gauge
        # HELP podmeter_milliseconds A unit that is not a word of the name.
        podmeter_milliseconds -2.0
        # TYPE podmeter_runs unknown
        # HELP podmeter_runs Runs.
        podmeter_runs 3.0
        # TYPE podmeter_wait_seconds histogram
        # UNIT podmeter_wait_seconds seconds
        # HELP podmeter_wait_seconds Waits.
        podmeter_wait_seconds_bucket{le="1e-05"} 1
        podmeter_wait_seconds_bucket{le="0.5"} 1
        podmeter_wait_seconds_bucket{le="1.0"} 3
        podmeter_wait_seconds_bucket{le="1e+06"} 3
        podmeter_wait_seconds_bucket{le="+Inf"} 7
        podmeter_wait_seconds_sum 7.25
        podmeter_wait_seconds_count 7
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="1e-05"} 1
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="0.5"} 1
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="1.0"} 3
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="1e+06"} 3
        podmeter_wait_seconds_bucket{node="n1",zone="z",le="+Inf"} 7
        podmeter_wait_seconds_sum{node="n1",zone="z"} 7.25
        podmeter_wait_seconds_count{node="n1",zone="z"} 7
        # EOF
    "##]],
    );
}

#[test]
fn an_empty_page() {
    check(&Page::default(), Format::Text004, &expect![[r#""#]]);
    check(
        &Page::default(),
        Format::OpenMetrics100,
        &expect![[r#"
        # EOF
    "#]],
    );
}

/// A sample's name and labels, and its number as bits.
type Samples = BTreeMap<(String, Vec<(String, String)>), u64>;

fn bits(value: f64) -> u64 {
    // All that is not a number is one value, and so is zero, whatever its sign.
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

/// Reads the samples of either format; a panic is a page that no reader would take.
fn read(text: &str) -> Samples {
    assert!(text.is_empty() || text.ends_with('\n'));
    let mut samples = Samples::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels, number) = read_line(line);
        let value: f64 = number.parse().expect("a number");
        assert!(samples.insert((name, labels), bits(value)).is_none(), "twice: {line}");
    }
    samples
}

fn read_line(line: &str) -> (String, Vec<(String, String)>, &str) {
    let (name, mut rest) = line.split_at(line.find(['{', ' ']).expect("a name ends"));
    let mut labels = Vec::new();
    while let Some(label) = rest.strip_prefix(['{', ',']) {
        let (label_name, value) = label.split_once("=\"").expect("a value is quoted");
        let mut text = String::new();
        let mut letters = value.chars();
        loop {
            match letters.next().expect("a value ends") {
                '"' => break,
                '\\' => text.push(match letters.next().expect("an escape ends") {
                    'n' => '\n',
                    letter => letter,
                }),
                letter => text.push(letter),
            }
        }
        rest = letters.as_str();
        labels.push((label_name.to_owned(), text));
    }
    let number = rest.strip_prefix('}').unwrap_or(rest).strip_prefix(' ').expect("a space");
    // `le` as a number: the two formats write it differently.
    for (name, text) in &mut labels {
        if name == "le" {
            *text = text.parse::<f64>().expect("a bound is a number").to_string();
        }
    }
    (name.to_owned(), labels, number)
}

/// What a reader must find, computed from the page itself.
fn samples_of(page: &Page) -> Samples {
    let mut samples = Samples::new();
    for family in page.families() {
        for series in &family.series {
            let labels: Vec<(String, String)> = series
                .labels
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let mut insert = |suffix: &str, bound: Option<f64>, value: f64| {
                let mut labels = labels.clone();
                labels.extend(bound.map(|bound| ("le".to_owned(), bound.to_string())));
                samples.insert((format!("{}{suffix}", family.desc.name), labels), bits(value));
            };
            match &series.value {
                Value::Number(value) => insert("", None, *value),
                Value::Histogram(histogram) => {
                    let mut count = 0;
                    let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
                    for (bound, bucket) in bounds.zip(&histogram.buckets) {
                        count += bucket;
                        insert("_bucket", Some(bound), float(count));
                    }
                    insert("_sum", None, histogram.sum);
                    insert("_count", None, float(histogram.count()));
                }
            }
        }
    }
    samples
}

fn float(count: u64) -> f64 {
    count.to_string().parse().expect("a count is a number")
}

fn any_page() -> impl Strategy<Value = Page> {
    let any_labels =
        prop::collection::btree_map("[a-d_][a-d0-9_]{0,3}", r#"[a\\n"\n€\r{},=# ]{0,8}"#, 0..4)
            .prop_map(|map| Labels::new(map).expect("a map has no name twice"));
    let histogram =
        (prop::collection::vec(0_u64..1 << 50, 4), any::<f64>()).prop_map(|(buckets, sum)| {
            Value::Histogram(Histogram { bounds: &[0.000_001, 0.25, 1e7], buckets, sum })
        });
    let value = prop_oneof![any::<f64>().prop_map(Value::Number), histogram];
    let desc = prop_oneof![
        Just(&COUNTER),
        Just(&BARE_COUNTER),
        Just(&GAUGE),
        Just(&MISNAMED_GAUGE),
        Just(&HISTOGRAM)
    ];
    let series = (any_labels, value).prop_map(|(labels, value)| Series { labels, value });
    let family = (desc, prop::collection::vec(series, 0..5))
        .prop_map(|(desc, series)| PageFamily { desc, series });
    prop::collection::vec(family, 0..5).prop_map(Page::new)
}

proptest! {
    #[test]
    fn every_page_is_read_back(page in any_page()) {
        let expected = samples_of(&page);
        for format in [Format::Text004, Format::OpenMetrics100] {
            let text = String::from_utf8(encode(&page, format)).expect("a page is UTF-8");
            prop_assert_eq!(&read(&text), &expected);
        }
    }
}

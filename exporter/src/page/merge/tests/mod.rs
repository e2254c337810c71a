//! Pages of several targets and of Podmeter itself, merged, as both formats say it.

mod laws;

use std::sync::Arc;

use expect_test::{Expect, expect};

use crate::{
    encode::{Format, encode},
    labelling::relay::{
        Pods, Relay, Settings,
        pods::{CgroupOwner, Pod},
    },
    metric::{Desc, Histogram, Kind, Value},
    page::{
        Labels, Page, PageFamily, Series,
        relayed::{RelayedPage, SeriesHasher},
    },
    source::upstream::exposition::Dialect,
};

struct NoPods;

impl Pods for NoPods {
    fn version(&self) -> u64 {
        0
    }

    fn by_name(&self, _namespace: &str, _name: &str) -> Option<Arc<Pod>> {
        None
    }

    fn by_cgroup(&self, _path: &str) -> CgroupOwner {
        CgroupOwner::Node
    }
}

static OWN_COUNTER: Desc = desc("process_cpu_seconds_total", Kind::Counter, "seconds");
static OWN_HISTOGRAM: Desc = desc("own_seconds", Kind::Histogram, "seconds");

const fn desc(name: &'static str, kind: Kind, unit: &'static str) -> Desc {
    Desc { name, help: "Own.", kind, unit, labels: &[], origin: "" }
}

fn own() -> Vec<PageFamily> {
    let series = |value| vec![Series { labels: Labels::default(), value }];
    let histogram = Histogram { bounds: &[1.0], buckets: vec![1, 2], sum: 3.0 };
    vec![
        PageFamily { desc: &OWN_COUNTER, series: series(Value::Number(1.5)) },
        PageFamily { desc: &OWN_HISTOGRAM, series: series(Value::Histogram(histogram)) },
    ]
}

/// What two relays, of the jobs `a` and `b` or of none, make of these pages; merged with Podmeter's own.
fn merged(jobs: [&str; 2], pages: [&str; 2], own: Vec<PageFamily>) -> Page {
    let hasher = SeriesHasher::default();
    let relayed = |(job, page): (&str, &str)| -> RelayedPage {
        let labels = vec![("job".to_owned(), job.to_owned())];
        let settings = Settings { labels, ..Settings::default() };
        let mut relay = Relay::new(settings, hasher.clone());
        let relayed = relay.relay(page.as_bytes(), Dialect::Text, &NoPods);
        relayed.expect("the page is relayed").page
    };
    let relayed = jobs.into_iter().zip(pages).map(relayed).collect();
    Page::merged(own, relayed, &hasher)
}

fn check(page: &Page, n_settled: usize, n_type_conflicts: usize, text: &Expect, om: &Expect) {
    let encoded = |format| String::from_utf8(encode(page, format)).expect("a page is UTF-8");
    text.assert_eq(&encoded(Format::Text004));
    om.assert_eq(&encoded(Format::OpenMetrics100));
    assert_eq!((page.n_settled(), page.n_type_conflicts()), (n_settled, n_type_conflicts));
}

#[test]
fn families_are_contiguous_and_the_first_help_holds() {
    let pages = [
        "# HELP go_x A.\n# TYPE go_x gauge\ngo_x 1\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 2 1500\ngo_y 5\n",
        "# HELP go_x B.\n# TYPE go_x gauge\ngo_x 3\nz 7\ngo_x{a=\"b\"} 4\n# HELP go_y \"C\".\n# TYPE go_y gauge\ngo_y 6\n",
    ];
    check(
        &merged(["a", "b"], pages, own()),
        0,
        0,
        &expect![[r##"
        # HELP go_x A.
        # TYPE go_x gauge
        go_x{job="a"} 1
        go_x{job="b"} 3
        go_x{a="b",job="b"} 4
        # HELP go_y "C".
        # TYPE go_y gauge
        go_y{job="a"} 5
        go_y{job="b"} 6
        # HELP own_seconds Own.
        # TYPE own_seconds histogram
        own_seconds_bucket{le="1"} 1
        own_seconds_bucket{le="+Inf"} 3
        own_seconds_sum 3
        own_seconds_count 3
        # HELP process_cpu_seconds_total Own.
        # TYPE process_cpu_seconds_total counter
        process_cpu_seconds_total 1.5
        process_cpu_seconds_total{job="a"} 2 1500
        # TYPE z untyped
        z{job="b"} 7
    "##]],
        &expect![[r##"
        # TYPE go_x gauge
        # HELP go_x A.
        go_x{job="a"} 1
        go_x{job="b"} 3
        go_x{a="b",job="b"} 4
        # TYPE go_y gauge
        # HELP go_y \"C\".
        go_y{job="a"} 5
        go_y{job="b"} 6
        # TYPE own_seconds histogram
        # UNIT own_seconds seconds
        # HELP own_seconds Own.
        own_seconds_bucket{le="1.0"} 1
        own_seconds_bucket{le="+Inf"} 3
        own_seconds_sum 3.0
        own_seconds_count 3
        # TYPE process_cpu_seconds counter
        # UNIT process_cpu_seconds seconds
        # HELP process_cpu_seconds Own.
        process_cpu_seconds_total 1.5
        process_cpu_seconds_total{job="a"} 2 1.500
        # TYPE z unknown
        z{job="b"} 7
        # EOF
    "##]],
    );
}

#[test]
fn equal_series_are_settled_in_the_order_of_their_sources() {
    let histogram =
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 2\nh_count 2\n";
    let other = histogram
        .replace("\"1\"", "\"5\"")
        .replace("# TYPE", "process_cpu_seconds_total 9\n# TYPE");
    let page = merged(["", ""], [histogram, &other], own());
    check(
        &page,
        5,
        0,
        &expect![[r##"
        # TYPE h histogram
        h_bucket{le="1"} 1
        h_bucket{le="+Inf"} 2
        h_sum 2
        h_count 2
        # HELP own_seconds Own.
        # TYPE own_seconds histogram
        own_seconds_bucket{le="1"} 1
        own_seconds_bucket{le="+Inf"} 3
        own_seconds_sum 3
        own_seconds_count 3
        # HELP process_cpu_seconds_total Own.
        # TYPE process_cpu_seconds_total counter
        process_cpu_seconds_total 1.5
    "##]],
        &expect![[r##"
        # TYPE h histogram
        h_bucket{le="1.0"} 1
        h_bucket{le="+Inf"} 2
        h_sum 2
        h_count 2
        # TYPE own_seconds histogram
        # UNIT own_seconds seconds
        # HELP own_seconds Own.
        own_seconds_bucket{le="1.0"} 1
        own_seconds_bucket{le="+Inf"} 3
        own_seconds_sum 3.0
        own_seconds_count 3
        # TYPE process_cpu_seconds counter
        # UNIT process_cpu_seconds seconds
        # HELP process_cpu_seconds Own.
        process_cpu_seconds_total 1.5
        # EOF
    "##]],
    );
}

#[test]
fn types_that_differ_are_no_types() {
    let pages = [
        "# TYPE g gauge\ng 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 2\nh_count 2\n",
        "# TYPE g counter\ng 2\n# TYPE h gauge\nh 3\n",
    ];
    check(
        &merged(["a", "b"], pages, Vec::new()),
        0,
        2,
        &expect![[r##"
        # TYPE g untyped
        g{job="a"} 1
        g{job="b"} 2
        # TYPE h untyped
        h{job="b"} 3
        # TYPE h_bucket untyped
        h_bucket{le="1",job="a"} 1
        h_bucket{le="+Inf",job="a"} 2
        # TYPE h_count untyped
        h_count{job="a"} 2
        # TYPE h_sum untyped
        h_sum{job="a"} 2
    "##]],
        &expect![[r##"
        # TYPE g unknown
        g{job="a"} 1
        g{job="b"} 2
        # TYPE h unknown
        h{job="b"} 3
        # TYPE h_bucket unknown
        h_bucket{le="1.0",job="a"} 1
        h_bucket{le="+Inf",job="a"} 2
        # TYPE h_count unknown
        h_count{job="a"} 2
        # TYPE h_sum unknown
        h_sum{job="a"} 2
        # EOF
    "##]],
    );
}

#[test]
fn names_of_samples_that_are_families_elsewhere() {
    let pages = [
        "# TYPE s summary\ns{quantile=\"1\"} 1\ns_sum 1\ns_count 1\n",
        "# TYPE s_sum counter\ns_sum 4\n# TYPE own_seconds gauge\nown_seconds 1\nown_seconds_count 2\n",
    ];
    check(
        &merged(["a", "b"], pages, own()),
        2,
        2,
        &expect![[r##"
        # HELP own_seconds Own.
        # TYPE own_seconds histogram
        own_seconds_bucket{le="1"} 1
        own_seconds_bucket{le="+Inf"} 3
        own_seconds_sum 3
        own_seconds_count 3
        # HELP process_cpu_seconds_total Own.
        # TYPE process_cpu_seconds_total counter
        process_cpu_seconds_total 1.5
        # TYPE s untyped
        s{quantile="1",job="a"} 1
        # TYPE s_count untyped
        s_count{job="a"} 1
        # TYPE s_sum counter
        s_sum{job="a"} 1
        s_sum{job="b"} 4
    "##]],
        &expect![[r##"
        # TYPE own_seconds histogram
        # UNIT own_seconds seconds
        # HELP own_seconds Own.
        own_seconds_bucket{le="1.0"} 1
        own_seconds_bucket{le="+Inf"} 3
        own_seconds_sum 3.0
        own_seconds_count 3
        # TYPE process_cpu_seconds counter
        # UNIT process_cpu_seconds seconds
        # HELP process_cpu_seconds Own.
        process_cpu_seconds_total 1.5
        # TYPE s unknown
        s{quantile="1.0",job="a"} 1
        # TYPE s_count unknown
        s_count{job="a"} 1
        # TYPE s_sum unknown
        s_sum{job="a"} 1
        s_sum{job="b"} 4
        # EOF
    "##]],
    );
}

#[test]
fn names_that_meet_only_in_openmetrics() {
    let pages = [
        "# TYPE x_total counter\nx_total 1\n# TYPE x_created gauge\nx_created 5\n# TYPE y_total counter\ny_total 2\n",
        "# TYPE y gauge\ny 3\n# TYPE z_created gauge\nz_created 4\n",
    ];
    check(
        &merged(["a", "b"], pages, Vec::new()),
        0,
        0,
        &expect![[r##"
        # TYPE x_created gauge
        x_created{job="a"} 5
        # TYPE x_total counter
        x_total{job="a"} 1
        # TYPE y gauge
        y{job="b"} 3
        # TYPE y_total counter
        y_total{job="a"} 2
        # TYPE z_created gauge
        z_created{job="b"} 4
    "##]],
        &expect![[r##"
        # TYPE x counter
        x_total{job="a"} 1
        # TYPE y gauge
        y{job="b"} 3
        # TYPE y_total unknown
        y_total{job="a"} 2
        # TYPE z_created gauge
        z_created{job="b"} 4
        # EOF
    "##]],
    );
}

#[test]
fn long_stretches_are_not_copied() {
    let lines = "a{b=\"IDX\"} 1\n".repeat(2000);
    let mut idx = 0..;
    let lines =
        lines.split_inclusive('\n').map(|line| line.replace("IDX", &format!("{:?}", idx.next())));
    let lines: String = lines.collect();
    let page = merged(["", ""], [&lines, ""], Vec::new());
    let pieces = crate::encode::encode_pieces(&page, Format::Text004);
    assert_eq!(pieces.concat(), format!("# TYPE a untyped\n{lines}").into_bytes());
    let shared = pieces.last().expect("there are some");
    assert_eq!(shared.as_ptr(), page.relayed()[0].bytes.as_ptr());
}

//! Pages through the relay: small ones by eye, and random ones; recorded ones are in the package of the tests.

mod bounds;
mod labels;
mod named;

use std::{cell::Cell, fmt::Write as _, sync::Arc};

use expect_test::expect;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::{
    Counts, DropReason, Pods, Relay, RelayError, Relayed, Settings,
    pods::{CgroupOwner, Pod},
};
use crate::{
    labelling::relabel::{Rules, rule::RuleConfig},
    page::relayed::{Form, SeriesHasher},
    source::upstream::exposition::Dialect,
};

/// Pods that a test makes up.
#[derive(Default)]
struct FakePods {
    version: Cell<u64>,
    pods: Vec<Arc<Pod>>,
    cgroups: Vec<(&'static str, CgroupOwner)>,
}

impl Pods for FakePods {
    fn version(&self) -> u64 {
        self.version.get()
    }

    fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let is_it = |pod: &&Arc<Pod>| pod.namespace == namespace && pod.name == name;
        self.pods.iter().find(is_it).cloned()
    }

    fn by_cgroup(&self, path: &str) -> CgroupOwner {
        let found = self.cgroups.iter().find(|(known, _)| *known == path);
        found.map_or(CgroupOwner::Node, |(_, owner)| owner.clone())
    }
}

fn pairs(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn pod(labels: &[(&str, &str)]) -> Arc<Pod> {
    Arc::new(Pod { namespace: "n9e".into(), name: "web-0".into(), labels: pairs(labels) })
}

fn rules(yaml: &str) -> Arc<Rules> {
    let configs: Vec<RuleConfig> = serde_saphyr::from_str(yaml).expect("the test's rules are YAML");
    Arc::new(Rules::new(&configs).expect("the test's rules are rules"))
}

fn relay(settings: Settings) -> Relay {
    Relay::new(settings, SeriesHasher::default())
}

/// The lines of one format.
fn served(relayed: &Relayed, without: Form) -> String {
    let lines = relayed.page.lines.iter().filter(|line| line.form != without);
    lines.map(|line| std::str::from_utf8(relayed.page.line(*line)).expect("UTF-8")).collect()
}

fn text(relayed: &Relayed) -> String {
    served(relayed, Form::OpenMetricsOnly)
}

/// Every sample is served or dropped, and every one that is served is somebody's.
fn check_account(relayed: &Relayed) {
    let Counts { n_samples, n_kept, n_dropped, n_by_owner, .. } = &relayed.counts;
    assert_eq!(*n_samples, n_kept + n_dropped.iter().sum::<usize>());
    assert_eq!(*n_kept, n_by_owner.iter().sum::<usize>());
    assert_eq!(*n_kept, relayed.page.n_samples());
    let n_in_runs: usize = relayed.page.runs.iter().map(|run| run.n_lines).sum();
    assert_eq!(n_in_runs, relayed.page.lines.len());
}

fn pass(relay: &mut Relay, page: &str, pods: &FakePods) -> Relayed {
    let relayed = relay.relay(page.as_bytes(), Dialect::Text, pods).expect("the page is relayed");
    check_account(&relayed);
    relayed
}

/// The families of a page, with how many lines each has.
fn families(relayed: &Relayed) -> String {
    let mut out = String::new();
    for (family, lines) in relayed.page.families() {
        let (name, family_type) = (&family.name, family.family_type);
        writeln!(out, "{name} {family_type:?} {:?} {}", family.help, lines.len())
            .expect("a string takes all");
    }
    out
}

#[test]
fn metadata_late_twice_and_apart() {
    let mut relay = relay(Settings::default());
    let page = concat!(
        "h_bucket{le=\"+Inf\"} 1\n# HELP h One.\n# TYPE h histogram\nh_sum 1\nh_count 1\n",
        "# HELP g One.\n# HELP g Two.\n# TYPE g gauge\n# TYPE g counter\ng{a=\"1\"} 1\n",
        "s_count 1\n# TYPE s summary\ns{quantile=\"1\"} 1\ng{a=\"2\"} 2\nh 5\n",
    );
    let first = pass(&mut relay, page, &FakePods::default());
    expect![[r#"
        h_bucket Unknown "" 1
        h Histogram "One." 2
        g Gauge "One." 1
        s_count Unknown "" 1
        s Summary "" 2
        g Gauge "One." 1
    "#]]
    .assert_eq(&families(&first));
    // Now it is known from the start what they are.
    let second = pass(&mut relay, page, &FakePods::default());
    expect![[r#"
        h Histogram "One." 1
        h Histogram "One." 2
        g Gauge "One." 1
        s Summary "" 1
        s Summary "" 2
        g Gauge "One." 1
    "#]]
    .assert_eq(&families(&second));
    for relayed in [&first, &second] {
        assert_eq!(relayed.counts.n_conflicts, 2);
        assert_eq!(relayed.counts.dropped(DropReason::Misplaced), 1);
    }
    let third = pass(&mut relay, "# TYPE h gauge\nh 5\nh_sum 1\n", &FakePods::default());
    expect![[r#"
        h Gauge "One." 1
        h_sum Unknown "" 1
    "#]]
    .assert_eq(&families(&third));
}

#[test]
fn a_sample_with_the_name_of_a_histogram_is_out_of_place() {
    let yaml = "- {source_labels: [__name__], regex: a, target_label: __name__, replacement: h}";
    for name in ["h", "a"] {
        let after = format!("# TYPE h histogram\n{name} 5\nh_sum 1\n");
        // Before the type is known, once, it is in place.
        let before = format!("{name} 5\n# TYPE h histogram\nh_sum 1\n");
        for (page, n_first) in [(after, 1), (before, 0)] {
            let mut relay = relay(Settings { rules: vec![rules(yaml)], ..Settings::default() });
            for n_misplaced in [n_first, 1, 1] {
                let relayed = pass(&mut relay, &page, &FakePods::default());
                assert_eq!(relayed.counts.dropped(DropReason::Misplaced), n_misplaced, "{page}");
                assert_eq!(relayed.counts.n_kept, 2 - n_misplaced);
            }
        }
    }
}

#[test]
fn a_quantile_before_and_behind_the_type_is_one_series() {
    let series = "s{quantile=\"0.5\"}";
    let page = format!("{series} 1\n# TYPE s summary\ns{{quantile=\"0.5\" }} 2\n");
    let mut relay = relay(Settings::default());
    for _ in 0..3 {
        let relayed = pass(&mut relay, &page, &FakePods::default());
        assert_eq!(text(&relayed), format!("{series} 1\n"));
        assert_eq!(relayed.counts.dropped(DropReason::Duplicate), 1);
    }
    // Another spelling of the number is the same one as soon as the type is known.
    let page = page.replacen("0.5", "0.50", 1);
    pass(&mut relay, &page, &FakePods::default());
    let relayed = pass(&mut relay, &page, &FakePods::default());
    assert_eq!(relayed.counts.dropped(DropReason::Duplicate), 1);
}

#[test]
fn bounds_that_are_one_number_are_one_bucket() {
    let check = |page: &str, expected_text: &str, expected_openmetrics: &str| {
        let mut relay = relay(Settings::default());
        for _ in 0..2 {
            let relayed = pass(&mut relay, page, &FakePods::default());
            assert_eq!(text(&relayed), expected_text);
            assert_eq!(served(&relayed, Form::TextOnly), expected_openmetrics);
            assert_eq!(relayed.counts.dropped(DropReason::Duplicate), 1);
        }
    };
    check(
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 2\nh_bucket{le=\"1.5\"} 3\n",
        "h_bucket{le=\"1\"} 1\nh_bucket{le=\"1.5\"} 3\n",
        "h_bucket{le=\"1.0\"} 1\nh_bucket{le=\"1.5\"} 3\n",
    );
    check(
        "# TYPE s summary\ns{quantile=\"1.0\"} 1\ns{quantile=\"1\"} 2\n",
        "s{quantile=\"1.0\"} 1\n",
        "s{quantile=\"1.0\"} 1\n",
    );
    // Where they are no bounds, they are texts.
    check(
        "g{le=\"1\"} 1\ng{le=\"1.0\"} 2\ng{le=\"1\"} 3\n",
        "g{le=\"1\"} 1\ng{le=\"1.0\"} 2\n",
        "g{le=\"1\"} 1\ng{le=\"1.0\"} 2\n",
    );
}

#[test]
fn equal_series_are_served_once() {
    let yaml = "- {regex: id, action: labeldrop}";
    let mut relay = relay(Settings { rules: vec![rules(yaml)], ..Settings::default() });
    let page = "a{id=\"1\"} 1\na{id=\"2\"} 2\na{id=\"3\",b=\"\"} 3\nb 4\nb 5\nb{} 6\n";
    for _ in 0..3 {
        let relayed = pass(&mut relay, page, &FakePods::default());
        assert_eq!(text(&relayed), "a 1\nb 4\n");
        assert_eq!(relayed.counts.dropped(DropReason::Duplicate), 4);
    }
}

#[test]
fn openmetrics_comes_out_in_both_formats() {
    let page = concat!(
        "# HELP a Help.\n# TYPE a counter\na_total{x=\"1\"} 1 1.5 # {t=\"u\"} 0.5\na_total{x=\"2\"} 2\n",
        "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 1\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n",
    );
    let mut relay = relay(Settings::default());
    let mut read =
        |page: &str| relay.relay(page.as_bytes(), Dialect::OpenMetrics, &FakePods::default());
    let relayed = read(page).expect("it is one");
    check_account(&relayed);
    expect![[r#"
        a_total Counter "Help." 3
        h Histogram "" 2
        i_info Info "" 1
    "#]]
    .assert_eq(&families(&relayed));
    expect![[r#"
        a_total{x="1"} 1 1500
        a_total{x="2"} 2
        h_bucket{le="1.0"} 1
        h_bucket{le="+Inf"} 1
        i_info{v="1"} 1
    "#]]
    .assert_eq(&served(&relayed, Form::OpenMetricsOnly));
    expect![[r#"
        a_total{x="1"} 1 1.500 # {t="u"} 0.5
        a_total{x="2"} 2
        h_bucket{le="1.0"} 1
        h_bucket{le="+Inf"} 1
        i_info{v="1"} 1
    "#]]
    .assert_eq(&served(&relayed, Form::TextOnly));
    let cut = page.strip_suffix("# EOF\n").expect("it ends so");
    assert_eq!(read(cut).err(), Some(RelayError::NoEof));
}

/// A strict reader takes a label that is empty and one that is absent for two series, and the histogram for torn.
#[test]
fn empty_labels_stay_in_both_spellings() {
    let page = "# TYPE h histogram\nh_bucket{a=\"\",le=\"1\"} 1\nh_bucket{a=\"\",le=\"2.5\"} 1\n";
    let mut relay = relay(Settings { labels: pairs(&[("job", "j")]), ..Settings::default() });
    let relayed = pass(&mut relay, page, &FakePods::default());
    expect![[r#"
        h_bucket{a="",le="1.0",job="j"} 1
        h_bucket{a="",le="2.5",job="j"} 1
    "#]]
    .assert_eq(&served(&relayed, Form::TextOnly));
}

#[test]
fn a_bad_line_costs_only_itself() {
    let mut relay = relay(Settings::default());
    let relayed =
        pass(&mut relay, "a 1\na{b} 2\n# TYPE c strange\nc 3\n1 2\n", &FakePods::default());
    assert_eq!(text(&relayed), "a 1\nc 3\n");
    assert_eq!(relayed.counts.dropped(DropReason::Malformed), 2);
    assert_eq!(relayed.counts.n_bad_metadata, 1);
    let fault = relayed.first_fault.expect("there is one").to_string();
    assert_eq!(fault, "line 2, column 4: `=` was expected after a label name");
    let html = relay.relay(b"<html>\n</html>\n", Dialect::Text, &FakePods::default());
    assert!(matches!(html, Err(RelayError::NoMetrics(fault)) if fault.line == 1));
    let nothing = pass(&mut relay, "", &FakePods::default());
    assert_eq!(nothing.counts, Counts::default());
}

/// Pieces of pages that get past the reader.
const PIECES: &[&str] = &[
    "# TYPE h histogram\n",
    "# TYPE h gauge\n",
    "# TYPE a counter\n",
    "# HELP a A.\n",
    "# EOF\n",
    "h_bucket{le=\"1\"} 1\n",
    "h_sum 1 5\n",
    "h_count 1\n",
    "h 1\n",
    "a 1\n",
    "a{b=\"c\"} 2 7\n",
    "a{b=\"\"} NaN\n",
    "a{pod=\"web-0\",namespace=\"n9e\"} 3\n",
    "a_total 1\n",
    "a 1 # {} 1\n",
    "a{b=\n",
    "{\"a.b\"} 1\n",
    "\r\n",
    "\n",
    "x",
];

proptest! {
    #[test]
    fn where_a_page_is_cut_does_not_matter(
        page in prop::collection::vec(prop::sample::select(PIECES), 0..20),
        cuts in prop::collection::vec(1_usize..30, 1..8),
    ) {
        let page = page.concat();
        let pods = FakePods::default();
        for dialect in [Dialect::Text, Dialect::OpenMetrics] {
            let hasher = SeriesHasher::default();
            let mut of_whole = Relay::new(Settings::default(), hasher.clone());
            let mut of_pieces = Relay::new(Settings::default(), hasher);
            for _ in 0..2 {
                let whole = of_whole.relay(page.as_bytes(), dialect, &pods);
                let mut incoming = of_pieces.begin(dialect, &pods);
                let mut rest = page.as_bytes();
                for cut in cuts.iter().cycle() {
                    let (piece, behind) = rest.split_at(rest.len().min(*cut));
                    of_pieces.take(&mut incoming, piece, &pods).expect("there are no limits");
                    rest = behind;
                    if rest.is_empty() {
                        break;
                    }
                }
                match (whole, of_pieces.end(incoming, &pods)) {
                    (Ok(whole), Ok(pieces)) => {
                        prop_assert_eq!(whole.page, pieces.page);
                        prop_assert_eq!(whole.counts, pieces.counts);
                        prop_assert_eq!(whole.first_fault, pieces.first_fault);
                    }
                    (whole, pieces) => prop_assert_eq!(whole.err(), pieces.err()),
                }
            }
        }
    }

    #[test]
    fn every_sample_is_accounted_for(
        pages in prop::collection::vec(prop::collection::vec(prop::sample::select(PIECES), 0..20), 1..6),
        noise in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let pods = FakePods { pods: vec![pod(&[("region", "beijing")])], ..FakePods::default() };
        for dialect in [Dialect::Text, Dialect::OpenMetrics] {
            let settings = Settings { labels: pairs(&[("job", "j")]), ..Settings::default() };
            let mut warm = Relay::new(settings.clone(), SeriesHasher::default());
            for page in &pages {
                let page = [page.concat().as_bytes(), &noise].concat();
                // A type that comes behind its samples is known from the second time on; then nothing changes any more.
                let mut relay = || warm.relay(&page, dialect, &pods);
                if let (Ok(first), Ok(second), Ok(third)) = (relay(), relay(), relay()) {
                    for relayed in [&first, &second, &third] {
                        check_account(relayed);
                    }
                    prop_assert_eq!(text(&second), text(&third));
                    prop_assert_eq!(third.counts.n_added, 0);
                }
            }
        }
    }
}

//! Podmeter's rules against a real Prometheus': the same series, the same `metric_relabel_configs`, the same result.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use podmeter::labelling::relabel::{LabelSet, Rules, Verdict, rule::RuleConfig};
use podmeter_tests::{cgroup::wait_for, page_server::serve, prometheus::Prometheus, tools::tool};

/// Series as labels, `__name__` among them; what differs between Go and Rust is in their values.
const SERIES: &[&[(&str, &str)]] = &[
    &[("__name__", "cpu"), ("id", "/kubepods/pod1/c1"), ("pod", "web-1"), ("container", "app")],
    &[("__name__", "cpu"), ("id", "/system.slice"), ("n", "129")],
    &[("__name__", "mem"), ("id", "/"), ("n", "1२9"), ("word", "é")],
    &[("__name__", "mem"), ("id", "a&b"), ("word", "STRAßE ΣΑΣ"), ("pod", "web-2")],
    &[
        ("__name__", "net"),
        ("id", "a\nb"),
        ("word", "a\u{a0}b"),
        ("label_x1", "v1"),
        ("label_x2", "v2"),
    ],
    &[("__name__", "net"), ("id", "<a> [b] {,3}"), ("word", "a b"), ("port", "web-1")],
    &[("__name__", "tmp"), ("id", "$1 ${1}"), ("word", "İıſK")],
];

/// Rules, each list a job of its own; none may touch the label `case`.
///
/// None makes a label whose name only Prometheus 3 would take: Podmeter leaves that out, so that every scraper can read
/// its page.
const CASES: &[&str] = &[
    "[]",
    "[{source_labels: [id], regex: '/', action: drop}]",
    "[{source_labels: [id], regex: 'a.b', action: keep}]",
    "[{source_labels: [id, pod], separator: '@', regex: '(.*)@(.+)', target_label: both, replacement: '$2-${1}'}]",
    "[{source_labels: [pod], target_label: word}]",
    "[{source_labels: [nobody], target_label: word, replacement: constant}]",
    "[{target_label: pod, replacement: ''}]",
    "[{source_labels: [n], regex: '\\d+', action: drop}]",
    "[{source_labels: [n], regex: '[\\d]+', target_label: digits}, {source_labels: [word], regex: '\\w', action: drop}]",
    "[{source_labels: [word], regex: '.*\\s.*', action: keep}]",
    "[{source_labels: [word], regex: '[\\w ]+', target_label: ascii, replacement: 'yes'}]",
    "[{source_labels: [word], regex: '(?i:strasse|straße) (.*)', target_label: rest}]",
    "[{source_labels: [word], regex: '(?i)[k-s]+|\\W+k', target_label: folded, replacement: 'yes'}]",
    "[{source_labels: [id], regex: '[a&&b]+', action: keep}]",
    "[{source_labels: [id], regex: '\\<a\\> [[]b[]] {,3}', action: keep}]",
    "[{source_labels: [id], regex: '\\Q$1 ${1}\\E', target_label: quoted, replacement: '$$0 is $0'}]",
    "[{source_labels: [id], regex: '/(?P<slice>[a-z]+)[./](.*)', target_label: 'from_${slice}', replacement: '${2}'}]",
    "[{source_labels: [pod], regex: '(.)(.*)', target_label: none, replacement: '$1x$2y'}]",
    "[{source_labels: [id, word], target_label: shard, modulus: 17, action: hashmod}]",
    "[{regex: 'label_(.+)', action: labelmap}]",
    "[{regex: 'label_(x).', replacement: 'one_$1', action: labelmap}]",
    "[{regex: 'label_.*|word', action: labeldrop}]",
    "[{regex: '__name__|job|instance|case|id', action: labelkeep}]",
    "[{source_labels: [word], target_label: word, action: lowercase}]",
    "[{source_labels: [word], target_label: word, action: uppercase}]",
    "[{source_labels: [pod], target_label: port, action: keepequal}]",
    "[{source_labels: [pod], target_label: port, action: dropequal}]",
    "[{source_labels: [__name__], regex: '(cpu|mem)', target_label: __name__, replacement: 'node_$1'}]",
    "[{regex: 'id', action: labeldrop}, {source_labels: [id], regex: '', target_label: id, replacement: gone}]",
];

type Labels = BTreeMap<String, String>;

#[test]
fn rules_do_what_prometheus_does() {
    let Some(binary) = tool("PODMETER_PROMETHEUS") else { return };
    let target = serve("text/plain; version=0.0.4", |_path| page().into_bytes()).to_string();
    let mut config =
        String::from("global: { scrape_interval: 1s, scrape_timeout: 1s }\nscrape_configs:\n");
    for (case, rules) in CASES.iter().enumerate() {
        writeln!(
            config,
            "  - job_name: 'case-{case}'
    static_configs: [ {{ targets: [ '{target}' ], labels: {{ case: '{case}' }} }} ]
    metric_relabel_configs: {rules}"
        )
        .unwrap();
    }
    let prometheus = Prometheus::with_config(&binary, &config);
    let n_cases = CASES.len() as f64;
    wait_for("every job was scraped", || {
        prometheus.query("count(scrape_samples_scraped > 0)") == Some(vec![n_cases])
    });
    for (case, rules) in CASES.iter().enumerate() {
        let theirs = prometheus.series(&format!("{{case=\"{case}\"}}")).unwrap();
        let is_meta = |labels: &Labels| {
            let name = labels["__name__"].as_str();
            name == "up" || name.starts_with("scrape_")
        };
        let theirs: BTreeSet<_> = theirs.into_iter().filter(|labels| !is_meta(labels)).collect();
        assert_eq!(ours(rules, case, &target), theirs, "{rules}");
    }
}

/// The page that Prometheus scrapes.
fn page() -> String {
    let mut page = String::new();
    for labels in SERIES {
        let Some(((_, metric), labels)) = labels.split_first() else { continue };
        let escaped =
            |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let pair = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels: Vec<_> = labels.iter().map(pair).collect();
        writeln!(page, "{metric}{{{}}} 1", labels.join(",")).unwrap();
    }
    page
}

fn ours(rules: &str, case: usize, target: &str) -> BTreeSet<Labels> {
    let configs: Vec<RuleConfig> = serde_saphyr::from_str(rules).unwrap();
    let rules = Rules::new(&configs).unwrap();
    let (job, case) = (format!("case-{case}"), case.to_string());
    let of_target = [("job", job.as_str()), ("instance", target), ("case", case.as_str())];
    let mut kept = BTreeSet::new();
    for labels in SERIES {
        let mut set = LabelSet::new(labels.iter().copied().chain(of_target));
        if rules.apply(&mut set) == Verdict::Kept {
            let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            kept.insert(set.iter().map(owned).collect());
        }
    }
    kept
}

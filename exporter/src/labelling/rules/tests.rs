//! Rules as they stand in a configuration, and what they give.

use std::sync::Arc;

use proptest::{collection::btree_map, prelude::proptest};

use super::{LabelRule, LabelRules, MAX_LABELS, MAX_VALUE_BYTES};
use crate::attribution::kubernetes::{
    pod::Metadata,
    testing::{metadata, pod},
    workload::AttributedPod,
};

fn attributed(labels: Metadata) -> AttributedPod {
    let mut pod = pod("u", "p", &[]);
    pod.metadata = labels;
    AttributedPod {
        pod: Arc::new(pod),
        workload: None,
        deployment: None,
        namespace_metadata: Some(Arc::new(metadata(&[("team", "sre"), ("region", "ns")]))),
        node_metadata: None,
        deployment_metadata: Some(Arc::new(metadata(&[("dept", "cloud"), ("region", "d")]))),
        workload_metadata: None,
    }
}

fn rules(given: &[(&str, &[&str], Option<&str>)]) -> LabelRules {
    let mut rules = LabelRules::default();
    for (from, or, to) in given {
        let or: Vec<String> = or.iter().map(|or| (*or).to_owned()).collect();
        rules.push(LabelRule::new(from, &or, *to).unwrap(), |_| false).unwrap();
    }
    rules
}

fn check(given: &[(&str, &[&str], Option<&str>)], labels: &[(&str, &str)], expected: &str) {
    let given = rules(given).apply(&attributed(metadata(labels)));
    let text: Vec<_> = given.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(text.join(" "), expected);
}

#[test]
fn the_first_place_that_has_a_value_gives_it() {
    let region: &[(&str, &[&str], Option<&str>)] = &[
        (
            "pod.label.region",
            &["deployment.label.region", "namespace.label.region"],
            Some("region"),
        ),
        ("deployment.label.dept", &[], Some("dept")),
        ("node.label.zone", &[], Some("zone")),
        ("pod.annotation.a", &[], Some("a")),
    ];
    check(region, &[("region", "beijing")], "region=beijing dept=cloud");
    check(region, &[("region", "")], "region=d dept=cloud");
    check(region, &[], "region=d dept=cloud");
    check(&[("namespace.label.team", &[], Some("team"))], &[], "team=sre");
}

#[test]
fn patterns_name_as_kube_state_metrics_does() {
    let pattern: &[(&str, &[&str], Option<&str>)] = &[("pod.label.app.kubernetes.io/*", &[], None)];
    check(
        pattern,
        &[("app.kubernetes.io/name", "web"), ("app.kubernetes.io/partOf", "shop"), ("app", "x")],
        "label_app_kubernetes_io_name=web label_app_kubernetes_io_part_of=shop",
    );
    let all: &[(&str, &[&str], Option<&str>)] =
        &[("pod.label.*", &[], None), ("pod.label.app", &[], Some("label_b"))];
    // Every one of those that collide is renamed, and what is configured keeps its name.
    check(
        all,
        &[("a-b", "1"), ("a.b", "2"), ("a/b_conflict1", "3"), ("app", "x"), ("b", "4")],
        "label_b=x label_a_b_conflict1=3 label_app=x label_a_b_conflict2=1 label_a_b_conflict3=2 label_b_conflict1=4",
    );
}

#[test]
fn what_a_tenant_adds_is_limited_and_counted() {
    let many: Vec<(String, String)> = (0..40).map(|n| (format!("k{n}"), "ä".repeat(200))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let given = rules(&[("pod.label.*", &[], None)]).apply(&attributed(metadata(&many)));
    assert_eq!(given.labels.len(), MAX_LABELS);
    assert_eq!((given.n_left_out, given.n_cut), (8, 32));
    assert!(given.labels.iter().all(|(_, value)| value.len() == MAX_VALUE_BYTES));
}

#[test]
fn what_cannot_work_is_refused() {
    let check = |from: &str, or: &[&str], to: Option<&str>, expected: &str| {
        let or: Vec<String> = or.iter().map(|or| (*or).to_owned()).collect();
        let error = LabelRule::new(from, &or, to).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("region", &[], Some("region"), "`region` names no label");
    check("pod.labels.region", &[], Some("region"), "names no label");
    check("service.label.region", &[], Some("region"), "names no label");
    check("pod.label.", &[], Some("region"), "names no label");
    check("pod.label.region", &["deployment.label"], Some("region"), "`deployment.label` names");
    check("pod.label.region", &[], None, "`to` is missing");
    check("pod.label.region", &[], Some("le"), "`to` is `le`, but that label is Podmeter's own");
    check("pod.label.region", &[], Some("a-b"), "`to` is `a-b`, but a label name");
    check("pod.label.*", &[], Some("region"), "a pattern names its labels itself");
    check("pod.label.a", &["pod.label.*"], Some("region"), "no alternative");

    let mut two = rules(&[("pod.label.a", &[], Some("region"))]);
    let rule = || LabelRule::new("pod.label.b", &[], Some("region")).unwrap();
    assert!(two.push(rule(), |_| false).unwrap_err().to_string().contains("another rule"));
    assert!(LabelRules::default().push(rule(), |name| name == "region").is_err());
}

#[test]
fn only_what_rules_name_is_wanted() {
    let wanted =
        rules(&[("pod.label.region", &["workload.label.region"], Some("region"))]).wanted(false);
    assert!(!wanted.pod.is_empty() && !wanted.workload.is_empty());
    assert!(wanted.namespace.is_empty() && wanted.deployment.is_empty() && wanted.node.is_empty());
    assert_eq!(LabelRules::default().wanted(true).pod, wanted.node);
}

proptest! {
    /// Whatever labels a tenant chooses: no name stands twice, and none is another's.
    #[test]
    fn no_labels_of_a_pod_make_one_name_twice(
        labels in btree_map("[a-cA-C._/-]{1,4}(_conflict[12])?", "[x-z]{0,2}", 0..30),
    ) {
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let rules = rules(&[
            ("pod.label.*", &[], None),
            ("namespace.label.*", &[], None),
            ("pod.label.a", &[], Some("label_a_b")),
        ]);
        let given = rules.apply(&attributed(metadata(&labels)));
        let mut names: Vec<_> = given.labels.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), given.labels.len());
        for name in names {
            assert!(super::reserved::check(&name).is_ok(), "{name}");
        }
    }
}

//! Which labels series get: their pods', their targets', and those that rules make.

use std::sync::Arc;

use expect_test::{Expect, expect};

use super::{FakePods, pairs, pass, pod, relay, rules, served, text};
use crate::{
    labelling::relay::{
        DropReason, HonorLabels, OwnerKind, Relay, Settings, Timestamps, pods::CgroupOwner,
    },
    page::relayed::Form,
};

/// Pages one after the other, each with what became of it.
fn check(mut relay: Relay, pods: &FakePods, steps: &[(&str, &Expect)]) {
    for (page, expected) in steps {
        let relayed = pass(&mut relay, page, pods);
        expected.assert_eq(&text(&relayed));
    }
}

const CADVISOR: &str = concat!(
    "# TYPE container_cpu_usage_seconds_total counter\n",
    "container_cpu_usage_seconds_total{container=\"web\",id=\"/kubepods/pod1/c1\",name=\"c1\",namespace=\"n9e\",pod=\"web-0\"} 1 7\n",
    "container_cpu_usage_seconds_total{container=\"\",id=\"/kubepods/pod1/s1\",name=\"s1\",namespace=\"n9e\",pod=\"web-0\"} 2 7\n",
    "container_cpu_usage_seconds_total{container=\"\",id=\"/kubepods/pod1\",name=\"\",namespace=\"n9e\",pod=\"web-0\"} 3 7\n",
    "container_cpu_usage_seconds_total{container=\"\",id=\"/kubepods\",name=\"\",namespace=\"\",pod=\"\"} 4 7\n",
    "container_cpu_usage_seconds_total{container=\"x\",id=\"/kubepods/pod2/c2\",name=\"c2\",namespace=\"n9e\",pod=\"gone\"} 5 7\n",
);

#[test]
fn a_series_gets_the_labels_of_its_pod_and_of_its_target() {
    let settings = Settings {
        labels: pairs(&[("job", "cadvisor"), ("node", "n1")]),
        external_labels: pairs(&[("cluster", "bj\"1")]),
        timestamps: Timestamps::LeftOut,
        ..Settings::default()
    };
    let pods = FakePods { pods: vec![pod(&[("region", "beijing")])], ..FakePods::default() };
    let mut relay = relay(settings);
    for _ in 0..2 {
        let relayed = pass(&mut relay, CADVISOR, &pods);
        expect![[r#"
            container_cpu_usage_seconds_total{container="web",id="/kubepods/pod1/c1",name="c1",namespace="n9e",pod="web-0",region="beijing",job="cadvisor",node="n1",cluster="bj\"1"} 1
            container_cpu_usage_seconds_total{container="",id="/kubepods/pod1/s1",name="s1",namespace="n9e",pod="web-0",region="beijing",job="cadvisor",node="n1",cluster="bj\"1"} 2
            container_cpu_usage_seconds_total{container="",id="/kubepods/pod1",name="",namespace="n9e",pod="web-0",region="beijing",job="cadvisor",node="n1",cluster="bj\"1"} 3
            container_cpu_usage_seconds_total{container="",id="/kubepods",name="",namespace="",pod="",job="cadvisor",node="n1",cluster="bj\"1"} 4
            container_cpu_usage_seconds_total{container="x",id="/kubepods/pod2/c2",name="c2",namespace="n9e",pod="gone",job="cadvisor",node="n1",cluster="bj\"1"} 5
        "#]].assert_eq(&text(&relayed));
        let of_kind = OwnerKind::ALL.map(|kind| relayed.counts.owned_by(kind));
        assert_eq!(of_kind, [1; 5], "one of each kind");
    }
}

#[test]
fn rows_with_nothing_but_a_cgroup_are_named_by_its_path() {
    let web = pod(&[("region", "beijing")]);
    let cgroups = vec![
        ("/kubepods/pod1", CgroupOwner::Pod(Arc::clone(&web))),
        ("/kubepods/pod1/s1", CgroupOwner::Sandbox(Arc::clone(&web))),
        ("/kubepods/pod1/c1", CgroupOwner::Container(web, "web".into())),
        ("/kubepods/pod2/c2", CgroupOwner::UnknownPod),
    ];
    let pods = FakePods { cgroups, ..FakePods::default() };
    let page = concat!(
        "container_x{id=\"/kubepods/pod1/c1\"} 1\ncontainer_x{id=\"/kubepods/pod1/s1\",pod=\"\"} 2\n",
        "container_x{id=\"/kubepods/pod1\"} 3\ncontainer_x{id=\"/kubepods/pod2/c2\"} 4\n",
        "container_x{id=\"/\"} 5\nother_x{id=\"/kubepods/pod1\"} 6\n",
    );
    let mut relay = relay(Settings::default());
    for _ in 0..2 {
        let relayed = pass(&mut relay, page, &pods);
        expect![[r#"
            container_x{container="web",id="/kubepods/pod1/c1",namespace="n9e",pod="web-0",region="beijing"} 1
            container_x{container="POD",id="/kubepods/pod1/s1",namespace="n9e",pod="web-0",region="beijing"} 2
            container_x{id="/kubepods/pod1",namespace="n9e",pod="web-0",region="beijing"} 3
            container_x{id="/kubepods/pod2/c2"} 4
            container_x{id="/"} 5
            other_x{id="/kubepods/pod1"} 6
        "#]].assert_eq(&text(&relayed));
        let of_kind = OwnerKind::ALL.map(|kind| relayed.counts.owned_by(kind));
        assert_eq!(of_kind, [2, 1, 1, 1, 1]);
    }
}

#[test]
fn other_labels_of_a_pod_reach_its_series_and_no_others() {
    let mut pods = FakePods::default();
    let mut relay = relay(Settings::default());
    let page = "a{namespace=\"n9e\",pod=\"web-0\"} 1\nb{namespace=\"n9e\",pod=\"x\"} 2\nc 3\n";
    let mut next = |pods: &FakePods, n_misses, label: &str| {
        let relayed = pass(&mut relay, page, pods);
        let expected = page.replace("web-0\"", &format!("web-0\"{label}"));
        assert_eq!(text(&relayed), expected);
        assert_eq!(relayed.counts.n_misses, n_misses);
    };
    next(&pods, 3, "");
    // Not known until the API says so.
    pods.pods = vec![pod(&[("dept", "cloud")])];
    next(&pods, 0, "");
    pods.version.set(1);
    next(&pods, 1, ",dept=\"cloud\"");
    pods.pods = vec![pod(&[("dept", "sea")])];
    pods.version.set(2);
    next(&pods, 1, ",dept=\"sea\"");
    // Another version that says the same of this pod.
    pods.version.set(3);
    next(&pods, 0, ",dept=\"sea\"");
    pods.pods.clear();
    pods.version.set(4);
    next(&pods, 1, "");
}

#[test]
fn labels_of_the_series_win_or_are_renamed() {
    let page = "a{job=\"x\",region=\"y\",namespace=\"n9e\",pod=\"web-0\",cluster=\"z\"} 1\na{job=\"\"} 2\n";
    let pods = FakePods { pods: vec![pod(&[("region", "beijing")])], ..FakePods::default() };
    let relay_with = |honor_labels| {
        relay(Settings {
            labels: pairs(&[("job", "j")]),
            external_labels: pairs(&[("cluster", "c")]),
            honor_labels,
            ..Settings::default()
        })
    };
    check(
        relay_with(HonorLabels::Rename),
        &pods,
        &[(
            page,
            &expect![[r#"
        a{cluster="z",exported_job="x",exported_region="y",job="j",namespace="n9e",pod="web-0",region="beijing"} 1
        a{cluster="c",job="j"} 2
    "#]],
        )],
    );
    check(
        relay_with(HonorLabels::Keep),
        &pods,
        &[(
            page,
            &expect![[r#"
        a{cluster="z",job="x",namespace="n9e",pod="web-0",region="y"} 1
        a{cluster="c",job="j"} 2
    "#]],
        )],
    );
}

#[test]
fn rules_drop_and_rename() {
    let yaml = r#"
- {source_labels: [__name__], regex: b, action: drop}
- {source_labels: [__name__], regex: "(h|s)_(.*)", target_label: __name__, replacement: "new_${1}_${2}"}
- {source_labels: [region], regex: (.+), target_label: zone}
- {regex: gone, action: labeldrop}
"#;
    let page = concat!(
        "# HELP h_s H.\n# TYPE h_s histogram\nh_s_bucket{le=\"1\",gone=\"x\"} 1\nh_s_bucket{le=\"+Inf\"} 1\n",
        "h_s_sum 1\nh_s_count 1\nb 1\nb{c=\"d\"} 2\nc{namespace=\"n9e\",pod=\"web-0\"} 3\nc{d=\"e\"} 4\n",
    );
    let pods = FakePods { pods: vec![pod(&[("region", "beijing")])], ..FakePods::default() };
    let mut relay = relay(Settings { rules: vec![rules(yaml)], ..Settings::default() });
    for n_misses in [8, 0] {
        let relayed = pass(&mut relay, page, &pods);
        expect![[r#"
            new_h_s_bucket{le="1"} 1
            new_h_s_bucket{le="+Inf"} 1
            new_h_s_sum 1
            new_h_s_count 1
            c{namespace="n9e",pod="web-0",region="beijing",zone="beijing"} 3
            c{d="e"} 4
        "#]]
        .assert_eq(&text(&relayed));
        expect![[r#"
            new_h_s_bucket{le="1.0"} 1
            new_h_s_bucket{le="+Inf"} 1
            new_h_s_sum 1
            new_h_s_count 1
            c{namespace="n9e",pod="web-0",region="beijing",zone="beijing"} 3
            c{d="e"} 4
        "#]]
        .assert_eq(&served(&relayed, Form::TextOnly));
        assert_eq!(relayed.counts.dropped(DropReason::Rule), 2);
        assert_eq!(relayed.counts.n_misses, n_misses);
        let (family, lines) = relayed.page.families().next().expect("there is one");
        assert_eq!((&*family.name, &*family.help, lines.len()), ("new_h_s", "H.", 5));
    }
}

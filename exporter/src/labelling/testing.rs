//! A pod with one container that was started again, for the tests of this folder.

use super::{
    Labelled,
    rules::{LabelRule, LabelRules},
};
use crate::{
    attribution::{
        Snapshot,
        kubernetes::{pod::Pod, testing},
    },
    cgroup::tree::{CgroupEntry, CgroupTree, State},
    metric::{Desc, Family, Kind, Sample, Value},
    subject::{CgroupId, Subject},
};

const UID: &str = "0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10";
const CONTAINERS: [&str; 2] = [
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
];

static DESC: Desc = Desc {
    name: "c_total",
    help: "H.",
    kind: Kind::Counter,
    unit: "",
    labels: &["reason"],
    origin: "",
};

/// The path of the pod's cgroup.
pub(super) fn pod_path() -> String {
    format!("/kubepods/pod{UID}")
}

/// The path of its container's cgroup in an incarnation, counted from nought.
pub(super) fn container_path(nth: usize) -> String {
    format!("{}/{}", pod_path(), CONTAINERS[nth])
}

/// The pod with these labels.
pub(super) fn pod(labels: &[(&str, &str)]) -> Pod {
    let mut pod = testing::pod(UID, "web-0", &[("web", &CONTAINERS)]);
    pod.metadata = testing::metadata(labels);
    pod
}

/// One rule, which gives a label.
pub(super) fn rules(from: &str, to: &str) -> LabelRules {
    let mut rules = LabelRules::default();
    rules.push(LabelRule::new(from, &[], Some(to)).unwrap(), |_| false).unwrap();
    rules
}

/// Brings a snapshot up to live cgroups and, if the API is known, to its pod.
pub(super) fn bring_up(snapshot: &mut Snapshot, cgroups: &[(u64, &str)], pod: Option<Pod>) {
    let entry = |(id, path): &(u64, &str)| CgroupEntry {
        id: CgroupId(*id),
        path: (*path).into(),
        state: State::Live,
    };
    let tree: CgroupTree = cgroups.iter().map(entry).collect();
    snapshot.follow(&tree);
    if let Some(pod) = pod {
        snapshot.name(testing::view(vec![pod]), &tree);
    }
}

/// A cgroup as a subject.
pub(super) fn cgroup(id: u64) -> Subject {
    Subject::Cgroup(CgroupId(id))
}

/// A counter of what subjects have had for some reason.
pub(super) fn counter(
    values: impl IntoIterator<Item = (Subject, f64)>,
    reason: Option<&'static str>,
) -> Family {
    let sample = |(subject, value): (Subject, f64)| Sample {
        subject,
        labels: reason.map(|reason| ("reason", reason.into())).into_iter().collect(),
        value: Value::Number(value),
    };
    Family { desc: &DESC, samples: values.into_iter().map(sample).collect() }
}

/// The series, a line each.
pub(super) fn lines(labelled: Labelled) -> String {
    let series = labelled.families.into_iter().flat_map(|family| family.series);
    let mut lines: Vec<String> = series
        .map(|series| {
            let labels: Vec<_> =
                series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {:?}", labels.join(" "), series.value)
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

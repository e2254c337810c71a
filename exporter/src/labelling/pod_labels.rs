//! The labels of each pod, made once and kept until the pod or what is around it changes. Pure.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{Label, rules::LabelRules};
use crate::{
    attribution::{
        Names, Part,
        kubernetes::{view::PodView, workload::AttributedPod},
    },
    subject::PodUid,
};

/// The value of `container` on the cgroup that holds a pod's namespaces, as cAdvisor has had it for Docker: queries
/// leave it out by `container!="POD"`.
pub(super) const SANDBOX: &str = "POD";

/// The labels of the pods that are known.
#[derive(Debug, Default)]
pub(super) struct PodLabels {
    rules: LabelRules,
    by_uid: HashMap<PodUid, Entry>,
    n_left_out: u64,
    n_cut: u64,
}

#[derive(Debug)]
struct Entry {
    /// By this object it is known whether the labels still are the pod's.
    pod: Arc<AttributedPod>,
    labels: Arc<[Label]>,
}

impl PodLabels {
    pub(super) fn new(rules: LabelRules) -> Self {
        Self { rules, ..Self::default() }
    }

    pub(super) fn rules(&self) -> &LabelRules {
        &self.rules
    }

    /// The same pods under other rules; what was left out and cut stays counted.
    pub(super) fn set_rules(&mut self, rules: LabelRules) {
        self.rules = rules;
        self.by_uid.clear();
    }

    /// Brings the labels up to the pods of a snapshot; forgets all others.
    pub(super) fn follow(&mut self, pods: &PodView) {
        self.by_uid.retain(|_, entry| {
            pods.pod(&entry.pod.pod.uid).is_some_and(|pod| Arc::ptr_eq(pod, &entry.pod))
        });
        for pod in pods.iter() {
            if self.by_uid.contains_key(&pod.pod.uid) {
                continue;
            }
            let given = self.rules.apply(pod);
            self.n_left_out += given.n_left_out;
            self.n_cut += given.n_cut;
            let labels = own_labels(pod).chain(given.labels).collect();
            self.by_uid.insert(pod.pod.uid.clone(), Entry { pod: Arc::clone(pod), labels });
        }
    }

    /// The labels of everything of a pod.
    pub(super) fn of(&self, pod: &AttributedPod) -> &[Label] {
        self.by_uid.get(&pod.pod.uid).map(|entry| &*entry.labels).unwrap_or_default()
    }

    /// The labels of a cgroup of a pod.
    pub(super) fn labels(&self, names: &Names) -> Vec<Label> {
        let mut labels = self.of(&names.pod).to_vec();
        let mut push = |name: &'static str, value: Arc<str>| {
            labels.push((Cow::Borrowed(name), value));
        };
        match &names.part {
            Part::Whole => {}
            Part::Container(name) => push("container", Arc::clone(name)),
            Part::Sandbox => push("container", Arc::from(SANDBOX)),
            Part::Unnamed(id) => push("container_id", Arc::from(id.as_str())),
        }
        labels
    }

    /// The labels of a pod without its namespace and name, which a series of the relay has or is given.
    pub(super) fn relay_labels(&self, pod: &AttributedPod) -> Vec<(String, String)> {
        self.of(pod)
            .iter()
            .filter(|(name, _)| name != "namespace" && name != "pod")
            .map(|(name, value)| (name.as_ref().into(), value.as_ref().into()))
            .collect()
    }

    /// Labels that were left out and values that were cut, since the start.
    pub(super) fn losses(&self) -> (u64, u64) {
        (self.n_left_out, self.n_cut)
    }
}

fn own_labels(pod: &AttributedPod) -> impl Iterator<Item = Label> + use<> {
    let workload = pod.workload.as_ref();
    [
        ("namespace", Some(Arc::clone(&pod.pod.namespace))),
        ("pod", Some(Arc::clone(&pod.pod.name))),
        ("deployment", pod.deployment.clone()),
        ("workload", workload.map(|workload| Arc::clone(&workload.name))),
        ("workload_type", workload.map(|workload| Arc::clone(&workload.kind))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((Cow::Borrowed(name), value?)))
}

//! What is kept of the API's objects: a pod of this node with its containers, and whose it is. No IO, no clock.

use std::sync::Arc;

use crate::subject::{ContainerId, PodUid};

/// Labels and annotations that the configuration wants, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Labels.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Annotations.
    pub annotations: Vec<(Box<str>, Box<str>)>,
}

impl Metadata {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        find(&self.labels, key)
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        find(&self.annotations, key)
    }
}

fn find<'a>(pairs: &'a [(Box<str>, Box<str>)], key: &str) -> Option<&'a str> {
    let idx = pairs.binary_search_by(|(known, _)| known.as_ref().cmp(key)).ok()?;
    pairs.get(idx).map(|(_, value)| value.as_ref())
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its UID in the API.
    pub uid: PodUid,
    /// The UID in the cgroup paths of a static pod: the hash of its configuration.
    pub static_uid: Option<PodUid>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its controller.
    pub controller: Option<Controller>,
    /// The value of its label `pod-template-hash`.
    pub template_hash: Option<Box<str>>,
    /// Its labels and annotations that are wanted.
    pub metadata: Metadata,
    /// Its containers of all kinds.
    pub containers: Vec<Container>,
    /// What kube-state-metrics tells of it; `None` where that is not wanted.
    pub state: Option<Box<PodState>>,
}

/// The owner that controls an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Controller {
    /// Group and version, such as `apps/v1`.
    pub api_version: Box<str>,
    /// Its kind as the API spells it.
    pub kind: Box<str>,
    /// Its name; it is in the namespace of what it controls.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: Arc<str>,
    /// Where it stands in the pod's specification.
    pub kind: ContainerKind,
    /// The ids of its incarnations, the current one first.
    pub ids: Vec<ContainerId>,
    /// What kube-state-metrics tells of it; `None` where that is not wanted.
    pub state: Option<Box<ContainerState>>,
}

/// Where a container stands in the pod's specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// Runs before the others, and ends.
    Init,
    /// An init container that keeps running.
    Sidecar,
    /// One of `spec.containers`.
    Regular,
    /// Added to a running pod for debugging.
    Ephemeral,
}

/// The state of a pod, as far as kube-state-metrics tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    /// `status.phase`.
    pub phase: Box<str>,
    /// `status.reason`, such as Evicted.
    pub reason: Box<str>,
    /// The status of the condition Ready: True, False or Unknown.
    pub ready: Box<str>,
    /// The status of the condition `PodScheduled`.
    pub scheduled: Box<str>,
    /// `status.hostIP`.
    pub host_ip: Box<str>,
    /// `status.podIP`.
    pub pod_ip: Box<str>,
    /// `spec.nodeName`.
    pub node: Box<str>,
    /// `status.qosClass`.
    pub qos_class: Box<str>,
    /// `spec.priorityClassName`.
    pub priority_class: Box<str>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created: Option<f64>,
    /// `metadata.deletionTimestamp`.
    pub deleted: Option<f64>,
    /// `status.startTime`.
    pub started: Option<f64>,
}

/// The state of a container, as far as kube-state-metrics tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerState {
    /// What it does now; `None` before the kubelet said anything.
    pub now: Option<Activity>,
    /// Why its last incarnation ended, and with which code.
    pub last_terminated: Option<(Box<str>, i64)>,
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// `resources.requests` in base units.
    pub requests: Vec<(Box<str>, f64)>,
    /// `resources.limits` in base units.
    pub limits: Vec<(Box<str>, f64)>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub enum Activity {
    /// It is about to start, or cannot.
    Waiting {
        /// Why.
        reason: Box<str>,
    },
    /// It runs.
    Running {
        /// Since when, in seconds since 1970.
        started: Option<f64>,
    },
    /// It ended.
    Terminated {
        /// Why.
        reason: Box<str>,
    },
}

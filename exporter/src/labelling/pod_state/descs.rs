//! Names, types and meanings of kube-state-metrics' families of pods.

use crate::metric::{Desc, Kind};

const POD: &[&str] = &["namespace", "pod", "uid"];
const CONTAINER: &[&str] = &["namespace", "pod", "uid", "container"];
const CONTAINER_REASON: &[&str] = &["namespace", "pod", "uid", "container", "reason"];
const RESOURCE: &[&str] = &["namespace", "pod", "uid", "container", "node", "resource", "unit"];

/// The families of one kind of containers.
pub(super) struct ContainerDescs {
    pub(super) waiting: &'static Desc,
    pub(super) waiting_reason: &'static Desc,
    pub(super) running: &'static Desc,
    pub(super) started: Option<&'static Desc>,
    pub(super) terminated: &'static Desc,
    pub(super) terminated_reason: &'static Desc,
    pub(super) last_terminated_reason: &'static Desc,
    pub(super) last_terminated_exitcode: Option<&'static Desc>,
    pub(super) ready: &'static Desc,
    pub(super) restarts: &'static Desc,
    pub(super) requests: &'static Desc,
    pub(super) limits: &'static Desc,
}

/// Every family, in the order of the documentation.
pub const METRICS: &[Desc] = &[
    INFO,
    OWNER,
    CREATED,
    START_TIME,
    DELETED,
    PHASE,
    REASON,
    QOS_CLASS,
    READY,
    SCHEDULED,
    CONTAINER_WAITING,
    CONTAINER_WAITING_REASON,
    CONTAINER_RUNNING,
    CONTAINER_STARTED,
    CONTAINER_TERMINATED,
    CONTAINER_TERMINATED_REASON,
    CONTAINER_LAST_TERMINATED_REASON,
    CONTAINER_LAST_TERMINATED_EXITCODE,
    CONTAINER_READY,
    CONTAINER_RESTARTS,
    CONTAINER_REQUESTS,
    CONTAINER_LIMITS,
    INIT_WAITING,
    INIT_WAITING_REASON,
    INIT_RUNNING,
    INIT_TERMINATED,
    INIT_TERMINATED_REASON,
    INIT_LAST_TERMINATED_REASON,
    INIT_READY,
    INIT_RESTARTS,
    INIT_REQUESTS,
    INIT_LIMITS,
];

pub(super) static REGULAR_CONTAINER: ContainerDescs = ContainerDescs {
    waiting: &CONTAINER_WAITING,
    waiting_reason: &CONTAINER_WAITING_REASON,
    running: &CONTAINER_RUNNING,
    started: Some(&CONTAINER_STARTED),
    terminated: &CONTAINER_TERMINATED,
    terminated_reason: &CONTAINER_TERMINATED_REASON,
    last_terminated_reason: &CONTAINER_LAST_TERMINATED_REASON,
    last_terminated_exitcode: Some(&CONTAINER_LAST_TERMINATED_EXITCODE),
    ready: &CONTAINER_READY,
    restarts: &CONTAINER_RESTARTS,
    requests: &CONTAINER_REQUESTS,
    limits: &CONTAINER_LIMITS,
};

pub(super) static INIT_CONTAINER: ContainerDescs = ContainerDescs {
    waiting: &INIT_WAITING,
    waiting_reason: &INIT_WAITING_REASON,
    running: &INIT_RUNNING,
    started: None,
    terminated: &INIT_TERMINATED,
    terminated_reason: &INIT_TERMINATED_REASON,
    last_terminated_reason: &INIT_LAST_TERMINATED_REASON,
    last_terminated_exitcode: None,
    ready: &INIT_READY,
    restarts: &INIT_RESTARTS,
    requests: &INIT_REQUESTS,
    limits: &INIT_LIMITS,
};

pub(super) const INFO: Desc = gauge(
    "kube_pod_info",
    "What a pod is and where; the value is always 1.",
    &[
        "namespace",
        "pod",
        "uid",
        "host_ip",
        "pod_ip",
        "node",
        "created_by_kind",
        "created_by_name",
        "priority_class",
        "host_network",
    ],
    "metadata, spec, status",
);
pub(super) const OWNER: Desc = gauge(
    "kube_pod_owner",
    "The controller of the pod; the value is always 1.",
    &["namespace", "pod", "uid", "owner_kind", "owner_name", "owner_is_controller"],
    "metadata.ownerReferences",
);
pub(super) const CREATED: Desc = gauge(
    "kube_pod_created",
    "When the pod was created, in seconds since 1970.",
    POD,
    "metadata.creationTimestamp",
);
pub(super) const START_TIME: Desc = gauge(
    "kube_pod_start_time",
    "When the kubelet took the pod up, in seconds since 1970.",
    POD,
    "status.startTime",
);
pub(super) const DELETED: Desc = gauge(
    "kube_pod_deletion_timestamp",
    "When the pod is to be gone, in seconds since 1970; only while it is being deleted.",
    POD,
    "metadata.deletionTimestamp",
);
pub(super) const PHASE: Desc = gauge(
    "kube_pod_status_phase",
    "Whether the pod is in that phase.",
    &["namespace", "pod", "uid", "phase"],
    "status.phase",
);
pub(super) const REASON: Desc = gauge(
    "kube_pod_status_reason",
    "Whether the pod is in its phase for that reason.",
    &["namespace", "pod", "uid", "reason"],
    "status.reason",
);
pub(super) const QOS_CLASS: Desc = gauge(
    "kube_pod_status_qos_class",
    "Whether the pod is of that class.",
    &["namespace", "pod", "uid", "qos_class"],
    "status.qosClass",
);
pub(super) const READY: Desc = gauge(
    "kube_pod_status_ready",
    "Whether the condition Ready of the pod has that status.",
    &["namespace", "pod", "uid", "condition"],
    "status.conditions",
);
pub(super) const SCHEDULED: Desc = gauge(
    "kube_pod_status_scheduled",
    "Whether the condition PodScheduled of the pod has that status.",
    &["namespace", "pod", "uid", "condition"],
    "status.conditions",
);
const CONTAINER_WAITING: Desc = gauge(
    "kube_pod_container_status_waiting",
    "Whether the container waits to run.",
    CONTAINER,
    "status.containerStatuses[].state",
);
const CONTAINER_WAITING_REASON: Desc = gauge(
    "kube_pod_container_status_waiting_reason",
    "Why the container waits; the value is always 1.",
    CONTAINER_REASON,
    "status.containerStatuses[].state",
);
const CONTAINER_RUNNING: Desc = gauge(
    "kube_pod_container_status_running",
    "Whether the container runs.",
    CONTAINER,
    "status.containerStatuses[].state",
);
const CONTAINER_STARTED: Desc = gauge(
    "kube_pod_container_state_started",
    "Since when the container runs, in seconds since 1970.",
    CONTAINER,
    "status.containerStatuses[].state",
);
const CONTAINER_TERMINATED: Desc = gauge(
    "kube_pod_container_status_terminated",
    "Whether the container has ended.",
    CONTAINER,
    "status.containerStatuses[].state",
);
const CONTAINER_TERMINATED_REASON: Desc = gauge(
    "kube_pod_container_status_terminated_reason",
    "Why the container has ended; the value is always 1.",
    CONTAINER_REASON,
    "status.containerStatuses[].state",
);
const CONTAINER_LAST_TERMINATED_REASON: Desc = gauge(
    "kube_pod_container_status_last_terminated_reason",
    "Why the last incarnation of the container ended; the value is always 1.",
    CONTAINER_REASON,
    "status.containerStatuses[].lastState",
);
const CONTAINER_LAST_TERMINATED_EXITCODE: Desc = gauge(
    "kube_pod_container_status_last_terminated_exitcode",
    "The exit code of the last incarnation of the container.",
    CONTAINER,
    "status.containerStatuses[].lastState",
);
const CONTAINER_READY: Desc = gauge(
    "kube_pod_container_status_ready",
    "Whether the container is ready.",
    CONTAINER,
    "status.containerStatuses[].ready",
);
const CONTAINER_RESTARTS: Desc = counter(
    "kube_pod_container_status_restarts_total",
    "How often the container was started again.",
    CONTAINER,
    "status.containerStatuses[].restartCount",
);
const CONTAINER_REQUESTS: Desc = gauge(
    "kube_pod_container_resource_requests",
    "How much of the resource the container requests, in the unit.",
    RESOURCE,
    "spec.containers[].resources.requests",
);
const CONTAINER_LIMITS: Desc = gauge(
    "kube_pod_container_resource_limits",
    "How much of the resource the container may use, in the unit.",
    RESOURCE,
    "spec.containers[].resources.limits",
);
const INIT_WAITING: Desc = gauge(
    "kube_pod_init_container_status_waiting",
    "Whether the init container waits to run.",
    CONTAINER,
    "status.initContainerStatuses[].state",
);
const INIT_WAITING_REASON: Desc = gauge(
    "kube_pod_init_container_status_waiting_reason",
    "Why the init container waits; the value is always 1.",
    CONTAINER_REASON,
    "status.initContainerStatuses[].state",
);
const INIT_RUNNING: Desc = gauge(
    "kube_pod_init_container_status_running",
    "Whether the init container runs.",
    CONTAINER,
    "status.initContainerStatuses[].state",
);
const INIT_TERMINATED: Desc = gauge(
    "kube_pod_init_container_status_terminated",
    "Whether the init container has ended.",
    CONTAINER,
    "status.initContainerStatuses[].state",
);
const INIT_TERMINATED_REASON: Desc = gauge(
    "kube_pod_init_container_status_terminated_reason",
    "Why the init container has ended; the value is always 1.",
    CONTAINER_REASON,
    "status.initContainerStatuses[].state",
);
const INIT_LAST_TERMINATED_REASON: Desc = gauge(
    "kube_pod_init_container_status_last_terminated_reason",
    "Why the last incarnation of the init container ended; the value is always 1.",
    CONTAINER_REASON,
    "status.initContainerStatuses[].lastState",
);
const INIT_READY: Desc = gauge(
    "kube_pod_init_container_status_ready",
    "Whether the init container is ready.",
    CONTAINER,
    "status.initContainerStatuses[].ready",
);
const INIT_RESTARTS: Desc = counter(
    "kube_pod_init_container_status_restarts_total",
    "How often the init container was started again.",
    CONTAINER,
    "status.initContainerStatuses[].restartCount",
);
const INIT_REQUESTS: Desc = gauge(
    "kube_pod_init_container_resource_requests",
    "How much of the resource the init container requests, in the unit.",
    RESOURCE,
    "spec.initContainers[].resources.requests",
);
const INIT_LIMITS: Desc = gauge(
    "kube_pod_init_container_resource_limits",
    "How much of the resource the init container may use, in the unit.",
    RESOURCE,
    "spec.initContainers[].resources.limits",
);

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    origin: &'static str,
) -> Desc {
    Desc { name, help, kind: Kind::Gauge, unit: "", labels, origin }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    origin: &'static str,
) -> Desc {
    Desc { name, help, kind: Kind::Counter, unit: "", labels, origin }
}

//! The API's objects as JSON, and what is kept of them: each is pruned before the next one is looked at. Pure.
//!
//! Nothing is required of an object but its names: a field that is missing or new is no reason to lose a pod.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    pod::{
        Activity, Container, ContainerKind, ContainerState, Controller, Metadata, Pod, PodState,
    },
    quantity::{quantity, unix_seconds},
    wanted::{Keys, Wanted},
};
use crate::subject::{ContainerId, PodUid};

/// The label by which a Deployment tells the pods of its `ReplicaSets` apart.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// On the pod that stands for a static one in the API: the UID that the kubelet uses on the node.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod as the API sends it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawPod {
    metadata: RawMetadata,
    spec: RawSpec,
    status: RawStatus,
}

/// `metadata` of any object.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawMetadata {
    pub(super) name: String,
    pub(super) namespace: String,
    uid: String,
    pub(super) resource_version: String,
    labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<RawOwner>>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
}

/// Any object of which only the metadata matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawObject {
    pub(super) metadata: RawMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawOwner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSpec {
    node_name: String,
    host_network: Option<bool>,
    priority_class_name: String,
    init_containers: Option<Vec<RawContainer>>,
    containers: Option<Vec<RawContainer>>,
    ephemeral_containers: Option<Vec<RawContainer>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawContainer {
    name: String,
    restart_policy: Option<String>,
    resources: RawResources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawResources {
    requests: Option<BTreeMap<String, String>>,
    limits: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    phase: String,
    reason: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    qos_class: String,
    start_time: Option<String>,
    conditions: Option<Vec<RawCondition>>,
    init_container_statuses: Option<Vec<RawContainerStatus>>,
    container_statuses: Option<Vec<RawContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<RawContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: String,
    ready: bool,
    restart_count: u64,
    state: RawState,
    last_state: RawState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawState {
    waiting: Option<RawWaiting>,
    running: Option<RawRunning>,
    terminated: Option<RawTerminated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawWaiting {
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawRunning {
    started_at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawTerminated {
    reason: String,
    exit_code: i64,
    #[serde(rename = "containerID")]
    container_id: String,
}

impl RawPod {
    /// The version of the object, from which a watch can go on.
    pub(super) fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// The pod's UID.
    pub(super) fn uid(&self) -> PodUid {
        PodUid::new(self.metadata.uid.as_str())
    }

    /// What is kept; `None` for an object that has no name, namespace or UID, which the API never sends.
    pub(super) fn prune(self, wanted: &Wanted) -> Option<Pod> {
        let Self { mut metadata, spec, status } = self;
        if metadata.uid.is_empty() || metadata.name.is_empty() || metadata.namespace.is_empty() {
            return None;
        }
        let controller = metadata.controller();
        let labels = metadata.labels.take().unwrap_or_default();
        let annotations = metadata.annotations.take().unwrap_or_default();
        let state = wanted.pod_state.then(|| Box::new(pod_state(&metadata, &spec, &status)));
        Some(Pod {
            static_uid: annotations.get(MIRROR).and_then(|hash| static_uid(hash)),
            template_hash: labels.get(TEMPLATE_HASH).map(|hash| hash.as_str().into()),
            controller,
            metadata: wanted.pod.prune(labels, annotations),
            containers: containers(spec, status, wanted.pod_state),
            state,
            uid: PodUid::new(metadata.uid),
            namespace: metadata.namespace.into(),
            name: metadata.name.into(),
        })
    }
}

impl RawMetadata {
    /// The owner that controls the object; there is at most one.
    pub(super) fn controller(&self) -> Option<Controller> {
        let owners = self.owner_references.as_deref().unwrap_or_default();
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        Some(Controller {
            api_version: owner.api_version.as_str().into(),
            kind: owner.kind.as_str().into(),
            name: owner.name.as_str().into(),
            uid: owner.uid.as_str().into(),
        })
    }

    /// The object's UID, and what is wanted of its labels and annotations.
    pub(super) fn prune(self, keys: &Keys) -> (String, Metadata) {
        let labels = self.labels.unwrap_or_default();
        (self.uid, keys.prune(labels, self.annotations.unwrap_or_default()))
    }
}

/// The 32 digits that stand for a static pod's UID; anything else in the annotation is nobody's.
fn static_uid(hash: &str) -> Option<PodUid> {
    let is_hash = hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| PodUid::new(hash.to_ascii_lowercase()))
}

fn containers(spec: RawSpec, status: RawStatus, with_state: bool) -> Vec<Container> {
    let init = |container: &RawContainer| match container.restart_policy.as_deref() {
        Some("Always") => ContainerKind::Sidecar,
        _ => ContainerKind::Init,
    };
    let groups = [
        (spec.init_containers, status.init_container_statuses, ContainerKind::Init),
        (spec.containers, status.container_statuses, ContainerKind::Regular),
        (spec.ephemeral_containers, status.ephemeral_container_statuses, ContainerKind::Ephemeral),
    ];
    let mut containers = Vec::new();
    for (specified, statuses, group) in groups {
        let mut statuses = statuses.unwrap_or_default();
        for container in specified.unwrap_or_default() {
            let at = statuses.iter().position(|status| status.name == container.name);
            let status = at.map(|at| statuses.swap_remove(at));
            let kind = if group == ContainerKind::Init { init(&container) } else { group };
            containers.push(one_container(container, kind, status, with_state));
        }
    }
    // It is kept as long as the pod, and was grown in steps.
    containers.shrink_to_fit();
    containers
}

fn one_container(
    container: RawContainer,
    kind: ContainerKind,
    status: Option<RawContainerStatus>,
    with_state: bool,
) -> Container {
    let mut ids = Vec::new();
    let mut state = ContainerState {
        requests: quantities(container.resources.requests),
        limits: quantities(container.resources.limits),
        ..ContainerState::default()
    };
    if let Some(status) = status {
        let last = status.last_state.terminated;
        let ended = status.state.terminated.as_ref();
        let incarnations = [
            Some(status.container_id.as_str()),
            ended.map(|ended| ended.container_id.as_str()),
            last.as_ref().map(|last| last.container_id.as_str()),
        ];
        for id in incarnations.into_iter().flatten().filter_map(container_id) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        state.ready = status.ready;
        state.restarts = status.restart_count;
        state.last_terminated = last.map(|last| (last.reason.into(), last.exit_code));
        state.now = activity(status.state);
    }
    ids.shrink_to_fit();
    let state = with_state.then(|| Box::new(state));
    Container { name: container.name.into(), kind, ids, state }
}

/// The id behind `containerd://`, `docker://`, `cri-o://` or whatever the runtime calls itself.
fn container_id(text: &str) -> Option<ContainerId> {
    let id = text.rsplit_once("://").map_or(text, |(_runtime, id)| id);
    (!id.is_empty()).then(|| ContainerId::new(id))
}

fn quantities(given: Option<BTreeMap<String, String>>) -> Vec<(Box<str>, f64)> {
    let given = given.unwrap_or_default().into_iter();
    given.filter_map(|(resource, text)| Some((resource.into(), quantity(&text)?))).collect()
}

fn activity(state: RawState) -> Option<Activity> {
    if let Some(waiting) = state.waiting {
        return Some(Activity::Waiting { reason: waiting.reason.into() });
    }
    if let Some(ended) = state.terminated {
        return Some(Activity::Terminated { reason: ended.reason.into() });
    }
    let started = |text: String| unix_seconds(&text);
    state.running.map(|running| Activity::Running { started: running.started_at.and_then(started) })
}

fn pod_state(metadata: &RawMetadata, spec: &RawSpec, status: &RawStatus) -> PodState {
    let condition = |kind: &str| {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        conditions
            .iter()
            .find(|condition| condition.kind == kind)
            .map_or_else(Box::default, |condition| condition.status.as_str().into())
    };
    let time = |text: &Option<String>| text.as_deref().and_then(unix_seconds);
    PodState {
        phase: status.phase.as_str().into(),
        reason: status.reason.as_str().into(),
        ready: condition("Ready"),
        scheduled: condition("PodScheduled"),
        host_ip: status.host_ip.as_str().into(),
        pod_ip: status.pod_ip.as_str().into(),
        node: spec.node_name.as_str().into(),
        qos_class: status.qos_class.as_str().into(),
        priority_class: spec.priority_class_name.as_str().into(),
        host_network: spec.host_network == Some(true),
        created: time(&metadata.creation_timestamp),
        deleted: time(&metadata.deletion_timestamp),
        started: time(&status.start_time),
    }
}

#[cfg(test)]
mod tests {
    use super::RawPod;
    use crate::{
        attribution::kubernetes::{
            pod::{ContainerKind, Pod},
            testing,
            wanted::Wanted,
        },
        subject::{ContainerId, PodUid},
    };

    const CURRENT: &str = "0a2e309d1da55c741068db3a2bce1ceac4c93cbffe201e7ae3b86e26a12dfc35";
    const LAST: &str = "29b53e1ea263256bd966d553ec4438c02f0fe94552217dda71e1cb4476cfb8d6";

    fn pod(spec: &str, status: &str, metadata: &str) -> Pod {
        let text = format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u",{metadata}"labels":{{"a":"b"}}}},"spec":{spec},"status":{status}}}"#
        );
        serde_json::from_str::<RawPod>(&text).unwrap().prune(&testing::all()).unwrap()
    }

    #[test]
    fn containers_of_every_kind_have_the_ids_of_every_runtime() {
        let spec = r#"{
            "initContainers":[{"name":"init"},{"name":"mesh","restartPolicy":"Always"}],
            "containers":[{"name":"main"},{"name":"waits"}],
            "ephemeralContainers":[{"name":"debug"}]}"#;
        let status = r#"{
            "initContainerStatuses":[
                {"name":"mesh","containerID":"containerd://m"},
                {"name":"init","containerID":"docker://i","state":{"terminated":{"containerID":"docker://i"}}}],
            "containerStatuses":[{"name":"waits","containerID":""},{"name":"main","containerID":"cri-o://c"}],
            "ephemeralContainerStatuses":[{"name":"debug","containerID":"containerd://d"}]}"#;
        let pod = pod(spec, status, "");
        let found: Vec<_> = pod
            .containers
            .iter()
            .map(|one| (&*one.name, one.kind, one.ids.iter().map(ContainerId::as_str).collect()))
            .collect();
        let expected: [(&str, ContainerKind, Vec<&str>); 5] = [
            ("init", ContainerKind::Init, vec!["i"]),
            ("mesh", ContainerKind::Sidecar, vec!["m"]),
            ("main", ContainerKind::Regular, vec!["c"]),
            ("waits", ContainerKind::Regular, vec![]),
            ("debug", ContainerKind::Ephemeral, vec!["d"]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_last_incarnation_of_a_container_is_known_too() {
        let last = format!(r#"{{"terminated":{{"containerID":"containerd://{LAST}"}}}}"#);
        let check = |status: &str, expected: &[&str]| {
            let status = format!(r#"{{"containerStatuses":[{{"name":"main",{status}}}]}}"#);
            let pod = pod(r#"{"containers":[{"name":"main"}]}"#, &status, "");
            let ids: Vec<_> = pod.containers[0].ids.iter().map(ContainerId::as_str).collect();
            assert_eq!(ids, expected, "{status}");
        };
        let current = format!(r#""containerID":"containerd://{CURRENT}""#);
        check(&format!(r#"{current},"lastState":{last}"#), &[CURRENT, LAST]);
        check(&format!(r#""containerID":"","lastState":{last}"#), &[LAST]);
        // In a crash loop the status has the one that ended as the current one, and again as the last one.
        check(&format!(r#""containerID":"containerd://{LAST}","lastState":{last}"#), &[LAST]);
    }

    #[test]
    fn a_mirror_pod_tells_the_uid_that_the_kubelet_uses() {
        let check = |hash: &str, expected: Option<&str>| {
            let annotations =
                format!(r#""annotations":{{"kubernetes.io/config.mirror":"{hash}"}},"#);
            let uid = pod("{}", "{}", &annotations).static_uid;
            assert_eq!(uid.as_ref().map(PodUid::as_str), expected);
        };
        check("0123456789abcdef0123456789ABCDEF", Some("0123456789abcdef0123456789abcdef"));
        check("39ce9bbc-6da2-4a5a-9143-d95138dfd72e", None);
        check("", None);
    }

    #[test]
    fn what_is_not_wanted_is_not_kept() {
        let text = r#"{"metadata":{"name":"p","namespace":"n","uid":"u","labels":{"a":"b"}},"spec":{"containers":[{"name":"main"}]},"status":{"phase":"Running"}}"#;
        let pod = serde_json::from_str::<RawPod>(text).unwrap().prune(&Wanted::default()).unwrap();
        assert_eq!((pod.metadata.labels.len(), pod.state), (0, None));
        assert_eq!(pod.containers[0].state, None);
        let nameless = r#"{"metadata":{"namespace":"n","uid":"u"}}"#;
        let nameless: RawPod = serde_json::from_str(nameless).unwrap();
        assert_eq!(nameless.prune(&Wanted::default()), None);
    }
}

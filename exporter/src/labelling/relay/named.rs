//! What the Kubernetes API says of pods, as the relay asks it. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Pods,
    pods::{CgroupOwner, Pod},
};
use crate::{
    attribution::{
        Identity,
        container::identify,
        kubernetes::{view::PodView, workload::AttributedPod},
    },
    subject::{ContainerId, PodUid},
};

/// The pods of a snapshot with their labels. Without an API there are none; that a cgroup is a pod's is known all the
/// same.
#[derive(Debug, Default)]
pub struct NamedPods {
    version: u64,
    view: Arc<PodView>,
    sandboxes: HashSet<ContainerId>,
    by_uid: HashMap<PodUid, Arc<Pod>>,
}

impl NamedPods {
    /// The pods of that view, and the containers that are their sandboxes; `labels` are those of a pod beside its namespace and name.
    pub(in crate::labelling) fn new(
        version: u64,
        view: &Arc<PodView>,
        sandboxes: HashSet<ContainerId>,
        labels: impl Fn(&AttributedPod) -> Vec<(String, String)>,
    ) -> Self {
        let pod = |pod: &Arc<AttributedPod>| {
            let named = Pod {
                namespace: pod.pod.namespace.as_ref().into(),
                name: pod.pod.name.as_ref().into(),
                labels: labels(pod),
            };
            (pod.pod.uid.clone(), Arc::new(named))
        };
        let by_uid = view.iter().map(pod).collect();
        Self { version, view: Arc::clone(view), sandboxes, by_uid }
    }

    /// Whether they are those of that view, with these sandboxes.
    pub(in crate::labelling) fn is_of(
        &self,
        view: &Arc<PodView>,
        sandboxes: &HashSet<ContainerId>,
    ) -> bool {
        Arc::ptr_eq(&self.view, view) && self.sandboxes == *sandboxes
    }

    /// Which change of the pods these are.
    pub(in crate::labelling) fn number(&self) -> u64 {
        self.version
    }

    fn named(&self, pod: &AttributedPod) -> Option<Arc<Pod>> {
        self.by_uid.get(&pod.pod.uid).cloned()
    }
}

impl Pods for NamedPods {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.named(self.view.pod_named(namespace, name)?)
    }

    fn by_cgroup(&self, path: &str) -> CgroupOwner {
        let (pod, container_id) = match identify(&Arc::from(path)) {
            Identity::Pod { pod_uid, .. } => (self.view.pod(&pod_uid), None),
            Identity::Container { pod_uid: Some(uid), container_id, .. } => {
                (self.view.pod(&uid), Some(container_id))
            }
            Identity::Container { pod_uid: None, container_id, .. } => {
                match self.view.pod_of_container(&container_id) {
                    Some(pod) => (Some(pod), Some(container_id)),
                    None => return CgroupOwner::Node,
                }
            }
            Identity::Monitor | Identity::Other { .. } => return CgroupOwner::Node,
        };
        let Some((attributed, pod)) = pod.and_then(|pod| Some((pod, self.named(pod)?))) else {
            return CgroupOwner::UnknownPod;
        };
        let Some(container_id) = container_id else {
            return CgroupOwner::Pod(pod);
        };
        match attributed.container(&container_id) {
            Some(container) => CgroupOwner::Container(pod, container.name.as_ref().into()),
            None if self.sandboxes.contains(&container_id) => CgroupOwner::Sandbox(pod),
            None => CgroupOwner::Unnamed(pod, container_id.as_str().into()),
        }
    }
}

//! From a cgroup's identity to its names in the API. Pure; never a wrong name, rather none.

use std::{collections::HashMap, sync::Arc};

use super::{
    Identity,
    kubernetes::{view::PodView, workload::AttributedPod},
};
use crate::subject::{CgroupId, ContainerId, PodUid};

/// What a cgroup is called in the API.
#[derive(Clone, Debug)]
pub struct Names {
    /// Its pod.
    pub pod: Arc<AttributedPod>,
    /// Which part of the pod it is.
    pub part: Part,
}

/// Which part of a pod a cgroup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Around the containers.
    Whole,
    /// A container.
    Container(Arc<str>),
    /// The container that holds the pod's namespaces (pause), which no status lists.
    Sandbox,
    /// A container whose name the API does not tell, or not yet.
    Unnamed(ContainerId),
}

/// What is known of the cgroups of each pod together, by which its sandbox is told from a container that is not listed
/// yet.
pub(super) struct Neighbours<'a>(HashMap<&'a PodUid, PodCgroups>);

#[derive(Clone, Copy)]
struct PodCgroups {
    /// The first of the cgroups of containers that is live.
    first: Option<CgroupId>,
    /// The first of those whose containers are listed.
    first_listed: Option<CgroupId>,
}

impl<'a> Neighbours<'a> {
    pub(super) fn of(
        cgroups: impl Iterator<Item = (CgroupId, &'a Identity)>,
        pods: &PodView,
        is_live: impl Fn(CgroupId) -> bool,
    ) -> Self {
        let mut by_pod: HashMap<&PodUid, PodCgroups> = HashMap::new();
        for (id, identity) in cgroups {
            let Identity::Container { pod_uid: Some(uid), container_id, nested: false } = identity
            else {
                continue;
            };
            let cgroups =
                by_pod.entry(uid).or_insert(PodCgroups { first: None, first_listed: None });
            if cgroups.first.is_none_or(|first| id < first) && is_live(id) {
                cgroups.first = Some(id);
            }
            let is_listed = pods.pod(uid).is_some_and(|pod| pod.container(container_id).is_some());
            if is_listed && cgroups.first_listed.is_none_or(|first| id < first) {
                cgroups.first_listed = Some(id);
            }
        }
        Self(by_pod)
    }

    /// Whether a cgroup of a pod that no status lists is its sandbox's.
    ///
    /// The kernel numbers cgroups in the order of their making, the sandbox is made first, lives as long as the pod, and
    /// the kubelet lists containers in the order of their making. So it is the one that is live and older than every
    /// other, once a younger one is listed. A container that is about to be listed is younger than its sandbox.
    fn is_sandbox(&self, uid: &PodUid, id: CgroupId) -> bool {
        self.0.get(uid).is_some_and(|cgroups| {
            cgroups.first == Some(id) && cgroups.first_listed.is_some_and(|listed| id < listed)
        })
    }
}

/// Names cgroups by pods.
pub(super) struct Namer<'a> {
    pub(super) pods: &'a PodView,
    pub(super) neighbours: &'a Neighbours<'a>,
}

impl Namer<'_> {
    /// The names of a cgroup, given those that it had.
    pub(super) fn name(
        &self,
        id: CgroupId,
        identity: &Identity,
        before: Option<Names>,
    ) -> Option<Names> {
        match identity {
            Identity::Pod { pod_uid, .. } => self.pod(pod_uid),
            Identity::Container { pod_uid: None, container_id, .. } => self.by_id(container_id),
            Identity::Container { pod_uid: Some(uid), container_id, nested } => {
                let pod = Arc::clone(self.pods.pod(uid)?);
                let part = match pod.container(container_id) {
                    Some(container) => Part::Container(Arc::clone(&container.name)),
                    None => self.unlisted(id, uid, container_id, *nested, before),
                };
                Some(Names { pod, part })
            }
            Identity::Monitor | Identity::Other { .. } => None,
        }
    }

    /// The names of the owner of a network namespace: a pod as a whole, or a container that is told by its id alone.
    pub(super) fn name_whole(&self, identity: &Identity) -> Option<Names> {
        match identity {
            Identity::Pod { pod_uid, .. } => self.pod(pod_uid),
            Identity::Container { pod_uid: None, container_id, .. } => self.by_id(container_id),
            Identity::Container { .. } | Identity::Monitor | Identity::Other { .. } => None,
        }
    }

    fn pod(&self, uid: &PodUid) -> Option<Names> {
        Some(Names { pod: Arc::clone(self.pods.pod(uid)?), part: Part::Whole })
    }

    fn by_id(&self, id: &ContainerId) -> Option<Names> {
        let pod = Arc::clone(self.pods.pod_of_container(id)?);
        let part = Part::Container(Arc::clone(&pod.container(id)?.name));
        Some(Names { pod, part })
    }

    fn unlisted(
        &self,
        id: CgroupId,
        uid: &PodUid,
        container_id: &ContainerId,
        nested: bool,
        before: Option<Names>,
    ) -> Part {
        match before.map(|names| names.part) {
            // What was once known stays: an id that was pushed out of its container's list, or a sandbox whose pod ended.
            Some(known @ (Part::Container(_) | Part::Sandbox)) => known,
            _ if !nested && self.neighbours.is_sandbox(uid, id) => Part::Sandbox,
            _ => Part::Unnamed(container_id.clone()),
        }
    }
}

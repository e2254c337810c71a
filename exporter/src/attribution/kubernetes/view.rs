//! The pods of this node at one moment, by everything that they are asked by. Immutable.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

use super::{pod::Container, workload::AttributedPod};
use crate::subject::{ContainerId, PodUid};

/// Every pod that has something to be named: those that the API tells of, and those gone from there whose cgroups are
/// still known.
#[derive(Debug, Default)]
pub struct PodView {
    live: Vec<Arc<AttributedPod>>,
    /// By the UID in cgroup paths.
    by_uid: HashMap<PodUid, Arc<AttributedPod>>,
    by_name: HashMap<Arc<str>, HashMap<Arc<str>, Arc<AttributedPod>>>,
    /// `None` for an id that two pods claim.
    by_container: HashMap<ContainerId, Option<Arc<AttributedPod>>>,
}

impl PodView {
    /// Of pods that the API tells of, and of departed ones, the oldest first; where two have a name, the later one has it.
    pub(super) fn new(
        departed: impl IntoIterator<Item = Arc<AttributedPod>>,
        live: Vec<Arc<AttributedPod>>,
    ) -> Self {
        let mut view = Self::default();
        let pods: Vec<_> = departed.into_iter().chain(live.iter().cloned()).collect();
        // A UID of the API is never another pod's, but the hash of a static pod may be.
        for pod in &pods {
            if let Some(uid) = &pod.pod.static_uid {
                view.by_uid.insert(uid.clone(), Arc::clone(pod));
            }
        }
        for pod in &pods {
            view.by_uid.insert(pod.pod.uid.clone(), Arc::clone(pod));
            let namespace = view.by_name.entry(Arc::clone(&pod.pod.namespace)).or_default();
            namespace.insert(Arc::clone(&pod.pod.name), Arc::clone(pod));
            for id in pod.pod.containers.iter().flat_map(|container| &container.ids) {
                match view.by_container.entry(id.clone()) {
                    hash_map::Entry::Vacant(vacant) => {
                        vacant.insert(Some(Arc::clone(pod)));
                    }
                    hash_map::Entry::Occupied(mut taken) => {
                        if taken.get().as_ref().is_some_and(|by| by.pod.uid != pod.pod.uid) {
                            taken.insert(None);
                        }
                    }
                }
            }
        }
        view.live = live;
        view
    }

    /// The pods that the API tells of.
    #[must_use]
    pub fn live(&self) -> &[Arc<AttributedPod>] {
        &self.live
    }

    /// All pods, the departed ones too, each by its UID in the API and the static ones by their hash as well.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<AttributedPod>> {
        self.by_uid.values()
    }

    /// The pod whose UID, or whose static pod's hash, stands in a cgroup path.
    #[must_use]
    pub fn pod(&self, uid: &PodUid) -> Option<&Arc<AttributedPod>> {
        self.by_uid.get(uid)
    }

    /// The pod of that name; if one was made anew, the newer one.
    #[must_use]
    pub fn pod_named(&self, namespace: &str, name: &str) -> Option<&Arc<AttributedPod>> {
        self.by_name.get(namespace)?.get(name)
    }

    /// The pod that has a container of that id.
    #[must_use]
    pub fn pod_of_container(&self, id: &ContainerId) -> Option<&Arc<AttributedPod>> {
        self.by_container.get(id)?.as_ref()
    }
}

impl AttributedPod {
    /// The container that has, or had, that id.
    #[must_use]
    pub fn container(&self, id: &ContainerId) -> Option<&Container> {
        self.pod.containers.iter().find(|container| container.ids.contains(id))
    }
}

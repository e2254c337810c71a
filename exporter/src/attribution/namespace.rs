//! Whose a network namespace is: that of the pod, container or service whose processes are in it. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Instant,
};

use super::Identity;
use crate::{
    cgroup::tree::{CgroupTree, State},
    subject::{CgroupId, NetworkNamespaceId},
};

/// Whose a network namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceOwner {
    /// The host's, and of pods that have `hostNetwork`, which no namespace tells from it.
    Host,
    /// A pod's as a whole, a container's that is in no pod, or a service's.
    Identity(Arc<Identity>),
}

/// The owner of every namespace that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct NamespaceOwners(BTreeMap<NetworkNamespaceId, NamespaceOwner>);

/// How good an owner is, the best first: a living one, then the one that died last, then the more special one, then the
/// older one.
type Rank = (Option<Reverse<Instant>>, u8, CgroupId);

impl NamespaceOwners {
    /// Names the namespaces that a tree knows.
    ///
    /// Where several have processes in one, the living go before the dead, and those that died last before the others,
    /// because the kernel gives the number of a namespace that is gone to the next one; and a pod goes before what may
    /// have joined it.
    pub(super) fn of<'a>(
        tree: &CgroupTree,
        identity: impl Fn(CgroupId) -> Option<&'a Identity>,
    ) -> Self {
        let mut best: BTreeMap<NetworkNamespaceId, (Rank, Arc<Identity>)> = BTreeMap::new();
        for (id, namespace) in tree.namespaces().iter() {
            let (Some(entry), Some(owner)) = (tree.get(id), identity(id).and_then(owner_of)) else {
                continue;
            };
            let (special, owner) = owner;
            let dead_since = match entry.state {
                State::Live => None,
                State::Dead { since } => Some(Reverse(since)),
            };
            let rank = (dead_since, special, id);
            match best.entry(namespace) {
                Entry::Occupied(mut known) if rank < known.get().0 => {
                    known.insert((rank, Arc::new(owner)));
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(free) => {
                    free.insert((rank, Arc::new(owner)));
                }
            }
        }
        let owners = best
            .into_iter()
            .map(|(namespace, (_, identity))| (namespace, NamespaceOwner::Identity(identity)));
        let host = tree.namespaces().host().map(|host| (host, NamespaceOwner::Host));
        Self(owners.chain(host).collect())
    }

    /// Every namespace that is not the host's.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NetworkNamespaceId, &Identity)> {
        self.0.iter().filter_map(|(id, owner)| match owner {
            NamespaceOwner::Host => None,
            NamespaceOwner::Identity(identity) => Some((*id, &**identity)),
        })
    }

    pub(super) fn get(&self, id: NetworkNamespaceId) -> Option<&NamespaceOwner> {
        self.0.get(&id)
    }
}

/// Whose a namespace is that a cgroup's processes are in, and how special that is; the watcher of a container is in the
/// host's or in its container's.
fn owner_of(identity: &Identity) -> Option<(u8, Identity)> {
    match identity {
        Identity::Container { pod_uid: Some(pod_uid), .. } | Identity::Pod { pod_uid, .. } => {
            Some((0, Identity::Pod { pod_uid: pod_uid.clone(), nested: false }))
        }
        Identity::Container { pod_uid: None, container_id, .. } => {
            let container_id = container_id.clone();
            Some((1, Identity::Container { pod_uid: None, container_id, nested: false }))
        }
        Identity::Other { .. } => Some((2, identity.clone())),
        Identity::Monitor => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::NamespaceOwner;
    use crate::{
        attribution::{Identity, Snapshot},
        cgroup::{
            namespaces::NetworkNamespaces,
            tree::{CgroupEntry, CgroupTree, State},
        },
        subject::{CgroupId, ContainerId, NetworkNamespaceId, PodUid},
    };

    const HOST: u64 = 1;
    const NAMESPACE: u64 = 2;
    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
    const OTHER_UID: &str = "11234567-89ab-cdef-0123-456789abcdef";

    fn container_id() -> String {
        "0123456789abcdef".repeat(4)
    }

    /// Cgroups with their namespaces, and whose the namespace [`NAMESPACE`] is.
    fn check(cgroups: &[(&str, State, u64)], expected: Option<Identity>) {
        let numbered = || (1..).map(CgroupId).zip(cgroups);
        let entry = |(id, (path, state, _)): (CgroupId, &(&str, State, u64))| CgroupEntry {
            id,
            path: (*path).into(),
            state: *state,
        };
        let mut tree: CgroupTree = numbered().map(entry).collect();
        let pairs = numbered().map(|(id, (_, _, namespace))| (id, NetworkNamespaceId(*namespace)));
        let namespaces = NetworkNamespaces::of(NetworkNamespaceId(HOST), pairs);
        tree.set_namespaces(Arc::new(namespaces));
        let snapshot = Snapshot::of(&tree);
        let found = |id| snapshot.namespace_owner(NetworkNamespaceId(id)).cloned();
        let expected = expected.map(|identity| NamespaceOwner::Identity(Arc::new(identity)));
        assert_eq!(found(NAMESPACE), expected, "{cgroups:?}");
        assert_eq!(found(HOST), Some(NamespaceOwner::Host));
    }

    fn pod(uid: &str) -> Identity {
        Identity::Pod { pod_uid: PodUid::new(uid), nested: false }
    }

    #[test]
    fn a_namespace_is_its_pods_whoever_joined_it() {
        let live = State::Live;
        let sandbox = format!("/kubepods/pod{UID}/{}", container_id());
        check(&[("/a.service", live, NAMESPACE), (&sandbox, live, NAMESPACE)], Some(pod(UID)));
    }

    #[test]
    fn without_a_pod_it_is_the_containers_or_the_services() {
        let live = State::Live;
        let docker = format!("/docker/{}", container_id());
        let container_id = ContainerId::new(container_id());
        let container = Identity::Container { pod_uid: None, container_id, nested: false };
        check(&[("/a.service", live, NAMESPACE), (&docker, live, NAMESPACE)], Some(container));
        let other = Identity::Other { path: "/a.service".into() };
        check(&[("/a.service", live, NAMESPACE)], Some(other));
    }

    #[test]
    fn the_hosts_and_what_nobody_is_in_have_no_owner_but_the_host() {
        let sandbox = format!("/kubepods/pod{UID}/{}", container_id());
        check(&[(&sandbox, State::Live, HOST)], None);
        let conmon = format!("/machine.slice/libpod-conmon-{}.scope", container_id());
        check(&[(&conmon, State::Live, NAMESPACE)], None);
        check(&[], None);
    }

    #[test]
    fn a_number_that_was_given_again_is_the_living_ones() {
        let dead = State::Dead { since: Instant::now() };
        let old = format!("/kubepods/pod{UID}/{}", container_id());
        let new = format!("/kubepods/pod{OTHER_UID}/{}", container_id());
        check(&[(&old, dead, NAMESPACE)], Some(pod(UID)));
        check(&[(&old, dead, NAMESPACE), (&new, State::Live, NAMESPACE)], Some(pod(OTHER_UID)));
    }

    #[test]
    fn a_number_that_was_given_again_stays_the_later_ones_when_it_is_dead_too() {
        let died = Instant::now();
        let [first, last] =
            [0, 1].map(|seconds| State::Dead { since: died + Duration::from_secs(seconds) });
        let old = format!("/kubepods/pod{UID}/{}", container_id());
        let new = format!("/kubepods/pod{OTHER_UID}/{}", container_id());
        check(&[(&old, first, NAMESPACE), (&new, last, NAMESPACE)], Some(pod(OTHER_UID)));
        check(&[(&new, last, NAMESPACE), (&old, first, NAMESPACE)], Some(pod(OTHER_UID)));
    }
}

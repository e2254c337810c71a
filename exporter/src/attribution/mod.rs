//! Whose a cgroup is: its path tells the container and the pod, and the Kubernetes API what they are called. Immutable
//! snapshots, so that a collection sees one state of the node from its start to its end.

mod naming;

pub mod container;
pub mod kubernetes;
pub mod namespace;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

pub use self::naming::{Names, Part};
use self::{
    kubernetes::{pod::Pod, view::PodView},
    namespace::{NamespaceOwner, NamespaceOwners},
    naming::{Namer, Neighbours},
};
use crate::{
    cgroup::tree::{CgroupEntry, CgroupTree, Stamp},
    subject::{CgroupId, ContainerId, NetworkNamespaceId, PodUid},
};

/// Whose a cgroup is.
///
/// A container may have cgroups below its own (CRI-O's `/container`, systemd in a container, kube-proxy's). They are
/// the container's too, and `nested` is set, because not everything may be added up:
///
/// * what the kernel counts for one cgroup alone (events seen by a program, the periods and throttles of a quota of its
///   own) is added to the container's;
/// * what already holds the cgroups below (pressure, `io.stat` on v2) and what is a limit (the quota) counts for the
///   container's own cgroup only, and is left out where `nested` is set.
///
/// The same holds for a pod and cgroups below it that are no container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A container's, in a pod or not.
    Container {
        /// The pod; `None` for a container that the kubelet did not start.
        pod_uid: Option<PodUid>,
        /// The container, which is the sandbox for a pause container and for Kata.
        container_id: ContainerId,
        /// Below the container's own cgroup.
        nested: bool,
    },
    /// A pod's, around its containers.
    Pod {
        /// The pod.
        pod_uid: PodUid,
        /// Below the pod's own cgroup.
        nested: bool,
    },
    /// Of the runtime's process that watches a container (conmon, LXC's monitor): neither the container's nor of
    /// interest by itself, and one series per container. No series is given for it.
    Monitor,
    /// Any other: the root, slices, services.
    Other {
        /// Its path from the root of the hierarchy.
        path: Arc<str>,
    },
}

impl Identity {
    /// The pod that the path names.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&PodUid> {
        match self {
            Self::Container { pod_uid, .. } => pod_uid.as_ref(),
            Self::Pod { pod_uid, .. } => Some(pod_uid),
            Self::Monitor | Self::Other { .. } => None,
        }
    }

    /// The same, with the pod's copies of UID and container id instead of those read from the path: a pod has several
    /// cgroups, and they need not have the same text each. `None` where there is nothing to be replaced.
    fn in_texts_of(&self, pod: &Pod) -> Option<Self> {
        if *self.pod_uid()? != pod.uid || self.pod_uid()?.is_copy_of(&pod.uid) {
            return None;
        }
        let mut same = self.clone();
        match &mut same {
            Self::Container { pod_uid, container_id, .. } => {
                *pod_uid = Some(pod.uid.clone());
                let mut ids = pod.containers.iter().flat_map(|container| &container.ids);
                if let Some(id) = ids.find(|id| *id == container_id) {
                    *container_id = id.clone();
                }
            }
            Self::Pod { pod_uid, .. } => *pod_uid = pod.uid.clone(),
            Self::Monitor | Self::Other { .. } => {}
        }
        Some(same)
    }
}

/// Whose every cgroup is, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    rows: BTreeMap<CgroupId, Row>,
    /// Of the hierarchy that has the io controller, where it is another one.
    io: Option<Box<Snapshot>>,
    namespaces: NamespaceOwners,
    namespace_names: BTreeMap<NetworkNamespaceId, Names>,
    /// Of the tree that this was made from.
    stamp: Stamp,
    /// The pods that the rows are named by.
    pods: Arc<PodView>,
    /// Whether they are named by them since the tree last changed.
    is_named: bool,
}

#[derive(Clone, Debug)]
struct Row {
    path: Arc<str>,
    identity: Arc<Identity>,
    names: Option<Names>,
}

impl Snapshot {
    /// Recognises every cgroup of a tree, the dead included.
    #[must_use]
    pub fn of(tree: &CgroupTree) -> Self {
        let mut snapshot = Self::default();
        snapshot.follow(tree);
        snapshot
    }

    /// Brings a snapshot up to a newer tree: paths that stayed are not looked at again. Where it is in an `Arc`,
    /// `Arc::make_mut` leaves the snapshots that were handed out as they are.
    pub fn follow(&mut self, tree: &CgroupTree) {
        if self.is_of(tree) {
            return;
        }
        self.stamp = tree.stamp().clone();
        self.is_named = false;
        // Both are in the order of the ids, so one pass finds the differences.
        let mut rows = self.rows.iter().peekable();
        let (mut gone, mut changed) = (Vec::new(), Vec::new());
        for entry in tree.iter() {
            while let Some((&id, _)) = rows.next_if(|(id, _)| **id < entry.id) {
                gone.push(id);
            }
            match rows.next_if(|(id, _)| **id == entry.id) {
                // The tree keeps the Arc as long as the path stays.
                Some((_, row)) if Arc::ptr_eq(&row.path, &entry.path) => {}
                Some(_) | None => changed.push(entry),
            }
        }
        gone.extend(rows.map(|(&id, _)| id));
        for id in gone {
            self.rows.remove(&id);
        }
        for entry in changed {
            let identity = Arc::new(container::identify(&entry.path));
            let path = Arc::clone(&entry.path);
            self.rows.insert(entry.id, Row { path, identity, names: None });
        }
        match tree.own_io() {
            Some(io) => self.io.get_or_insert_default().follow(io),
            None => self.io = None,
        }
        self.namespaces = NamespaceOwners::of(tree, |id| self.identity(id));
    }

    /// Names the cgroups of the tree that is followed by the pods that are known.
    pub fn name(&mut self, pods: Arc<PodView>, tree: &CgroupTree) {
        if self.is_named && Arc::ptr_eq(&self.pods, &pods) {
            return;
        }
        let identities: Vec<(CgroupId, Arc<Identity>)> =
            self.rows.iter().map(|(&id, row)| (id, Arc::clone(&row.identity))).collect();
        let neighbours = Neighbours::of(
            identities.iter().map(|(id, identity)| (*id, &**identity)),
            &pods,
            |id| tree.get(id).is_some_and(CgroupEntry::is_live),
        );
        let namer = Namer { pods: &pods, neighbours: &neighbours };
        for (&id, row) in &mut self.rows {
            row.names = namer.name(id, &row.identity, row.names.take());
            if let Some(names) = &row.names
                && let Some(identity) = row.identity.in_texts_of(&names.pod.pod)
            {
                row.identity = Arc::new(identity);
            }
        }
        if let (Some(snapshot), Some(io)) = (&mut self.io, tree.own_io()) {
            snapshot.name(Arc::clone(&pods), io);
        }
        self.namespace_names = self
            .namespaces
            .iter()
            .filter_map(|(id, identity)| Some((id, namer.name_whole(identity)?)))
            .collect();
        self.pods = pods;
        self.is_named = true;
    }

    /// The UIDs of all pods that have cgroups.
    #[must_use]
    pub fn pod_uids(&self) -> HashSet<&PodUid> {
        let io = self.io.iter().flat_map(|io| io.rows.values());
        self.rows.values().chain(io).filter_map(|row| row.identity.pod_uid()).collect()
    }

    /// The pods that the cgroups are named by.
    #[must_use]
    pub fn pods(&self) -> &PodView {
        &self.pods
    }

    /// The same, to be kept.
    #[must_use]
    pub fn shared_pods(&self) -> &Arc<PodView> {
        &self.pods
    }

    /// The containers that hold the namespaces of the pods that are known.
    #[must_use]
    pub fn sandboxes(&self) -> HashSet<ContainerId> {
        let sandboxes = self.rows.values().filter_map(|row| match (&*row.identity, &row.names) {
            (Identity::Container { container_id, .. }, Some(Names { part: Part::Sandbox, .. })) => {
                Some(container_id.clone())
            }
            _ => None,
        });
        sandboxes.collect()
    }

    /// Whose the cgroups and the network namespaces are, and what they are called in the API; one may come more than
    /// once.
    pub fn owners(&self) -> impl Iterator<Item = (&Identity, Option<&Names>)> {
        let rows = self.rows.values().chain(self.io.iter().flat_map(|io| io.rows.values()));
        let namespaces = self.namespaces.iter();
        rows.map(|row| (&*row.identity, row.names.as_ref()))
            .chain(namespaces.map(|(id, identity)| (identity, self.namespace_names.get(&id))))
    }

    /// What a cgroup is called in the API, if it is known there.
    #[must_use]
    pub fn names(&self, id: CgroupId) -> Option<&Names> {
        self.rows.get(&id)?.names.as_ref()
    }

    /// What a cgroup of the hierarchy that has the io controller is called in the API, by its id there.
    #[must_use]
    pub fn io_names(&self, id: CgroupId) -> Option<&Names> {
        self.io.as_deref().unwrap_or(self).names(id)
    }

    /// Whether this was made from that state of the tree.
    #[must_use]
    pub fn is_of(&self, tree: &CgroupTree) -> bool {
        self.stamp == *tree.stamp()
    }

    /// Whose a cgroup is; `None` for one that the tree did not have.
    #[must_use]
    pub fn identity(&self, id: CgroupId) -> Option<&Identity> {
        self.rows.get(&id).map(|row| &*row.identity)
    }

    /// Whether the io controller has a hierarchy of its own, so that an id there means another cgroup.
    #[must_use]
    pub fn has_own_io(&self) -> bool {
        self.io.is_some()
    }

    /// Whose a cgroup of the hierarchy that has the io controller is, by its id there.
    #[must_use]
    pub fn io_identity(&self, id: CgroupId) -> Option<&Identity> {
        self.io.as_deref().unwrap_or(self).identity(id)
    }

    /// What the owner of a network namespace is called in the API.
    #[must_use]
    pub fn namespace_names(&self, id: NetworkNamespaceId) -> Option<&Names> {
        self.namespace_names.get(&id)
    }

    /// Whose a network namespace is; `None` for one that no known cgroup has a process in.
    #[must_use]
    pub fn namespace_owner(&self, id: NetworkNamespaceId) -> Option<&NamespaceOwner> {
        self.namespaces.get(id)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::{Identity, Snapshot, kubernetes::testing};
    use crate::{
        cgroup::tree::{CgroupEntry, CgroupTree, State},
        subject::{CgroupId, PodUid},
    };

    const POD: &str = "/kubepods/pod01234567-89ab-cdef-0123-456789abcdef";

    fn entry(id: u64, path: &Arc<str>, state: State) -> CgroupEntry {
        CgroupEntry { id: CgroupId(id), path: Arc::clone(path), state }
    }

    fn pod() -> Identity {
        let pod_uid = PodUid::new("01234567-89ab-cdef-0123-456789abcdef");
        Identity::Pod { pod_uid, nested: false }
    }

    #[test]
    fn names_the_dead_and_the_living_and_nobody_else() {
        let (root, path) = (Arc::from("/"), Arc::from(POD));
        let dead = State::Dead { since: Instant::now() };
        let tree: CgroupTree =
            [entry(1, &root, State::Live), entry(2, &path, dead)].into_iter().collect();
        let snapshot = Snapshot::of(&tree);
        let other = Identity::Other { path: Arc::clone(&root) };
        assert_eq!(snapshot.identity(CgroupId(1)), Some(&other));
        assert_eq!(snapshot.identity(CgroupId(2)), Some(&pod()));
        assert_eq!(snapshot.identity(CgroupId(3)), None);
    }

    #[test]
    fn the_same_id_is_another_cgroup_in_the_io_hierarchy() {
        let (root, path) = (Arc::from("/"), Arc::from(POD));
        let tree: CgroupTree = [entry(1, &root, State::Live)].into_iter().collect();
        let mut snapshot = Snapshot::of(&tree);
        assert_eq!(snapshot.io_identity(CgroupId(1)), snapshot.identity(CgroupId(1)));

        let io: CgroupTree = [entry(1, &path, State::Live)].into_iter().collect();
        let tree = tree.with_io(Arc::new(io));
        assert!(!snapshot.is_of(&tree));
        snapshot.follow(&tree);
        assert_eq!(snapshot.io_identity(CgroupId(1)), Some(&pod()));
        assert_eq!(snapshot.identity(CgroupId(1)), Some(&Identity::Other { path: root }));
    }

    #[test]
    fn what_is_named_has_the_texts_of_its_pod() {
        let (id, uid) = ("a".repeat(64), "01234567-89ab-cdef-0123-456789abcdef");
        let path = Arc::from(format!("{POD}/{id}"));
        let tree: CgroupTree = [entry(2, &path, State::Live)].into_iter().collect();
        let mut snapshot = Snapshot::of(&tree);
        let before = snapshot.identity(CgroupId(2)).cloned();
        let pods = testing::view(vec![testing::pod(uid, "web-0", &[("web", &[&id])])]);
        snapshot.name(Arc::clone(&pods), &tree);
        assert_eq!(snapshot.identity(CgroupId(2)), before.as_ref(), "it is the same as before");
        let pod_uid = snapshot.identity(CgroupId(2)).and_then(Identity::pod_uid);
        assert!(pod_uid.unwrap().is_copy_of(&pods.live()[0].pod.uid));
    }

    #[test]
    fn follows_a_tree_and_keeps_what_stayed() {
        let (root, service, path): (Arc<str>, Arc<str>, Arc<str>) =
            (Arc::from("/"), Arc::from("/a.service"), Arc::from(POD));
        let first: CgroupTree = [(1, &root), (2, &service)]
            .map(|(id, path)| entry(id, path, State::Live))
            .into_iter()
            .collect();
        // One freed, one new.
        let second: CgroupTree = [(1, &root), (3, &path)]
            .map(|(id, path)| entry(id, path, State::Live))
            .into_iter()
            .collect();

        let mut snapshot = Arc::new(Snapshot::of(&first));
        let handed_out = Arc::clone(&snapshot);
        Arc::make_mut(&mut snapshot).follow(&second);

        assert!(handed_out.is_of(&first) && !handed_out.is_of(&second) && snapshot.is_of(&second));
        assert!(handed_out.identity(CgroupId(2)).is_some());
        assert_eq!(snapshot.identity(CgroupId(2)), None);
        assert_eq!(snapshot.identity(CgroupId(3)), Some(&pod()));

        // One renamed.
        let third: CgroupTree = [(1, &service), (3, &path), (9, &root)]
            .map(|(id, path)| entry(id, path, State::Live))
            .into_iter()
            .collect();
        let mut renamed = Snapshot::clone(&snapshot);
        renamed.follow(&third);
        let other = Identity::Other { path: Arc::clone(&service) };
        assert_eq!(renamed.identity(CgroupId(1)), Some(&other));
        assert_eq!(renamed.identity(CgroupId(3)), Some(&pod()));
        assert!(renamed.identity(CgroupId(9)).is_some());

        let kept = |snapshot: &Snapshot| Arc::as_ptr(&snapshot.rows[&CgroupId(1)].identity);
        assert_eq!(kept(&handed_out), kept(&snapshot));
    }
}

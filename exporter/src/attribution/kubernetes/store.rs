//! All that is known from the API, and what becomes of it as pods, their owners and their cgroups come and go. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    owners::{MAX_OBJECTS, Object, ObjectKey, Owners, Unread},
    pod::Pod,
    view::PodView,
    wanted::Wanted,
    workload::{AttributedPod, Walk},
};
use crate::{jitter::Jitter, subject::PodUid};

/// Most pods of one node; kubelets allow 110 by default, and have been seen with 500.
pub(super) const MAX_PODS: usize = 2048;
/// Most pods that are remembered after they are gone from the API. Each is for as long as a cgroup of it is known.
pub(super) const MAX_DEPARTED: usize = 2048;
/// Most ids that are remembered of one container: a crash loop makes about eight in the ten minutes for which a dead
/// cgroup is known.
const MAX_INCARNATIONS: usize = 8;

/// Sizes and losses, for the self-metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreNumbers {
    /// Pods that the API tells of.
    pub n_live: usize,
    /// Pods gone from there whose cgroups are still known.
    pub n_departed: usize,
    /// Owners and other objects that are remembered.
    pub n_objects: usize,
    /// Pods that there was no room for.
    pub n_pods_left_out: u64,
    /// Departed pods that were forgotten before their cgroups.
    pub n_departed_forgotten: u64,
    /// Objects that there was no room for.
    pub n_objects_left_out: u64,
}

/// The most of each that is kept; less in tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) pods: usize,
    pub(super) departed: usize,
    pub(super) objects: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { pods: MAX_PODS, departed: MAX_DEPARTED, objects: MAX_OBJECTS }
    }
}

/// The pods of this node and what is around them.
#[derive(Debug)]
pub(super) struct Store {
    wanted: Arc<Wanted>,
    node: Arc<str>,
    bounds: Bounds,
    pods: BTreeMap<PodUid, Arc<Pod>>,
    /// How the pods were last attributed.
    attributed: BTreeMap<PodUid, Arc<AttributedPod>>,
    /// By the order of their departure.
    departed: BTreeMap<u64, Arc<AttributedPod>>,
    n_departures: u64,
    owners: Owners,
    needed: BTreeSet<ObjectKey>,
    view: Arc<PodView>,
    is_stale: bool,
    jitter: Jitter,
    n_pods_left_out: u64,
    n_departed_forgotten: u64,
}

impl Store {
    pub(super) fn new(
        wanted: Arc<Wanted>,
        node: Arc<str>,
        refresh: Duration,
        bounds: Bounds,
    ) -> Self {
        Self {
            wanted,
            node,
            bounds,
            pods: BTreeMap::new(),
            attributed: BTreeMap::new(),
            departed: BTreeMap::new(),
            n_departures: 0,
            owners: Owners::new(bounds.objects, refresh),
            needed: BTreeSet::new(),
            view: Arc::default(),
            is_stale: false,
            jitter: Jitter::default(),
            n_pods_left_out: 0,
            n_departed_forgotten: 0,
        }
    }

    /// A pod was added or changed.
    pub(super) fn put(&mut self, mut pod: Pod) {
        match self.pods.get(&pod.uid) {
            Some(known) => remember_ids(&mut pod, known),
            None if self.pods.len() >= self.bounds.pods => {
                self.n_pods_left_out += 1;
                return;
            }
            None => {}
        }
        if self.pods.get(&pod.uid).is_some_and(|known| **known == pod) {
            return;
        }
        self.departed.retain(|_, departed| departed.pod.uid != pod.uid);
        self.pods.insert(pod.uid.clone(), Arc::new(pod));
        self.is_stale = true;
    }

    /// A pod is gone from the API.
    pub(super) fn remove(&mut self, uid: &PodUid) {
        let Some(pod) = self.pods.remove(uid) else {
            return;
        };
        let attributed = match self.attributed.remove(uid) {
            Some(attributed) if Arc::ptr_eq(&attributed.pod, &pod) => attributed,
            // It changed since it was last looked at, or never was.
            _ => Arc::new(self.walk().attribute(&pod)),
        };
        self.departed.insert(self.n_departures, attributed);
        self.n_departures += 1;
        while self.departed.len() > self.bounds.departed {
            self.departed.pop_first();
            self.n_departed_forgotten += 1;
        }
        self.is_stale = true;
    }

    /// These are all pods that there are.
    pub(super) fn replace(&mut self, pods: Vec<Pod>) {
        let listed: BTreeSet<PodUid> = pods.iter().map(|pod| pod.uid.clone()).collect();
        let gone: Vec<PodUid> =
            self.pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in gone {
            self.remove(&uid);
        }
        for pod in pods {
            self.put(pod);
        }
    }

    /// Forgets the departed that have no cgroup any more.
    pub(super) fn forget_departed(&mut self, has_cgroup: impl Fn(&PodUid) -> bool) {
        let n_before = self.departed.len();
        self.departed.retain(|_, departed| {
            let Pod { uid, static_uid, .. } = &*departed.pod;
            has_cgroup(uid) || static_uid.as_ref().is_some_and(&has_cgroup)
        });
        self.is_stale |= self.departed.len() != n_before;
    }

    /// The pods as they are now.
    pub(super) fn view(&mut self, now: Instant) -> Arc<PodView> {
        if self.is_stale {
            self.attribute_all();
        }
        for key in &self.needed {
            self.owners.need(key, now);
        }
        Arc::clone(&self.view)
    }

    /// The objects that are to be read now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<ObjectKey> {
        self.view(now);
        self.owners.expire(now);
        self.owners.due(now)
    }

    /// When the next object is to be read.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.owners.next_due()
    }

    /// Whether an object is needed that was never asked for.
    pub(super) fn has_pending(&mut self, now: Instant) -> bool {
        self.view(now);
        self.owners.has_pending()
    }

    /// Takes the answer to a read.
    pub(super) fn answer(&mut self, key: &ObjectKey, answer: Result<Object, Unread>, now: Instant) {
        self.is_stale |= self.owners.answer(key, answer, now, &mut self.jitter);
    }

    pub(super) fn numbers(&self) -> StoreNumbers {
        StoreNumbers {
            n_live: self.pods.len(),
            n_departed: self.departed.len(),
            n_objects: self.owners.len(),
            n_pods_left_out: self.n_pods_left_out,
            n_departed_forgotten: self.n_departed_forgotten,
            n_objects_left_out: self.owners.n_left_out(),
        }
    }

    fn walk(&self) -> Walk<'_> {
        Walk { wanted: &self.wanted, owners: &self.owners, node: &self.node, needed: Vec::new() }
    }

    fn attribute_all(&mut self) {
        let mut walk = self.walk();
        let mut attributed = BTreeMap::new();
        for (uid, pod) in &self.pods {
            let new = walk.attribute(pod);
            // What did not change stays the same object, by which others know that it did not.
            let known = self.attributed.get(uid).filter(|known| ***known == new).map(Arc::clone);
            attributed.insert(uid.clone(), known.unwrap_or_else(|| Arc::new(new)));
        }
        self.needed = walk.needed.into_iter().collect();
        self.attributed = attributed;
        let live = self.attributed.values().cloned().collect();
        self.view = Arc::new(PodView::new(self.departed.values().cloned(), live));
        self.is_stale = false;
    }
}

/// Keeps the ids of earlier incarnations, whose cgroups may still be known.
fn remember_ids(pod: &mut Pod, known: &Pod) {
    for container in &mut pod.containers {
        let earlier = known
            .containers
            .iter()
            .find(|earlier| (&earlier.name, earlier.kind) == (&container.name, container.kind));
        for id in earlier.iter().flat_map(|earlier| &earlier.ids) {
            if container.ids.len() < MAX_INCARNATIONS && !container.ids.contains(id) {
                container.ids.push(id.clone());
            }
        }
    }
}

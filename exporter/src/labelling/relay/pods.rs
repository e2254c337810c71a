//! What the relay asks of attribution, and what it remembers of the answers: one row per pod, not per series.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    sync::Arc,
};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Attribution, as the relay asks it; the answers are of one moment.
pub trait Pods {
    /// Changes whenever an answer may have become another.
    fn version(&self) -> u64;

    /// The pod of that name.
    fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;

    /// Whose cgroup that path is.
    fn by_cgroup(&self, path: &str) -> CgroupOwner;
}

/// What the relay needs to know of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Labels that every series about it gets beside those two; no name stands twice.
    pub labels: Vec<(String, String)>,
}

/// Whose a cgroup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupOwner {
    /// No pod's.
    Node,
    /// A pod's that is not known, or not yet.
    UnknownPod,
    /// The pod's own, around its containers.
    Pod(Arc<Pod>),
    /// That of the pod's sandbox, the pause container.
    Sandbox(Arc<Pod>),
    /// One of the pod's containers, by name.
    Container(Arc<Pod>, String),
    /// One whose name is not known, or not yet, by id.
    Unnamed(Arc<Pod>, String),
}

impl CgroupOwner {
    /// The pod, if it is known.
    pub(super) fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Node | Self::UnknownPod => None,
            Self::Pod(pod)
            | Self::Sandbox(pod)
            | Self::Container(pod, _)
            | Self::Unnamed(pod, _) => Some(pod),
        }
    }
}

/// Most rows; a node has some hundred pods and some hundred containers. What finds no room is asked for each time.
const MAX_OWNERS: usize = 65_536;

/// A row's place.
pub(super) type OwnerIdx = u32;

/// The row of series that are about no pod.
pub(super) const NO_OWNER: OwnerIdx = 0;

/// How a series says whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerKey<'a> {
    /// By labels.
    Name { namespace: &'a str, pod: &'a str },
    /// By the cgroup's path.
    Cgroup(&'a str),
}

/// The rows.
#[derive(Debug)]
pub(super) struct Owners {
    rows: Vec<OwnerRow>,
    index: HashTable<OwnerIdx>,
    hasher: RandomState,
    version: Option<u64>,
    /// Labels that every series of the target gets, behind those of its pod.
    shared: Vec<(String, String)>,
}

/// What is known of one pod or cgroup.
#[derive(Debug)]
pub(super) struct OwnerRow {
    first_key: Box<str>,
    second_key: Box<str>,
    pub(super) owner: CgroupOwner,
    /// Rises with each other answer; what was made from an older one is void.
    pub(super) version: u32,
    /// `name="value",…}` of the labels that a series of this owner gets, to be put behind its own; empty for none.
    pub(super) suffix: Vec<u8>,
}

impl Owners {
    /// No rows but that of no pod.
    pub(super) fn new(shared: Vec<(String, String)>) -> Self {
        let mut owners = Self {
            rows: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            version: None,
            shared,
        };
        owners.clear();
        owners
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.rows.clear();
        self.rows.push(OwnerRow::new("", "", CgroupOwner::Node, &self.shared));
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Asks again for every row, if any answer may have changed.
    pub(super) fn refresh(&mut self, pods: &dyn Pods) {
        let version = pods.version();
        if self.version == Some(version) {
            return;
        }
        self.version = Some(version);
        for row in self.rows.iter_mut().skip(1) {
            let owner = ask(pods, row.key());
            if owner != row.owner {
                row.version = row.version.wrapping_add(1);
                row.suffix = suffix(&owner, &self.shared);
                row.owner = owner;
            }
        }
    }

    /// The row of that place.
    pub(super) fn get(&self, idx: OwnerIdx) -> Option<&OwnerRow> {
        self.rows.get(idx as usize)
    }

    /// The row for that key, made if there is none; nothing if there is no room.
    pub(super) fn find(&mut self, key: OwnerKey<'_>, pods: &dyn Pods) -> Option<OwnerIdx> {
        let hash = self.hash(key);
        let is_it = |idx: &OwnerIdx| self.get(*idx).is_some_and(|row| row.key() == key);
        if let Some(idx) = self.index.find(hash, is_it) {
            return Some(*idx);
        }
        if self.rows.len() >= MAX_OWNERS {
            return None;
        }
        let idx = OwnerIdx::try_from(self.rows.len()).ok()?;
        let (first, second) = key.parts();
        self.rows.push(OwnerRow::new(first, second, ask(pods, key), &self.shared));
        let Self { rows, index, hasher, .. } = self;
        let rehash =
            |idx: &OwnerIdx| rows.get(*idx as usize).map_or(0, |row| hash_key(hasher, row.key()));
        index.insert_unique(hash, idx, rehash);
        Some(idx)
    }

    fn hash(&self, key: OwnerKey<'_>) -> u64 {
        hash_key(&self.hasher, key)
    }
}

impl OwnerRow {
    fn new(first: &str, second: &str, owner: CgroupOwner, shared: &[(String, String)]) -> Self {
        Self {
            first_key: first.into(),
            second_key: second.into(),
            suffix: suffix(&owner, shared),
            owner,
            version: 0,
        }
    }

    fn key(&self) -> OwnerKey<'_> {
        // A pod has a namespace, and a path has no second part.
        if self.second_key.is_empty() {
            OwnerKey::Cgroup(&self.first_key)
        } else {
            OwnerKey::Name { namespace: &self.first_key, pod: &self.second_key }
        }
    }
}

impl<'a> OwnerKey<'a> {
    fn parts(self) -> (&'a str, &'a str) {
        match self {
            Self::Name { namespace, pod } => (namespace, pod),
            Self::Cgroup(path) => (path, ""),
        }
    }
}

fn hash_key(hasher: &RandomState, key: OwnerKey<'_>) -> u64 {
    let (first, second) = key.parts();
    let mut hasher = hasher.build_hasher();
    hasher.write(first.as_bytes());
    hasher.write_u8(0xff);
    hasher.write(second.as_bytes());
    hasher.finish()
}

/// Asks for one key.
pub(super) fn ask(pods: &dyn Pods, key: OwnerKey<'_>) -> CgroupOwner {
    match key {
        OwnerKey::Name { namespace, pod } => {
            pods.by_name(namespace, pod).map_or(CgroupOwner::UnknownPod, CgroupOwner::Pod)
        }
        OwnerKey::Cgroup(path) => pods.by_cgroup(path),
    }
}

fn suffix(owner: &CgroupOwner, shared: &[(String, String)]) -> Vec<u8> {
    let of_pod = owner.pod().map_or(&[][..], |pod| pod.labels.as_slice());
    let is_new = |(name, _): &&(String, String)| !of_pod.iter().any(|(known, _)| known == name);
    let mut out = Vec::new();
    for (name, value) in of_pod.iter().chain(shared.iter().filter(is_new)) {
        if !value.is_empty() {
            super::write::label(&mut out, name, value);
            out.push(b',');
        }
    }
    if let Some(last) = out.last_mut() {
        *last = b'}';
    }
    out
}

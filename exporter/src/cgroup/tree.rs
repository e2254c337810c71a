//! An immutable snapshot of the cgroups that exist and of those that ended a short while ago. No IO, no clock.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use crate::{cgroup::namespaces::NetworkNamespaces, subject::CgroupId};

/// Whether a cgroup still exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its directory was there when last seen.
    Live,
    /// It was removed; late values still resolve to it until the grace period is over.
    Dead {
        /// When its removal was noticed.
        since: Instant,
    },
}

/// One cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupEntry {
    /// The inode number of its directory, which is the kernel's id of it.
    pub id: CgroupId,
    /// Its path from the root of the hierarchy, `/` for the root itself. A renamed cgroup gets another `Arc`; as long
    /// as the path stays, so does the `Arc`.
    pub path: Arc<str>,
    /// Whether it still exists.
    pub state: State,
}

impl CgroupEntry {
    /// Whether its directory was there when last seen.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }
}

/// All cgroups of one hierarchy at one moment, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct CgroupTree {
    entries: BTreeMap<CgroupId, CgroupEntry>,
    /// The hierarchy that has the io controller, where it is another one.
    io: Option<Arc<CgroupTree>>,
    namespaces: Arc<NetworkNamespaces>,
    stamp: Stamp,
}

/// Tells one state of a tree from every other: two trees with the same stamp have the same contents.
#[derive(Clone, Debug, Default)]
pub struct Stamp(Arc<()>);

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        // Whoever compares holds both, so no address is used twice.
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Stamp {}

impl CgroupTree {
    /// Looks one up, dead or live.
    #[must_use]
    pub fn get(&self, id: CgroupId) -> Option<&CgroupEntry> {
        self.entries.get(&id)
    }

    /// All of them, dead and live.
    pub fn iter(&self) -> impl Iterator<Item = &CgroupEntry> {
        self.entries.values()
    }

    /// How many there are, dead and live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Another one after every change.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The hierarchy that has the io controller; this one, unless it has its own (cgroup v1).
    #[must_use]
    pub fn io(&self) -> &Self {
        self.own_io().unwrap_or(self)
    }

    /// The hierarchy that has the io controller, where it is another one.
    #[must_use]
    pub fn own_io(&self) -> Option<&Self> {
        self.io.as_deref()
    }

    /// Says that another hierarchy has the io controller.
    #[must_use]
    pub fn with_io(mut self, io: Arc<Self>) -> Self {
        self.put_io(io);
        self
    }

    pub(super) fn put_io(&mut self, io: Arc<Self>) {
        self.stamp = Stamp::default();
        self.io = Some(io);
    }

    /// The network namespaces of their processes; empty where they are not looked for.
    #[must_use]
    pub fn namespaces(&self) -> &Arc<NetworkNamespaces> {
        &self.namespaces
    }

    pub(crate) fn set_namespaces(&mut self, namespaces: Arc<NetworkNamespaces>) {
        self.stamp = Stamp::default();
        self.namespaces = namespaces;
    }

    pub(super) fn put(&mut self, entry: CgroupEntry) {
        self.stamp = Stamp::default();
        self.entries.insert(entry.id, entry);
    }

    pub(super) fn remove(&mut self, id: CgroupId) {
        self.stamp = Stamp::default();
        self.entries.remove(&id);
    }
}

impl FromIterator<CgroupEntry> for CgroupTree {
    fn from_iter<I: IntoIterator<Item = CgroupEntry>>(entries: I) -> Self {
        let mut tree = Self::default();
        for entry in entries {
            tree.put(entry);
        }
        tree
    }
}

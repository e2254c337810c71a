//! The bookkeeping behind [`CgroupTree`]: who is live at which path, who died when, and how many fit. No IO, no clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    mem,
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    cgroup::{
        namespaces::NetworkNamespaces,
        tree::{CgroupEntry, CgroupTree, State},
    },
    subject::CgroupId,
};

/// What came of a cgroup that was seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It is in the tree. The cgroups that had its path before are dead now.
    Yes {
        /// Those that had its path before, and all below them.
        buried: Vec<CgroupId>,
    },
    /// The tree is full of live cgroups.
    NoRoom,
}

/// The writable side of the tree.
#[derive(Debug)]
pub(super) struct Roster {
    /// Written in place where nobody else holds it, copied once where somebody does.
    tree: Arc<CgroupTree>,
    live: BTreeMap<Arc<str>, CgroupId>,
    dead: BTreeSet<(Instant, CgroupId)>,
    freed: Vec<CgroupId>,
    max_cgroups: usize,
}

impl Roster {
    pub(super) fn new(max_cgroups: usize) -> Self {
        Self {
            tree: Arc::default(),
            live: BTreeMap::new(),
            dead: BTreeSet::new(),
            freed: Vec::new(),
            max_cgroups,
        }
    }

    pub(super) fn tree(&self) -> &Arc<CgroupTree> {
        &self.tree
    }

    /// Keeps the tree of the hierarchy that has the io controller in this one.
    pub(super) fn put_io(&mut self, io: &Arc<CgroupTree>) {
        if self.tree.own_io().is_none_or(|known| known.stamp() != io.stamp()) {
            Arc::make_mut(&mut self.tree).put_io(Arc::clone(io));
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.live.len() < self.max_cgroups
    }

    /// The live cgroup at a path.
    pub(super) fn at(&self, path: &str) -> Option<CgroupId> {
        self.live.get(path).copied()
    }

    /// A cgroup was seen at a path: a new one, a known one, or a renamed one.
    pub(super) fn admit(&mut self, id: CgroupId, path: &str, now: Instant) -> Admitted {
        let known_at = self.at(path);
        if known_at == Some(id) {
            return Admitted::Yes { buried: Vec::new() };
        }
        let buried = if known_at.is_some() { self.bury(path, now) } else { Vec::new() };
        if self.tree.get(id).is_none() && self.tree.len() >= self.max_cgroups && !self.evict() {
            return Admitted::NoRoom;
        }
        match self.tree.get(id).map(|entry| (entry.state, Arc::clone(&entry.path))) {
            Some((State::Live, old_path)) => {
                self.live.remove(&old_path);
            }
            Some((State::Dead { since }, _)) => {
                self.dead.remove(&(since, id));
            }
            None => {}
        }
        let path: Arc<str> = Arc::from(path);
        self.live.insert(Arc::clone(&path), id);
        Arc::make_mut(&mut self.tree).put(CgroupEntry { id, path, state: State::Live });
        Admitted::Yes { buried }
    }

    /// The cgroup at a path is gone, and with it all below. Gives the ids of those that died by it.
    pub(super) fn bury(&mut self, path: &str, now: Instant) -> Vec<CgroupId> {
        let below = format!("{path}/");
        let mut paths: Vec<Arc<str>> = self
            .live
            .range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded))
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&below))
            .cloned()
            .collect();
        paths.extend(self.live.get_key_value(path).map(|(path, _)| Arc::clone(path)));
        paths.into_iter().filter_map(|path| self.bury_one(path, now)).collect()
    }

    /// Whoever is not among the seen is gone.
    pub(super) fn bury_unseen(&mut self, seen: &HashSet<CgroupId>, now: Instant) -> Vec<CgroupId> {
        let unseen: Vec<Arc<str>> = self
            .live
            .iter()
            .filter(|(_, id)| !seen.contains(id))
            .map(|(path, _)| Arc::clone(path))
            .collect();
        unseen.into_iter().filter_map(|path| self.bury_one(path, now)).collect()
    }

    /// Frees those that have been dead for the whole grace period.
    pub(super) fn expire(&mut self, now: Instant, grace: Duration) {
        while let Some(&(since, _)) = self.dead.first()
            && now.saturating_duration_since(since) >= grace
        {
            self.evict();
        }
    }

    /// What the tree says of network namespaces from now on; the tree is not touched where that is the same.
    pub(super) fn set_namespaces(&mut self, namespaces: Arc<NetworkNamespaces>) {
        if !Arc::ptr_eq(self.tree.namespaces(), &namespaces) {
            Arc::make_mut(&mut self.tree).set_namespaces(namespaces);
        }
    }

    /// Those that were freed since this was last asked.
    pub(super) fn take_freed(&mut self) -> Vec<CgroupId> {
        mem::take(&mut self.freed)
    }

    fn bury_one(&mut self, path: Arc<str>, now: Instant) -> Option<CgroupId> {
        let id = self.live.remove(&path)?;
        self.dead.insert((now, id));
        let state = State::Dead { since: now };
        Arc::make_mut(&mut self.tree).put(CgroupEntry { id, path, state });
        Some(id)
    }

    /// Frees the one that has been dead for longest, if any is dead.
    fn evict(&mut self) -> bool {
        let Some((_, id)) = self.dead.pop_first() else {
            return false;
        };
        Arc::make_mut(&mut self.tree).remove(id);
        self.freed.push(id);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{Admitted, Roster};
    use crate::{cgroup::tree::State, subject::CgroupId};

    const GRACE: Duration = Duration::from_mins(10);

    fn admit(roster: &mut Roster, id: u64, path: &str, now: Instant) -> Vec<u64> {
        match roster.admit(CgroupId(id), path, now) {
            Admitted::Yes { buried } => buried.into_iter().map(|id| id.0).collect(),
            Admitted::NoRoom => panic!("no room for {path}"),
        }
    }

    /// `id path` of the live, `id path +` of the dead.
    fn contents(roster: &Roster) -> Vec<String> {
        let line = |entry: &super::CgroupEntry| {
            format!("{} {}{}", entry.id, entry.path, if entry.is_live() { "" } else { " +" })
        };
        roster.tree().iter().map(line).collect()
    }

    #[test]
    fn buries_a_subtree_and_frees_it_after_the_grace_period() {
        let start = Instant::now();
        let mut roster = Roster::new(10);
        for (id, path) in [(1, "/"), (2, "/a"), (3, "/a/b"), (4, "/a-b"), (5, "/ab"), (6, "/a/b/c")]
        {
            assert!(admit(&mut roster, id, path, start).is_empty());
        }
        let mut buried = roster.bury("/a", start);
        buried.sort_unstable();
        assert_eq!(buried, [CgroupId(2), CgroupId(3), CgroupId(6)]);
        assert!(roster.bury("/a", start).is_empty());
        assert_eq!(
            contents(&roster),
            ["1 /", "2 /a +", "3 /a/b +", "4 /a-b", "5 /ab", "6 /a/b/c +"]
        );

        let stamp = roster.tree().stamp().clone();
        roster.expire(start + GRACE.mul_f64(0.9), GRACE);
        assert!(roster.take_freed().is_empty());
        assert_eq!(roster.tree().stamp(), &stamp);

        roster.expire(start + GRACE, GRACE);
        assert_eq!(roster.take_freed(), [CgroupId(2), CgroupId(3), CgroupId(6)]);
        assert!(roster.take_freed().is_empty());
        assert_eq!(contents(&roster), ["1 /", "4 /a-b", "5 /ab"]);
    }

    #[test]
    fn the_same_path_with_a_new_id_is_a_new_cgroup() {
        let start = Instant::now();
        let mut roster = Roster::new(10);
        admit(&mut roster, 2, "/a", start);
        admit(&mut roster, 3, "/a/b", start);
        assert_eq!(admit(&mut roster, 7, "/a", start), [3, 2]);
        assert_eq!(contents(&roster), ["2 /a +", "3 /a/b +", "7 /a"]);
    }

    #[test]
    fn a_renamed_cgroup_keeps_its_id() {
        let start = Instant::now();
        let mut roster = Roster::new(10);
        admit(&mut roster, 2, "/a", start);
        admit(&mut roster, 2, "/z", start);
        assert_eq!(contents(&roster), ["2 /z"]);
        assert_eq!(roster.at("/a"), None);
        roster.bury("/z", start);
        admit(&mut roster, 2, "/y", start);
        assert_eq!(contents(&roster), ["2 /y"]);
        roster.expire(start + GRACE, GRACE);
        assert_eq!(contents(&roster), ["2 /y"]);
    }

    #[test]
    fn a_full_tree_gives_up_its_oldest_dead_first() {
        let start = Instant::now();
        let mut roster = Roster::new(3);
        for (id, path) in [(1, "/a"), (2, "/b"), (3, "/c")] {
            admit(&mut roster, id, path, start);
        }
        assert_eq!(roster.admit(CgroupId(4), "/d", start), Admitted::NoRoom);
        roster.bury("/b", start + Duration::from_secs(1));
        roster.bury("/a", start + Duration::from_secs(2));
        admit(&mut roster, 4, "/d", start + Duration::from_secs(3));
        assert_eq!(roster.take_freed(), [CgroupId(2)]);
        assert_eq!(contents(&roster), ["1 /a +", "3 /c", "4 /d"]);
    }

    #[test]
    fn what_was_not_seen_again_is_dead() {
        let start = Instant::now();
        let mut roster = Roster::new(10);
        admit(&mut roster, 1, "/", start);
        admit(&mut roster, 2, "/a", start);
        let buried = roster.bury_unseen(&HashSet::from([CgroupId(1)]), start);
        assert_eq!(buried, [CgroupId(2)]);
        assert_eq!(contents(&roster), ["1 /", "2 /a +"]);
    }

    #[test]
    fn a_snapshot_that_was_handed_out_stays_as_it_is() {
        let start = Instant::now();
        let mut roster = Roster::new(10);
        admit(&mut roster, 1, "/a", start);
        let snapshot = Arc::clone(roster.tree());
        let path = Arc::clone(&snapshot.get(CgroupId(1)).unwrap().path);

        admit(&mut roster, 1, "/a", start);
        assert!(Arc::ptr_eq(&snapshot, roster.tree()), "nothing changed, nothing copied");

        roster.bury("/a", start);
        assert_eq!(snapshot.get(CgroupId(1)).unwrap().state, State::Live);
        let entry = roster.tree().get(CgroupId(1)).unwrap();
        assert_eq!(entry.state, State::Dead { since: start });
        assert!(Arc::ptr_eq(&entry.path, &path));
        assert_ne!(snapshot.stamp(), roster.tree().stamp());
    }
}

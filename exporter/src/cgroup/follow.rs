//! Follows the cgroups of all hierarchies that something is measured in: the one with the cpu controller and, where that
//! is another one, the one with the io controller.
//!
//! On cgroup v2 both are one. On v1 a container has a cgroup in each, under the same path but with an id of its own, so
//! the same number means different cgroups in the two.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use crate::{
    caps::privileged::Privileged,
    cgroup::{
        hierarchy::Hierarchy,
        tree::CgroupTree,
        watch::{CgroupWatcher, DEAD_GRACE, WatchError, WatchStats},
    },
    subject::Subject,
};

/// All cgroups that something is measured in.
#[derive(Debug)]
pub struct CgroupFollower {
    cpu: CgroupWatcher,
    io: Io,
}

/// Where the io controller is.
#[derive(Debug)]
enum Io {
    /// In the hierarchy that has the cpu controller.
    Shared,
    /// In another one.
    Own(Box<CgroupWatcher>),
    /// Nowhere to be seen: no cgroup is known by its id there.
    Hidden,
}

/// What a refresh found.
#[derive(Debug, Default)]
pub struct Followed {
    /// The cgroups as they are now.
    pub tree: Arc<CgroupTree>,
    /// Those that left the tree since the last refresh: whatever is kept by their ids can go.
    pub freed: Vec<Subject>,
    /// What could not be done as it should.
    pub stats: WatchStats,
}

/// Why the io controller's hierarchy is not followed.
#[derive(Debug, thiserror::Error)]
pub enum HiddenIo {
    /// It is not mounted.
    #[error(
        "no cgroup hierarchy with the io controller is mounted, so block IO is in one remainder; mount the host's \
         /sys/fs/cgroup/blkio"
    )]
    NotMounted,
    /// It cannot be read.
    #[error(
        "cannot follow the cgroups of the io controller at {path}, so block IO is in one remainder"
    )]
    Unreadable {
        /// Where it is mounted.
        path: PathBuf,
        /// Why.
        source: WatchError,
    },
}

impl CgroupFollower {
    /// Reads the hierarchies once and watches them, up to so many cgroups in each; the second value says why block IO has no owners, if that is so.
    pub fn start(
        cpu: &Hierarchy,
        io: Option<&Hierarchy>,
        max_cgroups: usize,
        now: Instant,
    ) -> Result<(Self, Option<HiddenIo>), WatchError> {
        let watch = |hierarchy: &Hierarchy| {
            CgroupWatcher::start(hierarchy.mount_point.clone(), DEAD_GRACE, max_cgroups, now)
        };
        let mut cpu_watcher = watch(cpu)?;
        let (io, hidden) = match io {
            None => (Io::Hidden, Some(HiddenIo::NotMounted)),
            Some(io) if io.is_same_as(cpu) => (Io::Shared, None),
            Some(io) => match watch(io) {
                Ok(watcher) => (Io::Own(Box::new(watcher)), None),
                Err(source) => {
                    let path = io.mount_point.clone();
                    (Io::Hidden, Some(HiddenIo::Unreadable { path, source }))
                }
            },
        };
        match &io {
            Io::Shared => {}
            Io::Own(watcher) => cpu_watcher.put_io(watcher.tree()),
            // Without a tree of its own its ids would be taken for those of the other hierarchy.
            Io::Hidden => cpu_watcher.put_io(&Arc::default()),
        }
        Ok((Self { cpu: cpu_watcher, io }, hidden))
    }

    /// Looks for the network namespaces of the cgroups' processes, too, in the host's procfs.
    #[must_use]
    pub fn with_namespaces(self, privileged: Privileged, proc: &Path) -> Self {
        Self { cpu: self.cpu.with_namespaces(privileged, proc), ..self }
    }

    /// Takes in what came and went since the last call: whoever has been measured meanwhile is known, or gone again.
    ///
    /// Those that make room for others by it are told as freed by the next [`Self::refresh`].
    pub fn catch_up(&mut self, now: Instant) -> Followed {
        let mut stats = WatchStats::default();
        if let Io::Own(io) = &mut self.io {
            io.catch_up(now);
            self.cpu.put_io(io.tree());
            stats.add(io.stats());
        }
        self.cpu.catch_up(now);
        stats.add(self.cpu.stats());
        Followed { tree: Arc::clone(self.cpu.tree()), freed: Vec::new(), stats }
    }

    /// Takes in what happened since the last call; see [`CgroupWatcher::refresh`].
    pub fn refresh(&mut self, now: Instant) -> Followed {
        let mut freed = Vec::new();
        let mut stats = WatchStats::default();
        if let Io::Own(io) = &mut self.io {
            let refreshed = io.refresh(now);
            self.cpu.put_io(&refreshed.tree);
            freed.extend(refreshed.freed.into_iter().map(Subject::IoCgroup));
            stats.add(io.stats());
        }
        let refreshed = self.cpu.refresh(now);
        stats.add(self.cpu.stats());
        if matches!(self.io, Io::Shared) {
            freed.extend(refreshed.freed.iter().copied().map(Subject::IoCgroup));
        }
        freed.extend(refreshed.freed.into_iter().map(Subject::Cgroup));
        Followed { tree: refreshed.tree, freed, stats }
    }

    /// Why cgroups may come and go unnoticed at present, for the operator.
    #[must_use]
    pub fn problem(&self) -> Option<&WatchError> {
        let of_io = || match &self.io {
            Io::Own(io) => io.problem(),
            Io::Shared | Io::Hidden => None,
        };
        self.cpu.problem().or_else(of_io)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Instant};

    use super::{CgroupFollower, HiddenIo};
    use crate::{
        cgroup::{
            hierarchy::{Hierarchy, Version},
            watch::DEAD_GRACE,
        },
        subject::{CgroupId, Subject},
    };

    fn hierarchy(mount_point: &Path) -> Hierarchy {
        let version = Version::V1;
        Hierarchy { version, mount_point: mount_point.to_owned(), mount_root: "/".into() }
    }

    fn make(root: &Path, name: &str) -> CgroupId {
        let dir = root.join(name);
        fs::create_dir(&dir).unwrap();
        CgroupId(fs::metadata(&dir).unwrap().ino())
    }

    #[test]
    fn two_hierarchies_are_followed_side_by_side() {
        let (cpu, io) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cpu_id = make(cpu.path(), "a");
        let now = Instant::now();
        let (mut follower, hidden) =
            CgroupFollower::start(&hierarchy(cpu.path()), Some(&hierarchy(io.path())), 100, now)
                .unwrap();
        assert!(hidden.is_none());
        let before = follower.refresh(now);
        assert_eq!(before.tree.io().len(), 1, "the root alone");

        let io_id = make(io.path(), "a");
        let after = follower.refresh(now);
        assert_eq!(&*after.tree.io().get(io_id).unwrap().path, "/a");
        assert!(after.tree.get(cpu_id).is_some());
        assert_ne!(after.tree.stamp(), before.tree.stamp());
        assert_eq!(follower.refresh(now).tree.stamp(), after.tree.stamp());

        for root in [&cpu, &io] {
            fs::remove_dir(root.path().join("a")).unwrap();
        }
        assert!(follower.refresh(now).freed.is_empty());
        let freed = follower.refresh(now + DEAD_GRACE).freed;
        assert_eq!(freed, [Subject::IoCgroup(io_id), Subject::Cgroup(cpu_id)]);
    }

    #[test]
    fn one_hierarchy_for_both_frees_both() {
        let root = tempfile::tempdir().unwrap();
        let id = make(root.path(), "a");
        let (now, hierarchy) = (Instant::now(), hierarchy(root.path()));
        let (mut follower, hidden) =
            CgroupFollower::start(&hierarchy, Some(&hierarchy), 100, now).unwrap();
        assert!(hidden.is_none());
        assert!(follower.refresh(now).tree.io().get(id).is_some());
        fs::remove_dir(root.path().join("a")).unwrap();
        follower.refresh(now);
        let freed = follower.refresh(now + DEAD_GRACE).freed;
        assert_eq!(freed, [Subject::IoCgroup(id), Subject::Cgroup(id)]);
    }

    #[test]
    fn without_the_io_hierarchy_no_id_of_it_is_known() {
        let root = tempfile::tempdir().unwrap();
        let id = make(root.path(), "a");
        let (now, cpu) = (Instant::now(), hierarchy(root.path()));
        let check = |io: Option<&Hierarchy>| {
            let (mut follower, hidden) = CgroupFollower::start(&cpu, io, 100, now).unwrap();
            let tree = follower.refresh(now).tree;
            assert!(tree.get(id).is_some() && tree.io().get(id).is_none());
            hidden.unwrap()
        };
        assert!(matches!(check(None), HiddenIo::NotMounted));
        let gone = hierarchy(&root.path().join("gone"));
        assert!(matches!(check(Some(&gone)), HiddenIo::Unreadable { .. }));
    }
}

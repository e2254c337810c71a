//! Follows the cgroups of one hierarchy: one walk at start, then inotify, so that a collection never reads the tree.
//!
//! kernfs reports mkdir, rmdir and (v1) rename by user space, and only user space makes cgroups. An event only says
//! where to look: every one leads to a fresh look at that path, so their order does not matter. The race between mkdir
//! and the watch is closed by listing a directory after it is watched.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use inotify::Inotify;

use crate::{
    caps::privileged::Privileged,
    cgroup::{
        is_vanished,
        namespaces::NamespaceFinder,
        roster::{Admitted, Roster},
        tree::CgroupTree,
        watches::{Happening, Watches},
    },
    subject::CgroupId,
};

/// How long a removed cgroup stays in the tree, so that late values still resolve to it.
pub const DEAD_GRACE: Duration = Duration::from_mins(10);

/// Cgroups in the tree, dead ones included; the oldest dead make room first. A node has 110 pods by default and the
/// kubelet's tested limits end at 500: a few thousand cgroups.
pub const MAX_CGROUPS: usize = 16_384;

/// Where events are not enough (no watch left, cgroups left out), the tree is read again, but no more often than this:
/// reading 500 cgroups costs about as much as a collection may.
const RESCAN_EVERY: Duration = Duration::from_secs(15);

/// What the watcher could not do as it should; all rise only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchStats {
    /// Times that the whole tree was read again.
    pub rescans: u64,
    /// Times that the kernel's event queue overflowed.
    pub overflows: u64,
    /// Directories that could not be watched, counted at each attempt.
    pub watch_failures: u64,
    /// Cgroups that were left out, counted each time that they were seen: the tree had no room, or the name is not
    /// UTF-8, which no runtime gives and no label could hold.
    pub over_cap: u64,
}

impl WatchStats {
    /// Adds those of another watcher.
    pub(super) fn add(&mut self, other: Self) {
        self.rescans += other.rescans;
        self.overflows += other.overflows;
        self.watch_failures += other.watch_failures;
        self.over_cap += other.over_cap;
    }
}

/// Why cgroups may come and go unnoticed until the tree is read again.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A directory cannot be listed.
    #[error("failed to list the cgroups in {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no inotify instance.
    #[error(
        "failed to start inotify, so new cgroups are found by reading the tree every {} s; raise \
         fs.inotify.max_user_instances (`sysctl -w fs.inotify.max_user_instances=512`) or the limit of open files",
        RESCAN_EVERY.as_secs()
    )]
    NoInstance {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no watch.
    #[error(
        "no inotify watch is left for {}, so new cgroups are found by reading the tree every {} s; raise \
         fs.inotify.max_user_watches (`sysctl -w fs.inotify.max_user_watches=524288`)",
        path.display(),
        RESCAN_EVERY.as_secs()
    )]
    NoWatchLeft {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The events cannot be read.
    #[error("failed to read inotify events")]
    ReadEvents {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a refresh found.
#[derive(Debug)]
pub struct Refreshed {
    /// The cgroups as they are now; cheap to keep and to hand on.
    pub tree: Arc<CgroupTree>,
    /// Those that left the tree since the last refresh: whatever is kept by their ids can go.
    pub freed: Vec<CgroupId>,
}

/// Follows the cgroups below one directory. Its calls block on a pseudo file system: microseconds where nothing
/// changed, milliseconds where the tree is read again.
#[derive(Debug)]
pub struct CgroupWatcher {
    root: PathBuf,
    grace: Duration,
    max_cgroups: usize,
    roster: Roster,
    watches: Watches,
    namespaces: Option<NamespaceFinder>,
    stats: WatchStats,
    /// Why the tree is incomplete between rescans.
    problem: Option<WatchError>,
    /// Some cgroups found no room at the last rescan or since.
    left_out: bool,
    last_rescan: Instant,
}

impl CgroupWatcher {
    /// Watches the hierarchy mounted at `root` and reads it once. Production gives [`DEAD_GRACE`] and [`MAX_CGROUPS`].
    pub fn start(
        root: PathBuf,
        grace: Duration,
        max_cgroups: usize,
        now: Instant,
    ) -> Result<Self, WatchError> {
        Self::start_with(Inotify::init(), root, grace, max_cgroups, now)
    }

    fn start_with(
        inotify: io::Result<Inotify>,
        root: PathBuf,
        grace: Duration,
        max_cgroups: usize,
        now: Instant,
    ) -> Result<Self, WatchError> {
        let (inotify, problem) = match inotify {
            Ok(inotify) => (Some(inotify), None),
            Err(source) => (None, Some(WatchError::NoInstance { source })),
        };
        let mut watcher = Self {
            root,
            grace,
            max_cgroups,
            roster: Roster::new(max_cgroups),
            watches: Watches::new(inotify),
            namespaces: None,
            stats: WatchStats::default(),
            problem,
            left_out: false,
            last_rescan: now,
        };
        watcher.read_all(now)?;
        Ok(watcher)
    }

    /// Looks for the network namespaces of the cgroups' processes, too, in the host's procfs.
    #[must_use]
    pub fn with_namespaces(mut self, privileged: Privileged, proc: &Path) -> Self {
        self.namespaces = Some(NamespaceFinder::new(privileged, proc, self.root.clone()));
        self
    }

    /// Takes in what happened since the last call. Does not wait, and where nothing happened, it costs one `read`.
    pub fn refresh(&mut self, now: Instant) -> Refreshed {
        self.catch_up(now);
        self.roster.expire(now, self.grace);
        let incomplete = self.problem.is_some() || (self.left_out && self.roster.has_room());
        if incomplete && now.saturating_duration_since(self.last_rescan) >= RESCAN_EVERY {
            self.rescan(now);
        }
        if let Some(namespaces) = &mut self.namespaces {
            let found = namespaces.refresh(self.roster.tree());
            self.roster.set_namespaces(found);
        }
        Refreshed { tree: Arc::clone(self.roster.tree()), freed: self.roster.take_freed() }
    }

    /// Takes in what came and went since the last call, and no more: nobody is freed by it.
    pub fn catch_up(&mut self, now: Instant) {
        match self.watches.drain() {
            Ok(happenings) => self.take_in(happenings, now),
            Err(source) => self.problem = Some(WatchError::ReadEvents { source }),
        }
    }

    /// Keeps the tree of the hierarchy that has the io controller in this one's.
    pub(super) fn put_io(&mut self, io: &Arc<CgroupTree>) {
        self.roster.put_io(io);
    }

    /// The cgroups as of the last refresh.
    #[must_use]
    pub fn tree(&self) -> &Arc<CgroupTree> {
        self.roster.tree()
    }

    /// What could not be done as it should.
    #[must_use]
    pub fn stats(&self) -> WatchStats {
        self.stats
    }

    /// Why cgroups may come and go unnoticed at present, for the operator.
    #[must_use]
    pub fn problem(&self) -> Option<&WatchError> {
        self.problem.as_ref()
    }

    fn take_in(&mut self, happenings: Vec<Happening>, now: Instant) {
        if happenings.contains(&Happening::Overflow) {
            // Which events were lost is unknown; the full look makes the others superfluous.
            self.stats.overflows += 1;
            self.rescan(now);
            return;
        }
        for happening in happenings {
            let Happening::Changed { parent, name } = happening else {
                continue;
            };
            let Some(entry) = self.roster.tree().get(parent).filter(|entry| entry.is_live()) else {
                continue;
            };
            let path = child_path(&entry.path, &name);
            self.look_at(path, now);
        }
    }

    /// Makes the tree agree with what is at a path now.
    fn look_at(&mut self, path: String, now: Instant) {
        let dir = self.dir(&path);
        match fs::symlink_metadata(&dir) {
            Ok(metadata) if metadata.is_dir() => {
                let id = CgroupId(metadata.ino());
                if self.roster.at(&path) != Some(id) || !self.watches.has(id) {
                    self.walk(path, id, now);
                }
            }
            Ok(_) => self.bury(&path, now),
            Err(error) if is_vanished(&error) => self.bury(&path, now),
            Err(source) => self.problem = Some(WatchError::List { path: dir, source }),
        }
    }

    fn bury(&mut self, path: &str, now: Instant) {
        for id in self.roster.bury(path, now) {
            self.watches.remove(id);
        }
    }

    fn rescan(&mut self, now: Instant) {
        self.stats.rescans += 1;
        self.last_rescan = now;
        // Whatever it was may have passed.
        if let Some(WatchError::NoInstance { .. }) = self.problem.take() {
            match Inotify::init() {
                Ok(inotify) => self.watches = Watches::new(Some(inotify)),
                Err(source) => self.problem = Some(WatchError::NoInstance { source }),
            }
        }
        if let Err(error) = self.read_all(now) {
            self.problem = Some(error);
        }
    }

    /// Reads the whole tree; who is not in it any more is dead.
    fn read_all(&mut self, now: Instant) -> Result<(), WatchError> {
        self.left_out = false;
        let metadata = fs::metadata(&self.root)
            .map_err(|source| WatchError::List { path: self.root.clone(), source })?;
        let walked = self.walk("/".to_owned(), CgroupId(metadata.ino()), now);
        // What lies in a directory that could not be listed is unseen, not gone.
        if walked.is_complete {
            for id in self.roster.bury_unseen(&walked.seen, now) {
                self.watches.remove(id);
            }
        }
        Ok(())
    }

    /// Admits and watches a cgroup and all below it.
    fn walk(&mut self, path: String, id: CgroupId, now: Instant) -> Walked {
        let mut walked = Walked { seen: HashSet::new(), is_complete: true };
        let mut open = vec![(path, id)];
        while let Some((path, id)) = open.pop() {
            match self.roster.admit(id, &path, now) {
                Admitted::NoRoom => {
                    self.leave_out();
                    continue;
                }
                Admitted::Yes { buried } => {
                    for id in buried {
                        self.watches.remove(id);
                    }
                }
            }
            walked.seen.insert(id);
            let dir = self.dir(&path);
            self.watch(id, &dir);
            match self.list(&path, &dir, &mut open) {
                Ok(is_complete) => walked.is_complete &= is_complete,
                Err(error) if is_vanished(&error) => {}
                Err(source) => {
                    walked.is_complete = false;
                    self.problem = Some(WatchError::List { path: dir, source });
                }
            }
        }
        walked
    }

    fn watch(&mut self, id: CgroupId, dir: &Path) {
        if self.watches.has(id) {
            return;
        }
        match self.watches.add(id, dir) {
            Ok(()) => {}
            Err(error) if is_vanished(&error) => {}
            Err(source) => {
                self.stats.watch_failures += 1;
                // The first failure is the one to show, and a missing instance explains them all.
                if self.problem.is_none() {
                    self.problem = Some(WatchError::NoWatchLeft { path: dir.to_owned(), source });
                }
            }
        }
    }

    /// Adds the directories in one to those that are still to be walked, as far as there is room for them.
    fn list(
        &mut self,
        path: &str,
        dir: &Path,
        open: &mut Vec<(String, CgroupId)>,
    ) -> io::Result<bool> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // Type and number come with the listing: no further system call per entry.
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                self.stats.over_cap += 1;
                continue;
            };
            if open.len() >= self.max_cgroups {
                self.leave_out();
                return Ok(false);
            }
            open.push((child_path(path, name), CgroupId(entry.ino())));
        }
        Ok(true)
    }

    fn leave_out(&mut self) {
        self.stats.over_cap += 1;
        self.left_out = true;
    }

    fn dir(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// What a walk saw.
struct Walked {
    seen: HashSet<CgroupId>,
    /// Every directory was listed to its end.
    is_complete: bool,
}

fn child_path(parent: &str, name: &str) -> String {
    let parent = parent.trim_end_matches('/');
    format!("{parent}/{name}")
}

#[cfg(test)]
mod tests;

//! The inotify watches: one per directory of the hierarchy, and whose they are.

use std::{collections::HashMap, io, path::Path};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tracing::debug;

use crate::subject::CgroupId;

/// What one `read` can take: events with names of 64 digits are 96 bytes long.
const BUFFER_BYTES: usize = 8192;

/// Reads per drain; what is left waits for the next one. The kernel's queue ends at
/// `fs.inotify.max_queued_events`, 16384 by default: 192 reads of such events.
const MAX_READS: usize = 256;

/// What happened to a directory of the hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// A directory of this name came or went; which of the two, only a look can tell.
    Changed {
        /// Where.
        parent: CgroupId,
        /// The name; one that is not UTF-8 is no event.
        name: String,
    },
    /// The kernel lost events.
    Overflow,
}

/// All watches of one hierarchy.
#[derive(Debug)]
pub(super) struct Watches {
    /// `None` where the kernel gave no instance.
    inotify: Option<Inotify>,
    owners: HashMap<i32, CgroupId>,
    descriptors: HashMap<CgroupId, WatchDescriptor>,
    buffer: Vec<u8>,
}

impl Watches {
    /// Without an instance nothing can be watched, and everything else works.
    pub(super) fn new(inotify: Option<Inotify>) -> Self {
        Self {
            inotify,
            owners: HashMap::new(),
            descriptors: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Whether a cgroup's directory is watched.
    pub(super) fn has(&self, id: CgroupId) -> bool {
        self.descriptors.contains_key(&id)
    }

    /// Watches a directory for others that come and go in it.
    pub(super) fn add(&mut self, id: CgroupId, path: &Path) -> io::Result<()> {
        let Some(inotify) = &self.inotify else {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        };
        let mask = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::ONLYDIR;
        let descriptor = inotify.watches().add(path, mask)?;
        self.owners.insert(descriptor.get_watch_descriptor_id(), id);
        self.descriptors.insert(id, descriptor);
        Ok(())
    }

    /// Ends the watch of a cgroup that is gone.
    ///
    /// On other file systems the kernel does that by itself. On kernfs the watch stays, and holds the inode, until the
    /// instance is closed: after five rmdir, /proc/self/fdinfo still listed five watches (Linux 6.18, v1 and v2).
    pub(super) fn remove(&mut self, id: CgroupId) {
        let Some(descriptor) = self.descriptors.remove(&id) else {
            return;
        };
        self.owners.remove(&descriptor.get_watch_descriptor_id());
        let Some(inotify) = &self.inotify else { return };
        if let Err(error) = inotify.watches().remove(descriptor) {
            debug!(cgroup_id = %id, %error, "the kernel had already ended the watch");
        }
    }

    /// Takes what has happened since the last call, without waiting.
    pub(super) fn drain(&mut self) -> io::Result<Vec<Happening>> {
        let mut happenings = Vec::new();
        let mut ended = Vec::new();
        let Some(inotify) = &mut self.inotify else {
            return Ok(happenings);
        };
        for _ in 0..MAX_READS {
            let events = match inotify.read_events(&mut self.buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for event in events {
                let owner = event.wd.get_watch_descriptor_id();
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    happenings.push(Happening::Overflow);
                } else if event.mask.contains(EventMask::IGNORED) {
                    ended.push(owner);
                } else if event.mask.contains(EventMask::ISDIR)
                    && let Some(&parent) = self.owners.get(&owner)
                    && let Some(name) = event.name.and_then(|name| name.to_str())
                {
                    happenings.push(Happening::Changed { parent, name: name.to_owned() });
                }
            }
        }
        for descriptor in ended {
            self.forget(descriptor);
        }
        Ok(happenings)
    }

    /// The kernel ended a watch by itself.
    fn forget(&mut self, ended: i32) {
        let Some(id) = self.owners.remove(&ended) else {
            return;
        };
        // Where inode numbers are used again, the cgroup may have a newer watch by now.
        if self.descriptors.get(&id).is_some_and(|it| it.get_watch_descriptor_id() == ended) {
            self.descriptors.remove(&id);
        }
    }
}

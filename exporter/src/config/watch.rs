//! Tells when the configuration file has other bytes: it was edited in place or by a rename, or the kubelet swapped the
//! symlink `..data` of a mounted `ConfigMap`.
//!
//! The folders of the file, and of each symlink on the way to it, are watched anew after every event, because the swap
//! puts others in their place. An event says only that it is time to look; once a minute it is, without one.

use std::{
    collections::{BTreeSet, HashSet},
    fs, future,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio::time;
use tracing::{debug, warn};

use super::{ConfigError, read};

/// How long after an event the file is looked at, so that what comes in several writes is whole.
const SETTLE: Duration = Duration::from_millis(200);

/// How often it is looked at without an event: the kernel may have no watch left, and a mount over the folder is none.
const POLL: Duration = Duration::from_mins(1);

/// Most symlinks on the way to the file that are followed; the kernel follows 40.
const MAX_LINKS: usize = 8;

/// Room for some events with names; what is left of them is taken in the next call.
const BUFFER_BYTES: usize = 4096;

/// The file and what it had.
#[derive(Debug)]
pub struct FileWatch {
    file: PathBuf,
    /// None where the kernel gave no instance.
    events: Option<EventStream<Vec<u8>>>,
    watched: HashSet<WatchDescriptor>,
    /// Its text, or why it could not be read.
    seen: Result<String, String>,
}

impl FileWatch {
    /// Begins to watch a file of which `seen` is known; needs a runtime.
    #[must_use]
    pub fn start(file: &Path, seen: &str) -> Self {
        let events =
            Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER_BYTES]));
        let events = events.inspect_err(|error| {
            warn!(%error, "changes of the configuration file are seen once a minute only");
        });
        Self {
            file: file.into(),
            events: events.ok(),
            watched: HashSet::new(),
            seen: Ok(seen.into()),
        }
    }

    /// Another look found this text, so that it is no change any more.
    pub fn note(&mut self, text: String) {
        self.seen = Ok(text);
    }

    /// Waits until the file has another text than it had, or cannot be read where it could.
    pub async fn changed(&mut self) {
        loop {
            // In this order: what comes after the look is an event.
            self.arm();
            let now = read(&self.file).map_err(|error: ConfigError| error.to_string());
            if now != self.seen {
                self.seen = now;
                return;
            }
            self.wait().await;
        }
    }

    /// Watches the folders as they are now, and no others.
    fn arm(&mut self) {
        let Some(events) = &self.events else { return };
        let mut watches = events.watches();
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut armed = HashSet::new();
        for folder in folders(&self.file) {
            // One that is watched already gives the watch that there is.
            match watches.add(&folder, mask) {
                Ok(descriptor) => {
                    armed.insert(descriptor);
                }
                Err(error) => debug!(folder = %folder.display(), %error, "cannot be watched"),
            }
        }
        for descriptor in self.watched.difference(&armed) {
            // The kernel has ended those of folders that are gone.
            drop(watches.remove(descriptor.clone()));
        }
        self.watched = armed;
    }

    /// Waits for an event, or for the time to look without one.
    async fn wait(&mut self) {
        let Some(events) = &mut self.events else {
            return time::sleep(POLL).await;
        };
        tokio::select! {
            () = drain(events) => time::sleep(SETTLE).await,
            () = time::sleep(POLL) => {}
        }
    }
}

/// Waits for an event and takes all that there are; an instance that gives an error is as good as one without events.
async fn drain(events: &mut EventStream<Vec<u8>>) {
    match events.next().await {
        Some(Ok(_event)) => while let Some(Some(Ok(_event))) = events.next().now_or_never() {},
        Some(Err(_)) | None => future::pending().await,
    }
}

/// The folders that an event in can change what the path leads to.
fn folders(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut add = |file: &Path| {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        folders.extend(fs::canonicalize(folder.unwrap_or(Path::new("."))).ok());
    };
    let mut at = file.to_path_buf();
    for _ in 0..MAX_LINKS {
        add(&at);
        let Ok(target) = fs::read_link(&at) else { break };
        at = at.parent().unwrap_or(Path::new("")).join(target);
    }
    folders
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use tokio::time::timeout;

    use super::{FileWatch, POLL, SETTLE, folders};

    /// As the kubelet's `AtomicWriter` does it.
    fn swap(mount: &Path, version: &str, text: &str) {
        let data = mount.join(version);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("p.yaml"), text).unwrap();
        symlink(version, mount.join("..data_tmp")).unwrap();
        let before = fs::read_link(mount.join("..data")).ok();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        if let Some(before) = before {
            fs::remove_dir_all(mount.join(before)).unwrap();
        }
    }

    async fn check(watch: &mut FileWatch, expected: Result<&str, &str>) {
        // Shorter than the look that comes without an event.
        timeout(POLL / 2, watch.changed()).await.expect("an event came");
        match (&watch.seen, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (seen, _) => panic!("{seen:?}"),
        }
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = FileWatch::start(&file, "0");
        check(&mut watch, Ok("1")).await;
        fs::write(&file, "2").unwrap();
        check(&mut watch, Ok("2")).await;
        fs::write(dir.path().join("new"), "3").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        check(&mut watch, Ok("3")).await;
        fs::remove_file(&file).unwrap();
        check(&mut watch, Err("cannot read")).await;
        fs::write(&file, "4").unwrap();
        check(&mut watch, Ok("4")).await;
    }

    #[tokio::test]
    async fn what_another_look_found_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = FileWatch::start(&file, "0");
        watch.note("1".to_owned());
        assert!(timeout(2 * SETTLE, watch.changed()).await.is_err());
        fs::write(&file, "2").unwrap();
        check(&mut watch, Ok("2")).await;
    }

    #[tokio::test]
    async fn the_swap_of_a_mounted_config_map_is_seen_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.yaml");
        swap(dir.path(), "..2026_1", "1");
        symlink("..data/p.yaml", &file).unwrap();
        let mut watch = FileWatch::start(&file, "1");
        for (version, text) in [("..2026_2", "2"), ("..2026_3", "3"), ("..2026_4", "4")] {
            let seen = async {
                swap(dir.path(), version, text);
                check(&mut watch, Ok(text)).await;
            };
            seen.await;
            assert_eq!(watch.watched.len(), folders(&file).len(), "old folders are let go");
        }
        // Somebody edits what is mounted.
        fs::write(&file, "5").unwrap();
        check(&mut watch, Ok("5")).await;
    }
}

//! What tests need to work on the machine's own cgroups.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use crate::{cgroup::hierarchy::Hierarchy, paths::HostPaths};

/// A cgroup of the machine's own hierarchy, removed at the end with all below it.
pub(crate) struct RealCgroup {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) path: String,
    pub(crate) dir: PathBuf,
}

impl RealCgroup {
    /// `None`, with a printed reason, where the test cannot make one.
    pub(crate) fn make(name: &str) -> Option<Self> {
        let hierarchy = match Hierarchy::find(&HostPaths::default()) {
            Ok(hierarchy) => hierarchy,
            Err(error) => {
                println!("skipped: {error}");
                return None;
            }
        };
        let name = format!("podmeter-test-{name}-{}", process::id());
        let dir = hierarchy.mount_point.join(&name);
        match fs::create_dir(&dir) {
            Ok(()) => Some(Self { hierarchy, path: format!("/{name}"), dir }),
            Err(error) => {
                println!("skipped: cannot make {}: {error}", dir.display());
                None
            }
        }
    }
}

impl Drop for RealCgroup {
    fn drop(&mut self) {
        remove_cgroups(&self.dir);
    }
}

/// The files of a cgroup go with it; only its directories can be removed.
fn remove_cgroups(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|file_type| file_type.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    fs::remove_dir(dir).unwrap();
}

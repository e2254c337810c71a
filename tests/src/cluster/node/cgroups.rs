//! The cgroups of the pods, which are the machine's own, so that whoever watches it sees them.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::super::wait_at_the_end;

/// Where the kubelet has its pods' cgroups, in each hierarchy.
const PODS: &str = "kubepods";
const MOUNTS: &str = "/sys/fs/cgroup";

/// Removes what an earlier node left, or says why there can be none here.
pub(super) fn make_room() -> Result<Cgroups, String> {
    if !Path::new(MOUNTS).join("cpu").is_dir() {
        return Err("a node is started on cgroup v1 only".into());
    }
    for pods in all() {
        if let Err(error) = remove_tree(&pods) {
            return Err(format!("{}: {error}; is there a kubelet here?", pods.display()));
        }
    }
    Ok(Cgroups)
}

/// The pods' cgroups, which go with their owner, once nothing runs in them.
#[derive(Debug)]
pub(super) struct Cgroups;

impl Drop for Cgroups {
    fn drop(&mut self) {
        for pods in all() {
            wait_at_the_end("the pods' cgroups can be removed", || remove_tree(&pods).ok());
        }
    }
}

/// Lets cgroup v1 count IO on the disk of a folder: from 6.10 on it counts only where there is some limit.
pub(super) fn count_io(folder: &Path) {
    let device = fs::metadata(folder).expect("the folder is there").dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let limit = Path::new(MOUNTS).join("blkio").join(PODS).join("blkio.throttle.write_bps_device");
    // A folder on no disk, or on a part of one, has no counters then.
    if let Err(error) = fs::write(&limit, format!("{major}:{minor} 1000000000000")) {
        println!("report: node | no counts of IO | {}: {error}", limit.display());
    }
}

/// The pods' cgroup in each hierarchy that has one.
fn all() -> BTreeSet<PathBuf> {
    let hierarchies = fs::read_dir(MOUNTS).expect("cgroups are mounted");
    let pods = hierarchies.filter_map(|entry| Some(entry.ok()?.path().join(PODS)));
    // Some hierarchies are links to others.
    pods.filter_map(|pods| fs::canonicalize(pods).ok()).collect()
}

fn remove_tree(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_tree(&path)?;
        }
    }
    fs::remove_dir(cgroup)
}

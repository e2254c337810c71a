//! The cgroups of a node's pods, as the kubelet and a runtime make them, in every hierarchy whose files are read; nothing
//! runs in them.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::console;

/// The cgroup that holds all others, beside those of a kubelet that may run here.
pub(super) const NAME: &str = "podmeter-bench-peers";
/// In it, the one below which the kubelet has its pods, by whose name they are known.
const KUBEPODS: &str = "kubepods";

/// The controllers whose files somebody reads.
const CONTROLLERS: &[&str] = &["cpu", "cpuacct", "memory", "blkio", "io", "pids"];

/// The cgroups; dropping this removes them.
#[derive(Debug)]
pub(super) struct Pods {
    parents: Vec<PathBuf>,
    /// How many pods there are.
    pub(super) n_made: usize,
    /// How many cgroups there are in each hierarchy, but for the one that holds all.
    pub(super) n_cgroups: usize,
}

/// A place where cgroups are made.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    is_unified: bool,
}

impl Pods {
    /// Makes so many pods with so many containers each, and a sandbox.
    pub(super) fn create(n_pods: usize, n_containers: usize) -> Result<Self> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("failed to read the mounts")?;
        let hierarchies = hierarchies(&mounts);
        ensure!(!hierarchies.is_empty(), "no cgroup hierarchy with controllers is mounted");
        let parents = hierarchies.iter().map(|hierarchy| hierarchy.mount.join(NAME)).collect();
        let paths = paths(n_pods, n_containers);
        let n_cgroups = paths.len();
        let pods = Self { parents, n_made: n_pods, n_cgroups };
        for (hierarchy, parent) in hierarchies.iter().zip(&pods.parents) {
            let kubepods = parent.join(KUBEPODS);
            make(parent)?;
            make(&kubepods)?;
            if hierarchy.is_unified {
                [&hierarchy.mount, parent, &kubepods]
                    .into_iter()
                    .try_for_each(|cgroup| delegate(cgroup))?;
            }
            for path in &paths {
                let cgroup = kubepods.join(path);
                make(&cgroup)?;
                if !path.contains('/') && hierarchy.is_unified {
                    delegate(&cgroup)?;
                }
                limit(&cgroup)?;
            }
        }
        Ok(pods)
    }

    fn remove(&self) -> Result<()> {
        self.parents.iter().filter(|parent| parent.exists()).try_for_each(|parent| remove(parent))
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            console::note(&format!("{NAME} stays: {error:#}"));
        }
    }
}

/// All paths below the parent, each behind the one that holds it.
fn paths(n_pods: usize, n_containers: usize) -> Vec<String> {
    let mut paths = Vec::new();
    for pod in 0..n_pods {
        let pod_path = format!("pod{pod:08x}-0000-4000-8000-000000000000");
        paths.push(pod_path.clone());
        // The sandbox is the first.
        paths.extend((0..=n_containers).map(|idx| format!("{pod_path}/{pod:032x}{idx:032x}")));
    }
    paths
}

/// The unified hierarchy if it has controllers, else each of v1 that has one of those that are read.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let (mut unified, mut of_v1) = (None, Vec::new());
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let Some(mount) = mount.split_whitespace().nth(4).map(PathBuf::from) else { continue };
        let mut kind = kind.split_whitespace();
        let (kind, options) = (kind.next(), kind.nth(1).unwrap_or_default());
        if kind == Some("cgroup2") {
            unified = Some(mount);
        } else if kind == Some("cgroup")
            && options.split(',').any(|option| CONTROLLERS.contains(&option))
        {
            of_v1.push(Hierarchy { mount, is_unified: false });
        }
    }
    if of_v1.is_empty() {
        of_v1.extend(unified.map(|mount| Hierarchy { mount, is_unified: true }));
    }
    of_v1
}

/// Gives the cgroups below one the controllers that it has itself.
fn delegate(cgroup: &Path) -> Result<()> {
    let available = fs::read_to_string(cgroup.join("cgroup.controllers"))
        .with_context(|| format!("failed to read the controllers of {}", cgroup.display()))?;
    let wanted = available.split_whitespace().filter(|name| CONTROLLERS.contains(name));
    let wanted: Vec<String> = wanted.map(|name| format!("+{name}")).collect();
    fs::write(cgroup.join("cgroup.subtree_control"), wanted.join(" "))
        .with_context(|| format!("failed to delegate controllers in {}", cgroup.display()))
}

/// Half a CPU, as a pod with a limit has it, where the hierarchy is the one with the cpu controller.
fn limit(cgroup: &Path) -> Result<()> {
    for (file, text) in [("cpu.max", "50000 100000"), ("cpu.cfs_quota_us", "50000")] {
        let file = cgroup.join(file);
        if file.exists() {
            fs::write(&file, text)
                .with_context(|| format!("failed to write {}", file.display()))?;
        }
    }
    Ok(())
}

/// Makes a cgroup, or takes the one that an interrupted bench has left.
fn make(cgroup: &Path) -> Result<()> {
    if cgroup.is_dir() {
        return Ok(());
    }
    fs::create_dir(cgroup).with_context(|| format!("failed to create {}", cgroup.display()))
}

/// Removes a cgroup with all that are in it; the kernel may need a moment for one that was just left.
fn remove(cgroup: &Path) -> Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path)?;
        }
    }
    for _ in 0..20 {
        if fs::remove_dir(cgroup).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    fs::remove_dir(cgroup).with_context(|| format!("failed to remove {}", cgroup.display()))
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, hierarchies, paths};

    #[test]
    fn each_container_has_a_path_of_its_own_behind_its_pods() {
        let paths = paths(2, 4);
        assert_eq!(paths.len(), 2 * (1 + 1 + 4));
        let (pod, container) = (&paths[0], &paths[1]);
        assert!(pod.len() == "pod".len() + 36 && container.starts_with(&format!("{pod}/")));
        assert_eq!(container.len(), pod.len() + 1 + 64);
        let mut sorted = paths.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), paths.len());
    }

    #[test]
    fn all_hierarchies_that_are_read_are_found() {
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let found = |mount: &str, is_unified| Hierarchy { mount: mount.into(), is_unified };
        let of_v1 = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"];
        assert_eq!(hierarchies(hybrid), of_v1.map(|mount| found(mount, false)));
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(hierarchies(unified), [found("/sys/fs/cgroup", true)]);
    }
}

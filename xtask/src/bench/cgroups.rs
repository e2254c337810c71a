//! Cgroups with a quota, in the hierarchy that has the CPU controller, and their removal.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::console;

/// The name of the cgroup that holds all others.
pub(crate) const NAME: &str = "podmeter-bench";

/// The cgroups; dropping this removes them.
#[derive(Debug)]
pub(crate) struct Cgroups {
    parent: PathBuf,
    /// The file that delegates controllers, if the CPU controller was not delegated before.
    delegated_in: Option<PathBuf>,
}

impl Cgroups {
    /// Makes that many cgroups of half a CPU each.
    pub(crate) fn create(n_cgroups: usize) -> Result<Self> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("failed to read the mounts")?;
        let hierarchy = hierarchy(&mounts, |mount| {
            let controllers = fs::read_to_string(mount.join("cgroup.controllers"));
            controllers.is_ok_and(|names| names.split_whitespace().any(|name| name == "cpu"))
        });
        let hierarchy = hierarchy.context("no mounted cgroup hierarchy has the CPU controller")?;
        let mut cgroups = Self { parent: hierarchy.mount.join(NAME), delegated_in: None };
        if hierarchy.is_unified {
            cgroups.delegate(&hierarchy.mount.join("cgroup.subtree_control"))?;
        }
        make(&cgroups.parent)?;
        if hierarchy.is_unified {
            write(&cgroups.parent.join("cgroup.subtree_control"), "+cpu")?;
        }
        for index in 0..n_cgroups {
            let cgroup = cgroups.parent.join(format!("{index:03}"));
            make(&cgroup)?;
            if hierarchy.is_unified {
                write(&cgroup.join("cpu.max"), "50000 100000")?;
            } else {
                write(&cgroup.join("cpu.cfs_quota_us"), "50000")?;
            }
        }
        Ok(cgroups)
    }

    /// The cgroup that holds them.
    pub(crate) fn parent(&self) -> &Path {
        &self.parent
    }

    fn delegate(&mut self, file: &Path) -> Result<()> {
        let delegated = fs::read_to_string(file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        if !delegated.split_whitespace().any(|name| name == "cpu") {
            write(file, "+cpu")?;
            self.delegated_in = Some(file.into());
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        if self.parent.exists() {
            for entry in fs::read_dir(&self.parent)? {
                let path = entry?.path();
                if path.is_dir() {
                    remove(&path)?;
                }
            }
            remove(&self.parent)?;
        }
        if let Some(file) = &self.delegated_in {
            write(file, "-cpu")?;
        }
        Ok(())
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            console::note(&format!("{} stays: {error:#}", self.parent.display()));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    is_unified: bool,
}

/// Finds the hierarchy with the CPU controller among the mounts: the unified one if it has it, else the one of v1.
fn hierarchy(mountinfo: &str, unified_has_cpu: impl Fn(&Path) -> bool) -> Option<Hierarchy> {
    let mut of_v1 = None;
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let Some(mount) = mount.split_whitespace().nth(4).map(PathBuf::from) else {
            continue;
        };
        let mut kind = kind.split_whitespace();
        let (kind, options) = (kind.next(), kind.nth(1).unwrap_or_default());
        if kind == Some("cgroup2") && unified_has_cpu(&mount) {
            return Some(Hierarchy { mount, is_unified: true });
        }
        if kind == Some("cgroup") && options.split(',').any(|option| option == "cpu") {
            of_v1 = Some(Hierarchy { mount, is_unified: false });
        }
    }
    of_v1
}

/// Makes a cgroup, or takes the one that an interrupted bench has left.
fn make(cgroup: &Path) -> Result<()> {
    if cgroup.is_dir() {
        return Ok(());
    }
    fs::create_dir(cgroup).with_context(|| format!("failed to create {}", cgroup.display()))
}

/// Removes a cgroup; the kernel may need a moment until the last process is out of it.
fn remove(cgroup: &Path) -> Result<()> {
    for _ in 0..20 {
        if fs::remove_dir(cgroup).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    fs::remove_dir(cgroup).with_context(|| format!("failed to remove {}", cgroup.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("failed to write {text} to {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, hierarchy};

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn the_hierarchy_with_the_controller_is_found() {
        let found = |mount: &str, is_unified| Some(Hierarchy { mount: mount.into(), is_unified });
        assert_eq!(hierarchy(HYBRID, |_| false), found("/sys/fs/cgroup/cpu,cpuacct", false));
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(hierarchy(unified, |_| true), found("/sys/fs/cgroup", true));
        assert_eq!(hierarchy(unified, |_| false), None);
    }
}

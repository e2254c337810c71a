//! Where the host's pseudo file systems are mounted; a value, so that tests point it at trees of their own.

use std::path::PathBuf;

/// The mount points that everything which reads the host starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPaths {
    /// The host's procfs.
    pub proc: PathBuf,
    /// The host's sysfs.
    pub sys: PathBuf,
    /// Where to look for the cgroup hierarchies; `None` looks at every mount of this process.
    pub cgroup: Option<PathBuf>,
}

impl Default for HostPaths {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), sys: PathBuf::from("/sys"), cgroup: None }
    }
}

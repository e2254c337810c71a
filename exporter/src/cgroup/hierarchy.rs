//! Finds the cgroup hierarchy that has the cpu controller, from `/proc/self/mountinfo`.
//!
//! The ids that the scheduler's programs report are of that hierarchy, and `cpu.stat` lies in it. On a hybrid machine
//! it is the v1 one; the cgroup2 mount beside it has no controllers. Refuses a machine that has neither mounted.

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
};

use crate::paths::HostPaths;

/// Which of the two interfaces the files of a hierarchy have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller: `cpu.cfs_quota_us`, `cpu.cfs_period_us`.
    V1,
    /// The unified hierarchy: `cpu.max`.
    V2,
}

/// The hierarchy that has the cpu controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its interface.
    pub version: Version,
    /// The directory that its topmost visible cgroup is mounted at.
    pub mount_point: PathBuf,
    /// Which cgroup that is, as seen from this process' cgroup namespace: `/`, or a path, or `/../..` above it.
    pub mount_root: String,
}

/// Why there is no hierarchy to read.
#[derive(Debug, thiserror::Error)]
pub enum HierarchyError {
    /// The mounts cannot be known.
    #[error("failed to read {}", path.display())]
    ReadMounts {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No mount has the controller.
    #[error(
        "no cgroup hierarchy with the cpu controller is mounted; mount the host's /sys/fs/cgroup into the container, \
         or `mount -t cgroup2 cgroup2 /sys/fs/cgroup`"
    )]
    NotMounted,
    /// No mount in the given place has the controller.
    #[error(
        "no cgroup hierarchy with the cpu controller is mounted at or below {}; mount the host's /sys/fs/cgroup there",
        path.display()
    )]
    NotMountedBelow {
        /// The given place.
        path: PathBuf,
    },
    /// The unified hierarchy is there, but the controller is not in it.
    #[error(
        "the cgroup2 mount {} has no cpu controller; if the host has it in cgroup v1, mount the host's \
         /sys/fs/cgroup/cpu too",
        path.display()
    )]
    NoCpuController {
        /// Its mount point.
        path: PathBuf,
    },
}

impl Hierarchy {
    /// Finds the hierarchy that has the cpu controller and that this process can read.
    pub fn find(paths: &HostPaths) -> Result<Self, HierarchyError> {
        let hierarchy = parse(&read_mounts(paths)?, paths.cgroup.as_deref())?;
        if hierarchy.version == Version::V2 {
            let controllers = fs::read_to_string(hierarchy.mount_point.join("cgroup.controllers"));
            // An unreadable list is no proof; the cgroups themselves will tell.
            if controllers.is_ok_and(|list| list.split_whitespace().all(|name| name != "cpu")) {
                return Err(HierarchyError::NoCpuController { path: hierarchy.mount_point });
            }
        }
        Ok(hierarchy)
    }

    /// Finds the hierarchy of cgroup v1 that has a controller; none where v2 has it, or nobody.
    #[must_use]
    pub fn find_v1(paths: &HostPaths, controller: &str) -> Option<Self> {
        best_mount(&read_mounts(paths).ok()?, paths.cgroup.as_deref(), |mount| {
            mount.is_v1_with(controller)
        })
    }

    /// Finds the hierarchy that has the io controller, which cgroup v1 calls blkio; where v1 has none, it is in v2.
    #[must_use]
    pub fn find_io(paths: &HostPaths) -> Option<Self> {
        Self::find_v1(paths, "blkio").or_else(|| Self::find_unified(paths))
    }

    /// Whether both are mounts of one hierarchy, so that an id means the same cgroup in both.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        // There is only one cgroup2 hierarchy, and two controllers of v1 that share one are usually one mount.
        self.mount_point == other.mount_point
            || (self.version == Version::V2 && other.version == Version::V2)
    }

    /// Finds the cgroup2 hierarchy, whatever controllers it has: on a hybrid machine it has none.
    #[must_use]
    pub fn find_unified(paths: &HostPaths) -> Option<Self> {
        best_mount(&read_mounts(paths).ok()?, paths.cgroup.as_deref(), |mount| {
            mount.fs_type == "cgroup2"
        })
    }

    /// A warning for the operator if the mount shows only a part of the host's hierarchy: a container that has its own
    /// cgroup namespace sees itself and nobody else.
    #[must_use]
    pub fn partial_view(&self) -> Option<String> {
        if self.is_host_root() {
            return None;
        }
        Some(format!(
            "{} shows only a part of the host's cgroups ({}), so other containers are invisible; mount the host's \
             /sys/fs/cgroup into this container",
            self.mount_point.display(),
            match self.mount_root.as_str() {
                "/" => "the cgroup namespace of this container",
                root => root,
            },
        ))
    }

    /// The real root lacks files that every other cgroup has (v2), or has files that no other has (v1).
    fn is_host_root(&self) -> bool {
        if root_rank(&self.mount_root) == Rank::Below {
            return false;
        }
        let has = |name: &str| self.mount_point.join(name).exists();
        match self.version {
            Version::V2 => !has("cgroup.type") && !has("cgroup.events"),
            Version::V1 => has("release_agent") || has("cgroup.sane_behavior"),
        }
    }
}

fn read_mounts(paths: &HostPaths) -> Result<String, HierarchyError> {
    let path = paths.proc.join("self/mountinfo");
    let text = fs::read(&path).map_err(|source| HierarchyError::ReadMounts { path, source })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Chooses the hierarchy that has the cpu controller among the mounts of a mountinfo text; mounts at or below `below`
/// are the only ones asked if it is given.
pub fn parse(mountinfo: &str, below: Option<&Path>) -> Result<Hierarchy, HierarchyError> {
    let v1 = best_mount(mountinfo, below, |mount| mount.is_v1_with("cpu"));
    // A controller is in one hierarchy at a time: where v1 has it, the cgroup2 mount beside it is empty.
    v1.or_else(|| best_mount(mountinfo, below, |mount| mount.fs_type == "cgroup2")).ok_or_else(
        || match below {
            Some(path) => HierarchyError::NotMountedBelow { path: path.to_owned() },
            None => HierarchyError::NotMounted,
        },
    )
}

/// The mount that shows most among those that are wanted; of equal ones the first.
fn best_mount(
    mountinfo: &str,
    below: Option<&Path>,
    wanted: impl Fn(&Mount<'_>) -> bool,
) -> Option<Hierarchy> {
    let candidates = mountinfo
        .lines()
        .filter_map(Mount::parse)
        .filter(|mount| below.is_none_or(|below| mount.point.starts_with(below)) && wanted(mount));
    // Of equal ones min_by_key keeps the first.
    let mount = candidates.min_by_key(|mount| root_rank(&mount.root))?;
    Some(Hierarchy {
        version: mount.version(),
        mount_point: mount.point,
        mount_root: mount.root.into_owned(),
    })
}

/// How much of a hierarchy a mount shows; the more, the smaller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// `/..`, `/../..`: made outside this process' cgroup namespace, usually the host's own root.
    Above,
    /// `/`: the root, or this process' cgroup namespace.
    Root,
    /// Only a subtree.
    Below,
}

fn root_rank(root: &str) -> Rank {
    let mut components = root.split('/').filter(|component| !component.is_empty()).peekable();
    if components.peek().is_none() {
        Rank::Root
    } else if components.all(|component| component == "..") {
        Rank::Above
    } else {
        Rank::Below
    }
}

/// One line of mountinfo (`man 5 proc_pid_mountinfo`), as far as it matters here.
struct Mount<'a> {
    root: Cow<'a, str>,
    point: PathBuf,
    fs_type: &'a str,
    super_options: &'a str,
}

impl<'a> Mount<'a> {
    /// `None` for a line of another shape: it cannot be a cgroup mount.
    fn parse(line: &'a str) -> Option<Self> {
        // The optional fields before the dash vary in number.
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut file_system = file_system.split(' ');
        Some(Self {
            root: unescape(mount.next()?),
            point: PathBuf::from(unescape(mount.next()?).into_owned()),
            fs_type: file_system.next()?,
            super_options: file_system.nth(1)?,
        })
    }

    fn is_v1_with(&self, controller: &str) -> bool {
        let mut options = self.super_options.split(',');
        self.fs_type == "cgroup" && options.any(|option| option == controller)
    }

    fn version(&self) -> Version {
        if self.fs_type == "cgroup2" { Version::V2 } else { Version::V1 }
    }
}

/// Undoes the kernel's `\040` for a blank and its like.
fn unescape(field: &str) -> Cow<'_, str> {
    if !field.contains('\\') {
        return Cow::Borrowed(field);
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        rest = if octal.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
        bytes.push(octal.unwrap_or(first));
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::{Hierarchy, HierarchyError, Version, parse};
    use crate::paths::HostPaths;

    /// From a cluster: cpu and cpuacct are two mounts, and cgroup2 beside them is empty.
    const FIXTURE_V1: &str = include_str!("../../../tests/fixtures/v1.34.9/cgroup/mountinfo.txt");

    const V2: &str = "\
        24 30 0:22 / /proc rw,nosuid - proc proc rw\n\
        35 25 0:29 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    const V1_JOINT: &str = "\
        31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
        33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct\n";

    const SYSTEMD_HYBRID: &str = "\
        31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
        33 31 0:30 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n\
        34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct\n";

    /// A container with a namespace of its own that was also given the host's /sys/fs/cgroup.
    const CONTAINER_V2: &str = "\
        500 490 0:29 / /sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate\n\
        501 480 0:29 /../../../.. /host/sys/fs/cgroup ro master:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    const CONTAINER_V1_SUBTREE: &str = "\
        600 590 0:30 /docker/0123 /sys/fs/cgroup/cpu,cpuacct ro master:15 - cgroup cgroup rw,cpu,cpuacct\n";

    const BLANK: &str = "35 25 0:29 / /mnt/my\\040cgroups\\134 rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn chooses_the_hierarchy_with_the_cpu_controller() {
        let check = |text: &str, below: Option<&str>, version: Version, point: &str, root: &str| {
            assert_eq!(
                parse(text, below.map(Path::new)).unwrap(),
                Hierarchy {
                    version,
                    mount_point: PathBuf::from(point),
                    mount_root: root.to_owned()
                },
                "below {below:?} of\n{text}"
            );
        };
        check(V2, None, Version::V2, "/sys/fs/cgroup", "/");
        check(V2, Some("/sys/fs/cgroup"), Version::V2, "/sys/fs/cgroup", "/");
        check(FIXTURE_V1, None, Version::V1, "/sys/fs/cgroup/cpu", "/");
        check(FIXTURE_V1, Some("/sys/fs/cgroup"), Version::V1, "/sys/fs/cgroup/cpu", "/");
        check(V1_JOINT, None, Version::V1, "/sys/fs/cgroup/cpu,cpuacct", "/");
        check(SYSTEMD_HYBRID, None, Version::V1, "/sys/fs/cgroup/cpu,cpuacct", "/");
        check(CONTAINER_V2, None, Version::V2, "/host/sys/fs/cgroup", "/../../../..");
        check(CONTAINER_V2, Some("/sys/fs/cgroup"), Version::V2, "/sys/fs/cgroup", "/");
        check(CONTAINER_V2, Some("/host/sys"), Version::V2, "/host/sys/fs/cgroup", "/../../../..");
        let subtree = "/sys/fs/cgroup/cpu,cpuacct";
        check(CONTAINER_V1_SUBTREE, None, Version::V1, subtree, "/docker/0123");
        check(BLANK, None, Version::V2, "/mnt/my cgroups\\", "/");
    }

    #[test]
    fn finds_the_hierarchy_with_the_io_controller() {
        let check = |mounts: &str, point: &str, is_same: bool| {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("self")).unwrap();
            fs::write(dir.path().join("self/mountinfo"), mounts).unwrap();
            let paths = HostPaths { proc: dir.path().to_owned(), ..HostPaths::default() };
            let io = Hierarchy::find_io(&paths).unwrap();
            assert_eq!(io.mount_point, Path::new(point), "{mounts}");
            assert_eq!(io.is_same_as(&parse(mounts, None).unwrap()), is_same, "{mounts}");
        };
        check(V2, "/sys/fs/cgroup", true);
        check(CONTAINER_V2, "/host/sys/fs/cgroup", true);
        check(FIXTURE_V1, "/sys/fs/cgroup/blkio", false);
        check(SYSTEMD_HYBRID, "/sys/fs/cgroup/unified", false);
        check("1 2 0:3 / /cg rw - cgroup cgroup rw,cpu,blkio", "/cg", true);
    }

    #[test]
    fn says_what_to_mount_where_there_is_none() {
        let check = |text: &str, below: Option<&str>, expected: &str| {
            let error = parse(text, below.map(Path::new)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("", None, "mount the host's /sys/fs/cgroup");
        check("garbage\n1 2 - \n - cgroup2\n", None, "mount the host's /sys/fs/cgroup");
        check("32 31 0:29 / /a rw - cgroup cgroup rw,cpuset", None, "cpu controller");
        check("32 31 0:29 / /a rw - cgroup cgroup rw,cpuacct", None, "cpu controller");
        check(V2, Some("/host"), "at or below /host");
    }

    #[test]
    fn tells_the_host_root_from_a_namespace() {
        let check = |version: Version, root: &str, files: &[&str], expected: Option<&str>| {
            let dir = tempfile::tempdir().unwrap();
            for file in files {
                fs::write(dir.path().join(file), "").unwrap();
            }
            let hierarchy = Hierarchy {
                version,
                mount_point: dir.path().to_owned(),
                mount_root: root.to_owned(),
            };
            let warning = hierarchy.partial_view();
            match (&warning, expected) {
                (None, None) => {}
                (Some(text), Some(part)) if text.contains(part) => {}
                _ => panic!("{version:?} {root} {files:?}: {warning:?}"),
            }
        };
        check(Version::V2, "/", &["cgroup.procs"], None);
        check(Version::V2, "/../..", &["cgroup.procs"], None);
        check(Version::V2, "/", &["cgroup.type"], Some("namespace"));
        check(Version::V2, "/..", &["cgroup.events"], Some("/.."));
        check(Version::V2, "/kubepods", &["cgroup.procs"], Some("/kubepods"));
        check(Version::V1, "/", &["release_agent"], None);
        check(Version::V1, "/", &["cgroup.sane_behavior"], None);
        check(Version::V1, "/", &["tasks"], Some("mount the host's /sys/fs/cgroup"));
        check(Version::V1, "/docker/0123", &["release_agent"], Some("/docker/0123"));
    }

    #[test]
    fn finds_it_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let paths = HostPaths {
            proc: dir.path().to_owned(),
            sys: dir.path().to_owned(),
            cgroup: Some(dir.path().join("cgroup")),
        };
        let error = Hierarchy::find(&paths).unwrap_err();
        assert!(matches!(error, HierarchyError::ReadMounts { .. }), "{error}");

        fs::create_dir_all(dir.path().join("self")).unwrap();
        fs::create_dir_all(dir.path().join("cgroup")).unwrap();
        let line = format!("1 2 0:3 / {}/cgroup rw - cgroup2 c rw", dir.path().display());
        fs::write(dir.path().join("self/mountinfo"), line).unwrap();
        assert_eq!(Hierarchy::find(&paths).unwrap().version, Version::V2);

        let controllers = dir.path().join("cgroup/cgroup.controllers");
        fs::write(&controllers, "cpuset io memory\n").unwrap();
        let error = Hierarchy::find(&paths).unwrap_err();
        assert!(matches!(error, HierarchyError::NoCpuController { .. }), "{error}");
        fs::write(&controllers, "cpuset cpu io memory\n").unwrap();
        assert_eq!(Hierarchy::find(&paths).unwrap().version, Version::V2);
    }
}

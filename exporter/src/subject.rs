//! Vocabulary of whom a measurement is about. No IO, no clock.

use std::{fmt, sync::Arc};

use podmeter_common::owner::REMAINDER;

/// Whom a sample is about; `labelling` turns it into labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The node, or Podmeter itself: no labels of a container.
    Node,
    /// A cgroup of the hierarchy that has the cpu controller: what happened in it alone, so that what happened in the
    /// cgroups below it can be added.
    Cgroup(CgroupId),
    /// Such a cgroup with all below it, as the kernel's own accounts have it: nothing is to be added.
    Subtree(CgroupId),
    /// A cgroup of the hierarchy that has the io controller, by its id there: on cgroup v1 another hierarchy than the
    /// one with the cpu controller, on v2 the same.
    IoCgroup(CgroupId),
    /// Who is in a network namespace: all that is known of a socket where sockets are in no cgroup (cgroup v1).
    NetworkNamespace(NetworkNamespaceId),
}

impl Subject {
    /// Whether it is nobody: of what found no room in a map, and of events whose owner the kernel does not name.
    #[must_use]
    pub fn is_remainder(self) -> bool {
        match self {
            Self::Node => false,
            Self::Cgroup(id) | Self::Subtree(id) | Self::IoCgroup(id) => id.0 == REMAINDER,
            Self::NetworkNamespace(id) => id.0 == REMAINDER,
        }
    }
}

/// The kernel's 64-bit id of a cgroup (`kernfs_node.id`, the inode number of its directory).
///
/// On cgroup v1 it is unique within its hierarchy only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

impl fmt::Display for CgroupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The inode number of a network namespace, as in `/proc/<pid>/ns/net`.
///
/// The kernel gives it to another one soon after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkNamespaceId(pub u64);

/// A container's id as its runtime gave it: 64 lower-case hexadecimal digits for containerd, CRI-O, Docker and Podman. Its
/// copies share one text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(Arc<str>);

impl ContainerId {
    /// Takes an id that the caller has recognised in a path.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A pod's UID as the kubelet wrote it into the cgroup path, with dashes.
///
/// Its copies share one text. A static pod has the 32 hexadecimal digits of its config hash here, not the UID of its mirror pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(Arc<str>);

impl PodUid {
    /// Takes a UID that the caller has recognised in a path.
    #[must_use]
    pub fn new(uid: impl Into<Arc<str>>) -> Self {
        Self(uid.into())
    }

    /// Whether this is a copy of the other, so that both are one text in memory.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The UID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

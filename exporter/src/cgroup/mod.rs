//! Which cgroups there are: both the sources that read their files and the attribution that names them ask here.

use std::io;

pub mod follow;
pub mod hierarchy;
pub mod namespaces;
pub mod start;
pub mod tree;
pub mod watch;

mod roster;
mod watches;

#[cfg(test)]
pub(crate) mod testing;

/// `ENODEV` on every architecture of Linux: what reading an open file of a removed cgroup gives.
const ENODEV: i32 = 19;

/// Whether an error means no more than that the cgroup was removed meanwhile.
#[must_use]
pub fn is_vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ENODEV)
}

//! Takes capabilities from the calling thread, for good. They are a thread's, not a process': what starts a thread gives
//! it its own, so that this comes before there are others.

use std::io;

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use tracing::debug;

/// A thread has more rights than it should.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// A set of capabilities could not be made smaller.
    #[error("cannot drop capabilities: let the seccomp profile allow capset and prctl")]
    Capabilities(#[from] CapsError),
    /// Programs that it started could have more.
    #[error("cannot set no_new_privs")]
    NewPrivileges(#[source] io::Error),
}

/// Neither this thread nor any that it starts gains rights by executing a program.
pub fn no_new_privileges() -> Result<(), DropError> {
    rustix::thread::set_no_new_privs(true).map_err(|error| DropError::NewPrivileges(error.into()))
}

/// Drops everything.
pub fn drop_all() -> Result<(), DropError> {
    keep_only(&[])
}

/// Drops everything but these; what the thread does not have, it does not get.
pub(super) fn keep_only(kept: &[Capability]) -> Result<(), DropError> {
    caps::clear(None, CapSet::Ambient)?;
    bound(kept);
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = kept.iter().copied().filter(|one| permitted.contains(one)).collect();
    caps::clear(None, CapSet::Inheritable)?;
    // What is effective must be permitted, at each moment.
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    Ok(())
}

/// Makes the bounding set as small, where the thread may: without `CAP_SETPCAP` it stays what it was given, which
/// `no_new_privs` makes harmless.
fn bound(kept: &[Capability]) {
    for capability in caps::all() {
        // Asking for one that the kernel does not know is an error, too.
        let is_there = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if !is_there || kept.contains(&capability) {
            continue;
        }
        if let Err(error) = caps::drop(None, CapSet::Bounding, capability) {
            debug!(%capability, %error, "the bounding set stays as it is");
            return;
        }
    }
}

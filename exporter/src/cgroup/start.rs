//! Finds the hierarchies and reads them once, and says in the log what cannot be measured; without one that has the cpu
//! controller there is nothing to follow.

use std::time::Instant;

use tracing::warn;

use crate::{
    caps::privileged::Privileged,
    cgroup::{
        follow::CgroupFollower,
        hierarchy::{Hierarchy, Version},
    },
    error_chain::one_line,
    paths::HostPaths,
};

/// Begins to follow up to so many cgroups in each hierarchy; gives the hierarchy with the cpu controller, too.
pub fn follow(
    paths: &HostPaths,
    max_cgroups: usize,
    privileged: &Privileged,
) -> Result<(CgroupFollower, Hierarchy), String> {
    let hierarchy = Hierarchy::find(paths).map_err(|error| {
        let reason = one_line(&error);
        warn!(%reason, "no cgroup can be measured");
        reason
    })?;
    let io = Hierarchy::find_io(paths);
    let own_io = io.as_ref().filter(|io| !io.is_same_as(&hierarchy));
    for warning in
        [Some(&hierarchy), own_io].into_iter().flatten().filter_map(Hierarchy::partial_view)
    {
        warn!(%warning, "not all cgroups can be measured");
    }
    let (follower, hidden_io) =
        CgroupFollower::start(&hierarchy, io.as_ref(), max_cgroups, Instant::now()).map_err(
            |error| {
                let reason = one_line(&error);
                warn!(%reason, "no cgroup can be measured");
                reason
            },
        )?;
    if let Some(error) = hidden_io {
        let error = one_line(&error);
        warn!(%error, "block IO cannot be attributed");
    }
    // Elsewhere the kernel knows the cgroup of each socket.
    let follower = match hierarchy.version {
        Version::V1 => follower.with_namespaces(privileged.clone(), &paths.proc),
        Version::V2 => follower,
    };
    Ok((follower, hierarchy))
}

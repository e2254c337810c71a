//! Whose an event is: what the programs must know to find it out, and whom the number in a map's key means.

use podmeter_common::owner::{SOCK_HEAD_BYTES, SocketOwner};

use super::{
    btf::{BtfError, KernelTypes},
    def::Globals,
    host::ProbeHost,
};
use crate::cgroup::hierarchy::Version;

/// What `owner::of_cgroup` of the programs reads.
pub(super) fn cgroup_globals(types: &KernelTypes) -> Result<Globals, BtfError> {
    Ok(vec![
        ("CGROUP_KN", types.offset("cgroup", "kn", 8)?),
        ("KERNFS_NODE_ID", types.offset("kernfs_node", "id", 8)?),
        ("CSS_CGROUP", types.offset("cgroup_subsys_state", "cgroup", 8)?),
        ("TASK_GROUP_CGROUP", types.offset("task_group", "css.cgroup", 8)?),
    ])
}

/// What `owner::of_task` of the programs reads.
pub(super) fn task_globals(types: &KernelTypes, host: &ProbeHost) -> Result<Globals, BtfError> {
    let mut globals = cgroup_globals(types)?;
    globals.extend([
        ("TASK_CGROUPS", types.offset("task_struct", "cgroups", 8)?),
        ("CSS_SET_DFL_CGRP", types.offset("css_set", "dfl_cgrp", 8)?),
        ("CSS_SET_CPU", css_of(types, "cpu_cgrp_id")?),
        ("CPU_IS_V1", u32::from(host.cpu == Version::V1)),
    ]);
    Ok(globals)
}

/// Where a `struct css_set` points at its state of a controller.
pub(super) fn css_of(types: &KernelTypes, controller: &'static str) -> Result<u32, BtfError> {
    const CONTROLLERS: &str = "cgroup_subsys_id";
    const POINTER_BYTES: u32 = 8;

    let n_controllers = types.enumerator(CONTROLLERS, "CGROUP_SUBSYS_COUNT")?;
    let all = types.offset("css_set", "subsys", n_controllers * POINTER_BYTES)?;
    Ok(all + types.enumerator(CONTROLLERS, controller)? * POINTER_BYTES)
}

/// What `owner::of_packet` of the programs reads: nothing where a socket's owner is its cgroup.
pub(super) fn packet_globals(types: &KernelTypes, host: &ProbeHost) -> Result<Globals, BtfError> {
    let owner = host.socket_owner();
    let mut globals = vec![("SOCKET_OWNER", owner as u32)];
    if owner == SocketOwner::NetworkNamespace {
        globals.extend(namespace_globals(types)?);
    }
    Ok(globals)
}

/// What `owner::of_net` of the programs and the way to it read.
fn namespace_globals(types: &KernelTypes) -> Result<Globals, BtfError> {
    const NAME: &str = "sock";
    const FIELD: &str = "__sk_common.skc_net.net";
    const POINTER_BYTES: u32 = 8;

    let place = types.offset(NAME, FIELD, POINTER_BYTES)?;
    if place + POINTER_BYTES > SOCK_HEAD_BYTES {
        let found = format!("at byte {place}, past the {SOCK_HEAD_BYTES} bytes that are read");
        return Err(BtfError::FieldShape {
            name: NAME,
            field: FIELD,
            found,
            expected: POINTER_BYTES,
        });
    }
    Ok(vec![("SOCK_NET", place), ("NET_INUM", types.offset("net", "ns.inum", 4)?)])
}

/// What `owner::of_sock`, `owner::of_any_sock` and `owner::of_net` of the programs read.
pub(super) fn socket_globals(types: &KernelTypes, host: &ProbeHost) -> Result<Globals, BtfError> {
    // Before 5.15 the pointer to the cgroup shared its place with v1's class and priority, as `val`.
    let cgroup = ["sk_cgrp_data.cgroup", "sk_cgrp_data.val"];
    let mut globals = cgroup_globals(types)?;
    globals.extend([
        ("SOCK_CGROUP", types.offset_of_any("sock", &cgroup, 8)?),
        ("SOCK_STATE", types.offset("sock", "__sk_common.skc_state", 1)?),
        ("SOCK_LISTENER", types.offset("sock", "__sk_common.skc_listener", 8)?),
        ("SOCKET_OWNER", host.socket_owner() as u32),
    ]);
    globals.extend(namespace_globals(types)?);
    Ok(globals)
}

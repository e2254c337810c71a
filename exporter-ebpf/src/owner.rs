//! Whose an event is: the 64-bit id of a cgroup, or the inode number of a network namespace.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_skb_cgroup_id, generated::bpf_probe_read_kernel},
    programs::SkBuffContext,
};
use podmeter_common::owner::{REMAINDER, SOCK_HEAD_BYTES, SocketOwner};

use crate::{
    kernel::{self, Any, Memory},
    offsets,
};

offsets! {
    /// `cgroup.kn`.
    CGROUP_KN;
    /// `kernfs_node.id`: the 64-bit cgroup id.
    KERNFS_NODE_ID;
    /// `cgroup_subsys_state.cgroup`.
    CSS_CGROUP;
    /// `task_group.css.cgroup`.
    TASK_GROUP_CGROUP;
    /// `task_struct.cgroups`.
    TASK_CGROUPS;
    /// `css_set.dfl_cgrp`: the cgroup in the cgroup2 hierarchy.
    CSS_SET_DFL_CGRP;
    /// `css_set.subsys[cpu_cgrp_id]`: the state of the cpu controller.
    CSS_SET_CPU;
    /// `sock.sk_cgrp_data.cgroup`.
    SOCK_CGROUP;
    /// `sock.__sk_common.skc_net.net`.
    SOCK_NET;
    /// `sock.__sk_common.skc_state`.
    SOCK_STATE;
    /// `sock.__sk_common.skc_listener`, of what is no more than a request.
    SOCK_LISTENER;
    /// `net.ns.inum`.
    NET_INUM;
    /// Not an offset: 1 where the cpu controller is in a hierarchy of cgroup v1, else 0.
    CPU_IS_V1;
    /// Not an offset: a [`SocketOwner`].
    SOCKET_OWNER;
}

/// The id of a `struct cgroup`.
#[inline(always)]
#[must_use]
pub fn of_cgroup<M: Memory>(cgroup: usize) -> u64 {
    if cgroup == 0 {
        return REMAINDER;
    }
    let node: usize = M::read(cgroup, &CGROUP_KN);
    M::read(node, &KERNFS_NODE_ID)
}

/// The cgroup of a `struct cgroup_subsys_state`.
#[inline(always)]
#[must_use]
pub fn of_css<M: Memory>(css: usize) -> u64 {
    of_cgroup::<M>(M::read(css, &CSS_CGROUP))
}

/// The cgroup of a `struct task_group`.
#[inline(always)]
#[must_use]
pub fn of_task_group<M: Memory>(task_group: usize) -> u64 {
    of_cgroup::<M>(M::read(task_group, &TASK_GROUP_CGROUP))
}

/// The cgroup of a `struct task_struct`, in the hierarchy that has the cpu controller.
///
/// On cgroup v2 it is the task's own, wherever the controller is switched on; on v1 it is that of the controller's state.
/// Not of `sched_task_group`: that may be an autogroup, which has no cgroup.
#[inline(always)]
#[must_use]
pub fn of_task<M: Memory>(task: usize) -> u64 {
    if is_v1() {
        return of_css::<M>(css_of_task::<M>(task, &CSS_SET_CPU));
    }
    let set: usize = M::read(task, &TASK_CGROUPS);
    of_cgroup::<M>(M::read(set, &CSS_SET_DFL_CGRP))
}

/// Whether the cpu controller is in a hierarchy of cgroup v1, where each hierarchy has ids of its own.
#[inline(always)]
#[must_use]
pub fn is_v1() -> bool {
    kernel::global(&CPU_IS_V1) == 1
}

/// The state of a controller for a `struct task_struct`: a `struct cgroup_subsys_state`, by its place in `css_set`.
#[inline(always)]
#[must_use]
pub fn css_of_task<M: Memory>(task: usize, place: &'static u32) -> usize {
    let set: usize = M::read(task, &TASK_CGROUPS);
    M::read(set, place)
}

/// The owner of a full `struct sock`; never by the task that happens to run.
#[inline(always)]
#[must_use]
pub fn of_sock<M: Memory>(sock: usize) -> u64 {
    if kernel::global(&SOCKET_OWNER) == SocketOwner::NetworkNamespace as usize {
        return of_net::<M>(M::read(sock, &SOCK_NET));
    }
    of_cgroup::<M>(M::read(sock, &SOCK_CGROUP))
}

/// The owner of a `struct sock` that may be missing, or be less than a full one: a request to a listener, which is the
/// listener's owner's, or what is left of a socket in `TIME_WAIT`, which knows its network namespace only.
#[inline(always)]
#[must_use]
pub fn of_any_sock<M: Memory>(sock: usize) -> u64 {
    if sock == 0 {
        return REMAINDER;
    }
    if kernel::global(&SOCKET_OWNER) == SocketOwner::NetworkNamespace as usize {
        return of_net::<M>(M::read(sock, &SOCK_NET));
    }
    match M::read::<u8>(sock, &SOCK_STATE) {
        TCP_TIME_WAIT => REMAINDER,
        // For the verifier the pointer is a number: it shares its place with flags.
        TCP_NEW_SYN_RECV => {
            of_cgroup::<Any>(Any::read(M::read(sock, &SOCK_LISTENER), &SOCK_CGROUP))
        }
        _ => of_cgroup::<M>(M::read(sock, &SOCK_CGROUP)),
    }
}

/// States of what is no full socket: <https://elixir.bootlin.com/linux/v6.12/source/include/net/tcp_states.h#L12>
const TCP_TIME_WAIT: u8 = 6;
const TCP_NEW_SYN_RECV: u8 = 12;

/// The owner of a packet's socket, in a program of a cgroup, which sees only packets of full sockets.
///
/// Where that is a cgroup, nothing of the kernel's memory is read.
#[inline(always)]
#[must_use]
pub fn of_packet(context: &SkBuffContext) -> u64 {
    let skb = context.skb.skb;
    if kernel::global(&SOCKET_OWNER) == SocketOwner::NetworkNamespace as usize {
        return of_net::<Any>(net_of_packet(skb));
    }
    // JUSTIFICATION: the helper is the only way to the socket's cgroup.
    // SAFETY: the context is valid as long as the program runs.
    unsafe { bpf_skb_cgroup_id(skb) }
}

/// The network namespace of a packet's socket: a `struct net`.
///
/// The verifier knows the context's pointer to the socket and forbids to add to it, but lets the helper have it: what
/// is read is the socket's head up to that field.
#[inline(always)]
fn net_of_packet(skb: *mut __sk_buff) -> usize {
    // JUSTIFICATION: the context is reached by pointer.
    // SAFETY: it is valid as long as the program runs.
    let field = unsafe { &raw const (*skb).__bindgen_anon_2 };
    // JUSTIFICATION: the socket stands in a union.
    // SAFETY: the union holds nothing but that pointer.
    let sock = unsafe { field.cast::<*const SockHead>().read() };
    let offset = kernel::global(&SOCK_NET);
    let mut head = MaybeUninit::<SockHead>::uninit();
    // JUSTIFICATION: aya's wrapper would copy once more what it has read.
    // SAFETY: the helper fills all of the head, with zeros where the address is bad.
    let error =
        unsafe { bpf_probe_read_kernel(head.as_mut_ptr().cast(), SOCK_HEAD_BYTES, sock.cast()) };
    if error != 0 || offset > size_of::<SockHead>() - size_of::<usize>() {
        return 0;
    }
    let field = head.as_ptr().wrapping_byte_add(offset).cast::<usize>();
    // JUSTIFICATION: where the field is in the head is not known when this is compiled.
    // SAFETY: the head is filled, the field lies in it, and any word is a value.
    unsafe { field.read_volatile() }
}

/// The first words of a socket.
type SockHead = [usize; SOCK_HEAD_BYTES as usize / size_of::<usize>()];

/// The inode number of a `struct net`.
#[inline(always)]
#[must_use]
pub fn of_net<M: Memory>(net: usize) -> u64 {
    if net == 0 {
        return REMAINDER;
    }
    u64::from(M::read::<u32>(net, &NET_INUM))
}

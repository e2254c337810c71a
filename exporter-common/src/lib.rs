//! Keys, values and constants that the eBPF programs and user space share: one module per probe, and what all share.
//!
//! Every type is `repr(C)`, has no implicit padding and no `bool`, and its size is asserted at compile time, because
//! the two sides are compiled for different targets and meet only in the bytes of a map.

#![no_std]

pub mod histogram;
pub mod owner;
pub mod skip;

pub mod block_io;
pub mod cpu_throttle;
pub mod drops;
pub mod network;
pub mod oom;
pub mod run_queue;
pub mod tcp;

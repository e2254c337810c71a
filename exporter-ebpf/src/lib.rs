//! What the kernel programs share: reading kernel memory at offsets from BTF, cgroup ids, counting, and the panic handler.
//!
//! One object per probe stands in `bin/`; this library holds only what two of them would otherwise copy.

#![no_std]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "the BPF target has no compare-and-swap, so core offers no AtomicU64::fetch_add"
)]

pub mod counter;
pub mod diagnostic;
pub mod histogram;
pub mod kernel;
pub mod owner;
pub mod table;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached, so it never runs.
    loop {}
}

//! Reads of kernel structures at offsets that user space found in the running kernel's BTF.
//!
//! Rust emits no CO-RE relocations, so every offset is a read-only global (see `offsets!`) that is set before loading.
//! Reads go through `bpf_probe_read_kernel`, which answers 0 for a bad address instead of faulting.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// Declares read-only globals for the offsets of kernel fields, in bytes; user space sets them before loading.
#[macro_export]
macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            static $name: u32 = 0;
        )*
    };
}

/// The value of a read-only global as user space set it.
#[inline(always)]
#[must_use]
pub fn global(value: &'static u32) -> usize {
    // JUSTIFICATION: a plain read would be folded to the 0 that stands in the source.
    // SAFETY: a reference is always valid for a read.
    let value = unsafe { core::ptr::read_volatile(value) };
    value as usize
}

/// Reads a `T` at `base + offset` of kernel memory, or `T::default()` where the address is not readable.
#[inline(always)]
#[must_use]
pub fn read<T: Copy + Default>(base: usize, offset: &'static u32) -> T {
    let address = (base + global(offset)) as *const T;
    // JUSTIFICATION: the helper is the only way to read memory of the kernel that the verifier does not know.
    // SAFETY: the helper checks the address itself and fails instead of faulting.
    unsafe { bpf_probe_read_kernel(address) }.unwrap_or_default()
}

//! Reads of kernel structures at offsets that user space found in the running kernel's BTF.
//!
//! Rust emits no CO-RE relocations, so every offset is a read-only global (see `offsets!`) that is set before loading.
//! There are two ways to read, and programs that can be hooked in both ways are generic over them ([`Memory`]):
//! docs/decisions/0012-typed-reads.md.

use core::hint::black_box;

use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    programs::{BtfTracePointContext, RawTracePointContext},
};

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

/// A way to read the kernel's memory.
pub trait Memory {
    /// Reads a `T` at `base + offset`, or `T::default()` where that is not readable, as behind a null pointer.
    fn read<T: Copy + Default>(base: usize, offset: &'static u32) -> T;
}

/// By `bpf_probe_read_kernel`, which takes any address, costs ten to fifteen nanoseconds, and is forbidden under
/// lockdown=confidentiality.
pub enum Any {}

/// By plain loads, which cost as little as any: only through pointers whose type the verifier knows, which are those
/// that tracepoints give to programs of BTF, and those that are read through them.
///
/// The verifier checks that a field of that size is at the offset, which it knows because the globals are frozen.
/// A bad address does not fault, but gives 0.
pub enum Typed {}

impl Memory for Any {
    #[inline(always)]
    fn read<T: Copy + Default>(base: usize, offset: &'static u32) -> T {
        let address = (base + global(offset)) as *const T;
        // JUSTIFICATION: the helper is the only way to read memory of the kernel that the verifier does not know.
        // SAFETY: the helper checks the address itself and fails instead of faulting.
        unsafe { bpf_probe_read_kernel(address) }.unwrap_or_default()
    }
}

impl Memory for Typed {
    #[inline(always)]
    fn read<T: Copy + Default>(base: usize, offset: &'static u32) -> T {
        // Of some pointers the verifier wants to be told that they are none.
        if base == 0 {
            return T::default();
        }
        let address = (base + global(offset)) as *const T;
        // JUSTIFICATION: a load is what the verifier can check; it is volatile, so that it stays one of this size.
        // SAFETY: the verifier refuses the program if there is no such field, and the kernel handles a bad address.
        unsafe { core::ptr::read_volatile(address) }
    }
}

/// The same as [`Any`], for programs that cannot be hooked in otherwise.
#[inline(always)]
#[must_use]
pub fn read<T: Copy + Default>(base: usize, offset: &'static u32) -> T {
    Any::read(base, offset)
}

/// The arguments of a tracepoint, each one word.
pub trait Arguments {
    /// The argument with this index, which is a constant of the program's text.
    fn get(&self, idx: usize) -> usize;
}

impl Arguments for BtfTracePointContext {
    #[inline(always)]
    fn get(&self, idx: usize) -> usize {
        self.arg(idx)
    }
}

impl Arguments for RawTracePointContext {
    #[inline(always)]
    fn get(&self, idx: usize) -> usize {
        self.arg(idx)
    }
}

/// The first argument of a tracepoint or the second, as a global says: 0 or 1.
///
/// The verifier takes no index that is not in the program's text, and of a tracepoint with one argument no second one,
/// but does not look at a branch that is never taken.
#[inline(always)]
#[must_use]
pub fn first_or_second(context: &impl Arguments, idx: &'static u32) -> usize {
    if global(idx) == 1 {
        // Without the box, the compiler makes one load at a computed place of both.
        black_box(context.get(1))
    } else {
        context.get(0)
    }
}

/// The third argument of a tracepoint or the fourth, as a global says: 2 or 3; see [`first_or_second`].
#[inline(always)]
#[must_use]
pub fn third_or_fourth(context: &impl Arguments, idx: &'static u32) -> usize {
    if global(idx) == 3 { black_box(context.get(3)) } else { context.get(2) }
}

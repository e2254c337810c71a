//! Giving freed memory back to the kernel: the one module of this crate that has unsafe code.

/// Returns what the allocator keeps for reuse.
///
/// Starting the probes makes aya parse the kernel's types, which takes some 40 MB in small pieces for a few tenths of
/// a second; glibc's allocator would keep much of that for the life of the process.
pub(crate) fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    // JUSTIFICATION: only the allocator itself can return pages that lie between others in use.
    // SAFETY: malloc_trim has no preconditions and is thread-safe (man 3 malloc_trim).
    unsafe {
        libc::malloc_trim(0);
    }
}

//! Keeping the allocator's memory small: the one module of this crate that has unsafe code.

/// Makes all threads share one arena of the allocator; to be called before there are any.
///
/// glibc gives each thread an arena of its own, and hardly gives back what was freed in the middle of one: with the
/// kernel's types parsed on a thread of its own, the process kept 20 MB when idle, with one arena 7 MB
/// (`grep VmRSS /proc/<pid>/status` of a release build without cgroups, Linux 6.18, 2026-11-24).
/// A collection is a few milliseconds of work on few threads, which hardly wait for each other.
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    // JUSTIFICATION: the environment variable for it is read before the program begins.
    // SAFETY: mallopt has no preconditions (man 3 mallopt); where it refuses, nothing changes.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns what the allocator keeps for reuse.
///
/// Starting the probes makes aya parse the kernel's types, which takes some 40 MB in small pieces for a few tenths of
/// a second; glibc's allocator would keep much of that for the life of the process.
pub fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    // JUSTIFICATION: only the allocator itself can return pages that lie between others in use.
    // SAFETY: malloc_trim has no preconditions and is thread-safe (man 3 malloc_trim).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that the process has asked for and not given back, without those of large blocks, which the allocator maps one by
/// one; nothing where the allocator does not say.
#[must_use]
pub fn heap_bytes() -> Option<u64> {
    #[cfg(target_env = "gnu")]
    {
        // JUSTIFICATION: only the allocator itself knows; mallinfo2 would hold more than 4 GB, but is not in the glibc of all
        // systems that this builds on.
        // SAFETY: mallinfo has no preconditions and is thread-safe (man 3 mallinfo).
        let info = unsafe { libc::mallinfo() };
        // The field is an int that overflows.
        Some(info.uordblks.cast_unsigned().into())
    }
    #[cfg(not(target_env = "gnu"))]
    None
}

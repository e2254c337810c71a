//! Tests against the running kernel.

#[test]
fn proc_is_mounted() {
    assert!(std::path::Path::new("/proc/self/stat").exists());
}

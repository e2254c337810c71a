//! What a test says that does not run here: because something is missing, which `cargo xtask test` counts and names at its
//! end, or because it is for another kind of machine.

use std::fmt::Display;

use crate::machine::is_test_vm;

/// Says that set-up did not bring what the test needs, or that this machine lacks it; a virtual machine of
/// `cargo xtask test vm` has everything, so there that is a failure.
pub fn skipped(why: impl Display) {
    assert!(!is_test_vm(), "a virtual machine lacks nothing: {why}");
    println!("report: skipped | {why}");
}

/// Says that the test is not for this kind of machine, kernel or hierarchy of cgroups.
pub fn left_out(why: impl Display) {
    println!("report: left out | {why}");
}

//! The harness that the tests in `it/` share.

pub mod cgroup;

//! The harness that the tests in `it/` share.

//! One test binary: `page` and `docs` need no privileges, `kernel` needs root and runs here and in virtual machines,
//! `cluster` needs root and a real Kubernetes, `image` needs root and the built image, `faults` and
//! `soak` need root for all probes.

#![expect(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests panic to fail, print what the reader of a failure needs, and count to less than 2^53"
)]

mod cluster;
mod docs;
mod faults;
mod image;
mod kernel;
mod page;
mod soak;

use podmeter_tests::heap::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

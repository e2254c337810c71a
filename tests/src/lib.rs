//! The harness that the tests in `it/` share.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a harness ends its test by panicking, and prints what the reader of a failure needs"
)]

pub mod authority;
pub mod bpf_map;
pub mod cgroup;
pub mod client;
pub mod cluster;
pub mod dashboards;
pub mod disk;
pub mod endpoint;
pub mod exporter;
pub mod exposition;
pub mod fake_cgroups;
pub mod gate;
pub mod heap;
pub mod http;
pub mod image;
pub mod live_pods;
pub mod machine;
pub mod memory;
pub mod name_server;
pub mod netns;
pub mod page;
pub mod page_server;
pub mod plot;
pub mod post_server;
pub mod probe;
pub mod prometheus;
pub mod receiver;
pub mod recorded_api;
pub mod skip;
pub mod target;
pub mod task;
pub mod tools;
pub mod troubleshooting;
pub mod whole;

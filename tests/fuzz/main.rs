//! Fuzz targets for all parsers of bytes from outside: `cargo xtask test fuzz` instruments and runs them.
//!
//! One program for all, so that it is linked once: `PODMETER_FUZZ_TARGET` says which one it is.

#![no_main]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a target says what it found"
)]

mod api_objects;
mod btf;
mod buffer;
mod cgroup_path;
mod config;
mod exposition;
mod headers;
mod host_files;
mod http;
mod place;
mod regex;
mod web_config;

use std::{env, sync::OnceLock};

use libfuzzer_sys::fuzz_target;

/// A target: it must neither panic nor take long, whatever the input.
type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("exposition", exposition::check),
    ("regex", regex::check),
    ("cgroup_path", cgroup_path::check),
    ("config", config::check),
    ("web_config", web_config::check),
    ("api_objects", api_objects::check),
    ("http", http::check),
    ("headers", headers::check),
    ("btf", btf::check),
    ("host_files", host_files::check),
    ("buffer", buffer::check),
];

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    let name = env::var("PODMETER_FUZZ_TARGET").expect("PODMETER_FUZZ_TARGET names a target");
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no target {name}")).1
}

fuzz_target!(|input: &[u8]| CHOSEN.get_or_init(chosen)(input));

//! `cargo xtask run`: builds the exporter for release and becomes it, as root if that is possible.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    cargo::{self, Build},
    console, process,
    setup::{self, Purpose},
};

/// `cargo xtask run`.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    setup::ensure(Purpose::Run)?;
    let podmeter = cargo::build_podmeter(Build::Release)?;
    let mut command = process::as_root(&podmeter).unwrap_or_else(|| {
        console::note(
            "not root, and sudo wants a password: eBPF programs cannot be loaded, so there will be no durations, \
             only what the cgroup files say; `sudo target/release/podmeter run` has all",
        );
        Command::new(&podmeter)
    });
    command.arg("run").args(arguments);
    Err(command.exec()).with_context(|| format!("failed to start {}", process::line(&command)))
}

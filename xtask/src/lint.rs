//! `cargo xtask lint`: formatting, Clippy over every crate, and the licences and sources of the dependencies.

use std::path::PathBuf;

use anyhow::Result;

use crate::{cargo, console, process};

/// `cargo xtask lint`.
pub(crate) fn run() -> Result<()> {
    format()?;
    clippy()?;
    deny()
}

/// Checks the formatting of every crate.
pub(crate) fn format() -> Result<()> {
    process::run(cargo::cargo().args(["fmt", "--all", "--check"]))
}

/// Runs Clippy over the crates of the host, then over the one of the BPF target.
pub(crate) fn clippy() -> Result<()> {
    let mut host = cargo::cargo();
    host.args(["clippy", "--quiet", "--workspace", "--exclude", "podmeter-ebpf", "--all-targets"]);
    process::run(host.args(["--", "--deny", "warnings"]))?;
    let mut ebpf = cargo::cargo();
    ebpf.args(["clippy", "--quiet", "--package", "podmeter-ebpf", "--bins", "--lib", "--release"])
        .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir"])
        .arg(ebpf_target_dir())
        .args(["--", "--deny", "warnings"])
        // As exporter/build.rs builds it: a stable compiler, and -Z build-std.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH));
    process::run(&mut ebpf)
}

fn ebpf_target_dir() -> PathBuf {
    cargo::target_dir().join("ebpf-clippy")
}

fn deny() -> Result<()> {
    if process::find("cargo-deny").is_none() {
        console::note(
            "licences not checked: `cargo install cargo-deny --locked` brings cargo-deny",
        );
        return Ok(());
    }
    process::run(cargo::cargo().args(["deny", "check", "licenses", "bans", "sources"]))
}

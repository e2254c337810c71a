//! `bpf-linker`: links the eBPF programs, and needs the LLVM that the compiler was built with.
//!
//! Its own documentation recommends cargo-binstall. Where that is missing or fails it is built from source, with the LLVM
//! of the distribution.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::Setup;
use crate::{apt, process};

const VERSION: &str = "0.13.0";
const BINSTALL_TIME: Duration = Duration::from_mins(3);

pub(super) fn present(_setup: &Setup) -> bool {
    let version = process::output(Command::new("bpf-linker").arg("--version"));
    version.is_ok_and(|version| version.split_whitespace().any(|word| word == VERSION))
}

pub(super) fn bring(setup: &Setup) -> Result<String> {
    if process::find("bpf-linker").is_none()
        && let Some(installed) = in_cargo_home()
    {
        return on_path(format!("found in {}", installed.display()));
    }
    if process::find("cargo-binstall").is_some() {
        let mut binstall = Command::new("cargo");
        binstall.args(["binstall", "--no-confirm", &format!("bpf-linker@{VERSION}")]);
        if process::succeeds(&mut binstall, BINSTALL_TIME) {
            return on_path("installed by cargo-binstall".into());
        }
    }
    let llvm = llvm_of_the_compiler()?;
    let prefix = llvm_prefix(setup, llvm)?;
    let mut path = prefix.join("bin").into_os_string();
    if let Some(rest) = env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    let mut install = Command::new("cargo");
    install
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .env("PATH", path)
        .env("LLVM_PREFIX", &prefix);
    process::output(&mut install)?;
    on_path(format!("{VERSION} built with LLVM {llvm}"))
}

/// An older setup's, where cargo installs.
fn in_cargo_home() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home =
        cargo_home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    let installed = cargo_home.join("bin/bpf-linker");
    installed.is_file().then_some(installed)
}

fn on_path(done: String) -> Result<String> {
    if process::find("bpf-linker").is_none() {
        bail!(
            "it is installed, but cargo's folder of binaries is not on PATH: add ~/.cargo/bin to it"
        );
    }
    Ok(done)
}

/// The major version of the compiler's LLVM.
fn llvm_of_the_compiler() -> Result<u32> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major = llvm.and_then(|llvm| llvm.split('.').next()).and_then(|major| major.parse().ok());
    major.context("rustc -vV does not say its LLVM version")
}

/// Where that LLVM is installed, with the libraries to build against.
fn llvm_prefix(setup: &Setup, llvm: u32) -> Result<PathBuf> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    if has_libraries(&prefix) {
        return Ok(prefix);
    }
    let packages = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    if process::find("apt-get").is_none() {
        bail!(
            "it needs LLVM {llvm} with its libraries, which only apt is known to bring: install \
             cargo-binstall (or LLVM {llvm} under {}) and start again",
            prefix.display()
        );
    }
    let installed = match setup.apt() {
        Ok(apt) => apt.install(&names),
        Err(_) => apt::install_with_own_apt(&names),
    };
    installed.with_context(|| {
        format!("it needs {}; without them, cargo-binstall brings a ready one", names.join(" and "))
    })?;
    if !has_libraries(&prefix) {
        bail!("{} still has no LLVM libraries", prefix.display());
    }
    Ok(prefix)
}

fn has_libraries(prefix: &Path) -> bool {
    prefix.join("bin/llvm-config").exists() && prefix.join("lib/libPolly.a").exists()
}

//! Cargo, as the other commands call it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// The triple of static builds; the guests run nothing else.
pub(crate) const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";
/// A static program runs in a guest that has no libraries. What only debuggers read is left out of it.
const STATIC_RUSTFLAGS: &str = "-C target-feature=+crt-static -C strip=debuginfo";

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// As `cargo build` does it.
    Debug,
    /// As `cargo build --release` does it.
    Release,
    /// A debug build without shared libraries.
    Static,
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR");
    let manifest = manifest.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// `cargo`, in the root of the workspace, on this terminal.
pub(crate) fn cargo() -> Command {
    cargo_in(&root())
}

/// `cargo`, in that folder, on this terminal.
///
/// What the outer cargo says of the package `xtask` is not for the inner one: build scripts such as that of `ring` look
/// at these variables, and half of the dependencies would be built anew for whoever calls cargo by hand in between.
pub(crate) fn cargo_in(dir: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(dir);
    let is_of_package = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_package(name)) {
        command.env_remove(name);
    }
    command
}

/// Cargo's target folder.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Builds the exporter and gives its path.
pub(crate) fn build_podmeter(build: Build) -> Result<PathBuf> {
    executable(&["build", "--package", "podmeter", "--bin", "podmeter"], "podmeter", build)
}

/// Builds the test binary `it` and gives its path.
pub(crate) fn build_tests(build: Build) -> Result<PathBuf> {
    executable(&["test", "--no-run", "--package", "podmeter-tests", "--test", "it"], "it", build)
}

/// Builds the fuzz targets, with Podmeter's own code instrumented, and gives their path.
pub(crate) fn build_fuzz() -> Result<PathBuf> {
    let words = ["build", "--package", "podmeter-tests", "--features", "fuzz", "--bin", "fuzz"];
    let mut command = cargo();
    // Cargo keeps what a wrapper compiled apart from the rest, and dependencies are not wrapped.
    command.env("RUSTC_WORKSPACE_WRAPPER", root().join("tests/fuzz/rustc")).args(words);
    built(&mut command, "fuzz")
}

/// Builds a bench of the tests' package, which needs their harness, and gives its path.
pub(crate) fn build_bench(name: &str) -> Result<PathBuf> {
    executable(&["build", "--package", "podmeter-tests", "--bench", name], name, Build::Debug)
}

/// Builds and gives the path of the executable of that name.
fn executable(words: &[&str], name: &str, build: Build) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(words);
    match build {
        Build::Debug => {}
        Build::Release => {
            command.arg("--release");
        }
        Build::Static => {
            command.args(["--target", STATIC_TARGET]).env("RUSTFLAGS", STATIC_RUSTFLAGS);
        }
    }
    built(&mut command, name)
}

/// Runs cargo, and gives the path of the executable of that name that it built.
pub(crate) fn built(command: &mut Command, name: &str) -> Result<PathBuf> {
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output =
        command.output().with_context(|| format!("failed to start {}", process::line(command)))?;
    if !output.status.success() {
        bail!("{name} did not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let path = messages.lines().filter_map(|message| executable_in(message, name)).next_back();
    path.with_context(|| format!("cargo does not say where it put {name}"))
}

/// The path in one of cargo's messages, which are JSON objects, one to a line.
fn executable_in(message: &str, name: &str) -> Option<PathBuf> {
    if !message.contains(&format!("\"name\":\"{name}\",\"src_path\"")) {
        return None;
    }
    let (_, rest) = message.split_once("\"executable\":\"")?;
    let (path, _) = rest.split_once('"')?;
    // An escaped path would need a JSON parser; no path of this workspace has one.
    (!path.contains('\\')).then(|| path.into())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::executable_in;

    #[test]
    fn the_executable_is_found_in_the_message() {
        let message = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"it","src_path":"/x/main.rs"},"executable":"/t/it-1","fresh":true}"#;
        assert_eq!(executable_in(message, "it"), Some(PathBuf::from("/t/it-1")));
        assert_eq!(executable_in(message, "podmeter"), None);
        assert_eq!(executable_in(&message.replace("\"/t/it-1\"", "null"), "it"), None);
    }
}

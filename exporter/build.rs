//! Builds the eBPF programs for the BPF target and hands their objects to the crate: one per file in
//! `exporter-ebpf/src/bin`, as `$OUT_DIR/<probe>`.
//!
//! The objects are built under `target/ebpf`, which debug, release and static builds of the exporter share, because
//! building `core` for the target takes a minute (docs/decisions/0002-building-ebpf.md).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

const TARGET: &str = "bpfel-unknown-none";

fn main() -> Result<()> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let root = manifest_dir.parent().context("exporter/ has a parent folder")?;
    for watched in ["exporter-ebpf", "exporter-common", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    if env::var("CARGO_CFG_TARGET_ENDIAN")? != "little" {
        bail!("only little-endian machines are supported");
    }
    let target_dir = target_dir(&out_dir)?.join("ebpf");
    build_objects(root, &target_dir)?;
    for probe in probes(&root.join("exporter-ebpf/src/bin"))? {
        let built = target_dir.join(TARGET).join("release").join(&probe);
        fs::copy(&built, out_dir.join(&probe))
            .with_context(|| format!("failed to copy {}", built.display()))?;
    }
    Ok(())
}

/// The `target/` folder that `OUT_DIR` lies in, wherever the user has put it.
fn target_dir(out_dir: &Path) -> Result<&Path> {
    // OUT_DIR is <target>[/<triple>]/<profile>/build/<package>-<hash>/out.
    let profile_dir = out_dir.ancestors().nth(3).context("OUT_DIR is too short")?;
    let parent = profile_dir.parent().context("OUT_DIR is too short")?;
    let triple = env::var("TARGET")?;
    if parent.file_name().is_some_and(|name| name == triple.as_str()) {
        return parent.parent().context("OUT_DIR is too short");
    }
    Ok(parent)
}

fn build_objects(root: &Path, target_dir: &Path) -> Result<()> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let mut rustflags = vec![
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        // Without debug info there is no BTF, and without BTF no fentry.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
    ];
    rustflags.extend(remapped(root)?);
    let mut command = Command::new(env::var("CARGO")?);
    command
        .args(["build", "--package", "podmeter-ebpf", "--bins", "--release"])
        .args(["-Z", "build-std=core", "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .current_dir(root)
        // The pinned compiler is a stable one; core for a target without a standard library needs -Z build-std.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"));
    // The outer cargo's choices are for the host: a wrapper or flags of its own must not reach the BPF build.
    for variable in ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "the eBPF programs did not build; `cargo xtask setup` brings what this needs (rust-src, bpf-linker)\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// BTF names the files of the sources; without these it would name folders of the machine that built it, and no two
/// builds would be alike.
fn remapped(root: &Path) -> Result<Vec<String>> {
    let mut rustc = Command::new(env::var("RUSTC")?);
    let sysroot = rustc.args(["--print", "sysroot"]).output().context("failed to run rustc")?;
    let sysroot = String::from_utf8(sysroot.stdout).context("rustc's folder is no text")?;
    let cargo_home = env::var("CARGO_HOME").or_else(|_not_set| -> Result<_> {
        Ok(format!("{}/.cargo", env::var("HOME").context("neither CARGO_HOME nor HOME is set")?))
    })?;
    let folders = [
        (root.to_str().context("the path of the sources is no text")?, "/podmeter"),
        (cargo_home.as_str(), "/cargo"),
        (sysroot.trim_end(), "/rust"),
    ];
    Ok(folders.map(|(from, to)| format!("--remap-path-prefix={from}={to}")).into())
}

/// The names of the probes: the files of `exporter-ebpf/src/bin` without their ending.
fn probes(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut probes = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            probes.push(PathBuf::from(path.file_stem().context("a file has a name")?));
        }
    }
    Ok(probes)
}

//! `rust-src`: the source of `core` that matches the compiler, which `-Z build-std=core` compiles for the BPF target.
//!
//! rustup brings it where it can fetch. Where it cannot, Debian's package of exactly the same version is unpacked in the
//! cache and linked to where cargo looks.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::Setup;
use crate::{apt::Package, process};

/// rustup may try a host that does not answer.
const RUSTUP_TIME: Duration = Duration::from_mins(3);

pub(super) fn present(_setup: &Setup) -> bool {
    let Ok(compiler) = Compiler::of_this_folder() else {
        return false;
    };
    let matches = match fs::read_link(&compiler.source) {
        // A link that was made for another version of the compiler.
        Ok(target) => target.ends_with(format!("rustc-{}", compiler.version)),
        Err(_) => true,
    };
    matches && has_core(&compiler.source)
}

pub(super) fn bring(setup: &Setup) -> Result<String> {
    let compiler = Compiler::of_this_folder()?;
    if process::find("rustup").is_some() {
        let mut rustup = Command::new("rustup");
        rustup.args(["component", "add", "rust-src"]);
        if process::succeeds(&mut rustup, RUSTUP_TIME) && has_core(&compiler.source) {
            return Ok("added by rustup".into());
        }
    }
    from_debian(setup, &compiler).with_context(|| {
        format!(
            "rustup cannot fetch rust-src for {}, and Debian's package does not serve either",
            compiler.version
        )
    })
}

fn from_debian(setup: &Setup, compiler: &Compiler) -> Result<String> {
    let version = &compiler.version;
    let apt = setup.apt()?;
    let offered = apt.versions("rust-src")?;
    let matching = offered.iter().find(|offer| {
        let rest = offer.strip_prefix(version.as_str());
        rest.is_some_and(|rest| rest.starts_with(['+', '-', '~']))
    });
    let Some(matching) = matching else {
        bail!("no suite has rust-src {version}, there is: {}", offered.join(", "));
    };
    let package = Package { name: "rust-src".into(), version: matching.clone() };
    let folder = format!("rust-src-{version}");
    let unpacked = setup.cache.fill(&folder, |dir| apt.unpack(&[package], dir))?;
    let source = unpacked.join("usr/src").join(format!("rustc-{version}"));
    if !has_core(&source) {
        bail!("the package has no {}", source.display());
    }
    link(&source, &compiler.source)?;
    Ok(format!("Debian's {matching}, linked into the toolchain"))
}

fn link(source: &Path, at: &Path) -> Result<()> {
    let parent = at.parent().context("the toolchain has a folder for sources")?;
    let remedy = || {
        format!(
            "the toolchain's folder cannot be written: run `ln -sfn {} {}` as its owner",
            source.display(),
            at.display()
        )
    };
    fs::create_dir_all(parent).with_context(remedy)?;
    // An older link of this kind; a real folder would be rustup's and is left alone.
    if fs::read_link(at).is_ok() {
        fs::remove_file(at).with_context(remedy)?;
    }
    symlink(source, at).with_context(remedy)
}

fn has_core(source: &Path) -> bool {
    source.join("library/core/src/lib.rs").is_file()
}

/// The compiler that builds this workspace.
struct Compiler {
    version: String,
    /// Where cargo looks for the sources of the standard library.
    source: PathBuf,
}

impl Compiler {
    fn of_this_folder() -> Result<Self> {
        let version = process::output(Command::new("rustc").arg("--version"))?;
        let version =
            version.split_whitespace().nth(1).context("rustc does not say its version")?;
        let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
        Ok(Self { version: version.into(), source })
    }
}

//! `cargo xtask image`: a static binary in an image that has nothing else, as an OCI archive, with its bill of
//! materials. The same commit gives the same bytes, whoever builds it and wherever; `--check` builds it twice.

mod sbom;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache::{create_dir, remove_dir},
    cargo::{self, STATIC_TARGET},
    console, process,
    setup::{self, Purpose},
};

/// Largest archive.
const MAX_ARCHIVE_BYTES: u64 = 20_000_000;
/// The reference that deploy/chart has, less the version.
const REPOSITORY: &str = "podmeter";
/// What a kubelet reads into a name without a registry: so an image that `ctr` imports has the name that it looks for.
const REGISTRY: &str = "docker.io/library";

/// What was built.
#[derive(Debug)]
pub(crate) struct Image {
    /// The static binary.
    pub(crate) binary: PathBuf,
    /// The image, as an OCI archive.
    pub(crate) archive: PathBuf,
    /// The bill of materials, `CycloneDX` in JSON.
    pub(crate) sbom: PathBuf,
    /// The digest of its manifest.
    digest: String,
}

/// The commit that an image is made of.
#[derive(Clone, Debug)]
struct Commit {
    /// Its id, with `-dirty` if files differ from it.
    revision: String,
    /// When it was made, in seconds since 1970.
    epoch: String,
}

/// `cargo xtask image`.
pub(crate) fn run() -> Result<()> {
    setup::ensure(Purpose::Image)?;
    say(&build_here(&commit()?)?)
}

/// `cargo xtask image --check`.
pub(crate) fn check() -> Result<()> {
    setup::ensure(Purpose::Image)?;
    let commit = commit()?;
    if commit.is_dirty() {
        bail!("an image is compared with that of a commit: commit what git status shows first");
    }
    say(&build_twice(&commit)?)
}

/// For the tests: built once, because a second build from nothing takes as long as all other tests.
pub(crate) fn build_once() -> Result<Image> {
    build_here(&commit()?)
}

fn say(image: &Image) -> Result<()> {
    let n_bytes = size(&image.archive)?;
    console::say(&format!(
        "{}: {:.1} MB, {REPOSITORY}:{VERSION}, {}",
        image.archive.display(),
        megabytes(n_bytes),
        image.digest
    ));
    console::say(&format!("{}: the bill of materials", image.sbom.display()));
    Ok(())
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Commit {
    fn is_dirty(&self) -> bool {
        self.revision.ends_with("-dirty")
    }
}

fn commit() -> Result<Commit> {
    let git = |words: &[&str]| {
        let text = process::output(Command::new("git").args(words).current_dir(cargo::root()));
        let text = text.context("an image has the date of its commit, and there is none here")?;
        anyhow::Ok(text.trim().to_owned())
    };
    let mut revision = git(&["rev-parse", "HEAD"])?;
    if !git(&["status", "--porcelain"])?.is_empty() {
        revision.push_str("-dirty");
    }
    Ok(Commit { revision, epoch: git(&["log", "-1", "--format=%ct"])? })
}

fn build_here(commit: &Commit) -> Result<Image> {
    let (root, target) = (cargo::root(), cargo::target_dir());
    build(&root, &target, &target.join("image"), commit)
}

/// Builds here, and again from what git has, in another folder and with an empty target folder.
fn build_twice(commit: &Commit) -> Result<Image> {
    let first = build_here(commit)?;
    let again = cargo::target_dir().join("image-again");
    remove_dir(&again)?;
    let sources = again.join("sources");
    create_dir(&sources)?;
    let tar = again.join("sources.tar");
    let mut archive = Command::new("git");
    archive.args(["archive", "--format=tar", "--output"]).arg(&tar).arg("HEAD");
    process::output(archive.current_dir(cargo::root()))?;
    process::output(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&sources))?;
    console::note("building a second time, from nothing");
    let second = build(&sources, &again.join("target"), &again.join("image"), commit)?;
    for (one, other) in [(&first.archive, &second.archive), (&first.sbom, &second.sbom)] {
        if read(one)? != read(other)? {
            bail!(
                "two builds of one commit differ: {} and {}, with binaries {} and {}",
                one.display(),
                other.display(),
                first.binary.display(),
                second.binary.display()
            );
        }
    }
    remove_dir(&again)?;
    console::note(&format!("a second build, in another folder, is the same: {}", first.digest));
    Ok(first)
}

fn build(root: &Path, target: &Path, out: &Path, commit: &Commit) -> Result<Image> {
    let binary = build_binary(root, target, &commit.epoch)?;
    refuse_paths(&binary, &[root, target])?;
    remove_dir(out)?;
    let context = out.join("context");
    create_dir(&context)?;
    let placed = context.join("podmeter");
    fs::copy(&binary, &placed).with_context(|| format!("failed to write {}", placed.display()))?;
    // The digest has the mode in it, which is the builder's umask otherwise.
    process::output(Command::new("chmod").arg("0755").arg(&placed))?;
    let digest = build_layout(&root.join("deploy/image/Containerfile"), out, commit)?;
    let archive = out.join(format!("podmeter-{VERSION}.oci.tar"));
    pack(&out.join("layout"), &archive, &commit.epoch)?;
    for folder in [&context, &out.join("layout")] {
        remove_dir(folder)?;
    }
    let n_bytes = size(&archive)?;
    if n_bytes > MAX_ARCHIVE_BYTES {
        bail!(
            "{} has {:.1} MB, and {:.1} MB are allowed",
            archive.display(),
            megabytes(n_bytes),
            megabytes(MAX_ARCHIVE_BYTES)
        );
    }
    let sbom = out.join(format!("podmeter-{VERSION}.cdx.json"));
    sbom::write(root, &sbom, &commit.epoch)?;
    Ok(Image { binary, archive, sbom, digest })
}

/// A release without shared libraries, and without a folder of this machine in it.
fn build_binary(root: &Path, target: &Path, epoch: &str) -> Result<PathBuf> {
    let [sources, cargo_home, rust] = remapped(root)?;
    let mut flags =
        ["-C", "target-feature=+crt-static", "-C", "strip=symbols"].map(String::from).to_vec();
    for (from, to) in [&sources, &cargo_home, &rust] {
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    let c_flags =
        [&cargo_home, &sources].map(|(from, to)| format!("-ffile-prefix-map={from}={to}"));
    let mut command = cargo::cargo_in(root);
    command
        .args(["build", "--locked", "--release", "--target", STATIC_TARGET, "--target-dir"])
        .arg(target)
        .args(["--package", "podmeter", "--bin", "podmeter"])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CFLAGS", c_flags.join(" "))
        .env("SOURCE_DATE_EPOCH", epoch);
    cargo::built(&mut command, "podmeter")
}

/// Folders of this machine, and what they are called in the binary; the names are those of exporter/build.rs.
fn remapped(root: &Path) -> Result<[(String, &'static str); 3]> {
    let sysroot =
        process::output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root))?;
    let cargo_home = env::var("CARGO_HOME").or_else(|_not_set| {
        anyhow::Ok(format!("{}/.cargo", env::var("HOME").context("HOME is not set")?))
    })?;
    let root = root.to_str().context("the path of the sources is no text")?;
    Ok([(root.into(), "/podmeter"), (cargo_home, "/cargo"), (sysroot.trim_end().into(), "/rust")])
}

/// A path of this machine in the binary would differ on the next one.
fn refuse_paths(binary: &Path, folders: &[&Path]) -> Result<()> {
    let bytes = read(binary)?;
    for folder in folders {
        let needle = folder.as_os_str().as_encoded_bytes();
        if bytes.windows(needle.len()).any(|window| window == needle) {
            bail!("{} has the path {} in it", binary.display(), folder.display());
        }
    }
    Ok(())
}

/// Lets buildah make `out/layout`, an OCI layout, and gives the manifest's digest.
fn build_layout(containerfile: &Path, out: &Path, commit: &Commit) -> Result<String> {
    let [buildah] = &setup::packages::BUILDAH.paths()?[..] else {
        bail!("buildah is one program");
    };
    let store = out.join("store");
    let name = format!("{REPOSITORY}:{VERSION}");
    let command = |word: &str| {
        let mut command = Command::new(buildah);
        // A store of its own leaves the user's images as they are; vfs needs neither overlayfs nor a mount.
        command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
        command.args(["--storage-driver", "vfs", word]);
        command
    };
    let mut build = command("build");
    build.args(["--isolation", "chroot", "--pull=never", "--no-cache", "--identity-label=false"]);
    build.args(["--timestamp", &commit.epoch, "--tag", &name]);
    let labels = [
        ("title", "podmeter"),
        ("version", VERSION),
        ("revision", &commit.revision),
        ("licenses", "Apache-2.0 AND (MIT OR GPL-2.0-only)"),
    ];
    for (key, value) in labels {
        build.arg("--label").arg(format!("org.opencontainers.image.{key}={value}"));
    }
    process::output(build.arg("--file").arg(containerfile).arg(out.join("context")))?;
    let digest_file = out.join("digest");
    let layout = format!("oci:{}:{REGISTRY}/{name}", out.join("layout").display());
    let mut push = command("push");
    push.args(["--quiet", "--digestfile"]).arg(&digest_file).arg(&name).arg(layout);
    process::output(&mut push)?;
    let digest = fs::read_to_string(&digest_file).context("buildah wrote no digest")?;
    fs::remove_file(&digest_file)?;
    // Its files belong to other ids where buildah ran without root.
    process::output(command("rmi").args(["--all", "--force"]))?;
    process::output(Command::new(buildah).arg("unshare").arg("rm").arg("-rf").arg(&store))
        .or_else(|_is_root| process::output(Command::new("rm").arg("-rf").arg(&store)))?;
    Ok(digest.trim().to_owned())
}

/// Archives the layout, with nothing in it of the machine, the builder or the hour.
fn pack(layout: &Path, archive: &Path, epoch: &str) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"])
        .args(["--mode=u=rwX,go=rX", &format!("--mtime=@{epoch}"), "--create", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(layout)
        .args(["blobs", "index.json", "oci-layout"]);
    process::output(&mut tar).map(drop)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("failed to read {}", path.display()))?.len())
}

#[expect(clippy::cast_precision_loss, reason = "an image has less than 2^53 bytes")]
fn megabytes(n_bytes: u64) -> f64 {
    n_bytes as f64 / 1e6
}

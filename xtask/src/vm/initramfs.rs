//! The guest's whole file system: busybox, programs of the host, an init script, the modules, the tests and the exporter.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    cpio::Archive,
    matrix::{Cgroup, Variant},
    modules::Module,
};
use crate::{cargo, process};

/// What the guest prints before the exit status of the tests.
pub(crate) const SENTINEL: &str = "podmeter-vm: exit ";

/// What goes into the guest.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) busybox: &'a Path,
    pub(crate) tests: &'a Path,
    pub(crate) podmeter: &'a Path,
    /// Programs of the host, which take precedence over what busybox has of the same name.
    pub(crate) programs: &'a [Program],
    pub(crate) modules: &'a [Module],
    pub(crate) variant: &'a Variant,
    /// The tests that it runs.
    pub(crate) names: &'a BTreeSet<String>,
}

/// A program from the host with the files that it needs at their own paths.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    libraries: Vec<PathBuf>,
}

impl Program {
    /// Finds the libraries of a program of this machine.
    pub(crate) fn new(path: PathBuf) -> Result<Self> {
        let listed = process::output(Command::new("ldd").arg(&path))?;
        let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
        Ok(Self { path, libraries: words.map(PathBuf::from).collect() })
    }
}

/// Builds the archive.
pub(crate) fn build(contents: &Contents<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tmp", "var"] {
        archive.directory(dir)?;
    }
    let files =
        [("busybox", contents.busybox), ("it", contents.tests), ("podmeter", contents.podmeter)];
    for (name, file) in files {
        archive.executable(&format!("bin/{name}"), &read(file)?)?;
    }
    let of_variant = contents.variant.programs.iter().map(|name| {
        Program::new(process::find(name).with_context(|| format!("{name} is on no PATH"))?)
    });
    let of_variant = of_variant.collect::<Result<Vec<_>>>()?;
    let programs = contents.programs.iter().chain(&of_variant);
    add_of_host(&mut archive, programs, contents.variant.folders)?;
    for module in contents.modules {
        archive.executable(&format!("modules/{}.ko", module.name), &module.contents)?;
    }
    archive.executable("init", init(contents).as_bytes())?;
    archive.finish()
}

/// Adds programs, each library that one of them needs, and the files of folders.
fn add_of_host<'a>(
    archive: &mut Archive,
    programs: impl Iterator<Item = &'a Program> + Clone,
    folders: &[&str],
) -> Result<()> {
    for program in programs.clone() {
        let name = program.path.file_name().context("a program's path has a name")?;
        archive.executable(&format!("bin/{}", name.display()), &read(&program.path)?)?;
    }
    let mut files: BTreeSet<PathBuf> =
        programs.flat_map(|program| program.libraries.iter().cloned()).collect();
    for folder in folders {
        let folder = cargo::root().join(folder);
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("failed to read {}", folder.display()))?;
        for entry in entries {
            files.insert(entry?.path());
        }
    }
    let mut made = BTreeSet::new();
    for file in &files {
        let relative = file.strip_prefix("/").context("it is a whole path")?;
        let parents: Vec<_> = relative.ancestors().skip(1).collect();
        // The nearest to the root comes first; the root itself is the empty path.
        for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            if made.insert(parent) {
                archive.directory(&parent.display().to_string())?;
            }
        }
        archive.executable(&relative.display().to_string(), &read(file)?)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

/// The init script. The console is the kernel's; the tests write to the second serial port, so that neither cuts
/// through a line of the other.
fn init(contents: &Contents<'_>) -> String {
    let insmod = contents
        .modules
        .iter()
        .map(|module| format!("insmod /modules/{}.ko {}\n", module.name, module.parameters()));
    let insmod: String = insmod.collect();
    let cgroup = match contents.variant.cgroup {
        Cgroup::V1 => CGROUP_V1,
        Cgroup::V2 => CGROUP_V2,
    };
    let variant = contents.variant.name;
    let names = contents.names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    format!(
        "#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root RUST_BACKTRACE=1 PODMETER_VM=1 PODMETER_VM_VARIANT={variant}
export PODMETER_BIN=/bin/podmeter PODMETER_PROMETHEUS=/bin/prometheus PODMETER_SOAK_FOLDER=/tmp/soak
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
{cgroup}{insmod}ip link set lo up
stty -F /dev/ttyS1 raw -echo
cd /root
/bin/it --exact {names} --test-threads=1 --show-output </dev/null >/dev/ttyS1 2>&1
echo \"{SENTINEL}$?\" >/dev/ttyS1
sync
poweroff -f
"
    )
}

const CGROUP_V2: &str = "mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in cpu memory io pids; do
  echo +$controller >/sys/fs/cgroup/cgroup.subtree_control
done
";

const CGROUP_V1: &str = "mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
for controller in cpu cpuacct memory blkio pids; do
  mkdir /sys/fs/cgroup/$controller
  if ! mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller; then
    echo \"init: this kernel has no v1 $controller\"
    rmdir /sys/fs/cgroup/$controller
  fi
done
mkdir /sys/fs/cgroup/unified
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
";

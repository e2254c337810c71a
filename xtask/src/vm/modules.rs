//! The kernel modules that a guest loads, in an order in which each finds what it depends on.
//!
//! Debian's packages come without `modules.dep`, which is made where they are installed. What a module depends on is also
//! written in the module, as `depends=a,b`.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process;

/// What the tests need; a name that a kernel has built in, or does not have, is passed over.
const WANTED: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "null_blk",
    "brd",
    "sd_mod",
    "scsi_debug",
    "mq_deadline",
    "ext4",
    "veth",
    "sch_netem",
    "tcp_diag",
];

/// Parameters of modules: disks are few and small, and those of `null_blk` complete requests at once, in the caller.
const PARAMETERS: &[(&str, &str)] = &[
    ("brd", "rd_nr=2 rd_size=65536"),
    ("null_blk", "nr_devices=1 queue_mode=2 irqmode=0"),
    ("scsi_debug", "dev_size_mb=32"),
];

/// A module as it is loaded.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) contents: Vec<u8>,
}

impl Module {
    /// What follows its name when it is loaded.
    pub(crate) fn parameters(&self) -> &'static str {
        let found = PARAMETERS.iter().find(|(name, _)| *name == self.name);
        found.map_or("", |(_, parameters)| parameters)
    }
}

/// Reads the wanted modules and all that they depend on.
pub(crate) fn load_order(modules: &Path) -> Result<Vec<Module>> {
    let mut files = HashMap::new();
    collect(&modules.join("kernel"), &mut files)?;
    let mut ordered = Vec::new();
    for name in WANTED {
        add(name, &mut files, &mut ordered)?;
    }
    Ok(ordered)
}

/// Adds a module after what it depends on. Taking it out of `files` first makes this end, and each come once.
fn add(name: &str, files: &mut HashMap<String, PathBuf>, ordered: &mut Vec<Module>) -> Result<()> {
    let Some(file) = files.remove(name) else {
        return Ok(());
    };
    let contents = read(&file)?;
    for dependency in depends(&contents) {
        add(&dependency, files, ordered)?;
    }
    ordered.push(Module { name: name.into(), contents });
    Ok(())
}

fn collect(dir: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
            continue;
        }
        let file_name = entry.file_name().to_string_lossy().into_owned();
        if let Some((name, _)) = file_name.split_once(".ko") {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let unpacker = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(file).with_context(|| format!("failed to read {}", file.display())),
    };
    let mut command = Command::new(unpacker);
    command.arg("-dc").arg(file);
    let output =
        command.output().with_context(|| format!("failed to start {}", process::line(&command)))?;
    anyhow::ensure!(output.status.success(), "{} failed", process::line(&command));
    Ok(output.stdout)
}

/// The names in a module's `depends=`.
fn depends(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(start) = module.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let value = module.iter().skip(start + key.len()).take_while(|&&byte| byte != 0).copied();
    let value = String::from_utf8_lossy(&value.collect::<Vec<u8>>()).replace('-', "_");
    value.split(',').filter(|name| !name.is_empty()).map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::depends;

    #[test]
    fn dependencies_are_read_from_the_module() {
        let check = |module: &[u8], expected: &[&str]| assert_eq!(depends(module), expected);
        check(
            b"ELF\0license=GPL\0depends=virtio,virtio-ring\0name=x\0",
            &["virtio", "virtio_ring"],
        );
        check(b"ELF\0depends=\0name=x\0", &[]);
        check(b"ELF", &[]);
    }
}

//! Guest kernels: Debian's cloud kernels, found by version prefix in all suites, and unpacked in the cache.
//!
//! A kernel of the cache serves until its folder is removed, so that a new one does not come between two runs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{Apt, Package},
    cache::Cache,
    setup::Setup,
};

/// The kernels that the project answers for: the oldest, the long-term ones, both ways of throttling, the newest.
pub(crate) const DEFAULT: &[&str] = &["5.10", "6.1", "6.12", "6.18", "7.3"];

const NAME_PREFIX: &str = "linux-image-";
const NAME_SUFFIX: &str = "-cloud-amd64";
const FOLDER: &str = "kernels";

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// What `uname -r` will say.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// The folder with `kernel/`, `modules.order` and so on.
    pub(crate) modules: PathBuf,
}

/// The newest kernel of the cache that the prefix stands for.
pub(crate) fn cached(cache: &Cache, prefix: &str) -> Option<Kernel> {
    let entries = fs::read_dir(cache.path(FOLDER)).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = newest(names, prefix)?;
    unpacked(&cache.path(FOLDER).join(newest)).ok()
}

/// Downloads the newest kernel that the prefix stands for.
pub(crate) fn fetch(setup: &Setup, prefix: &str) -> Result<Kernel> {
    let remedy = "guest kernels are Debian's; a machine whose apt sources name no Debian archive cannot run `test vm`";
    let apt = setup.apt().context(remedy)?;
    let mut names = apt.names(NAME_PREFIX)?;
    if newest(names.iter().cloned(), prefix).is_none() && apt.refresh_once()? {
        names = apt.names(NAME_PREFIX)?;
    }
    let Some(name) = newest(names.iter().cloned(), prefix) else {
        bail!("no suite has a kernel {prefix}, there is: {}", offered(&names));
    };
    let version = apt.versions(&name)?.into_iter().next();
    let version = version.with_context(|| format!("apt offers no version of {name}"))?;
    let packages = with_parts(apt, Package { name: name.clone(), version })?;
    let folder = setup.cache.fill(Path::new(FOLDER).join(&name), |dir| {
        apt.unpack(&packages, dir)?;
        let share = dir.join("usr/share");
        if share.exists() {
            fs::remove_dir_all(&share).context("failed to remove the documentation")?;
        }
        Ok(())
    })?;
    unpacked(&folder)
}

/// The package and those that hold its files: from 7.x on they are split.
fn with_parts(apt: &Apt, package: Package) -> Result<Vec<Package>> {
    let parts = ["linux-binary-", "linux-modules-", "linux-base-"];
    let release = package.name.trim_start_matches(NAME_PREFIX).to_owned();
    let mut packages = Vec::new();
    for name in apt.depends(&package)? {
        // An archive may have lost a part that is not needed to boot; `unpacked` sees whether one is.
        if parts.iter().any(|part| name == format!("{part}{release}"))
            && apt.names(&name)?.contains(&name)
        {
            packages.push(Package { name, version: package.version.clone() });
        }
    }
    packages.push(package);
    Ok(packages)
}

/// Looks at an unpacked kernel.
fn unpacked(folder: &Path) -> Result<Kernel> {
    let only = |dir: PathBuf, prefix: &str| -> Option<PathBuf> {
        fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
    };
    let modules =
        only(folder.join("usr/lib/modules"), "").or_else(|| only(folder.join("lib/modules"), ""));
    let modules = modules.with_context(|| format!("{} has no modules", folder.display()))?;
    let image = only(folder.join("boot"), "vmlinuz")
        .or_else(|| only(modules.clone(), "vmlinuz"))
        .with_context(|| format!("{} has no kernel image", folder.display()))?;
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Kernel { release, image, modules })
}

/// A release without what all guest kernels' end in.
pub(crate) fn short(release: &str) -> &str {
    release.trim_end_matches(NAME_SUFFIX)
}

/// The newest package name that the prefix stands for.
fn newest(names: impl Iterator<Item = String>, prefix: &str) -> Option<String> {
    names
        .filter(|name| version_of(name).is_some_and(|version| is_version_prefix(prefix, version)))
        .max_by_key(|name| numbers(name))
}

/// The version in a kernel package's name; the metapackages have none, or only two components.
fn version_of(name: &str) -> Option<&str> {
    let version = name.strip_prefix(NAME_PREFIX)?.strip_suffix(NAME_SUFFIX)?;
    let starts_with_three_numbers = version
        .splitn(3, '.')
        .filter(|component| component.starts_with(|first: char| first.is_ascii_digit()))
        .count()
        == 3;
    starts_with_three_numbers.then_some(version)
}

/// Whether the version begins with the prefix, in whole components: 6.1 is no prefix of 6.12.
pub(crate) fn is_version_prefix(prefix: &str, version: &str) -> bool {
    let Some(rest) = version.strip_prefix(prefix) else {
        return false;
    };
    !prefix.is_empty() && !rest.starts_with(|next: char| next.is_ascii_digit())
}

/// The numbers in a name, which order names as versions.
pub(crate) fn numbers(name: &str) -> Vec<u64> {
    let name = name.trim_end_matches(NAME_SUFFIX);
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The first two components of every offered kernel.
fn offered(names: &[String]) -> String {
    let mut versions: Vec<Vec<u64>> = names
        .iter()
        .filter_map(|name| Some(numbers(version_of(name)?).into_iter().take(2).collect()))
        .collect();
    versions.sort();
    versions.dedup();
    let text =
        |version: &Vec<u64>| version.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
    versions.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{is_version_prefix, newest, offered};

    const NAMES: &[&str] = &[
        "linux-image-cloud-amd64",
        "linux-image-6.1-cloud-amd64",
        "linux-image-6.1.0-0.deb11.52-cloud-amd64",
        "linux-image-6.1.0-50-cloud-amd64",
        "linux-image-6.1.0-50-cloud-amd64-dbg",
        "linux-image-6.1.0-50-cloud-amd64-unsigned",
        "linux-image-6.1.0-51-amd64",
        "linux-image-6.12.95+deb12-cloud-amd64",
        "linux-image-6.12.117+deb13-cloud-amd64",
        "linux-image-6.12.90+deb12.1-cloud-amd64",
    ];

    fn names() -> impl Iterator<Item = String> {
        NAMES.iter().map(|&name| name.into())
    }

    #[test]
    fn the_newest_of_a_version_is_found() {
        let check = |prefix: &str, expected: Option<&str>| {
            assert_eq!(newest(names(), prefix).as_deref(), expected, "{prefix}");
        };
        check("6.1", Some("linux-image-6.1.0-50-cloud-amd64"));
        check("6.12", Some("linux-image-6.12.117+deb13-cloud-amd64"));
        check("6.12.95", Some("linux-image-6.12.95+deb12-cloud-amd64"));
        check("6.12.9", None);
        check("6", Some("linux-image-6.12.117+deb13-cloud-amd64"));
        check("7.3", None);
        check("", None);
    }

    #[test]
    fn a_prefix_ends_at_a_component() {
        assert!(is_version_prefix("6.1", "6.1.0-50"));
        assert!(!is_version_prefix("6.1", "6.12.95"));
    }

    #[test]
    fn what_is_offered_is_said_once_each() {
        assert_eq!(offered(&names().collect::<Vec<_>>()), "6.1, 6.12");
    }
}

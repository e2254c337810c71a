//! Programs that are installed system-wide, from the packages of the distribution.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::Setup;
use crate::{apt, process};

/// What is wanted of one package.
#[derive(Debug)]
pub(crate) struct Programs {
    /// Debian's name of it.
    pub(crate) package: &'static str,
    pub(crate) names: &'static [&'static str],
}

/// Compiles libFuzzer.
pub(crate) const CXX: Programs = Programs { package: "g++", names: &["c++"] };
/// Runs the guest kernels.
pub(crate) const QEMU: Programs =
    Programs { package: "qemu-system-x86", names: &["qemu-system-x86_64"] };
/// Makes links and network namespaces, delays packets, and tells the kernel's own counts.
pub(crate) const IPROUTE: Programs =
    Programs { package: "iproute2", names: &["ip", "nstat", "ss", "tc"] };
/// Takes capabilities away, and starts programs in namespaces.
pub(crate) const UTIL_LINUX: Programs =
    Programs { package: "util-linux", names: &["nsenter", "setpriv", "unshare"] };
/// Switches a link's offloads.
pub(crate) const ETHTOOL: Programs = Programs { package: "ethtool", names: &["ethtool"] };
/// Directs what pods send to a Service.
pub(crate) const IPTABLES: Programs = Programs { package: "iptables", names: &["iptables"] };
/// Makes file systems.
pub(crate) const E2FSPROGS: Programs = Programs { package: "e2fsprogs", names: &["mkfs.ext4"] };
/// Reads and writes blocks.
pub(crate) const FIO: Programs = Programs { package: "fio", names: &["fio"] };
/// Sends packets.
pub(crate) const IPERF: Programs = Programs { package: "iperf3", names: &["iperf3"] };
/// Builds the container image.
pub(crate) const BUILDAH: Programs = Programs { package: "buildah", names: &["buildah"] };
/// Shows a page without a screen.
pub(crate) const CHROMIUM: Programs =
    Programs { package: "chromium-headless-shell", names: &["chromium-headless-shell"] };
/// Reads the Vagrantfile.
pub(crate) const VAGRANT: Programs = Programs { package: "vagrant", names: &["vagrant"] };

/// A Chromium of whatever package.
pub(crate) fn chromium() -> Option<PathBuf> {
    ["chromium-headless-shell", "chromium", "google-chrome"]
        .iter()
        .find_map(|name| process::find(name))
}

impl Programs {
    pub(super) fn present(&self) -> bool {
        self.names.iter().all(|name| process::find(name).is_some())
    }

    pub(super) fn bring(&self, setup: &Setup) -> Result<String> {
        let package = self.package;
        let names = self.names.join(", ");
        if process::find("apt-get").is_none() {
            bail!(
                "there is no apt here: install {names} by this system's package manager (Debian's package is {package}), \
                 and start again"
            );
        }
        let installed = match setup.apt() {
            Ok(apt) => apt.install(&[package]),
            Err(_) => apt::install_with_own_apt(&[package]),
        };
        installed.with_context(|| {
            format!(
                "the package {package} cannot be installed: have {names} on PATH, and start again"
            )
        })?;
        Ok(format!("package {package} installed"))
    }

    /// Where the programs are.
    pub(crate) fn paths(&self) -> Result<Vec<PathBuf>> {
        let path = |name: &&str| {
            process::find(name).with_context(|| {
                format!("{name} is on no PATH: install the package {}", self.package)
            })
        };
        self.names.iter().map(path).collect()
    }
}

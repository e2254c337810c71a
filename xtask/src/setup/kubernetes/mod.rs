//! A real Kubernetes for the cluster tests: its components, compiled from Debian's source package, and Debian's etcd,
//! kubectl, containerd and runc beside them, all in the cache.
//!
//! Debian's package of 1.20 is the last one that has the whole of it with all dependencies, so that it compiles without a
//! network. `compile` does that.

mod compile;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{
    Setup,
    tools::{described, oldest},
};
use crate::cache::Cache;

/// Below it are `compiled/`, flat, and `debian/`, as the packages have their files.
const FOLDER: &str = "kubernetes";
const COMPILED: &str = "compiled";
const DEBIAN: &str = "debian";

/// What is compiled.
const COMPONENTS: &[&str] =
    &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

/// A package that is unpacked beside the components.
struct Peer {
    package: &'static str,
    /// How its version begins. Of several the oldest is taken, which runs on the oldest release that has it.
    version: &'static str,
    /// A file of the package that is needed.
    file: &'static str,
}

const PEERS: &[Peer] = &[
    Peer { package: "etcd-server", version: "3.4.", file: "usr/bin/etcd" },
    Peer { package: "kubectl", version: "1.32.", file: "usr/bin/kubectl" },
    Peer { package: "containerd", version: "1.7.", file: "usr/bin/containerd" },
    Peer { package: "runc", version: "1.1.", file: "usr/sbin/runc" },
    Peer { package: "containernetworking-plugins", version: "1.1.", file: "usr/lib/cni/bridge" },
];

/// Where both folders are.
pub(crate) fn folder(cache: &Cache) -> PathBuf {
    cache.path(FOLDER)
}

pub(super) fn components_present(setup: &Setup) -> bool {
    let dir = folder(&setup.cache).join(COMPILED);
    COMPONENTS.iter().all(|name| dir.join(name).is_file())
}

pub(super) fn bring_components(setup: &Setup) -> Result<String> {
    let apt = setup.apt().context("Kubernetes is compiled from Debian's source package")?;
    setup.cache.fill(format!("{FOLDER}/{COMPILED}"), |dir| compile::into(apt, COMPONENTS, dir))?;
    Ok(format!("{} compiled in the cache", COMPONENTS.join(", ")))
}

pub(super) fn peers_present(setup: &Setup) -> bool {
    let dir = folder(&setup.cache).join(DEBIAN);
    PEERS.iter().all(|peer| dir.join(peer.file).is_file())
}

pub(super) fn bring_peers(setup: &Setup) -> Result<String> {
    let apt = setup.apt().context("they are Debian's")?;
    let packages = PEERS.iter().map(|peer| oldest(apt, peer.package, peer.version));
    let packages = packages.collect::<Result<Vec<_>>>()?;
    setup.cache.fill(format!("{FOLDER}/{DEBIAN}"), |dir| apt.unpack(&packages, dir))?;
    if !peers_present(setup) {
        let files: Vec<&str> = PEERS.iter().map(|peer| peer.file).collect();
        bail!("the packages do not hold all of {}", files.join(", "));
    }
    Ok(described(&packages))
}

//! Tools that are unpacked in the cache: Prometheus with promtool, `VictoriaMetrics` with vmagent, Python's `prometheus_client`, and a static
//! busybox.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::Setup;
use crate::{
    apt::{Apt, Package},
    cache::{Cache, remove_dir},
    process,
};

/// The release of Prometheus that the tests are written for.
const PROMETHEUS: &str = "3.5.";
/// The release of `VictoriaMetrics` that receives in tests, and whose vmagent Podmeter is compared with.
const VICTORIA_METRICS_RELEASE: &str = "1.145.";
const VMAGENT: &str = "vmagent";
const VICTORIA_METRICS: &str = "victoria-metrics";
/// The release of `node_exporter` that Podmeter is compared with.
const NODE_EXPORTER: &str = "1.11.";
/// The only release of cAdvisor that a suite has.
const CADVISOR: &str = "0.38.";
const PYTHON_CLIENT: &str = "prometheus_client";
/// Debian has no Helm; this has the whole SDK in it.
const HELM: &str = "helm-sdkpy==0.1.32";

/// Where `prometheus` or `promtool` is: in the cache, else on `PATH`.
pub(crate) fn prometheus_tool(cache: &Cache, name: &str) -> Option<PathBuf> {
    let cached = cache.path("prometheus/usr/bin").join(name);
    if cached.is_file() {
        return Some(cached);
    }
    let found = process::find(name)?;
    let version = process::output(Command::new(&found).arg("--version")).ok()?;
    version.contains(&format!("version {PROMETHEUS}")).then_some(found)
}

pub(super) fn prometheus_present(setup: &Setup) -> bool {
    ["prometheus", "promtool"].iter().all(|name| prometheus_tool(&setup.cache, name).is_some())
}

pub(super) fn bring_prometheus(setup: &Setup) -> Result<String> {
    let remedy =
        || format!("put a prometheus and a promtool {PROMETHEUS}x on PATH, and start again");
    let apt = setup.apt().with_context(remedy)?;
    let packages = ["prometheus", "promtool"].map(|name| newest(apt, name, PROMETHEUS));
    let packages = packages.into_iter().collect::<Result<Vec<_>>>().with_context(remedy)?;
    setup.cache.fill("prometheus", |dir| {
        apt.unpack(&packages, dir)?;
        // The only two files that are needed of 400 MB.
        remove_dir(&dir.join("usr/share"))
    })?;
    if !prometheus_present(setup) {
        bail!("the packages do not hold prometheus and promtool");
    }
    Ok(described(&packages))
}

/// One program of Debian's package victoria-metrics, in a folder of the cache that has its name.
fn of_victoria_metrics(cache: &Cache, program: &str) -> Option<PathBuf> {
    let path = cache.path(program).join("usr/bin").join(program);
    path.is_file().then_some(path)
}

/// Where vmagent is.
pub(crate) fn vmagent(cache: &Cache) -> Option<PathBuf> {
    of_victoria_metrics(cache, VMAGENT)
}

/// Where the database `VictoriaMetrics` is.
pub(crate) fn victoria_metrics(cache: &Cache) -> Option<PathBuf> {
    of_victoria_metrics(cache, VICTORIA_METRICS)
}

pub(super) fn vmagent_present(setup: &Setup) -> bool {
    vmagent(&setup.cache).is_some()
}

pub(super) fn victoria_metrics_present(setup: &Setup) -> bool {
    victoria_metrics(&setup.cache).is_some()
}

pub(super) fn bring_vmagent(setup: &Setup) -> Result<String> {
    bring_of_victoria_metrics(setup, VMAGENT)
}

pub(super) fn bring_victoria_metrics(setup: &Setup) -> Result<String> {
    bring_of_victoria_metrics(setup, VICTORIA_METRICS)
}

fn bring_of_victoria_metrics(setup: &Setup, program: &str) -> Result<String> {
    let whence = || format!("{program} comes from Debian's package {VICTORIA_METRICS}");
    let apt = setup.apt().with_context(whence)?;
    let package = newest(apt, VICTORIA_METRICS, VICTORIA_METRICS_RELEASE)?;
    setup.cache.fill(program, |dir| {
        apt.unpack(std::slice::from_ref(&package), dir)?;
        // The one file that is needed of 250 MB.
        for file in fs::read_dir(dir.join("usr/bin"))? {
            let file = file?;
            if file.file_name() != program {
                fs::remove_file(file.path())?;
            }
        }
        Ok(())
    })?;
    if of_victoria_metrics(&setup.cache, program).is_none() {
        bail!("the package holds no {program}");
    }
    Ok(described(&[package]))
}

/// Where `node_exporter` is.
pub(crate) fn node_exporter(cache: &Cache) -> Option<PathBuf> {
    Some(cache.path("node-exporter/usr/bin/prometheus-node-exporter")).filter(|path| path.is_file())
}

pub(super) fn bring_node_exporter(setup: &Setup) -> Result<String> {
    let apt = setup.apt().context("it comes from Debian's package prometheus-node-exporter")?;
    let package = newest(apt, "prometheus-node-exporter", NODE_EXPORTER)?;
    setup.cache.fill("node-exporter", |dir| apt.unpack(std::slice::from_ref(&package), dir))?;
    node_exporter(&setup.cache).context("the package holds no node_exporter")?;
    Ok(described(&[package]))
}

/// Where cAdvisor is.
pub(crate) fn cadvisor(cache: &Cache) -> Option<PathBuf> {
    Some(cache.path("cadvisor/usr/bin/cadvisor")).filter(|path| path.is_file())
}

pub(super) fn bring_cadvisor(setup: &Setup) -> Result<String> {
    let apt = setup.apt().context("it comes from Debian's package cadvisor")?;
    let package = newest(apt, "cadvisor", CADVISOR)?;
    setup.cache.fill("cadvisor", |dir| apt.unpack(std::slice::from_ref(&package), dir))?;
    cadvisor(&setup.cache).context("the package holds no cAdvisor")?;
    Ok(described(&[package]))
}

/// The `PYTHONPATH` that has `prometheus_client`.
pub(crate) fn python_path(cache: &Cache) -> PathBuf {
    cache.path("python")
}

pub(super) fn python_client_present(setup: &Setup) -> bool {
    python_path(&setup.cache).join(PYTHON_CLIENT).join("__init__.py").is_file()
}

pub(super) fn bring_python_client(setup: &Setup) -> Result<String> {
    if process::find("python3").is_none() {
        bail!("python3 is missing: install it with the system's package manager, and start again");
    }
    let by_pip = setup.cache.fill("python", |dir| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]);
        process::output(pip.arg(dir).arg(PYTHON_CLIENT))?;
        Ok(())
    });
    let Err(pip_error) = by_pip else {
        return Ok("installed by pip in the cache".into());
    };
    let remedy =
        || format!("pip cannot install {PYTHON_CLIENT}, and Debian's package does not serve");
    let apt = setup.apt().context(pip_error.to_string()).with_context(remedy)?;
    let package = newest(apt, "python3-prometheus-client", "").with_context(remedy)?;
    setup.cache.fill("python", |dir| {
        apt.unpack(std::slice::from_ref(&package), dir)?;
        let from = dir.join("usr/lib/python3/dist-packages").join(PYTHON_CLIENT);
        fs::rename(&from, dir.join(PYTHON_CLIENT))
            .with_context(|| format!("the package has no {}", from.display()))
    })?;
    Ok(described(&[package]))
}

/// The `PYTHONPATH` that has Helm's SDK.
pub(crate) fn helm_path(cache: &Cache) -> PathBuf {
    cache.path("helm")
}

pub(super) fn helm_present(setup: &Setup) -> bool {
    helm_path(&setup.cache).join("helm_sdkpy/__init__.py").is_file()
}

pub(super) fn bring_helm(setup: &Setup) -> Result<String> {
    setup.cache.fill("helm", |dir| {
        let mut pip = Command::new("python3");
        // It asks for a newer Python than it uses.
        pip.args(["-m", "pip", "install", "--quiet", "--ignore-requires-python", "--target"]);
        process::output(pip.arg(dir).arg(HELM))?;
        Ok(())
    })?;
    Ok(format!("{HELM} installed by pip in the cache"))
}

/// The busybox for guests: in the cache, else the system's, if it is a static one.
pub(crate) fn busybox(cache: &Cache) -> Option<PathBuf> {
    [cache.path("busybox/bin/busybox"), cache.path("busybox/usr/bin/busybox")]
        .into_iter()
        .chain(process::find("busybox"))
        .find(|path| path.is_file() && is_static(path))
}

pub(super) fn busybox_present(setup: &Setup) -> bool {
    busybox(&setup.cache).is_some()
}

pub(super) fn bring_busybox(setup: &Setup) -> Result<String> {
    let remedy =
        || "have a statically linked busybox on PATH (package busybox-static), and start again";
    let apt = setup.apt().with_context(remedy)?;
    let package = newest(apt, "busybox-static", "").with_context(remedy)?;
    setup.cache.fill("busybox", |dir| apt.unpack(std::slice::from_ref(&package), dir))?;
    if !busybox_present(setup) {
        bail!("the package holds no static busybox");
    }
    Ok(described(&[package]))
}

/// A static program names no interpreter.
fn is_static(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| {
        let head = bytes.get(..4096).unwrap_or(&bytes);
        head.starts_with(b"\x7fELF")
            && !head.windows(9).any(|window| window == b"/ld-linux")
            && !head.windows(8).any(|window| window == b"/ld-musl")
    })
}

/// The newest offered version of a package that begins so; any version with an empty prefix.
pub(super) fn newest(apt: &Apt, name: &str, prefix: &str) -> Result<Package> {
    offered(apt, name, prefix)?.into_iter().next().context("there is one at least")
}

/// The oldest one.
pub(super) fn oldest(apt: &Apt, name: &str, prefix: &str) -> Result<Package> {
    offered(apt, name, prefix)?.pop().context("there is one at least")
}

/// All that begin so, at least one, newest first.
fn offered(apt: &Apt, name: &str, prefix: &str) -> Result<Vec<Package>> {
    loop {
        let versions = apt.versions(name)?;
        let fitting = versions.iter().filter(|version| version.starts_with(prefix));
        let packages: Vec<Package> = fitting
            .map(|version| Package { name: name.into(), version: version.clone() })
            .collect();
        if !packages.is_empty() {
            return Ok(packages);
        }
        if !apt.refresh_once()? {
            bail!("no suite has {name} {prefix}x, there is: {}", versions.join(", "));
        }
    }
}

pub(super) fn described(packages: &[Package]) -> String {
    let described = |package: &Package| format!("{} {}", package.name, package.version);
    let all: Vec<String> = packages.iter().map(described).collect();
    format!("{} unpacked in the cache", all.join(", "))
}

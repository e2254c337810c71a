//! The configuration: a YAML file, with defaults for everything, so that no file at all is a valid configuration.
//!
//! Unknown keys are errors that name the key, the line and the nearest known key; `${NAME}` in a value is replaced by
//! the environment variable.

mod error;
mod expand;
mod keys;
mod kubernetes;
pub mod local;
pub mod origin;
pub mod remote_write;
pub mod scrape;
pub(crate) mod units;
pub mod watch;
pub mod web;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_saphyr::Spanned;

pub use self::{
    error::ConfigError,
    keys::{KEYS, Key},
    kubernetes::{Enabled, KubernetesConfig},
};
use self::{
    keys::ProbesConfig,
    kubernetes::RawKubernetes,
    local::{LocalTargets, RawKubelet},
    remote_write::{RawRemoteWrite, RemoteWriteConfig},
    scrape::{RawScrape, ScrapeConfig},
    web::{RawWebSettings, WebSettings},
};
use crate::{
    cgroup::watch::MAX_CGROUPS,
    error_chain::one_line,
    files,
    labelling::{relabel::rule::RuleConfig, reserved},
    paths::HostPaths,
    source::{probe::EbpfLog, upstream::client::config::TlsConfig},
};

/// The port that Podmeter serves by default.
pub const DEFAULT_PORT: u16 = 9643;

/// The largest limit of cgroups that can be set: some hundred bytes and an inotify watch for each.
const LARGEST_MAX_CGROUPS: usize = 1 << 20;

/// Largest file that is read; a real one has a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the endpoint listens.
    pub listen: SocketAddr,
    /// Who may read what is served there.
    pub web: WebSettings,
    /// The name of this node in the Kubernetes API, if it was given.
    pub node_name: Option<String>,
    /// Labels that every series gets.
    pub external_labels: BTreeMap<String, String>,
    /// Whether and how pods are named by the Kubernetes API.
    pub kubernetes: KubernetesConfig,
    /// Switches of the probes.
    pub probes: ProbesConfig,
    /// The pages of others that are relayed.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Where these come from, if the file does not have them.
    pub local_targets: LocalTargets,
    /// How the kubelet proves who it is to the targets that the file does not name, if it says so.
    pub kubelet_tls: Option<TlsConfig>,
    /// What is done to each series of the page, behind the rules of its target.
    pub relabel_configs: Vec<RuleConfig>,
    /// How often what is pushed is collected.
    pub remote_write_interval: Duration,
    /// Whom it is pushed to.
    pub remote_write: Vec<RemoteWriteConfig>,
    /// Most cgroups of each hierarchy that are told apart; the rest is one remainder.
    pub max_cgroups: usize,
    /// Where the host's files are.
    pub paths: HostPaths,
    /// Whether programs in the kernel say what becomes of single events; no key, but an option of the command line.
    pub ebpf_log: EbpfLog,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)),
            web: WebSettings::default(),
            node_name: None,
            external_labels: BTreeMap::new(),
            kubernetes: KubernetesConfig::default(),
            probes: ProbesConfig::default(),
            scrape_configs: Vec::new(),
            local_targets: LocalTargets::default(),
            kubelet_tls: None,
            relabel_configs: Vec::new(),
            remote_write_interval: remote_write::DEFAULT_INTERVAL,
            remote_write: Vec::new(),
            max_cgroups: MAX_CGROUPS,
            paths: HostPaths::default(),
            ebpf_log: EbpfLog::default(),
        }
    }
}

impl Config {
    /// Parses the text of a file, with the variables of this process' environment.
    pub fn parse_file(text: &str, file: &Path) -> Result<Self, ConfigError> {
        Self::parse(text, &file.display().to_string(), &|name| std::env::var(name).ok())
    }

    /// Parses the text of `file`; `variable` looks up environment variables.
    pub fn parse(
        text: &str,
        file: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let raw = RawConfig::parse(text, file)?;
        let context = Context { file, variable };
        let expand = |key: &str, value: &str| context.expand(key, value);
        let defaults = Self::default();
        let listen = match raw.listen {
            Some(listen) => parse_listen(&expand("listen", &listen)?, file)?,
            None => defaults.listen,
        };
        let mut external_labels = BTreeMap::new();
        for (name, value) in raw.external_labels {
            reserved::check(&name).map_err(|source| ConfigError::LabelName {
                file: file.into(),
                name: name.clone(),
                source,
            })?;
            let value = expand(&format!("external_labels.{name}"), &value)?;
            external_labels.insert(name, value);
        }
        let path = |key: &str, value: Option<String>| {
            value.map(|value| expand(key, &value).map(PathBuf::from)).transpose()
        };
        let paths = HostPaths {
            proc: path("paths.procfs", raw.paths.procfs)?.unwrap_or(defaults.paths.proc),
            sys: path("paths.sysfs", raw.paths.sysfs)?.unwrap_or(defaults.paths.sys),
            cgroup: path("paths.cgroupfs", raw.paths.cgroupfs)?,
        };
        let node_name = raw.node_name.map(|name| expand("node_name", &name)).transpose()?;
        let local_targets = match raw.scrape_configs {
            Some(_) => LocalTargets::Named,
            None => LocalTargets::NotSought,
        };
        let is_external = |name: &str| external_labels.contains_key(name);
        let kubernetes = raw.kubernetes.resolve(&context, is_external)?;
        Ok(Self {
            listen,
            web: raw.web.resolve(&context)?,
            node_name: node_name.filter(|name| !name.is_empty()),
            external_labels,
            kubernetes,
            probes: raw.probes,
            local_targets,
            kubelet_tls: raw.kubelet.resolve(&context, local_targets)?,
            scrape_configs: scrape::resolve(raw.scrape_configs.unwrap_or_default(), &context)?,
            relabel_configs: scrape::page_rules(raw.relabel_configs, &context)?,
            remote_write_interval: remote_write::interval(raw.remote_write_interval, file)?,
            remote_write: remote_write::resolve(raw.remote_write, &context)?,
            max_cgroups: match raw.cgroups.max_tracked {
                Some(max) => cgroup_limit(max, file)?,
                None => defaults.max_cgroups,
            },
            paths,
            ebpf_log: defaults.ebpf_log,
        })
    }
}

/// The text of the file.
fn read(path: &Path) -> Result<String, ConfigError> {
    files::read_text(path, MAX_FILE_BYTES).map_err(|source| match source.kind() {
        io::ErrorKind::FileTooLarge => ConfigError::TooLarge { path: path.into() },
        _ => ConfigError::Read { path: path.into(), source },
    })
}

/// What the values of a file are understood with.
struct Context<'a> {
    file: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Context<'_> {
    fn expand(&self, key: &str, value: &str) -> Result<String, ConfigError> {
        expand::expand(value, self.variable).map_err(|source| ConfigError::Expand {
            file: self.file.into(),
            key: key.into(),
            source,
        })
    }

    /// Where something stands.
    fn place(&self, location: &serde_saphyr::Location) -> String {
        place_of(self.file, location)
    }
}

/// Where something stands in a file, as editors want it.
fn place_of(file: &str, location: &serde_saphyr::Location) -> String {
    format!("{file}:{}:{}", location.line(), location.column())
}

/// The file as it stands; every key may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    listen: Option<String>,
    web: RawWebSettings,
    node_name: Option<String>,
    external_labels: BTreeMap<String, String>,
    kubernetes: RawKubernetes,
    probes: ProbesConfig,
    scrape_configs: Option<Vec<Spanned<RawScrape>>>,
    kubelet: RawKubelet,
    relabel_configs: Vec<RuleConfig>,
    remote_write_interval: Option<String>,
    remote_write: Vec<Spanned<RawRemoteWrite>>,
    cgroups: RawCgroups,
    paths: RawPaths,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawCgroups {
    max_tracked: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPaths {
    procfs: Option<String>,
    sysfs: Option<String>,
    cgroupfs: Option<String>,
}

impl RawConfig {
    fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        if is_empty(text) { Ok(Self::default()) } else { parse_yaml(text, file) }
    }
}

/// Whether a file has nothing but comments, which is a configuration of nothing but defaults.
fn is_empty(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

fn parse_yaml<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| yaml_error(&error, file))
}

fn yaml_error(error: &serde_saphyr::Error, file: &str) -> ConfigError {
    let mut message = one_line(error);
    let place = match error.location() {
        Some(location) => {
            let (line, column) = (location.line(), location.column());
            // The place stands in front, where editors look for it.
            let suffix = format!(" at line {line}, column {column}");
            message.truncate(message.strip_suffix(&suffix).unwrap_or(&message).len());
            format!("{file}:{line}:{column}")
        }
        None => file.to_owned(),
    };
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => ConfigError::Yaml {
            place,
            message: format!("the key `{key}` stands here for the second time"),
        },
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => ConfigError::UnknownKey {
            place,
            nearest: keys::nearest(field, expected),
            key: field.clone(),
        },
        _ => ConfigError::Yaml { place, message },
    }
}

fn parse_listen(value: &str, file: &str) -> Result<SocketAddr, ConfigError> {
    value.parse().map_err(|_not_an_address| ConfigError::Value {
        file: file.into(),
        key: "listen".into(),
        value: value.into(),
        wanted: "it takes an IP address and a port, such as 0.0.0.0:9643 or [::1]:9643",
    })
}

fn cgroup_limit(max: u64, file: &str) -> Result<usize, ConfigError> {
    let limit = usize::try_from(max).ok().filter(|max| (1..=LARGEST_MAX_CGROUPS).contains(max));
    limit.ok_or_else(|| ConfigError::Value {
        file: file.into(),
        key: "cgroups.max_tracked".into(),
        value: max.to_string(),
        wanted: "it takes a number from 1 to 1048576",
    })
}

#[cfg(test)]
mod tests;

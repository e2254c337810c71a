//! Targets that need no configuration: the kubelet and kube-proxy of its node, where Podmeter runs in a pod with
//! `hostNetwork` and the file has no `scrape_configs`.

use std::{
    net::{IpAddr, UdpSocket},
    path::Path,
};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    Config, ConfigError, Context,
    scrape::{RawTls, ScrapeConfig, ScrapeError},
};
use crate::source::upstream::client::config::TlsConfig;

/// The targets, as the file would have them; docs/relay.md shows them.
const TARGETS: &str = include_str!("local.yaml");

/// The one that a node may not have, or not have as a process of its own.
const KUBE_PROXY: &str = "kube-proxy";

/// What every pod with a `ServiceAccount` has.
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Whether there are targets that the file does not name, or why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalTargets {
    /// Nobody has looked.
    #[default]
    NotSought,
    /// The file says which targets there are, maybe none.
    Named,
    /// Podmeter runs in no pod.
    NoPod,
    /// It does not know where the kubelet listens.
    NoNodeIp,
    /// It runs in a pod with a network of its own.
    OwnNetwork,
    /// The kubelet's pages and kube-proxy's.
    Found,
}

/// Whether a target is sure to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// It was asked for, or is on every node.
    #[default]
    Surely,
    /// kube-proxy, which nobody asked for: some networks have none, and with k3s it is one process with the kubelet.
    AsKubeProxy,
}

/// `kubelet`, which changes the targets that the file does not name.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawKubelet {
    tls_config: Option<Spanned<RawTls>>,
}

impl RawKubelet {
    pub(super) fn resolve(
        self,
        context: &Context<'_>,
        targets: LocalTargets,
    ) -> Result<Option<TlsConfig>, ConfigError> {
        let Some(tls) = self.tls_config else { return Ok(None) };
        let place = context.place(&tls.referenced);
        if targets == LocalTargets::Named {
            return Err(ConfigError::Scrape { place, source: ScrapeError::KubeletNamed });
        }
        tls.value.resolve(context, &place).map(Some)
    }
}

/// What is to be known of the place where Podmeter runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Surroundings {
    is_in_pod: bool,
    node_ip: Option<IpAddr>,
    /// Whether that is an address of this network namespace.
    is_own_address: bool,
}

impl LocalTargets {
    /// For people: what was found, or why nothing was.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSought | Self::Named => "those that scrape_configs names",
            Self::NoPod => "none: scrape_configs has none, and this is no pod",
            Self::NoNodeIp => {
                "none: NODE_IP is not set to an address; give the pod status.hostIP under that name, or set \
                 scrape_configs"
            }
            Self::OwnNetwork => {
                "none: NODE_IP is no address of this network; give the pod hostNetwork: true, or set scrape_configs"
            }
            Self::Found => {
                "the kubelet and kube-proxy of this node; scrape_configs would name others, [] none"
            }
        }
    }
}

impl Config {
    /// Looks for targets, unless the file names them.
    pub fn find_local_targets(&mut self) -> Result<(), ConfigError> {
        if self.local_targets == LocalTargets::NotSought {
            let surroundings = Surroundings::look();
            (self.local_targets, self.scrape_configs) =
                surroundings.targets(self.kubelet_tls.as_ref())?;
        }
        Ok(())
    }
}

impl Surroundings {
    fn look() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let node_ip = variable("NODE_IP").and_then(|ip| ip.parse().ok());
        let is_in_pod =
            variable("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN_FILE).exists();
        let is_own = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
        Self { is_in_pod, node_ip, is_own_address: node_ip.is_some_and(is_own) }
    }

    fn targets(
        &self,
        kubelet_tls: Option<&TlsConfig>,
    ) -> Result<(LocalTargets, Vec<ScrapeConfig>), ConfigError> {
        let node_ip = match self {
            Self { is_in_pod: false, .. } => return Ok((LocalTargets::NoPod, Vec::new())),
            Self { node_ip: None, .. } => return Ok((LocalTargets::NoNodeIp, Vec::new())),
            Self { is_own_address: false, .. } => {
                return Ok((LocalTargets::OwnNetwork, Vec::new()));
            }
            Self { node_ip: Some(node_ip), .. } => match node_ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
        };
        let variable = |name: &str| (name == "NODE_IP").then(|| node_ip.clone());
        let mut targets = Config::parse(TARGETS, "the default targets", &variable)?.scrape_configs;
        for target in &mut targets {
            if target.job_name == KUBE_PROXY {
                target.expected = Expected::AsKubeProxy;
            } else if let Some(tls) = kubelet_tls {
                let ca_file = tls.ca_file.clone().or(target.client.tls.ca_file.take());
                target.client.tls = TlsConfig { ca_file, ..tls.clone() };
            }
        }
        Ok((LocalTargets::Found, targets))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, path::Path};

    use super::{Expected, LocalTargets, Surroundings, TARGETS};
    use crate::{
        config::{Config, scrape::ScrapeConfig},
        error_chain::one_line,
        source::upstream::client::config::{TlsConfig, Verification},
    };

    fn look(is_in_pod: bool, ip: &str, is_own_address: bool) -> (LocalTargets, Vec<ScrapeConfig>) {
        let node_ip: Option<IpAddr> = ip.parse().ok();
        Surroundings { is_in_pod, node_ip, is_own_address }.targets(None).unwrap()
    }

    #[test]
    fn the_kubelet_and_kube_proxy_are_found_in_a_pod_on_the_hosts_network() {
        let (found, targets) = look(true, "10.0.0.7", true);
        assert_eq!(found, LocalTargets::Found);
        let urls: Vec<_> = targets.iter().map(|target| target.client.url.to_string()).collect();
        let expected = [
            "https://10.0.0.7:10250/metrics",
            "https://10.0.0.7:10250/metrics/cadvisor",
            "https://10.0.0.7:10250/metrics/probes",
            "https://10.0.0.7:10250/metrics/resource",
            "http://127.0.0.1:10249/metrics",
        ];
        assert_eq!(urls, expected);
        for target in &targets {
            let is_kubelet = target.job_name != "kube-proxy";
            assert_eq!(target.client.credentials.is_some(), is_kubelet, "no token for kube-proxy");
            assert_eq!(target.client.tls.verification, Verification::Required);
            assert_eq!(target.expected == Expected::Surely, is_kubelet);
        }
        let (_, targets) = look(true, "fd00::7", true);
        assert_eq!(targets[0].client.url.to_string(), "https://[fd00::7]:10250/metrics");
    }

    #[test]
    fn elsewhere_nothing_is_scraped() {
        let check = |is_in_pod, ip, is_own, expected| {
            let (found, targets) = look(is_in_pod, ip, is_own);
            assert_eq!((found, targets.len()), (expected, 0));
        };
        check(false, "10.0.0.7", true, LocalTargets::NoPod);
        check(true, "", false, LocalTargets::NoNodeIp);
        check(true, "10.0.0.7", false, LocalTargets::OwnNetwork);
    }

    #[test]
    fn the_file_says_how_the_kubelet_proves_who_it_is() {
        let check = |yaml: &str, ca_file: &str, server_name: Option<&str>, verification| {
            let variable = |name: &str| (name == "NODE_NAME").then(|| "node-1".to_owned());
            let config = Config::parse(yaml, "f", &variable).unwrap();
            let node_ip = "10.0.0.7".parse().ok();
            let surroundings = Surroundings { is_in_pod: true, node_ip, is_own_address: true };
            let (_, targets) = surroundings.targets(config.kubelet_tls.as_ref()).unwrap();
            let (kube_proxy, kubelet) = targets.split_last().unwrap();
            assert_eq!(kubelet.len(), 4);
            for target in kubelet {
                let tls = &target.client.tls;
                assert_eq!(tls.ca_file.as_deref(), Some(Path::new(ca_file)), "{yaml}");
                assert_eq!(tls.server_name.as_deref(), server_name, "{yaml}");
                assert_eq!(tls.verification, verification, "{yaml}");
            }
            assert_eq!(kube_proxy.client.tls, TlsConfig::default());
        };
        let cluster = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
        check("", cluster, None, Verification::Required);
        check("kubelet: {}", cluster, None, Verification::Required);
        check(
            "kubelet: { tls_config: { ca_file: /k.crt, server_name: '${NODE_NAME}' } }",
            "/k.crt",
            Some("node-1"),
            Verification::Required,
        );
        let skipped = "kubelet: { tls_config: { insecure_skip_verify: true } }";
        check(skipped, cluster, None, Verification::Skipped);
        let both = format!("scrape_configs: []\n{skipped}");
        let error = Config::parse(&both, "f", &|_| None).unwrap_err();
        let said = one_line(&error);
        assert!(said.starts_with("f:2:"), "{said}");
        assert!(said.ends_with("`scrape_configs` names them: set `tls_config` there"), "{said}");
    }

    #[test]
    fn a_file_that_names_targets_is_enough() {
        let named = |yaml: &str| Config::parse(yaml, "f", &|_| None).unwrap().local_targets;
        assert_eq!(named("scrape_configs: []"), LocalTargets::Named);
        assert_eq!(named("node_name: a"), LocalTargets::NotSought);
        assert_eq!(named(""), LocalTargets::NotSought);
        assert_eq!(named("scrape_configs: [{job_name: a, url: 'http://b/'}]"), LocalTargets::Named);
    }

    #[test]
    fn the_documentation_shows_the_targets() {
        assert!(include_str!("../../../docs/relay.md").contains(TARGETS));
    }
}

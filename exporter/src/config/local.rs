//! Targets that need no configuration: the kubelet and kube-proxy of its node, where Podmeter runs in a pod with
//! `hostNetwork` and the file has no `scrape_configs`.

use std::{
    net::{IpAddr, UdpSocket},
    path::Path,
};

use super::{Config, ConfigError, scrape::ScrapeConfig};

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
            (self.local_targets, self.scrape_configs) = Surroundings::look().targets()?;
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

    fn targets(&self) -> Result<(LocalTargets, Vec<ScrapeConfig>), ConfigError> {
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
        for target in targets.iter_mut().filter(|target| target.job_name == KUBE_PROXY) {
            target.expected = Expected::AsKubeProxy;
        }
        Ok((LocalTargets::Found, targets))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Expected, LocalTargets, Surroundings, TARGETS};
    use crate::{
        config::{Config, scrape::ScrapeConfig},
        source::upstream::client::config::Verification,
    };

    fn look(is_in_pod: bool, ip: &str, is_own_address: bool) -> (LocalTargets, Vec<ScrapeConfig>) {
        let node_ip: Option<IpAddr> = ip.parse().ok();
        Surroundings { is_in_pod, node_ip, is_own_address }.targets().unwrap()
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

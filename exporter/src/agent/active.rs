//! What the configuration in force has made: probes, targets, rules, and the connection to the Kubernetes API. A reload
//! makes another one of it, which takes over whatever the new configuration leaves as it is.

use std::sync::{Arc, Mutex};

use super::{StartError, find_node_name};
use crate::{
    attribution::kubernetes::{Access, Kubernetes, NoAccess, Settings, review::Reviewer},
    caps::privileged::Privileged,
    config::{Config, Enabled, remote_write::RemoteWriteConfig},
    labelling::{
        relabel::{Rules, RulesError},
        relay::own::OwnRelay,
    },
    memory,
    remote_write::{endpoint::Endpoint, status::EndpointStatus},
    source::{
        gather::SourceSlot,
        privileged::PrivilegedSource,
        probe::{self, HookKind, PROBES, ProbeDef, ProbeHost, ProbeStatus},
    },
    targets::Targets,
};

/// The parts that follow the configuration.
pub(super) struct Active {
    pub(super) config: Config,
    pub(super) node_name: String,
    /// Every probe of the table.
    pub(super) probes: Vec<ProbeStatus>,
    /// Those that are attached.
    probe_slots: Vec<SourceSlot>,
    pub(super) targets: Targets,
    /// Only where the page has rules.
    pub(super) own_relay: Option<Arc<Mutex<OwnRelay>>>,
    pub(super) kubernetes: Option<Pods>,
    /// Whom to ask about tokens of scrapers, if they are needed and there is a way to the API.
    pub(super) reviewer: Option<Arc<Reviewer>>,
    /// Whom pages are pushed to, in the order of the configuration.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
}

/// The connection to the API, and what it was made by.
#[derive(Clone)]
pub(super) struct Pods {
    settings: Settings,
    pub(super) api: Arc<Kubernetes>,
}

impl Active {
    /// Makes what the configuration says, and takes from the one before what stays; blocks while probes are loaded, and
    /// needs a runtime.
    pub(super) fn make(
        config: Config,
        before: Option<&Self>,
        privileged: &Privileged,
    ) -> Result<Self, StartError> {
        let node_name = find_node_name(&config);
        let settings = kubernetes_settings(&config, &node_name)?;
        let reviewer = reviewer(&config, before);
        if before.is_some() && config.web.kubernetes_auth && reviewer.is_none() {
            return Err(NoAccess { key: "web.kubernetes_auth" }.into());
        }
        let before_of_page =
            before.filter(|before| before.has_page_of(&config) && before.node_name == node_name);
        let rules = Arc::new(Rules::new(&config.relabel_configs)?);
        let external: Vec<_> = config.external_labels.clone().into_iter().collect();
        let hasher = before.map(|before| before.targets.hasher().clone()).unwrap_or_default();
        let kept = before_of_page.map(|before| &before.targets);
        let targets =
            Targets::new(&config.scrape_configs, &rules, &external, &node_name, hasher, kept)?;
        let own_relay = match before_of_page {
            Some(before) => before.own_relay.clone(),
            None if rules.is_empty() => None,
            None => {
                let relay = OwnRelay::new(rules, external, targets.hasher().clone());
                Some(Arc::new(Mutex::new(relay)))
            }
        };
        let kubernetes = settings.map(|settings| Pods::follow(settings, before));
        let endpoints = endpoints(&config, &node_name, before)?;
        // Last, because it is what takes time, and nothing behind it can fail.
        let (probes, probe_slots) = start_probes(&config, before, privileged)?;
        Ok(Self {
            config,
            node_name,
            probes,
            probe_slots,
            targets,
            own_relay,
            kubernetes,
            reviewer,
            endpoints,
        })
    }

    /// The labels of the configuration that own series get as they are labelled; behind rules they come later.
    pub(super) fn own_external_labels(&self) -> Vec<(String, String)> {
        if self.own_relay.is_some() {
            return Vec::new();
        }
        self.config.external_labels.clone().into_iter().collect()
    }

    /// How it stands with each receiver.
    pub(super) fn endpoint_statuses(&self) -> Vec<EndpointStatus> {
        self.endpoints.iter().map(|endpoint| endpoint.status()).collect()
    }

    /// The attached probes.
    pub(super) fn probe_slots(&self) -> &[SourceSlot] {
        &self.probe_slots
    }

    /// Whether what is done to every series of the page stays the same.
    fn has_page_of(&self, config: &Config) -> bool {
        self.config.relabel_configs == config.relabel_configs
            && self.config.external_labels == config.external_labels
    }

    /// What became of a probe that was on already, and its slot if it is attached.
    fn probe(&self, def: &ProbeDef) -> Option<(ProbeStatus, Option<SourceSlot>)> {
        if !self.config.probes.enabled(def) {
            return None;
        }
        let status = self.probes.iter().find(|status| status.name == def.name)?;
        let slot = self.probe_slots.iter().find(|slot| slot.name() == def.name);
        Some((status.clone(), slot.cloned()))
    }
}

impl Pods {
    /// The connection that there is, if it was made by the same, or a new one.
    fn follow(settings: Settings, before: Option<&Active>) -> Self {
        let known = before.and_then(|before| before.kubernetes.as_ref());
        match known {
            Some(known) if known.settings == settings => known.clone(),
            known => {
                let counted = known.map(|known| known.api.status());
                let api = Arc::new(Kubernetes::start(settings.clone(), counted));
                Self { settings, api }
            }
        }
    }

    /// Whether it is the same connection.
    pub(super) fn is_same_as(&self, other: Option<&Self>) -> bool {
        other.is_some_and(|other| Arc::ptr_eq(&self.api, &other.api))
    }
}

/// Receivers that stay as they are keep what waits for them.
fn endpoints(
    config: &Config,
    node_name: &str,
    before: Option<&Active>,
) -> Result<Vec<Arc<Endpoint>>, RulesError> {
    let endpoint = |wanted: &RemoteWriteConfig| {
        let named = before.and_then(|before| {
            let mut known = before.endpoints.iter();
            known.find(|known| known.config().name == wanted.name)
        });
        let is_same = |known: &Arc<Endpoint>| {
            known.config() == wanted && before.is_some_and(|before| before.node_name == node_name)
        };
        match named {
            Some(known) if is_same(known) => Ok(Arc::clone(known)),
            named => {
                let counted = named.map(Arc::as_ref);
                Ok(Arc::new(Endpoint::new(wanted.clone(), node_name, counted)?))
            }
        }
    };
    config.remote_write.iter().map(endpoint).collect()
}

/// Probes that were on stay as they are, attached with all that they have counted, or off for their reason.
fn start_probes(
    config: &Config,
    before: Option<&Active>,
    privileged: &Privileged,
) -> Result<(Vec<ProbeStatus>, Vec<SourceSlot>), StartError> {
    let (mut statuses, mut slots) = (Vec::new(), Vec::new());
    let mut wanted = Vec::new();
    for def in PROBES.iter().filter(|def| config.probes.enabled(def)) {
        match before.and_then(|before| before.probe(def)) {
            Some((status, slot)) => {
                statuses.push(status);
                slots.extend(slot);
            }
            None => wanted.push(def),
        }
    }
    if !wanted.is_empty() {
        let (paths, ebpf_log) = (config.paths.clone(), config.ebpf_log);
        let start = move || {
            let host = ProbeHost { ebpf_log, ..ProbeHost::find(&paths) };
            probe::start_these(&host, HookKind::ALL, &wanted)
        };
        let (probes, started) = privileged.run(start)?;
        memory::give_back_freed();
        statuses.extend(started);
        let slot =
            |probe| SourceSlot::new(Box::new(PrivilegedSource::new(probe, privileged.clone())));
        slots.extend(probes.into_iter().map(slot));
    }
    let off = PROBES.iter().filter(|def| !config.probes.enabled(def));
    for def in off {
        let status = probe::disabled(def);
        if before.is_none_or(|before| before.config.probes.enabled(def)) {
            probe::report(&status);
        }
        statuses.push(status);
    }
    // In the order of the table, whatever came when.
    let place = |name: &str| PROBES.iter().position(|def| def.name == name);
    slots.sort_by_key(|slot: &SourceSlot| place(slot.name()));
    Ok((statuses, slots))
}

/// How the pods are followed, if that is asked for and there is a way to.
fn kubernetes_settings(config: &Config, node: &str) -> Result<Option<Settings>, StartError> {
    let kubernetes = &config.kubernetes;
    if kubernetes.enabled == Enabled::Never {
        return Ok(None);
    }
    let Some(access) = Access::find(kubernetes.kubeconfig.as_deref()) else {
        return match kubernetes.enabled {
            Enabled::Always => Err(NoAccess { key: "kubernetes.enabled" }.into()),
            Enabled::Auto | Enabled::Never => Ok(None),
        };
    };
    Ok(Some(Settings {
        access,
        node: node.into(),
        wanted: kubernetes.labels.wanted(kubernetes.pod_state),
        refresh: kubernetes.metadata_refresh,
    }))
}

/// Who says whether a scraper's token may read the page, if that is asked for and there is a way to the API: the one that
/// there is, if the way is the same.
fn reviewer(config: &Config, before: Option<&Active>) -> Option<Arc<Reviewer>> {
    if !config.web.kubernetes_auth {
        return None;
    }
    let access = Access::find(config.kubernetes.kubeconfig.as_deref())?;
    let known = before.and_then(|before| before.reviewer.as_ref());
    Some(match known {
        Some(known) if *known.access() == access => Arc::clone(known),
        _ => Arc::new(Reviewer::new(access)),
    })
}

//! The running whole: cgroups, sources and labels, and one collection after another that makes a page of them.

mod cgroups;
mod collect;
mod shared;

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync, task};
use tracing::warn;

use self::{cgroups::Cgroups, shared::SharedPages};
use crate::{
    attribution::{
        Snapshot,
        kubernetes::{Access, Kubernetes, KubernetesStatus, Settings, node_name},
    },
    caps::privileged::{Lost, Privileged},
    cgroup::start,
    config::{Config, Enabled, local::LocalTargets},
    demand::{self, Demand, Offer},
    error_chain::one_line,
    labelling::{
        Labeller,
        relabel::{Rules, RulesError},
        relay::own::OwnRelay,
    },
    memory,
    source::{
        gather::{Gathered, SourceSlot},
        host::{self, HOST},
        privileged::PrivilegedSource,
        probe::{self, HookKind, PROBES, ProbeHost, ProbeStatus},
    },
    targets::{LastScrape, Targets},
    telemetry::{SelfMetrics, TelemetryError},
};

/// Podmeter without its server: what `run` serves and `collect` prints.
pub struct Agent {
    metrics: SelfMetrics,
    probes: Vec<ProbeStatus>,
    slots: Vec<SourceSlot>,
    targets: Targets,
    local_targets: LocalTargets,
    cgroups: Cgroups,
    /// Why no cgroup can be measured, if none can.
    no_cgroups: Option<String>,
    kubernetes: Option<Kubernetes>,
    node_name: String,
    naming: Mutex<Naming>,
    /// Held by the one collection that asks sources; targets may be asked for several pages at once.
    gathering: sync::Mutex<()>,
    pages: SharedPages,
    /// Only where the page has rules.
    own_relay: Option<Mutex<OwnRelay>>,
    runs: Mutex<Vec<SourceRun>>,
    started: Instant,
}

/// Who is who, and what it was called before.
struct Naming {
    snapshot: Snapshot,
    labeller: Labeller,
}

/// What a scrape asks for.
#[derive(Clone, Debug)]
pub struct ScrapeRequest {
    /// Which part of the page.
    pub demand: Demand,
    /// When it asked.
    pub asked: Instant,
    /// How long it waits for targets and sources from then on.
    pub time_limit: Duration,
}

/// How a source's last collection went.
#[derive(Clone, Debug)]
pub struct SourceRun {
    /// The source.
    pub name: &'static str,
    /// When it ended, and how long it took; none before the first one.
    pub last: Option<(Instant, Duration)>,
    /// Whether it gave its families.
    pub success: bool,
    /// Its last error and when it was, even if later collections succeeded.
    pub last_error: Option<(Instant, String)>,
}

/// How long a collection waits for targets if the scraper does not say; Prometheus' default for a whole scrape is 10 s.
const TIME_LIMIT: Duration = Duration::from_secs(8);

/// Why there is no page at all.
#[derive(Debug, thiserror::Error)]
#[error("the collection ended without a page, which is a bug")]
pub struct CollectionError(#[from] task::JoinError);

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot make its own metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The Kubernetes API was asked for, and cannot be found.
    #[error(
        "`kubernetes.enabled` is true, but there is neither a service account nor a kubeconfig; set \
         kubernetes.kubeconfig or KUBECONFIG, or run in a pod"
    )]
    NoAccess,
    /// The probes could not be started.
    #[error("cannot start the probes")]
    Probes(#[from] Lost),
    /// A rule that the configuration did not refuse.
    #[error("the rules cannot be compiled")]
    Rules(#[from] RulesError),
}

impl Agent {
    /// Starts the probes and finds the cgroups; what does not work is off and says why.
    ///
    /// This blocks for as long as the kernel's types take to parse, some tenths of a second. It needs a runtime.
    /// What needs capabilities is done on the privileged thread.
    pub fn start(config: &Config, privileged: &Privileged) -> Result<Arc<Self>, StartError> {
        let node_name = find_node_name(config);
        let kubernetes = start_kubernetes(config, &node_name)?;
        let mut metrics = SelfMetrics::new(env!("CARGO_PKG_VERSION"))?;
        if kubernetes.is_some() {
            metrics.follow_kubernetes()?;
        }
        let host = ProbeHost { ebpf_log: config.ebpf_log, ..ProbeHost::find(&config.paths) };
        let switches = config.probes.clone();
        let start_probes =
            move || probe::start(&host, HookKind::ALL, |probe| switches.enabled(probe));
        let (probe_sources, probes) = privileged.run(start_probes)?;
        memory::give_back_freed();
        metrics.record_probes(&probes);
        let (follower, hierarchy, no_cgroups) =
            match start::follow(&config.paths, config.max_cgroups, privileged) {
                Ok((follower, hierarchy)) => (Some(follower), Some(hierarchy), None),
                Err(reason) => (None, None, Some(reason)),
            };
        let mut slots = Vec::new();
        let confined = |probe| Box::new(PrivilegedSource::new(probe, privileged.clone()));
        slots.extend(probe_sources.into_iter().map(|probe| SourceSlot::new(confined(probe))));
        slots.extend(
            host::start(hierarchy.as_ref(), &config.paths).into_iter().map(SourceSlot::new),
        );
        let runs = slots.iter().map(|slot| SourceRun::none(slot.name())).collect();
        let external: Vec<_> = config.external_labels.clone().into_iter().collect();
        let rules = Arc::new(Rules::new(&config.relabel_configs)?);
        let targets = Targets::new(&config.scrape_configs, &rules, &external, &node_name)?;
        let (own_relay, external) = if rules.is_empty() {
            (None, external)
        } else {
            let relay = OwnRelay::new(rules, external, targets.hasher().clone());
            (Some(Mutex::new(relay)), Vec::new())
        };
        let labeller = Labeller::new(external, config.kubernetes.labels.clone());
        Ok(Arc::new(Self {
            metrics,
            probes,
            slots,
            targets,
            local_targets: config.local_targets,
            cgroups: Cgroups::new(follower),
            no_cgroups,
            kubernetes,
            node_name,
            naming: Mutex::new(Naming { snapshot: Snapshot::default(), labeller }),
            gathering: sync::Mutex::default(),
            pages: SharedPages::default(),
            own_relay,
            runs: Mutex::new(runs),
            started: Instant::now(),
        }))
    }

    /// What a scrape can ask for.
    pub fn offer(&self) -> Offer {
        let probes = PROBES.iter().map(|probe| probe.name);
        let readers = HOST.iter().map(|reader| reader.name);
        Offer {
            sources: probes.chain(readers).chain([demand::POD_STATE, demand::SELF]).collect(),
            jobs: self.targets.jobs().map(str::to_owned).collect(),
        }
    }

    /// How each source's last collection went, in the order of the sources.
    pub fn runs(&self) -> Vec<SourceRun> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How each target's last scrape went, by job, in the order of the configuration.
    pub fn last_scrapes(&self) -> Vec<(&str, Option<LastScrape>)> {
        self.targets.last_scrapes()
    }

    /// Where the targets come from.
    pub fn local_targets(&self) -> LocalTargets {
        self.local_targets
    }

    /// What became of each probe at start.
    pub fn probes(&self) -> &[ProbeStatus] {
        &self.probes
    }

    /// Why no cgroup can be measured, if none can.
    pub fn no_cgroups(&self) -> Option<&str> {
        self.no_cgroups.as_deref()
    }

    /// How it stands with the Kubernetes API; `None` where it is not asked.
    pub fn kubernetes(&self) -> Option<KubernetesStatus> {
        self.kubernetes.as_ref().map(Kubernetes::status)
    }

    /// The name of this node.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// Podmeter's own counters.
    pub fn metrics(&self) -> &SelfMetrics {
        &self.metrics
    }

    /// When the agent started.
    pub fn started(&self) -> Instant {
        self.started
    }

    fn note_run(&self, gathered: &Gathered) {
        let now = Instant::now();
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(run) = runs.iter_mut().find(|run| run.name == gathered.name) else {
            return;
        };
        run.last = Some((now, gathered.duration));
        run.success = gathered.result.is_ok();
        if let Err(error) = &gathered.result {
            let error = one_line(error);
            warn!(source = gathered.name, %error, "source failed");
            run.last_error = Some((now, error));
        }
    }
}

impl ScrapeRequest {
    /// For everything, now.
    #[must_use]
    pub fn whole() -> Self {
        Self { demand: Demand::default(), asked: Instant::now(), time_limit: TIME_LIMIT }
    }

    /// For that part, now; a scraper may say how long it waits.
    #[must_use]
    pub fn part(demand: Demand, time_limit: Option<Duration>) -> Self {
        Self { demand, time_limit: time_limit.unwrap_or(TIME_LIMIT), ..Self::whole() }
    }
}

impl SourceRun {
    fn none(name: &'static str) -> Self {
        Self { name, last: None, success: false, last_error: None }
    }
}

/// The name of this node in the Kubernetes API.
#[must_use]
pub fn find_node_name(config: &Config) -> String {
    let hostname = config.paths.proc.join("sys/kernel/hostname");
    node_name(config.node_name.as_deref(), || fs::read_to_string(hostname))
}

/// Begins to follow the pods, if that is asked for and there is a way to.
fn start_kubernetes(config: &Config, node: &str) -> Result<Option<Kubernetes>, StartError> {
    let kubernetes = &config.kubernetes;
    if kubernetes.enabled == Enabled::Never {
        return Ok(None);
    }
    let Some(access) = Access::find(kubernetes.kubeconfig.as_deref()) else {
        return match kubernetes.enabled {
            Enabled::Always => Err(StartError::NoAccess),
            Enabled::Auto | Enabled::Never => Ok(None),
        };
    };
    Ok(Some(Kubernetes::start(Settings {
        access,
        node: node.into(),
        wanted: kubernetes.labels.wanted(kubernetes.pod_state),
        refresh: kubernetes.metadata_refresh,
    })))
}

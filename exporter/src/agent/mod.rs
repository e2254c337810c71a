//! The running whole: cgroups, sources and labels, and one collection after another that makes a page of them.

mod active;
mod cgroups;
mod collect;
mod glances;
mod reload;
mod shared;

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::{
    sync::{self, watch},
    task,
};
use tracing::warn;

pub use self::reload::{ConfigStatus, ReloadError};
use self::{active::Active, cgroups::Cgroups, glances::Glances, shared::SharedPages};
use crate::{
    attribution::{
        Snapshot,
        kubernetes::{KubernetesStatus, NoAccess, node_name, review::Reviewer},
    },
    caps::privileged::{Lost, Privileged},
    cgroup::start,
    config::{Config, local::LocalTargets},
    demand::{self, Demand, Offer},
    error_chain::one_line,
    labelling::{Labeller, glance::Rates, relabel::RulesError},
    remote_write::{pusher::Pushing, status::EndpointStatus},
    source::{
        gather::{Gathered, SourceSlot},
        host::{self, HOST},
        probe::{PROBES, ProbeStatus},
    },
    targets::LastScrape,
    telemetry::{SelfMetrics, TelemetryError},
};

/// Podmeter without its server: what `run` serves and `collect` prints.
pub struct Agent {
    metrics: SelfMetrics,
    privileged: Privileged,
    /// What the configuration in force has made.
    active: RwLock<Arc<Active>>,
    /// Read while a page is made, written while another configuration comes into force.
    pages_made: sync::RwLock<()>,
    /// Held by the one reload that is under way.
    reloading: sync::Mutex<()>,
    config_status: Mutex<ConfigStatus>,
    /// The readers of the host's files, which no configuration switches off.
    host_slots: Vec<SourceSlot>,
    cgroups: Cgroups,
    /// Why no cgroup can be measured, if none can.
    no_cgroups: Option<String>,
    naming: Mutex<Naming>,
    /// Told after each reload.
    reloads: watch::Sender<()>,
    /// Held by the one collection that asks sources; targets may be asked for several pages at once.
    gathering: sync::Mutex<()>,
    pages: SharedPages,
    runs: Mutex<Vec<SourceRun>>,
    glances: Glances,
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
    #[error(transparent)]
    NoAccess(#[from] NoAccess),
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
        let metrics = SelfMetrics::new(env!("CARGO_PKG_VERSION"))?;
        let active = Active::make(config.clone(), None, privileged)?;
        metrics.follow_kubernetes(active.kubernetes.is_some())?;
        metrics.record_probes(&active.probes);
        metrics.record_config(Some(reload::seconds_since_epoch()));
        let (follower, hierarchy, no_cgroups) =
            match start::follow(&config.paths, config.max_cgroups, privileged) {
                Ok((follower, hierarchy)) => (Some(follower), Some(hierarchy), None),
                Err(reason) => (None, None, Some(reason)),
            };
        let host_slots: Vec<_> = host::start(hierarchy.as_ref(), &config.paths)
            .into_iter()
            .map(SourceSlot::new)
            .collect();
        let slots = active.probe_slots().iter().chain(&host_slots);
        let runs = slots.map(|slot| SourceRun::none(slot.name())).collect();
        let labeller =
            Labeller::new(active.own_external_labels(), config.kubernetes.labels.clone());
        let now = Instant::now();
        Ok(Arc::new(Self {
            metrics,
            privileged: privileged.clone(),
            active: RwLock::new(Arc::new(active)),
            pages_made: sync::RwLock::default(),
            reloading: sync::Mutex::default(),
            config_status: Mutex::new(ConfigStatus { since: now, refused: None }),
            host_slots,
            cgroups: Cgroups::new(follower),
            no_cgroups,
            reloads: watch::Sender::new(()),
            naming: Mutex::new(Naming { snapshot: Snapshot::default(), labeller }),
            gathering: sync::Mutex::default(),
            pages: SharedPages::default(),
            runs: Mutex::new(runs),
            glances: Glances::default(),
            started: now,
        }))
    }

    /// What the configuration in force has made; it stays whole for whoever has it.
    fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a scrape can ask for.
    pub fn offer(&self) -> Offer {
        let probes = PROBES.iter().map(|probe| probe.name);
        let readers = HOST.iter().map(|reader| reader.name);
        Offer {
            sources: probes.chain(readers).chain([demand::POD_STATE, demand::SELF]).collect(),
            jobs: self.active().targets.jobs().map(str::to_owned).collect(),
        }
    }

    /// How each source's last collection went, in the order of the sources.
    pub fn runs(&self) -> Vec<SourceRun> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who was busy between the last two collections that were some seconds apart, and when the second one was.
    pub fn busy(&self) -> Option<(Rates, Instant)> {
        self.glances.rates()
    }

    /// How each target's last scrape went, by job, in the order of the configuration.
    pub fn last_scrapes(&self) -> Vec<(String, Option<LastScrape>)> {
        let active = self.active();
        let scrapes = active.targets.last_scrapes().into_iter();
        scrapes.map(|(job, last)| (job.to_owned(), last)).collect()
    }

    /// Where the targets come from.
    pub fn local_targets(&self) -> LocalTargets {
        self.active().config.local_targets
    }

    /// What is pushed, and to whom.
    pub fn pushing(&self) -> Pushing {
        let active = self.active();
        Pushing {
            interval: active.config.remote_write_interval,
            node_name: active.node_name.clone(),
            endpoints: active.endpoints.clone(),
        }
    }

    /// How it stands with each receiver.
    pub fn receivers(&self) -> Vec<EndpointStatus> {
        self.active().endpoint_statuses()
    }

    /// Changes after each reload.
    pub fn reloads(&self) -> watch::Receiver<()> {
        self.reloads.subscribe()
    }

    /// What became of each probe when it was switched on.
    pub fn probes(&self) -> Vec<ProbeStatus> {
        self.active().probes.clone()
    }

    /// Why no cgroup can be measured, if none can.
    pub fn no_cgroups(&self) -> Option<&str> {
        self.no_cgroups.as_deref()
    }

    /// How it stands with the Kubernetes API; `None` where it is not asked.
    pub fn kubernetes(&self) -> Option<KubernetesStatus> {
        self.active().kubernetes.as_ref().map(|pods| pods.api.status())
    }

    /// Who says whether a scraper's token may read the page; `None` where tokens are not asked for, or nobody can say.
    pub fn reviewer(&self) -> Option<Arc<Reviewer>> {
        self.active().reviewer.clone()
    }

    /// The name of this node.
    pub fn node_name(&self) -> String {
        self.active().node_name.clone()
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

//! The running whole: cgroups, sources and labels, and one collection after another that makes a page of them.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::{sync, task};
use tracing::{debug, info, warn};

use crate::{
    attribution::{
        Snapshot,
        kubernetes::{Access, Kubernetes, KubernetesStatus, Settings, node_name},
    },
    cgroup::{
        follow::{CgroupFollower, Followed},
        start,
    },
    config::{Config, Enabled},
    error_chain::one_line,
    labelling::{Labeller, pod_state, relabel::RulesError},
    memory,
    page::Page,
    source::{
        gather::{Gathered, SOURCE_TIMEOUT, SourceSlot, gather},
        host,
        probe::{self, HookKind, ProbeHost, ProbeStatus},
    },
    targets::{LastScrape, Scraped, SharedPods, Targets},
    telemetry::{CgroupNumbers, SelfMetrics, TelemetryError},
};

/// Podmeter without its server: what `run` serves and `collect` prints.
pub struct Agent {
    metrics: SelfMetrics,
    probes: Vec<ProbeStatus>,
    slots: Vec<SourceSlot>,
    targets: Targets,
    cgroups: Arc<Mutex<Cgroups>>,
    /// Why no cgroup can be measured, if none can.
    no_cgroups: Option<String>,
    kubernetes: Option<Kubernetes>,
    node_name: String,
    collection: sync::Mutex<Collection>,
    runs: Mutex<Vec<SourceRun>>,
    started: Instant,
}

/// The cgroups, if there is a hierarchy to follow.
struct Cgroups {
    follower: Option<CgroupFollower>,
    /// The last problem that was logged.
    reported: Option<String>,
}

/// What one collection leaves to the next.
struct Collection {
    snapshot: Snapshot,
    labeller: Labeller,
    /// Not kept alive for its own sake: what targets gave is large.
    last: Option<(Instant, Weak<Page>)>,
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

/// How long a collection waits for a target; Prometheus' default for a whole scrape is 10 s.
const TARGET_TIMEOUT: Duration = Duration::from_secs(8);

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
    /// A rule that the configuration did not refuse.
    #[error("the rules cannot be compiled")]
    Rules(#[from] RulesError),
}

/// How long after the start a collection waits for the names of the pods, so that a new Podmeter goes on with the series
/// of the one before it.
const NAMES_GRACE: Duration = Duration::from_secs(5);

impl Agent {
    /// Starts the probes and finds the cgroups; what does not work is off and says why.
    ///
    /// This blocks for as long as the kernel's types take to parse, some tenths of a second. It needs a runtime.
    pub fn start(config: &Config) -> Result<Arc<Self>, StartError> {
        let node_name = find_node_name(config);
        let kubernetes = start_kubernetes(config, &node_name)?;
        let mut metrics = SelfMetrics::new(env!("CARGO_PKG_VERSION"))?;
        if kubernetes.is_some() {
            metrics.follow_kubernetes()?;
        }
        let host = ProbeHost { ebpf_log: config.ebpf_log, ..ProbeHost::find(&config.paths) };
        let (probe_sources, probes) =
            probe::start(&host, HookKind::ALL, |probe| config.probes.enabled(probe));
        memory::give_back_freed();
        metrics.record_probes(&probes);
        let (follower, hierarchy, no_cgroups) =
            match start::follow(&config.paths, config.max_cgroups) {
                Ok((follower, hierarchy)) => (Some(follower), Some(hierarchy), None),
                Err(reason) => (None, None, Some(reason)),
            };
        let mut slots = Vec::new();
        slots.extend(probe_sources.into_iter().map(|probe| SourceSlot::new(Box::new(probe))));
        slots.extend(
            host::start(hierarchy.as_ref(), &config.paths).into_iter().map(SourceSlot::new),
        );
        let runs = slots.iter().map(|slot| SourceRun::none(slot.name())).collect();
        let labeller =
            Labeller::new(config.external_labels.clone(), config.kubernetes.labels.clone());
        let external: Vec<_> = config.external_labels.clone().into_iter().collect();
        let (scrapes, rules) = (&config.scrape_configs, &config.relabel_configs);
        let targets = Targets::new(scrapes, rules, &external, &node_name)?;
        Ok(Arc::new(Self {
            metrics,
            probes,
            slots,
            targets,
            cgroups: Arc::new(Mutex::new(Cgroups { follower, reported: None })),
            no_cgroups,
            kubernetes,
            node_name,
            collection: sync::Mutex::new(Collection {
                snapshot: Snapshot::default(),
                labeller,
                last: None,
            }),
            runs: Mutex::new(runs),
            started: Instant::now(),
        }))
    }

    /// Collects a page now; callers that wait for the same collection share it.
    ///
    /// The collection goes on when the caller stops waiting, so that none is left half done.
    pub async fn collect(self: &Arc<Self>) -> Result<Arc<Page>, CollectionError> {
        self.collect_at(Instant::now()).await
    }

    /// Collects a page as if it were that time already: cgroups that have been gone for long enough by then are freed.
    pub async fn collect_at(self: &Arc<Self>, now: Instant) -> Result<Arc<Page>, CollectionError> {
        let agent = Arc::clone(self);
        let asked = Instant::now();
        Ok(task::spawn(async move { agent.collect_since(asked, now).await }).await?)
    }

    /// How each source's last collection went, in the order of the sources.
    pub fn runs(&self) -> Vec<SourceRun> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How each target's last scrape went, by job, in the order of the configuration.
    pub fn last_scrapes(&self) -> Vec<(&str, Option<LastScrape>)> {
        self.targets.last_scrapes()
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

    async fn collect_since(&self, asked: Instant, now: Instant) -> Arc<Page> {
        let mut collection = self.collection.lock().await;
        if let Some((began, page)) = &collection.last
            && *began >= asked
            && let Some(page) = page.upgrade()
        {
            return page;
        }
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.wait_settled(self.started + NAMES_GRACE).await;
        }
        let began = Instant::now();
        let before = self.look_at_cgroups(move |cgroups| cgroups.refresh(now)).await;
        self.name_pods(&mut collection.snapshot, &before);
        let Collection { labeller, snapshot, .. } = &mut *collection;
        let pods: SharedPods = labeller.relay_pods(snapshot);
        let (gathered, scraped) = tokio::join!(
            gather(&self.slots, &before.tree, &before.freed, SOURCE_TIMEOUT),
            self.targets.scrape(&pods, TARGET_TIMEOUT),
        );
        // A cgroup that was made meanwhile is in the maps already: in the remainder it would be counted for ever.
        let after = self.look_at_cgroups(move |cgroups| cgroups.catch_up(now)).await;
        self.name_pods(&mut collection.snapshot, &after);
        let page = Arc::new(self.build_page(&mut collection, gathered, scraped, &after));
        collection.last = Some((began, Arc::downgrade(&page)));
        debug!(n_series = page.n_series(), duration = ?began.elapsed(), "collected");
        page
    }

    async fn look_at_cgroups(
        &self,
        look: impl FnOnce(&mut Cgroups) -> Followed + Send + 'static,
    ) -> Followed {
        let cgroups = Arc::clone(&self.cgroups);
        let look = move || look(&mut cgroups.lock().unwrap_or_else(PoisonError::into_inner));
        task::spawn_blocking(look).await.unwrap_or_else(|error| {
            warn!(%error, "following the cgroups panicked, which is a bug");
            Followed::default()
        })
    }

    fn build_page(
        &self,
        collection: &mut Collection,
        gathered: Vec<Gathered>,
        scraped: Vec<Scraped>,
        refreshed: &Followed,
    ) -> Page {
        let mut families = match &self.kubernetes {
            Some(_) => pod_state::families(collection.snapshot.pods()),
            None => Vec::new(),
        };
        for one in gathered {
            self.metrics.record_source(&one);
            self.note_run(&one);
            families.extend(one.result.into_iter().flat_map(|collected| collected.families));
        }
        let labelled = collection.labeller.label(families, &collection.snapshot);
        let n_live = refreshed.tree.iter().filter(|entry| entry.is_live()).count();
        let numbers = CgroupNumbers {
            n_live,
            n_dead: refreshed.tree.len() - n_live,
            n_left_out: refreshed.stats.over_cap,
            n_rescans: refreshed.stats.rescans,
            n_watch_failures: refreshed.stats.watch_failures,
        };
        self.metrics.record_cgroups(numbers, labelled.n_unresolved);
        if let Some(status) = self.kubernetes() {
            let losses = collection.labeller.label_losses();
            self.metrics.record_kubernetes(&status, losses, Instant::now());
        }
        for one in &scraped {
            self.metrics.record_target(one);
        }
        let own = collection.labeller.label(self.metrics.families(), &collection.snapshot);
        let meta = self.targets.meta_families(&scraped);
        let families = labelled.families.into_iter().chain(own.families).chain(meta).collect();
        let relayed = scraped.into_iter().filter_map(|scraped| Some(scraped.result.ok()?.page));
        let page = Page::merged(families, relayed.collect(), self.targets.hasher());
        self.metrics.record_page(&page);
        page
    }

    /// Brings the snapshot up to the cgroups and to the pods.
    fn name_pods(&self, snapshot: &mut Snapshot, followed: &Followed) {
        snapshot.follow(&followed.tree);
        if let Some(kubernetes) = &self.kubernetes {
            let uids = snapshot.pod_uids();
            let pods = kubernetes.view(|uid| uids.contains(uid));
            snapshot.name(pods, &followed.tree);
        }
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

impl Cgroups {
    fn catch_up(&mut self, now: Instant) -> Followed {
        self.follower.as_mut().map_or_else(Followed::default, |follower| follower.catch_up(now))
    }

    fn refresh(&mut self, now: Instant) -> Followed {
        let Some(follower) = &mut self.follower else {
            return Followed::default();
        };
        let followed = follower.refresh(now);
        let problem = follower.problem().map(|error| one_line(error));
        if problem != self.reported {
            if let Some(problem) = &problem {
                warn!(%problem, "cgroups are not followed as they should be");
            } else {
                info!("cgroups are followed again");
            }
            self.reported = problem;
        }
        followed
    }
}

impl SourceRun {
    fn none(name: &'static str) -> Self {
        Self { name, last: None, success: false, last_error: None }
    }
}

fn find_node_name(config: &Config) -> String {
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

//! The running whole: cgroups, sources and labels, and one collection after another that makes a page of them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync, task};
use tracing::{debug, info, warn};

use crate::{
    attribution::Snapshot,
    cgroup::{
        follow::{CgroupFollower, Followed},
        hierarchy::{Hierarchy, Version},
    },
    config::Config,
    error_chain::one_line,
    labelling::Labeller,
    memory,
    page::Page,
    source::{
        gather::{Gathered, SOURCE_TIMEOUT, SourceSlot, gather},
        host,
        probe::{self, HookKind, ProbeHost, ProbeStatus},
    },
    telemetry::{CgroupNumbers, SelfMetrics, TelemetryError},
};

/// Podmeter without its server: what `run` serves and `collect` prints.
pub struct Agent {
    metrics: SelfMetrics,
    probes: Vec<ProbeStatus>,
    slots: Vec<SourceSlot>,
    cgroups: Arc<Mutex<Cgroups>>,
    /// Why no cgroup can be measured, if none can.
    no_cgroups: Option<String>,
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
    last: Option<(Instant, Arc<Page>)>,
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

/// Why there is no page at all.
#[derive(Debug, thiserror::Error)]
#[error("the collection ended without a page, which is a bug")]
pub struct CollectionError(#[from] task::JoinError);

impl Agent {
    /// Starts the probes and finds the cgroups; what does not work is off and says why.
    ///
    /// This blocks for as long as the kernel's types take to parse, some tenths of a second.
    pub fn start(config: &Config) -> Result<Arc<Self>, TelemetryError> {
        let metrics = SelfMetrics::new(env!("CARGO_PKG_VERSION"))?;
        let host = ProbeHost { ebpf_log: config.ebpf_log, ..ProbeHost::find(&config.paths) };
        let (probe_sources, probes) =
            probe::start(&host, HookKind::ALL, |probe| config.probes.enabled(probe));
        memory::give_back_freed();
        metrics.record_probes(&probes);
        let (follower, hierarchy, no_cgroups) = match follow_cgroups(config) {
            Ok((follower, hierarchy)) => (Some(follower), Some(hierarchy), None),
            Err(reason) => (None, None, Some(reason)),
        };
        let mut slots = Vec::new();
        slots.extend(probe_sources.into_iter().map(|probe| SourceSlot::new(Box::new(probe))));
        slots.extend(
            host::start(hierarchy.as_ref(), &config.paths).into_iter().map(SourceSlot::new),
        );
        let runs = slots.iter().map(|slot| SourceRun::none(slot.name())).collect();
        let labeller = Labeller::new(config.external_labels.clone());
        Ok(Arc::new(Self {
            metrics,
            probes,
            slots,
            cgroups: Arc::new(Mutex::new(Cgroups { follower, reported: None })),
            no_cgroups,
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
        let agent = Arc::clone(self);
        let asked = Instant::now();
        Ok(task::spawn(async move { agent.collect_since(asked).await }).await?)
    }

    /// How each source's last collection went, in the order of the sources.
    pub fn runs(&self) -> Vec<SourceRun> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What became of each probe at start.
    pub fn probes(&self) -> &[ProbeStatus] {
        &self.probes
    }

    /// Why no cgroup can be measured, if none can.
    pub fn no_cgroups(&self) -> Option<&str> {
        self.no_cgroups.as_deref()
    }

    /// Podmeter's own counters.
    pub fn metrics(&self) -> &SelfMetrics {
        &self.metrics
    }

    /// When the agent started.
    pub fn started(&self) -> Instant {
        self.started
    }

    async fn collect_since(&self, asked: Instant) -> Arc<Page> {
        let mut collection = self.collection.lock().await;
        if let Some((began, page)) = &collection.last
            && *began >= asked
        {
            return Arc::clone(page);
        }
        let began = Instant::now();
        let refreshed = self.refresh_cgroups().await;
        let gathered = gather(&self.slots, &refreshed.tree, &refreshed.freed, SOURCE_TIMEOUT).await;
        let page = Arc::new(self.build_page(&mut collection, gathered, &refreshed));
        collection.last = Some((began, Arc::clone(&page)));
        debug!(n_series = page.n_series(), duration = ?began.elapsed(), "collected");
        page
    }

    async fn refresh_cgroups(&self) -> Followed {
        let cgroups = Arc::clone(&self.cgroups);
        let refresh = move || {
            let mut cgroups = cgroups.lock().unwrap_or_else(PoisonError::into_inner);
            cgroups.refresh(Instant::now())
        };
        task::spawn_blocking(refresh).await.unwrap_or_else(|error| {
            warn!(%error, "following the cgroups panicked, which is a bug");
            Followed::default()
        })
    }

    fn build_page(
        &self,
        collection: &mut Collection,
        gathered: Vec<Gathered>,
        refreshed: &Followed,
    ) -> Page {
        collection.snapshot.follow(&refreshed.tree);
        let mut families = Vec::new();
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
        let own = collection.labeller.label(self.metrics.families(), &collection.snapshot);
        let page = Page::new(labelled.families.into_iter().chain(own.families).collect());
        self.metrics.record_page(page.n_series(), page.n_settled());
        page
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

/// Finds the hierarchies and reads them once, or says why there is none with the cpu controller.
fn follow_cgroups(config: &Config) -> Result<(CgroupFollower, Hierarchy), String> {
    let hierarchy = Hierarchy::find(&config.paths).map_err(|error| {
        let reason = one_line(&error);
        warn!(%reason, "no cgroup can be measured");
        reason
    })?;
    let io = Hierarchy::find_io(&config.paths);
    let own_io = io.as_ref().filter(|io| !io.is_same_as(&hierarchy));
    for warning in
        [Some(&hierarchy), own_io].into_iter().flatten().filter_map(Hierarchy::partial_view)
    {
        warn!(%warning, "not all cgroups can be measured");
    }
    let (follower, hidden_io) = CgroupFollower::start(&hierarchy, io.as_ref(), Instant::now())
        .map_err(|error| {
            let reason = one_line(&error);
            warn!(%reason, "no cgroup can be measured");
            reason
        })?;
    if let Some(error) = hidden_io {
        let error = one_line(&error);
        warn!(%error, "block IO cannot be attributed");
    }
    // Elsewhere the kernel knows the cgroup of each socket.
    let follower = match hierarchy.version {
        Version::V1 => follower.with_namespaces(config.paths.proc.clone()),
        Version::V2 => follower,
    };
    Ok((follower, hierarchy))
}

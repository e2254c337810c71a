//! One collection: the cgroups, their names, the sources, the targets, and the page that they become.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync, task};
use tracing::{debug, warn};

use super::{Agent, CollectionError, Naming, ScrapeRequest, active::Active, shared::begun_since};
use crate::{
    attribution::Snapshot,
    cgroup::follow::Followed,
    demand::{Demand, POD_STATE, SELF},
    encode::{Format, encode},
    labelling::{pod_state, relay::own::OwnRelay},
    logging,
    page::{Page, PageFamily, relayed::RelayedPage},
    source::gather::{Gathered, SOURCE_TIMEOUT, SourceSlot, gather},
    targets::{Scraped, SharedPods},
    telemetry::CgroupNumbers,
};

/// How long after the start a collection waits for the names of the pods, so that a new Podmeter goes on with the series
/// of the one before it.
pub(super) const NAMES_GRACE: Duration = Duration::from_secs(5);

impl Agent {
    /// Collects everything now.
    pub async fn collect(self: &Arc<Self>) -> Result<Arc<Page>, CollectionError> {
        self.scrape(ScrapeRequest::whole()).await
    }

    /// Collects what is asked for; callers that wait for the same page share it.
    ///
    /// The collection goes on when the caller stops waiting, so that none is left half done.
    pub async fn scrape(
        self: &Arc<Self>,
        request: ScrapeRequest,
    ) -> Result<Arc<Page>, CollectionError> {
        self.scrape_at(request, Instant::now()).await
    }

    /// Collects everything as if it were that time already: cgroups that have been gone for long enough by then are
    /// freed.
    pub async fn collect_at(self: &Arc<Self>, now: Instant) -> Result<Arc<Page>, CollectionError> {
        self.scrape_at(ScrapeRequest::whole(), now).await
    }

    async fn scrape_at(
        self: &Arc<Self>,
        request: ScrapeRequest,
        now: Instant,
    ) -> Result<Arc<Page>, CollectionError> {
        let agent = Arc::clone(self);
        Ok(task::spawn(async move { agent.share(&request, now).await }).await?)
    }

    async fn share(&self, request: &ScrapeRequest, now: Instant) -> Arc<Page> {
        let last = self.pages.of(&request.demand);
        let mut last = last.lock().await;
        if let Some(page) = begun_since(last.as_ref(), request.asked) {
            return page;
        }
        if let Some(pods) = &self.active().kubernetes {
            pods.api.wait_settled(self.started + NAMES_GRACE).await;
        }
        let one_configuration = self.pages_made.read().await;
        let began = Instant::now();
        let page = Arc::new(self.make_page(&self.active(), request, now).await);
        drop(one_configuration);
        *last = Some((began, Arc::downgrade(&page)));
        debug!(n_series = page.n_series(), duration = ?began.elapsed(), "collected");
        page
    }

    async fn make_page(&self, active: &Active, request: &ScrapeRequest, now: Instant) -> Page {
        let ScrapeRequest { demand, asked, time_limit } = request;
        let slots = || active.probe_slots().iter().chain(&self.host_slots);
        let wanted: Vec<SourceSlot> =
            slots().filter(|slot| demand.wants_source(slot.name())).cloned().collect();
        let turn = if wanted.is_empty() {
            self.gathering.try_lock().ok()
        } else {
            Some(self.gathering.lock().await)
        };
        // While another collection asks sources, nothing is freed that they may still count for.
        let before = if turn.is_some() {
            let refreshed = self.cgroups.refresh(now).await;
            slots().for_each(|slot| slot.add_freed(&refreshed.freed));
            refreshed
        } else {
            self.cgroups.catch_up(now).await
        };
        let pods: SharedPods = {
            let mut naming = self.naming();
            name_pods(active, &mut naming.snapshot, &before);
            let Naming { labeller, snapshot } = &mut *naming;
            labeller.relay_pods(snapshot)
        };
        let deadline = *asked + *time_limit;
        let (own, scraped) = tokio::join!(
            self.own_families(active, request, &wanted, turn, before, now),
            active.targets.scrape(&pods, |job| demand.wants_job(job), deadline),
        );
        self.merge(active, demand, own, scraped)
    }

    /// What the sources that are wanted give, with its labels.
    async fn own_families(
        &self,
        active: &Active,
        ScrapeRequest { demand, time_limit, .. }: &ScrapeRequest,
        wanted: &[SourceSlot],
        turn: Option<sync::MutexGuard<'_, ()>>,
        before: Followed,
        now: Instant,
    ) -> Vec<PageFamily> {
        if wanted.is_empty() {
            drop(turn);
            return self.label(active, demand, Vec::new(), &before);
        }
        let gathered = gather(wanted, &before.tree, SOURCE_TIMEOUT.min(*time_limit)).await;
        // A cgroup that was made meanwhile is in the maps already: in the remainder it would be counted for ever.
        let after = self.cgroups.catch_up(now).await;
        name_pods(active, &mut self.naming().snapshot, &after);
        let families = self.label(active, demand, gathered, &after);
        drop(turn);
        self.glances.note(demand, &families, Instant::now());
        families
    }

    fn label(
        &self,
        active: &Active,
        demand: &Demand,
        gathered: Vec<Gathered>,
        followed: &Followed,
    ) -> Vec<PageFamily> {
        let mut naming = self.naming();
        let Naming { labeller, snapshot } = &mut *naming;
        let mut families = match &active.kubernetes {
            Some(_) if demand.wants_source(POD_STATE) => pod_state::families(snapshot.pods()),
            _ => Vec::new(),
        };
        for one in gathered {
            self.metrics.record_source(&one);
            self.note_run(&one);
            families.extend(one.result.into_iter().flat_map(|collected| collected.families));
        }
        let labelled = labeller.label(families, snapshot);
        // A part of the sources knows a part of what cannot be told apart.
        if demand.is_whole() {
            let n_live = followed.tree.iter().filter(|entry| entry.is_live()).count();
            let numbers = CgroupNumbers {
                n_live,
                n_dead: followed.tree.len() - n_live,
                n_left_out: followed.stats.over_cap,
                n_rescans: followed.stats.rescans,
                n_watch_failures: followed.stats.watch_failures,
            };
            self.metrics.record_cgroups(numbers, labelled.n_unresolved);
        }
        labelled.families
    }

    fn merge(
        &self,
        active: &Active,
        demand: &Demand,
        own: Vec<PageFamily>,
        scraped: Vec<Scraped>,
    ) -> Page {
        for one in &scraped {
            self.metrics.record_target(one);
        }
        self.metrics.record_remote_write(&active.endpoint_statuses());
        self.metrics.record_log(logging::n_dropped_lines());
        let mut families = own;
        {
            let mut naming = self.naming();
            let Naming { labeller, snapshot } = &mut *naming;
            if let Some(pods) = &active.kubernetes {
                let status = pods.api.status();
                self.metrics.record_kubernetes(&status, labeller.label_losses(), Instant::now());
            }
            if demand.wants_source(SELF) {
                families.extend(labeller.label(self.metrics.families(), snapshot).families);
            }
        }
        families.extend(active.targets.meta_families(&scraped));
        let relayed = scraped.into_iter().filter_map(|scraped| Some(scraped.result.ok()?.page));
        let hasher = active.targets.hasher();
        let page = match &active.own_relay {
            None => Page::merged(families, relayed.collect(), hasher),
            Some(relay) => {
                let own = self.relabel(relay, families);
                Page::merged(Vec::new(), own.into_iter().chain(relayed).collect(), hasher)
            }
        };
        self.metrics.record_page(&page, demand);
        page
    }

    /// Podmeter's own families behind the page's rules; none, rather than one that a rule has not seen.
    fn relabel(&self, relay: &Mutex<OwnRelay>, families: Vec<PageFamily>) -> Option<RelayedPage> {
        let own = Page::new(families);
        let text = encode(&own, Format::Text004);
        let units = own.families().iter().map(|family| (family.desc.name, family.desc.unit));
        let mut relay = relay.lock().unwrap_or_else(PoisonError::into_inner);
        match relay.relay(&text, units) {
            Ok(relayed) => {
                self.metrics.record_relabelled(own.n_settled(), &relayed.counts);
                Some(relayed.page)
            }
            Err(error) => {
                warn!(%error, "Podmeter's own series are left out");
                None
            }
        }
    }

    pub(super) fn naming(&self) -> MutexGuard<'_, Naming> {
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the snapshot up to the cgroups and to the pods.
fn name_pods(active: &Active, snapshot: &mut Snapshot, followed: &Followed) {
    snapshot.follow(&followed.tree);
    if let Some(pods) = &active.kubernetes {
        let uids = snapshot.pod_uids();
        let view = pods.api.view(|uid| uids.contains(uid));
        snapshot.name(view, &followed.tree);
    }
}

//! One receiver: its queue, what fills it, and the lanes that empty it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{self, watch},
    task::{self, JoinSet},
    time,
};
use tracing::{info, warn};

use super::{
    buffer::Place,
    client::{self, SendError},
    delivery,
    filler::{Filler, Filling, Metadata, Sealed, Which},
    instants::Milliseconds,
    queue::Queue,
    status::{Counters, DropReason, EndpointStatus},
    store::Store,
};
use crate::{
    config::remote_write::RemoteWriteConfig,
    labelling::relabel::{Rules, RulesError},
    page::Page,
    source::upstream::client::link::Link,
};

/// After so many pages that were sent before the next one came, there is a shard less.
const CALM_PAGES: u32 = 20;

/// One receiver.
#[derive(Debug)]
pub struct Endpoint {
    config: RemoteWriteConfig,
    counters: Arc<Counters>,
    filler: Mutex<Filler>,
    /// What [`Self::filler`] has, to be looked at without waiting for it.
    n_series: AtomicUsize,
    n_open_samples: AtomicUsize,
    store: Arc<Store>,
    link: sync::Mutex<Link>,
    /// Told whenever a lane may have something to do.
    change: watch::Sender<()>,
    /// Set while [`Self::filler`] is held, so that a page is either queued or refused.
    is_closed: AtomicBool,
    lanes: Mutex<JoinSet<()>>,
    /// Whether it sends nothing more.
    ended: watch::Sender<bool>,
    /// The same of the one that had its name before a reload.
    earlier: Option<watch::Receiver<bool>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_success: Option<Instant>,
    last_error: Option<(Instant, String)>,
    /// What was said in the log last: whether it works, or why samples are dropped.
    said: Option<Said>,
    n_calm_pages: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Works,
    Retries,
    Drops(DropReason),
}

/// A page for receivers.
#[derive(Clone, Debug)]
pub(super) struct Push {
    pub(super) page: Arc<Page>,
    /// When it is of.
    pub(super) instant: Milliseconds,
    /// When the next one comes, if one does.
    pub(super) next: Option<Duration>,
}

impl Endpoint {
    /// A receiver that nothing is sent to before it is started. It goes on with what was counted of one of its name, and
    /// sends nothing before that one has ended.
    pub fn new(
        config: RemoteWriteConfig,
        node_name: &str,
        before: Option<&Self>,
    ) -> Result<Self, RulesError> {
        let rules = Rules::new(&config.rules)?;
        let queue = &config.queue;
        let counters: Arc<Counters> =
            before.map(|before| Arc::clone(&before.counters)).unwrap_or_default();
        let waiting = Queue::new(queue.capacity, queue.min_shards);
        Ok(Self {
            store: Arc::new(Store::new(config.buffer.clone(), waiting, Arc::clone(&counters))),
            counters,
            filler: Mutex::new(Filler::new(&config, rules, node_name)),
            n_series: AtomicUsize::new(0),
            n_open_samples: AtomicUsize::new(0),
            link: sync::Mutex::new(Link::new(config.client.clone(), queue.max_shards)),
            change: watch::Sender::new(()),
            is_closed: AtomicBool::new(false),
            lanes: Mutex::new(JoinSet::new()),
            ended: watch::Sender::new(false),
            earlier: before.map(|before| before.ended.subscribe()),
            state: Mutex::new(State::default()),
            config,
        })
    }

    /// Its part of the configuration.
    pub fn config(&self) -> &RemoteWriteConfig {
        &self.config
    }

    /// How it stands with it.
    pub fn status(&self) -> EndpointStatus {
        let queue = self.queue();
        let state = lock(&self.state);
        EndpointStatus {
            name: self.config.name.clone(),
            totals: self.counters.totals(),
            n_pending_samples: queue.n_pending() + self.n_open_samples.load(Ordering::Relaxed),
            n_pending_bytes: queue.n_bytes(),
            n_buffer_bytes: self.store.n_buffer_bytes(),
            n_shards: queue.n_lanes(),
            n_series: self.n_series.load(Ordering::Relaxed),
            last_success: state.last_success,
            last_error: state.last_error.clone(),
            buffer_error: self.store.error(),
        }
    }

    /// Sends a request without samples, which changes nothing.
    pub async fn try_out(&self) -> Result<(), SendError> {
        client::try_out(&self.link, &self.config).await
    }

    /// Begins to send, what is left of an earlier process first; needs a runtime. It does nothing the second time.
    pub(super) async fn start(self: &Arc<Self>) {
        if self.is_closed() {
            return;
        }
        self.store.open().await;
        let mut lanes = lock(&self.lanes);
        if self.is_closed() {
            // A reload has closed it meanwhile, and the folder is its successor's.
            return self.store.close();
        }
        if lanes.is_empty() {
            for lane in 0..self.config.queue.max_shards {
                lanes.spawn(delivery::run(Arc::clone(self), lane));
            }
        }
    }

    /// Makes requests of a page, and queues them; gives whether it has taken the page, which it does until it is closed.
    pub(super) async fn push(self: Arc<Self>, push: Push) -> bool {
        self.start().await;
        let deadline = self.config.queue.batch_send_deadline;
        // What lies on disk is whole pages, so that none is lost in part.
        let has_time =
            self.config.buffer.is_none() && push.next.is_some_and(|next| next < deadline);
        let which = if has_time { Which::Due } else { Which::All };
        let filling = Arc::clone(&self);
        let filled = task::spawn_blocking(move || {
            let is_taken = filling.fill(&push);
            filling.seal(which);
            is_taken
        });
        let is_taken = filled.await.unwrap_or_else(|error| {
            warn!(receiver = self.config.name, %error, "a page was not pushed, which is a bug");
            true
        });
        if has_time {
            // The next page comes before what is open must go.
            task::spawn(async move {
                time::sleep(deadline).await;
                self.aside(|endpoint| endpoint.seal(Which::Due)).await;
            });
        }
        is_taken
    }

    /// Notes collections that did not take place.
    pub(super) fn note_skipped(&self, n_collections: u64) {
        self.counters.skipped.fetch_add(n_collections, Ordering::Relaxed);
    }

    /// Sends what waits until then, and ends.
    pub(crate) async fn close(self: Arc<Self>, deadline: Instant) {
        self.aside(Self::seal_last).await;
        self.tell_change();
        let mut lanes = std::mem::take(&mut *lock(&self.lanes));
        let all_ended = async { while lanes.join_next().await.is_some() {} };
        if time::timeout_at(deadline.into(), all_ended).await.is_err() {
            lanes.shutdown().await;
        }
        let (n_left, n_lost) = {
            let queue = self.queue();
            (queue.n_pending(), queue.n_pending_in_memory())
        };
        self.store.close();
        self.counters.drop_samples(DropReason::Stopped, n_lost);
        self.ended.send_replace(true);
        let (receiver, n_kept) = (&self.config.name, n_left - n_lost);
        match (n_lost, n_kept) {
            (0, 0) => info!(receiver, "all samples were sent"),
            (0, _) => {
                info!(receiver, n_kept, "samples were not sent in time, and wait in the buffer");
            }
            (_, _) => {
                warn!(receiver, n_lost, n_kept, "samples were not sent in time, and are lost");
            }
        }
    }

    /// Gives whether it has taken the page.
    fn fill(&self, push: &Push) -> bool {
        let now = Instant::now();
        let mut filler = lock(&self.filler);
        if self.is_closed() {
            return false;
        }
        let n_lanes = self.wanted_lanes();
        if n_lanes != self.queue().n_lanes() {
            self.enqueue(filler.seal(now, Which::All));
            self.queue().set_lanes(n_lanes);
        }
        let is_away = lock(&self.state).said == Some(Said::Retries);
        let metadata = if is_away { Metadata::LeftOut } else { Metadata::IfDue };
        let (page, instant) = (&*push.page, push.instant);
        let sealed = filler.fill(Filling { page, instant, n_lanes, metadata, now });
        self.counters.drop_each(filler.take_dropped());
        self.enqueue(sealed);
        self.n_series.store(filler.n_series(), Ordering::Relaxed);
        true
    }

    /// Queues what is open. The filler is held until it is done, so that nothing comes before it.
    fn seal(&self, which: Which) {
        self.seal_held(&mut lock(&self.filler), which);
    }

    /// Queues what is open, and takes no page any more.
    fn seal_last(&self) {
        let mut filler = lock(&self.filler);
        self.seal_held(&mut filler, Which::All);
        self.is_closed.store(true, Ordering::Release);
    }

    fn seal_held(&self, filler: &mut Filler, which: Which) {
        self.enqueue(filler.seal(Instant::now(), which));
        self.n_open_samples.store(filler.n_open_samples(), Ordering::Relaxed);
    }

    /// Does what blocks where no other task is held up by it.
    async fn aside(self: &Arc<Self>, work: impl FnOnce(&Self) + Send + 'static) {
        let endpoint = Arc::clone(self);
        if let Err(error) = task::spawn_blocking(move || work(&endpoint)).await {
            warn!(receiver = self.config.name, %error, "requests were not queued, which is a bug");
        }
    }

    /// More lanes if the receiver is there and the last page is not through yet, fewer if all has been well for long.
    fn wanted_lanes(&self) -> usize {
        let (n_lanes, is_behind) = {
            let queue = self.queue();
            (queue.n_lanes(), queue.n_pending() > 0)
        };
        let mut state = lock(&self.state);
        if is_behind {
            state.n_calm_pages = 0;
            let works = state.said == Some(Said::Works);
            return if works { (n_lanes * 2).min(self.config.queue.max_shards) } else { n_lanes };
        }
        state.n_calm_pages += 1;
        if state.n_calm_pages < CALM_PAGES {
            return n_lanes;
        }
        state.n_calm_pages = 0;
        (n_lanes - 1).max(self.config.queue.min_shards)
    }

    fn enqueue(&self, sealed: Vec<Sealed>) {
        if sealed.is_empty() {
            return;
        }
        for Sealed { lane, header, body } in sealed {
            self.store.add(lane, header, body);
        }
        self.tell_change();
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.store.queue()
    }

    pub(super) async fn read(&self, place: Place) -> Option<Bytes> {
        self.store.read(place).await
    }

    pub(super) async fn mark_done(&self, place: Place) {
        self.store.mark_done(place).await;
    }

    pub(super) fn link(&self) -> &sync::Mutex<Link> {
        &self.link
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.change.subscribe()
    }

    pub(super) fn tell_change(&self) {
        self.change.send_replace(());
    }

    /// Waits for the one that had its name before: what waits there is older, and a receiver takes a series in order only.
    pub(super) async fn wait_for_earlier(&self) {
        if let Some(mut earlier) = self.earlier.clone() {
            // One that is gone has ended, too.
            drop(earlier.wait_for(|has_ended| *has_ended).await);
        }
    }

    /// Whether it is closed and everything is through.
    pub(super) fn has_nothing_more(&self) -> bool {
        self.is_closed() && self.queue().is_empty()
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn note_success(&self) {
        let mut state = lock(&self.state);
        state.last_success = Some(Instant::now());
        if state.said.replace(Said::Works) != Some(Said::Works) {
            info!(receiver = self.config.name, "the receiver takes what is sent");
        }
    }

    /// Notes an error, and says it once.
    pub(super) fn note_error(&self, error: String, dropped: Option<DropReason>) {
        let mut state = lock(&self.state);
        let said = dropped.map_or(Said::Retries, Said::Drops);
        if state.said.replace(said) != Some(said) {
            let receiver = &self.config.name;
            match dropped {
                None => warn!(receiver, error, "the receiver takes nothing; it is sent again"),
                Some(reason) => {
                    let reason = reason.as_str();
                    warn!(
                        receiver,
                        error, reason, "the receiver refuses samples; they are dropped"
                    );
                }
            }
        }
        state.last_error = Some((Instant::now(), error));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

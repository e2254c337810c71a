//! Following the pods of this node: asks what the plan says, and brings what comes into the store.

use std::time::{Duration, Instant};

use tokio::time;
use tracing::{debug, info, warn};

use super::{
    Shared,
    api::{Api, ApiError, ErrorKind, Event, EventStream},
    object::RawPod,
    plan::{Ask, End, Plan},
    pod::Pod,
    status::{Operation, SyncState},
    store::MAX_PODS,
    wanted::Wanted,
};
use crate::error_chain::one_line;

/// On the bookmark that ends the pods with which a watch begins.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// A watch that ends before this has not even shown that the server is well.
const SHORT_WATCH: Duration = Duration::from_secs(1);

/// How long a silent server is believed to be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Once it sent a bookmark: it does so every minute.
    pub(super) with_bookmarks: Duration,
    /// Beyond the time that the watch was asked for.
    pub(super) beyond_timeout: Duration,
    /// For the first of the pods with which a watch begins, and for each next one.
    pub(super) initial: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            with_bookmarks: Duration::from_secs(150),
            beyond_timeout: Duration::from_secs(15),
            initial: Duration::from_secs(20),
        }
    }
}

/// Follows the pods, for as long as the server takes the credentials.
pub(super) async fn follow(api: &Api, shared: &Shared, plan: &mut Plan, patience: Patience) {
    let mut follower = Follower::new(shared, patience);
    loop {
        let ask = plan.next();
        let began = Instant::now();
        let outcome = follower.ask(api, &ask, plan).await;
        let end = match outcome {
            Ok(()) if !matches!(ask, Ask::List(_)) && began.elapsed() < SHORT_WATCH => End::Empty,
            Ok(()) => End::Done,
            Err(error) if ask == Ask::Stream && error.kind() == ErrorKind::Refused => {
                // Part of how old servers are, so no error; if they mean another part of the request, the list shows it.
                debug!(error = one_line(&error), "the API server cannot stream a list");
                End::NotStreaming
            }
            Err(error) => {
                shared.watch_failed(&ask, &error);
                End::Failed { kind: error.kind(), retry_after: error.retry_after() }
            }
        };
        let wait = plan.ended(&ask, end);
        debug!(?ask, ?end, ?wait, "asked for pods");
        time::sleep(wait).await;
        if matches!(end, End::Failed { kind: ErrorKind::Unauthorized, .. }) {
            return;
        }
    }
}

pub(super) struct Follower<'a> {
    shared: &'a Shared,
    patience: Patience,
    /// The pods that came of a list, or of the beginning of a watch, that is not complete.
    listed: Vec<Pod>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(shared: &'a Shared, patience: Patience) -> Self {
        Self { shared, patience, listed: Vec::new() }
    }

    async fn ask(&mut self, api: &Api, ask: &Ask, plan: &mut Plan) -> Result<(), ApiError> {
        let seconds = plan.watch_seconds();
        match ask {
            Ask::List(from) => {
                self.shared.asked(Operation::List);
                if !matches!(from, super::api::ListFrom::Page(_)) {
                    self.listed.clear();
                }
                let page = api.list(from).await?;
                self.listed.extend(prune_all(page.items, &self.shared.wanted));
                self.listed.truncate(MAX_PODS);
                if plan.page(&page.metadata.resource_version, &page.metadata.next) {
                    self.complete();
                }
                Ok(())
            }
            Ask::Watch(version) => {
                self.shared.asked(Operation::Watch);
                let stream = api.watch(version, seconds).await?;
                self.shared.is_watching();
                self.read(stream, plan, Phase::Following, seconds).await
            }
            Ask::Stream => {
                self.shared.asked(Operation::Watch);
                self.listed.clear();
                let stream = api.stream(seconds).await?;
                self.read(stream, plan, Phase::Initial, seconds).await
            }
        }
    }

    /// Takes all events of a watch.
    pub(super) async fn read(
        &mut self,
        mut stream: EventStream,
        plan: &mut Plan,
        mut phase: Phase,
        seconds: u64,
    ) -> Result<(), ApiError> {
        let whole = Duration::from_secs(seconds) + self.patience.beyond_timeout;
        let mut silence = whole;
        loop {
            let patience = match phase {
                Phase::Initial => self.patience.initial,
                Phase::Following => silence,
            };
            let Some(event) = stream.next(patience).await? else {
                return Ok(());
            };
            self.shared.heard();
            match event {
                Event::Error(status) => return Err(status.into()),
                Event::Bookmark(object) => {
                    let metadata = object.metadata;
                    silence = whole.min(self.patience.with_bookmarks);
                    let ends = metadata.annotations.as_ref().is_some_and(|annotations| {
                        annotations.get(INITIAL_EVENTS_END).is_some_and(|value| value == "true")
                    });
                    if phase == Phase::Initial && ends {
                        plan.streamed(&metadata.resource_version);
                        self.complete();
                        phase = Phase::Following;
                    }
                    plan.event(&metadata.resource_version);
                }
                Event::Added(pod) | Event::Modified(pod) => {
                    let version = pod.resource_version().to_owned();
                    self.put(*pod, phase);
                    plan.event(&version);
                }
                Event::Deleted(pod) => {
                    let uid = pod.uid();
                    // One that came and went while the pods were still on their way.
                    self.listed.retain(|listed| listed.uid != uid);
                    self.shared.change(|store| store.remove(&uid));
                    plan.event(pod.resource_version());
                }
            }
        }
    }

    fn put(&mut self, pod: RawPod, phase: Phase) {
        let Some(pod) = pod.prune(&self.shared.wanted) else {
            return;
        };
        match phase {
            Phase::Initial if self.listed.len() < MAX_PODS => self.listed.push(pod),
            Phase::Initial => {}
            Phase::Following => self.shared.change(|store| store.put(pod)),
        }
    }

    /// Everything that there is has come.
    fn complete(&mut self) {
        let pods = std::mem::take(&mut self.listed);
        let n_pods = pods.len();
        self.shared.change(|store| store.replace(pods));
        self.shared.synced();
        info!(n_pods, "the pods of this node are known");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// What comes is a part of all pods.
    Initial,
    /// What comes is a change.
    Following,
}

fn prune_all(items: Vec<RawPod>, wanted: &Wanted) -> impl Iterator<Item = Pod> {
    items.into_iter().filter_map(|pod| pod.prune(wanted))
}

impl Shared {
    fn watch_failed(&self, ask: &Ask, error: &ApiError) {
        let operation = match ask {
            Ask::List(_) => Operation::List,
            Ask::Watch(_) | Ask::Stream => Operation::Watch,
        };
        let state = match error.kind() {
            // Part of how servers are.
            ErrorKind::Expired => None,
            ErrorKind::Unauthorized => Some(SyncState::Unauthorized),
            ErrorKind::Forbidden => Some(SyncState::Forbidden),
            _ => Some(SyncState::Retrying),
        };
        let is_news = self.with_status(|status| {
            let is_news = status.failed(operation, "pods", error, Instant::now());
            status.state = state.unwrap_or(status.state);
            is_news
        });
        let error = one_line(error);
        if state.is_some() {
            // Whoever waits for the first pods need not wait longer.
            self.settle();
        }
        if is_news && state.is_some() {
            warn!(%error, "cannot follow the pods of this node; what is known is served on");
        } else {
            debug!(%error, "asking for pods failed");
        }
    }

    fn is_watching(&self) {
        self.with_status(|status| {
            status.allowed("pods");
            status.state = SyncState::Watching;
            status.last_event = Some(Instant::now());
        });
    }

    fn heard(&self) {
        self.with_status(|status| status.last_event = Some(Instant::now()));
    }

    fn synced(&self) {
        self.with_status(|status| {
            status.allowed("pods");
            status.n_resyncs += u64::from(status.is_synced);
            status.is_synced = true;
            status.state = SyncState::Watching;
            status.last_event = Some(Instant::now());
        });
    }
}

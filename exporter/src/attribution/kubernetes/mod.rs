//! The pods of this node and what they belong to, from the Kubernetes API.
//!
//! One task follows the pods by a watch and reads the objects around them; it ends with [`Kubernetes`]. What is known
//! stays known when the API server is away. docs/kubernetes.md says what is asked of the server, and how often.

mod api;
mod connect;
mod discovery;
mod exchange;
mod lines;
mod object;
mod owners;
mod path;
mod plan;
mod quantity;
mod reader;
mod status;
mod store;
mod watch;

pub mod pod;
pub mod review;
pub mod saved;
pub mod view;
pub mod wanted;
pub mod workload;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod laws;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch as signal},
    task, time,
};
use tracing::warn;

use self::{
    api::Api,
    plan::Plan,
    store::{Bounds, Store},
    view::PodView,
    wanted::Wanted,
    watch::Patience,
};
pub use self::{
    api::ErrorKind,
    connect::{Access, NoAccess, node_name},
    status::{KubernetesStatus, Operation, SyncState},
    store::StoreNumbers,
};
use crate::jitter::{Backoff, Jitter};
use crate::{error_chain::one_line, subject::PodUid};

/// Waits between attempts to read the credentials: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// What is asked of the API server, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How the server is reached.
    pub access: Access,
    /// The node whose pods are asked for.
    pub node: String,
    /// Which labels and annotations are kept.
    pub wanted: Wanted,
    /// How long the metadata of the objects around the pods is trusted.
    pub refresh: Duration,
}

/// The connection to the API server and all that is known from it.
pub struct Kubernetes {
    shared: Arc<Shared>,
    task: task::JoinHandle<()>,
    /// What was counted by the one in whose place this is.
    before: Option<KubernetesStatus>,
}

/// What the task and its readers share. Neither lock is held while anything is awaited, nor both at once.
struct Shared {
    wanted: Arc<Wanted>,
    store: Mutex<Store>,
    status: Mutex<KubernetesStatus>,
    /// Told when there may be objects to read.
    changed: Notify,
    /// Whether what can be known at the start is known.
    settled: signal::Sender<bool>,
}

impl Kubernetes {
    /// Begins to follow the pods, and counts on from what another has counted before; needs a runtime.
    #[must_use]
    pub fn start(settings: Settings, before: Option<KubernetesStatus>) -> Self {
        let mut started = Self::start_with(settings, Patience::default());
        started.before = before;
        started
    }

    fn start_with(settings: Settings, patience: Patience) -> Self {
        let Settings { access, node, wanted, refresh } = settings;
        let wanted = Arc::new(wanted);
        let store = Store::new(Arc::clone(&wanted), Arc::from(&*node), refresh, Bounds::default());
        let status = KubernetesStatus::new(access.describe(), node.clone());
        let shared = Arc::new(Shared::new(wanted, store, status));
        let task = task::spawn(run(Arc::clone(&shared), access, node, patience));
        Self { shared, task, before: None }
    }

    /// Waits until the pods and their owners are known, or it is clear that they cannot be; not beyond the deadline.
    pub async fn wait_settled(&self, deadline: Instant) {
        let mut settled = self.shared.settled.subscribe();
        let waited = time::timeout_at(deadline.into(), settled.wait_for(|settled| *settled)).await;
        // Whoever is too late goes on with what is known.
        drop(waited);
    }

    /// The pods as they are known now; forgets those gone from the API of which `has_cgroup` knows none.
    pub fn view(&self, has_cgroup: impl Fn(&PodUid) -> bool) -> Arc<PodView> {
        self.shared.with_store(|store| {
            store.forget_departed(has_cgroup);
            store.view(Instant::now())
        })
    }

    /// How it stands with the API server.
    #[must_use]
    pub fn status(&self) -> KubernetesStatus {
        let numbers = self.shared.with_store(|store| store.numbers());
        let mut status = self.shared.with_status(|status| status.clone());
        status.numbers = numbers;
        if let Some(before) = &self.before {
            status.count_on(before);
        }
        status
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects, follows and reads; connects anew, with credentials read anew, when the server does not take them.
async fn run(shared: Arc<Shared>, access: Access, node: String, patience: Patience) {
    let mut plan = Plan::new();
    let mut backoff = Backoff::new(FIRST_WAIT, LAST_WAIT);
    let mut jitter = Jitter::default();
    loop {
        match access.connect().await {
            Ok(client) => {
                backoff.reset();
                let api = Api::new(client, &node);
                tokio::select! {
                    () = watch::follow(&api, &shared, &mut plan, patience) => {}
                    () = reader::run(&api, &shared) => {}
                }
            }
            Err(error) => {
                let error = one_line(&error);
                warn!(%error, "cannot reach the Kubernetes API");
                shared.with_status(|status| {
                    status.state = SyncState::Retrying;
                    status.last_error = Some((Instant::now(), error));
                });
                shared.settle();
                time::sleep(backoff.after_failure(&mut jitter)).await;
            }
        }
    }
}

impl Shared {
    fn new(wanted: Arc<Wanted>, store: Store, status: KubernetesStatus) -> Self {
        Self {
            wanted,
            store: Mutex::new(store),
            status: Mutex::new(status),
            changed: Notify::new(),
            settled: signal::Sender::new(false),
        }
    }

    fn with_store<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(&mut lock(&self.store))
    }

    fn with_status<T>(&self, act: impl FnOnce(&mut KubernetesStatus) -> T) -> T {
        act(&mut lock(&self.status))
    }

    /// Changes what is known of pods.
    fn change(&self, act: impl FnOnce(&mut Store)) {
        self.with_store(act);
        self.changed.notify_one();
    }

    fn asked(&self, operation: Operation) {
        self.with_status(|status| status.asked(operation));
    }

    fn settle(&self) {
        self.settled.send_replace(true);
    }

    /// Lets those go on who wait for the first pods and their owners.
    fn settle_if_known(&self) {
        let is_synced = self.with_status(|status| status.is_synced);
        if is_synced && !self.with_store(|store| store.has_pending(Instant::now())) {
            self.settle();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! How it stands with the API server: for the self-metrics, the landing page and `check`. No IO.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    api::{ApiError, ErrorKind},
    store::StoreNumbers,
};
use crate::error_chain::one_line;

/// What is going on between Podmeter and the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// Nothing was asked yet, or the first answer is on its way.
    Starting,
    /// The pods of this node are followed.
    Watching,
    /// Something failed; it is tried again, and what is known is served meanwhile.
    Retrying,
    /// The server does not take the token or certificate; tried again as well.
    Unauthorized,
    /// The role does not allow to list or to watch pods; tried again as well.
    Forbidden,
}

impl SyncState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Starting, Self::Watching, Self::Retrying, Self::Unauthorized, Self::Forbidden];

    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Watching => "watching",
            Self::Retrying => "retrying",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What is asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// All pods of this node.
    List,
    /// Changes of them.
    Watch,
    /// The metadata of one object.
    Get,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::List, Self::Watch, Self::Get];

    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
            Self::Get => "get",
        }
    }
}

/// How it stands at one moment.
#[derive(Clone, Debug)]
pub struct KubernetesStatus {
    /// What is going on.
    pub state: SyncState,
    /// How the API server was found.
    pub access: String,
    /// The node whose pods are asked for.
    pub node: String,
    /// When the server last sent anything; `None` before that.
    pub last_event: Option<Instant>,
    /// Whether all pods were read at least once.
    pub is_synced: bool,
    /// How often all pods were read anew after the first time.
    pub n_resyncs: u64,
    /// Requests by operation.
    pub requests: BTreeMap<Operation, u64>,
    /// Errors by operation and kind.
    pub errors: BTreeMap<(Operation, &'static str), u64>,
    /// The last error, even if all is well again.
    pub last_error: Option<(Instant, String)>,
    /// What the role does not allow, by resource, in the server's words.
    pub forbidden: BTreeMap<Box<str>, String>,
    /// Sizes and losses of what is known.
    pub numbers: StoreNumbers,
}

impl KubernetesStatus {
    /// Before anything was asked.
    #[must_use]
    pub fn new(access: String, node: String) -> Self {
        Self {
            state: SyncState::Starting,
            access,
            node,
            last_event: None,
            is_synced: false,
            n_resyncs: 0,
            requests: Operation::ALL.into_iter().map(|operation| (operation, 0)).collect(),
            errors: BTreeMap::new(),
            last_error: None,
            forbidden: BTreeMap::new(),
            numbers: StoreNumbers::default(),
        }
    }

    /// Adds what was counted before; what holds at the moment is this one's alone.
    pub(super) fn count_on(&mut self, before: &Self) {
        self.n_resyncs += before.n_resyncs;
        for (operation, n_requests) in &before.requests {
            *self.requests.entry(*operation).or_default() += n_requests;
        }
        for (error, n_errors) in &before.errors {
            *self.errors.entry(*error).or_default() += n_errors;
        }
        self.numbers.n_pods_left_out += before.numbers.n_pods_left_out;
        self.numbers.n_departed_forgotten += before.numbers.n_departed_forgotten;
        self.numbers.n_objects_left_out += before.numbers.n_objects_left_out;
    }

    /// How long ago the server sent something.
    #[must_use]
    pub fn event_age(&self, now: Instant) -> Option<Duration> {
        self.last_event.map(|at| now.saturating_duration_since(at))
    }

    pub(super) fn asked(&mut self, operation: Operation) {
        *self.requests.entry(operation).or_default() += 1;
    }

    /// A resource was read.
    pub(super) fn allowed(&mut self, resource: &str) {
        self.forbidden.remove(resource);
    }

    /// A request failed; says whether that is news.
    pub(super) fn failed(
        &mut self,
        operation: Operation,
        resource: &str,
        error: &ApiError,
        now: Instant,
    ) -> bool {
        let (kind, text) = (error.kind(), one_line(error));
        *self.errors.entry((operation, kind.as_str())).or_default() += 1;
        if kind == ErrorKind::Forbidden {
            self.forbidden.insert(resource.into(), text.clone());
        }
        let is_news = self.last_error.as_ref().is_none_or(|(_, known)| *known != text);
        self.last_error = Some((now, text));
        is_news
    }
}

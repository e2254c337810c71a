//! The objects around the pods of this node (their owners, namespaces and the node itself): which are needed, what is
//! known of them, and when to read them again. A bounded cache that remembers what is not there as well. Pure.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    pod::{Controller, Metadata},
    wanted::{Keys, Wanted},
};
use crate::jitter::{Jitter, grown};

/// Most objects that are remembered. A node has some hundred pods at most, and each needs up to four.
pub(super) const MAX_OBJECTS: usize = 4096;

/// How long the controller of an object is trusted: only adoption changes it, which is rare.
const CONTROLLER_LIFE: Duration = Duration::from_hours(1);
/// How long an object that nobody needs any more is kept, in case that it is needed again.
const UNNEEDED_LIFE: Duration = Duration::from_mins(10);
/// How long it is believed that an object does not exist.
const ABSENCE_LIFE: Duration = Duration::from_mins(5);
/// The first wait after a failed read, and the longest one.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_mins(5);

/// The kinds of objects that are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ObjectKind {
    Namespace,
    Node,
    ReplicaSet,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
    /// Any other controller's. Where it is in the API has to be asked.
    Foreign(Arc<ForeignKind>),
}

/// A kind of controllers that is none of the above.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ForeignKind {
    /// Group and version; the version alone where there is no group.
    pub(super) api_version: Box<str>,
    pub(super) kind: Box<str>,
}

impl ObjectKind {
    /// The kind of a controller.
    pub(super) fn of(controller: &Controller) -> Self {
        let Controller { api_version, kind, .. } = controller;
        match Self::named(api_version, kind) {
            // Neither controls anything; the node that stands for a static pod's kubelet is looked at by itself.
            Self::Namespace | Self::Node => Self::foreign(api_version, kind),
            kind => kind,
        }
    }

    /// The kind of that name.
    pub(super) fn named(api_version: &str, kind: &str) -> Self {
        let group = api_version.split_once('/').map_or("", |(group, _version)| group);
        match (group, kind) {
            ("", "Namespace") => Self::Namespace,
            ("", "Node") => Self::Node,
            ("apps", "ReplicaSet") => Self::ReplicaSet,
            ("apps", "Deployment") => Self::Deployment,
            ("apps", "StatefulSet") => Self::StatefulSet,
            ("apps", "DaemonSet") => Self::DaemonSet,
            ("batch", "Job") => Self::Job,
            ("batch", "CronJob") => Self::CronJob,
            _ => Self::foreign(api_version, kind),
        }
    }

    fn foreign(api_version: &str, kind: &str) -> Self {
        Self::Foreign(Arc::new(ForeignKind { api_version: api_version.into(), kind: kind.into() }))
    }

    /// Group and version, as in `apiVersion`.
    pub(super) fn api_version(&self) -> &str {
        match self {
            Self::Namespace | Self::Node => "v1",
            Self::ReplicaSet | Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps/v1",
            Self::Job | Self::CronJob => "batch/v1",
            Self::Foreign(foreign) => &foreign.api_version,
        }
    }

    /// What the user is told: the name of the resource or, of a foreign one, the kind.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::ReplicaSet => "replicasets",
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::Job => "jobs",
            Self::CronJob => "cronjobs",
            Self::Foreign(foreign) => &foreign.kind,
        }
    }

    /// What is kept of the metadata of such an object.
    pub(super) fn keys(&self, wanted: &Wanted) -> Keys {
        match self {
            Self::Namespace => wanted.namespace.clone(),
            Self::Node => wanted.node.clone(),
            Self::Deployment => wanted.deployment.and(&wanted.workload),
            _ => wanted.workload.clone(),
        }
    }
}

/// Which object; with its UID where that is known, so that another of its name is not taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ObjectKey {
    pub(super) kind: ObjectKind,
    /// Empty for what is in no namespace.
    pub(super) namespace: Arc<str>,
    pub(super) name: Box<str>,
    pub(super) uid: Option<Box<str>>,
}

/// What was read of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) controller: Option<Controller>,
    pub(super) metadata: Arc<Metadata>,
}

/// Why an object was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// There is none, or another one of that name.
    NotFound,
    /// The API server did not answer, or not with the object.
    Failed,
}

/// What is known of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known<'a> {
    /// Nothing yet: it is being read.
    Pending,
    /// What was last read.
    Object(&'a Object),
    /// It cannot be read.
    Unread,
}

#[derive(Debug)]
struct Entry {
    /// `None` before the first answer.
    answer: Option<Result<Object, Unread>>,
    due: Instant,
    needed: Instant,
    n_failures: u32,
}

/// The cache.
#[derive(Debug)]
pub(super) struct Owners {
    entries: BTreeMap<ObjectKey, Entry>,
    max_objects: usize,
    refresh: Duration,
    n_left_out: u64,
}

impl Owners {
    /// A cache that reads metadata again after `refresh`.
    pub(super) fn new(max_objects: usize, refresh: Duration) -> Self {
        Self { entries: BTreeMap::new(), max_objects, refresh, n_left_out: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How often an object was not remembered, because there are too many.
    pub(super) fn n_left_out(&self) -> u64 {
        self.n_left_out
    }

    /// What is known; an object that there was no room for is one that cannot be read.
    pub(super) fn look(&self, key: &ObjectKey) -> Known<'_> {
        match self.entries.get(key).map(|entry| &entry.answer) {
            Some(Some(Ok(object))) => Known::Object(object),
            Some(None) => Known::Pending,
            None if self.entries.len() < self.max_objects => Known::Pending,
            Some(Some(Err(_))) | None => Known::Unread,
        }
    }

    /// An object is needed now.
    pub(super) fn need(&mut self, key: &ObjectKey, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.needed = now;
            return;
        }
        if self.entries.len() >= self.max_objects {
            self.n_left_out += 1;
            return;
        }
        let entry = Entry { answer: None, due: now, needed: now, n_failures: 0 };
        self.entries.insert(key.clone(), entry);
    }

    /// Forgets what has not been needed for a while.
    pub(super) fn expire(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now.saturating_duration_since(entry.needed) < UNNEEDED_LIFE);
    }

    /// The objects that are to be read now, those first that were never read.
    pub(super) fn due(&self, now: Instant) -> Vec<ObjectKey> {
        let mut due: Vec<_> = self.entries.iter().filter(|(_, entry)| entry.due <= now).collect();
        due.sort_by_key(|(_, entry)| (entry.answer.is_some(), entry.due));
        due.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// When the next object is to be read.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.due).min()
    }

    /// Whether something is needed that was never asked for.
    pub(super) fn has_pending(&self) -> bool {
        self.entries.values().any(|entry| entry.answer.is_none())
    }

    /// Takes the answer to a read; says whether something is known now that was not before.
    pub(super) fn answer(
        &mut self,
        key: &ObjectKey,
        answer: Result<Object, Unread>,
        now: Instant,
        jitter: &mut Jitter,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let wait = match &answer {
            // What has a controller is only a step on the way to it.
            Ok(Object { controller: Some(_), .. }) => CONTROLLER_LIFE.max(self.refresh),
            Ok(_) => self.refresh,
            Err(Unread::NotFound) => ABSENCE_LIFE.min(self.refresh),
            Err(Unread::Failed) => grown(FIRST_RETRY, LAST_RETRY, entry.n_failures),
        };
        entry.due = now + jitter.part_of(wait, 0.75);
        entry.n_failures = match answer {
            Err(Unread::Failed) => entry.n_failures.saturating_add(1),
            _ => 0,
        };
        // A failure takes nothing away that is known: an API server that is away must not change names.
        let keeps = answer == Err(Unread::Failed) && matches!(entry.answer, Some(Ok(_)));
        if keeps || entry.answer.as_ref() == Some(&answer) {
            return false;
        }
        entry.answer = Some(answer);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{Known, Object, ObjectKey, ObjectKind, Owners, Unread};
    use crate::{
        attribution::kubernetes::pod::{Controller, Metadata},
        jitter::Jitter,
    };

    const MINUTE: Duration = Duration::from_mins(1);

    fn key(name: &str) -> ObjectKey {
        let namespace = Arc::from("n9e");
        ObjectKey { kind: ObjectKind::Deployment, namespace, name: name.into(), uid: None }
    }

    fn labelled(value: &str) -> Object {
        let labels = vec![("dept".into(), value.into())];
        let metadata = Arc::new(Metadata { labels, annotations: Vec::new() });
        Object { controller: None, metadata }
    }

    #[test]
    fn objects_are_read_when_needed_and_again_when_old() {
        let (now, mut jitter) = (Instant::now(), Jitter::default());
        let mut owners = Owners::new(10, 5 * MINUTE);
        assert_eq!(owners.next_due(), None);
        owners.need(&key("a"), now);
        assert_eq!((owners.look(&key("a")), owners.has_pending()), (Known::Pending, true));
        assert_eq!(owners.due(now), [key("a")]);
        assert!(owners.answer(&key("a"), Ok(labelled("cloud")), now, &mut jitter));
        assert_eq!(owners.look(&key("a")), Known::Object(&labelled("cloud")));
        assert!(owners.due(now + 3 * MINUTE).is_empty() && !owners.has_pending());
        assert_eq!(owners.due(now + 5 * MINUTE), [key("a")]);
        let again = owners.answer(&key("a"), Ok(labelled("cloud")), now, &mut jitter);
        assert!(!again, "the same answer changes nothing");
    }

    #[test]
    fn a_failure_takes_nothing_away_and_is_tried_again_ever_later() {
        let (mut now, mut jitter) = (Instant::now(), Jitter::default());
        let mut owners = Owners::new(10, MINUTE);
        owners.need(&key("a"), now);
        owners.answer(&key("a"), Ok(labelled("cloud")), now, &mut jitter);
        for _ in 0..20 {
            assert!(!owners.answer(&key("a"), Err(Unread::Failed), now, &mut jitter));
            let wait = owners.next_due().unwrap() - now;
            assert!(wait >= Duration::from_secs(3) && wait <= 5 * MINUTE, "{wait:?}");
            now += wait;
        }
        assert_eq!(owners.look(&key("a")), Known::Object(&labelled("cloud")));
        assert!(owners.answer(&key("a"), Err(Unread::NotFound), now, &mut jitter));
        assert_eq!(owners.look(&key("a")), Known::Unread);
    }

    #[test]
    fn what_has_a_controller_is_trusted_for_long() {
        let (now, mut jitter) = (Instant::now(), Jitter::default());
        let mut owners = Owners::new(10, MINUTE);
        owners.need(&key("a"), now);
        let controller = Controller {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "d".into(),
            uid: "u".into(),
        };
        let object = Object { controller: Some(controller), ..Object::default() };
        owners.answer(&key("a"), Ok(object), now, &mut jitter);
        assert!(owners.next_due().unwrap() - now >= 40 * MINUTE);
    }

    #[test]
    fn the_cache_has_a_bound_and_forgets() {
        let now = Instant::now();
        let mut owners = Owners::new(2, MINUTE);
        for name in ["a", "b", "c"] {
            owners.need(&key(name), now);
        }
        assert_eq!((owners.len(), owners.n_left_out()), (2, 1));
        assert_eq!(owners.look(&key("c")), Known::Unread);
        owners.need(&key("b"), now + 9 * MINUTE);
        owners.expire(now + 11 * MINUTE);
        assert_eq!(owners.due(now + 11 * MINUTE), [key("b")]);
    }
}

//! For the fuzz targets: what an API server may send, read as it is in a running Podmeter, but without a server.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::client::Body;
use serde_json::from_slice;
use tokio::runtime::{Builder, Runtime};

use super::{
    KubernetesStatus, Shared,
    api::{ApiError, EventStream, PodList},
    discovery::RawResources,
    lines::Lines,
    object::RawObject,
    owners::{Object, Unread},
    plan::{Ask, Plan},
    store::{Bounds, Store, StoreNumbers},
    view::PodView,
    wanted::Wanted,
    watch::{Follower, Patience, Phase},
};

/// Most that is kept here: little, so that a small input reaches it.
const BOUNDS: Bounds = Bounds { pods: MAX_PODS, departed: MAX_DEPARTED, objects: MAX_OBJECTS };
/// Most pods.
pub const MAX_PODS: usize = 4;
/// Most departed pods.
pub const MAX_DEPARTED: usize = 3;
/// Most objects around them.
pub const MAX_OBJECTS: usize = 5;

/// After so many looks at what is to be read, as each pod has a chain of owners, nothing is left.
const MAX_LOOKS: usize = 8;
const REFRESH: Duration = Duration::from_hours(1);

thread_local! {
    /// Made once: that takes longer than to read an input.
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

/// What is known after a watch.
#[derive(Debug)]
pub struct Watched {
    /// The pods.
    pub view: Arc<PodView>,
    /// Sizes and losses.
    pub numbers: StoreNumbers,
    /// Whether all pods have come once.
    pub is_synced: bool,
    /// The version that the next watch would go on from.
    pub version: Option<String>,
    /// Why the watch ended, if not because its time was up.
    pub error: Option<String>,
}

/// Takes the bytes as the body of a watch that begins with all pods; then every object around them that is asked for is
/// answered with `object`, or, where that is none, as one that does not exist.
#[must_use]
pub fn watch(body: &[u8], object: &[u8], wanted: Wanted) -> Watched {
    let wanted = Arc::new(wanted);
    let store = Store::new(Arc::clone(&wanted), Arc::from("node"), REFRESH, BOUNDS);
    let status = KubernetesStatus::new("no server".into(), "node".into());
    let shared = Shared::new(wanted, store, status);
    let mut plan = Plan::new();
    let read = read(&shared, &mut plan, body.to_vec());
    let error = read.err().map(|error| error.to_string());
    answer_all(&shared, object);
    Watched {
        view: shared.with_store(|store| store.view(Instant::now())),
        numbers: shared.with_store(|store| store.numbers()),
        is_synced: shared.with_status(|status| status.is_synced),
        version: match plan.next() {
            Ask::Watch(version) => Some(version),
            Ask::Stream | Ask::List(_) => None,
        },
        error,
    }
}

fn read(shared: &Shared, plan: &mut Plan, body: Vec<u8>) -> Result<(), ApiError> {
    let mut follower = Follower::new(shared, Patience::default());
    let seconds = plan.watch_seconds();
    RUNTIME.with_borrow_mut(|kept| {
        let made = || Builder::new_current_thread().enable_time().build();
        let runtime = match kept.take().map_or_else(made, Ok) {
            Ok(runtime) => kept.insert(runtime),
            // The process has no descriptor left: no input is to blame.
            Err(_) => return Ok(()),
        };
        let stream = EventStream::new(Body::from(body));
        runtime.block_on(follower.read(stream, plan, Phase::Initial, seconds))
    })
}

fn answer_all(shared: &Shared, object: &[u8]) {
    let now = Instant::now();
    for _ in 0..MAX_LOOKS {
        let due = shared.with_store(|store| store.due(now));
        for key in &due {
            let answer = match from_slice::<RawObject>(object) {
                Ok(RawObject { metadata }) => {
                    let controller = metadata.controller();
                    let (_uid, metadata) = metadata.prune(&key.kind.keys(&shared.wanted));
                    Ok(Object { controller, metadata: metadata.into() })
                }
                Err(_) => Err(Unread::NotFound),
            };
            shared.with_store(|store| store.answer(key, answer, now));
        }
        if due.is_empty() {
            return;
        }
    }
}

/// The names of the pods of a page of a list, and where its next page is.
#[must_use]
pub fn list(json: &[u8], wanted: &Wanted) -> Option<(Vec<String>, String)> {
    let PodList { metadata, items } = from_slice(json).ok()?;
    let pods = items.into_iter().filter_map(|pod| pod.prune(wanted));
    Some((pods.map(|pod| pod.name.to_string()).collect(), metadata.next))
}

/// Where the objects of a kind are, by what the server tells of a group.
#[must_use]
pub fn resource(json: &[u8], kind: &str) -> Option<String> {
    let place = from_slice::<RawResources>(json).ok()?.find(kind)?;
    Some(place.resource.into())
}

/// The lines of a body that comes in pieces of so many bytes, and how many bytes are left behind the last.
#[must_use]
pub fn lines(body: &[u8], piece_bytes: usize) -> (Vec<Vec<u8>>, usize) {
    let (mut lines, mut found) = (Lines::default(), Vec::new());
    for piece in body.chunks(piece_bytes.max(1)) {
        lines.push(piece);
        while let Some(line) = lines.next() {
            found.push(line.to_vec());
        }
    }
    (found, lines.n_bytes())
}

#[cfg(test)]
mod tests {
    use super::{MAX_PODS, list, resource, watch};
    use crate::attribution::kubernetes::testing;

    const STREAM: &str =
        include_str!("../../../../tests/fixtures/v1.34.9/watch/pods-sendinitial.jsonl");
    const LIST: &str = include_str!("../../../../tests/fixtures/v1.34.9/pods-on-node.json");

    #[test]
    fn a_recorded_watch_is_read_up_to_the_bounds() {
        let watched = watch(STREAM.as_bytes(), b"", testing::all());
        assert_eq!(watched.error, None);
        assert!(watched.is_synced && watched.version.is_some());
        assert_eq!((watched.view.live().len(), watched.numbers.n_live), (MAX_PODS, MAX_PODS));
        assert!(watched.numbers.n_pods_left_out > 0 && watched.numbers.n_objects > 0);
    }

    #[test]
    fn a_pod_that_goes_while_all_are_on_their_way_is_gone() {
        let event = |kind: &str, uid: &str| {
            let metadata = format!(
                r#"{{"name":"{uid}","namespace":"n","uid":"{uid}","resourceVersion":"1"}}"#
            );
            format!("{{\"type\":\"{kind}\",\"object\":{{\"metadata\":{metadata}}}}}\n")
        };
        let end = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"2","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        let body = [
            event("ADDED", "a"),
            event("ADDED", "b"),
            event("DELETED", "a"),
            end.into(),
            "\n".into(),
        ];
        let watched = watch(body.concat().as_bytes(), b"", testing::all());
        let names: Vec<_> = watched.view.live().iter().map(|live| &*live.pod.name).collect();
        assert_eq!((names, watched.is_synced), (vec!["b"], true));
    }

    #[test]
    fn what_is_no_answer_gives_nothing() {
        let (names, next) = list(LIST.as_bytes(), &testing::all()).unwrap();
        assert!(names.len() > MAX_PODS && next.is_empty());
        assert_eq!(list(b"{\"items\":7}", &testing::all()), None);
        let group = br#"{"resources":[{"name":"rollouts","kind":"Rollout"}]}"#;
        assert_eq!(resource(group, "Rollout").as_deref(), Some("rollouts"));
        assert_eq!(resource(group, "Job"), None);
        let broken = watch(b"{}\n", b"", testing::all());
        assert_eq!((broken.is_synced, broken.version), (false, None));
        assert!(broken.error.is_some());
    }
}

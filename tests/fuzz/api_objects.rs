//! What the Kubernetes API sends: a watch of pods with the objects around them, a list, what there is in a group; and a
//! file of `kubectl get -o json`.

use std::collections::BTreeSet;

use podmeter::attribution::kubernetes::{
    fuzzing::{self, MAX_DEPARTED, MAX_OBJECTS, MAX_PODS},
    pod::{Metadata, Pod},
    saved::saved_pods,
    view::PodView,
    wanted::{Keys, Wanted},
};
use serde_json::Value;

/// As `attribution::kubernetes::wanted` has it.
const MAX_KEPT_BYTES: usize = 512;
/// As `attribution::kubernetes::store` has it; a status lists three at most.
const MAX_INCARNATIONS: usize = 8;

/// The first byte says what the rest is; of a watch, the first line is the object that every question for one is answered
/// with.
pub(crate) fn check(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    match first {
        b's' => check_saved(rest),
        b'l' => check_list(rest),
        b'r' => check_resources(rest),
        _ => check_watch(rest),
    }
}

/// Everything is wanted.
fn all() -> Wanted {
    let mut keys = Keys::default();
    keys.labels.add_prefix("");
    keys.annotations.add_prefix("");
    Wanted {
        pod: keys.clone(),
        namespace: keys.clone(),
        node: keys.clone(),
        deployment: keys.clone(),
        workload: keys,
        pod_state: true,
    }
}

fn check_watch(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (object, body) = input.split_at(at);
    let body = body.get(1..).unwrap_or_default();
    let watched = fuzzing::watch(body, object, all());
    let numbers = &watched.numbers;
    assert!(numbers.n_live <= MAX_PODS, "{numbers:?}");
    assert!(numbers.n_departed <= MAX_DEPARTED, "{numbers:?}");
    assert!(numbers.n_objects <= MAX_OBJECTS, "{numbers:?}");
    assert_eq!(watched.view.live().len(), numbers.n_live);
    // There is something to go on from if, and only if, all pods have come.
    assert_eq!(watched.is_synced, watched.version.is_some());
    assert!(watched.is_synced || numbers.n_live == 0, "pods of a list that is not complete");
    check_view(&watched.view);
    if watched.error.is_none() {
        let departed = departed(body);
        let is_departed = |uid: &str| departed.iter().any(|departed| departed == uid);
        let mut live = watched.view.live().iter().map(|live| live.pod.uid.as_str());
        assert!(!live.any(is_departed), "{departed:?} are gone");
    }

    let whole = fuzzing::lines(body, usize::MAX);
    for n_bytes in [1, 7, 64] {
        assert_eq!(fuzzing::lines(body, n_bytes), whole, "in pieces of {n_bytes}");
    }
    let n_bytes: usize = whole.0.iter().map(|line| line.len() + 1).sum();
    assert_eq!(n_bytes + whole.1, body.len());
    assert!(whole.0.iter().all(|line| !line.contains(&b'\n')));
}

/// The UIDs of pods of which the last that was heard is that they are gone.
fn departed(body: &[u8]) -> Vec<String> {
    let mut departed = Vec::new();
    for line in body.split(|byte| *byte == b'\n') {
        // What stands behind the last end of a line is none.
        let Ok(event) = serde_json::from_slice::<Value>(line) else { break };
        let Some(uid) = event["object"]["metadata"]["uid"].as_str() else { continue };
        departed.retain(|known| known != uid);
        if event["type"] == "DELETED" {
            departed.push(uid.to_owned());
        }
    }
    departed
}

fn check_saved(json: &[u8]) {
    let Ok(view) = saved_pods(json, all(), "node") else { return };
    assert!(!view.live().is_empty(), "without a pod it is an error");
    check_view(&view);
    // Nothing is kept that is not wanted.
    let Ok(view) = saved_pods(json, Wanted::default(), "node") else {
        panic!("what is wanted decides whether there are pods");
    };
    for pod in view.iter() {
        assert_eq!((&pod.pod.metadata, &pod.pod.state), (&Metadata::default(), &None));
    }
}

fn check_list(json: &[u8]) {
    if let Some((names, _next)) = fuzzing::list(json, &all()) {
        assert!(names.iter().all(|name| !name.is_empty()));
    }
}

/// The first line is the kind that is looked for.
fn check_resources(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (kind, json) = input.split_at(at);
    let Ok(kind) = str::from_utf8(kind) else { return };
    if let Some(resource) = fuzzing::resource(json.get(1..).unwrap_or_default(), kind) {
        assert!(!resource.contains('/'), "{resource} is a part of an object");
    }
}

/// Every pod has its names, and whatever leads to a pod leads to the right one.
fn check_view(view: &PodView) {
    let mut uids = BTreeSet::new();
    for attributed in view.live() {
        let uid = &attributed.pod.uid;
        assert!(uids.insert(uid.clone()), "{uid:?} is there twice");
    }
    for attributed in view.iter() {
        let pod = &attributed.pod;
        check_pod(pod);
        let found = view.pod(&pod.uid).map(|found| &found.pod.uid);
        assert_eq!(found, Some(&pod.uid));
        let named = view.pod_named(&pod.namespace, &pod.name);
        assert!(named.is_some_and(|named| named.pod.name == pod.name));
        for id in pod.containers.iter().flat_map(|container| &container.ids) {
            if let Some(of_id) = view.pod_of_container(id) {
                assert_eq!(of_id.pod.uid, pod.uid, "{id:?} is another pod's");
                assert!(of_id.container(id).is_some());
            }
        }
        let of_others = [
            &attributed.namespace_metadata,
            &attributed.node_metadata,
            &attributed.deployment_metadata,
            &attributed.workload_metadata,
        ];
        of_others.into_iter().flatten().for_each(|metadata| check_metadata(metadata));
    }
}

fn check_pod(pod: &Pod) {
    let names = [pod.uid.as_str(), &pod.namespace, &pod.name];
    assert!(names.iter().all(|name| !name.is_empty()), "{pod:?}");
    if let Some(uid) = &pod.static_uid {
        assert!(uid.as_str().len() == 32 && uid.as_str() == uid.as_str().to_ascii_lowercase());
    }
    check_metadata(&pod.metadata);
    for container in &pod.containers {
        assert!(container.ids.len() <= MAX_INCARNATIONS, "{container:?}");
        let ids: BTreeSet<_> = container.ids.iter().collect();
        assert_eq!(ids.len(), container.ids.len(), "{container:?}");
        let state = container.state.iter();
        for (resource, quantity) in
            state.flat_map(|state| state.requests.iter().chain(&state.limits))
        {
            assert!(quantity.is_finite(), "{resource}: {quantity}");
        }
    }
    let state = pod.state.iter();
    for time in state.flat_map(|state| [state.created, state.deleted, state.started]).flatten() {
        // From 1970 to the last second of 9999.
        assert!((0.0..253_402_300_801.0).contains(&time), "{time}");
    }
}

/// In order, no key twice, and no longer than is kept.
fn check_metadata(metadata: &Metadata) {
    for pairs in [&metadata.labels, &metadata.annotations] {
        assert!(pairs.is_sorted_by(|(before, _), (next, _)| before < next), "{pairs:?}");
        assert!(pairs.iter().all(|(_, value)| value.len() <= MAX_KEPT_BYTES));
    }
}

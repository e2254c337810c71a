//! Pods for tests.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    object::RawPod,
    pod::{Container, ContainerKind, Controller, Metadata, Pod},
    store::{Bounds, Store},
    view::PodView,
    wanted::{Keys, Wanted},
};
use crate::subject::{ContainerId, PodUid};

/// Everything is wanted.
pub(crate) fn all() -> Wanted {
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

/// A pod of the namespace `n9e` with containers, each by its name and its ids.
pub(crate) fn pod(uid: &str, name: &str, containers: &[(&str, &[&str])]) -> Pod {
    let container = |(name, ids): &(&str, &[&str])| Container {
        name: Arc::from(*name),
        kind: ContainerKind::Regular,
        ids: ids.iter().map(|id| ContainerId::new(*id)).collect(),
        state: None,
    };
    Pod {
        uid: PodUid::new(uid),
        static_uid: None,
        namespace: Arc::from("n9e"),
        name: Arc::from(name),
        controller: None,
        template_hash: None,
        metadata: Metadata::default(),
        containers: containers.iter().map(container).collect(),
        state: None,
    }
}

pub(crate) fn controller(api_version: &str, kind: &str, name: &str) -> Controller {
    Controller {
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
        uid: format!("uid-of-{name}").into(),
    }
}

pub(crate) fn metadata(labels: &[(&str, &str)]) -> Metadata {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    let boxed = |(key, value): (&str, &str)| (Box::from(key), Box::from(value));
    Metadata { labels: labels.into_iter().map(boxed).collect(), annotations: Vec::new() }
}

/// A view of pods of which nothing else is known.
pub(crate) fn view(pods: Vec<Pod>) -> Arc<PodView> {
    let refresh = Duration::from_mins(5);
    let mut store = Store::new(Arc::new(all()), Arc::from("node"), refresh, Bounds::default());
    store.replace(pods);
    store.view(Instant::now())
}

/// The pods of a recorded list.
pub(crate) fn recorded(text: &str) -> Vec<Pod> {
    #[derive(serde::Deserialize)]
    struct List {
        items: Vec<RawPod>,
    }
    let list: List = serde_json::from_str(text).unwrap();
    list.items.into_iter().map(|raw| raw.prune(&all()).unwrap()).collect()
}

//! Pods and what they belong to from a file that `kubectl get … -o json` wrote, in place of the API. Pure.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, from_slice, from_value};

use super::{
    object::{RawObject, RawPod},
    owners::{Object, ObjectKey, ObjectKind, Unread},
    store::{Bounds, Store},
    view::PodView,
    wanted::Wanted,
};

/// A pod, its `ReplicaSet`, its Deployment, and room: after so many looks at what is still to be read, nothing is left.
const MAX_LOOKS: usize = 8;

/// Nothing here is read twice.
const REFRESH: Duration = Duration::from_hours(1);

/// Why a file has no pods.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Not what the API sends.
    #[error("it is no JSON of the Kubernetes API, as `kubectl get pods -A -o json` writes it")]
    Json(#[from] serde_json::Error),
    /// Something else of the API.
    #[error("it has no pods; `kubectl get pods -A -o json` writes them")]
    NoPods,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawList {
    kind: String,
    items: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawKind {
    api_version: String,
    kind: String,
}

/// The pods of a `List`, a `PodList` or a single `Pod`, and what they belong to as far as it is there as well.
///
/// A `ReplicaSet` that is not there gives its Deployment's name all the same, as one that cannot be read does.
pub fn saved_pods(json: &[u8], wanted: Wanted, node: &str) -> Result<Arc<PodView>, SavedError> {
    let list: RawList = from_slice(json)?;
    let (of_list, items) = match list.items {
        Some(items) => (list.kind.trim_end_matches("List").to_owned(), items),
        None => (list.kind, vec![from_slice(json)?]),
    };
    let bounds = Bounds { pods: usize::MAX, departed: 0, objects: usize::MAX };
    let mut store = Store::new(Arc::new(wanted.clone()), node.into(), REFRESH, bounds);
    let mut objects = HashMap::new();
    let mut n_pods = 0;
    for item in items {
        let RawKind { api_version, kind } = RawKind::deserialize(&item)?;
        // The items of a list of one kind do not repeat it.
        let kind = if kind.is_empty() { of_list.as_str() } else { kind.as_str() };
        if kind == "Pod" {
            let pod: RawPod = from_value(item)?;
            if let Some(pod) = pod.prune(&wanted) {
                store.put(pod);
                n_pods += 1;
            }
        } else {
            let kind = ObjectKind::named(&api_version, kind);
            let RawObject { metadata } = from_value(item)?;
            let keys = kind.keys(&wanted);
            let place = (kind, metadata.namespace.clone(), metadata.name.clone());
            let controller = metadata.controller();
            let (uid, metadata) = metadata.prune(&keys);
            objects.insert(place, (uid, Object { controller, metadata: metadata.into() }));
        }
    }
    if n_pods == 0 {
        return Err(SavedError::NoPods);
    }
    let now = Instant::now();
    for _ in 0..MAX_LOOKS {
        let due = store.due(now);
        if due.is_empty() {
            break;
        }
        for key in due {
            store.answer(&key, find(&objects, &key), now);
        }
    }
    Ok(store.view(now))
}

type Objects = HashMap<(ObjectKind, String, String), (String, Object)>;

fn find(objects: &Objects, key: &ObjectKey) -> Result<Object, Unread> {
    let place = (key.kind.clone(), key.namespace.to_string(), key.name.to_string());
    let (uid, object) = objects.get(&place).ok_or(Unread::NotFound)?;
    if key.uid.as_deref().is_some_and(|wanted| *wanted != **uid) {
        return Err(Unread::NotFound);
    }
    Ok(object.clone())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{SavedError, saved_pods};
    use crate::attribution::kubernetes::testing;

    const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-5d4-x","namespace":"n9e",
        "uid":"p1","labels":{"pod-template-hash":"5d4"},"ownerReferences":[{"apiVersion":"apps/v1",
        "kind":"ReplicaSet","name":"web-5d4","uid":"r1","controller":true}]}}"#;

    fn deployment_of(items: &str) -> String {
        let view = saved_pods(items.as_bytes(), testing::all(), "n1").unwrap();
        let pods = view.iter().map(|pod| {
            let region = pod.deployment_metadata.as_ref().and_then(|it| it.labels.first());
            format!("{} {:?} {region:?}", pod.pod.name, pod.deployment)
        });
        pods.collect::<Vec<_>>().join("\n")
    }

    fn check(json: &str, expected: Expect) {
        expected.assert_eq(&deployment_of(json));
    }

    #[test]
    fn pods_alone_have_their_deployments_name() {
        check(POD, expect![[r#"web-5d4-x Some("web") None"#]]);
        check(
            &format!(r#"{{"kind":"List","items":[{POD}]}}"#),
            expect![[r#"web-5d4-x Some("web") None"#]],
        );
        let without_kind = POD.replace(r#""kind":"Pod","#, "");
        check(
            &format!(r#"{{"kind":"PodList","items":[{without_kind}]}}"#),
            expect![[r#"web-5d4-x Some("web") None"#]],
        );
    }

    #[test]
    fn what_is_there_beside_them_is_followed() {
        let owned = |kind: &str, name: &str, more: &str| {
            format!(
                r#"{{"apiVersion":"apps/v1","kind":"{kind}","metadata":{{"name":"{name}","namespace":"n9e",{more}}}}}"#
            )
        };
        let set = owned(
            "ReplicaSet",
            "web-5d4",
            r#""uid":"r1","ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"webapi","uid":"d1","controller":true}]"#,
        );
        let deployment =
            owned("Deployment", "webapi", r#""uid":"d1","labels":{"region":"beijing"}"#);
        let list = |items: &[&str]| format!(r#"{{"kind":"List","items":[{}]}}"#, items.join(","));
        check(
            &list(&[&deployment, POD, &set]),
            expect![[r#"web-5d4-x Some("webapi") Some(("region", "beijing"))"#]],
        );
        let other = deployment.replace("d1", "d2");
        check(&list(&[&other, POD, &set]), expect![[r#"web-5d4-x Some("webapi") None"#]]);
    }

    #[test]
    fn what_is_no_list_of_pods_says_so() {
        let error = |text: &str| saved_pods(text.as_bytes(), testing::all(), "n1").unwrap_err();
        assert!(matches!(error("items: []"), SavedError::Json(_)));
        for empty in [r#"{"kind":"List","items":[]}"#, r#"{"kind":"Status"}"#, "{}"] {
            assert!(matches!(error(empty), SavedError::NoPods), "{empty}");
        }
    }
}

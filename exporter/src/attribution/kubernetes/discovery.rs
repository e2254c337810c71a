//! Where a kind of object that Kubernetes does not bring itself is in the API: the server tells, group by group.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Deserialize;

use super::owners::ForeignKind;

/// Most kinds whose place is remembered; a node's pods have a handful.
const MAX_KINDS: usize = 64;

/// Where objects of a kind are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The name in a path, in the plural.
    pub(super) resource: Box<str>,
    /// Whether each is in a namespace.
    pub(super) is_namespaced: bool,
}

/// What the server tells of a group and version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawResources {
    resources: Vec<RawResource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawResource {
    name: String,
    kind: String,
    namespaced: bool,
}

/// The places that are known. A kind that the server does not have is not remembered: it may come.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<ForeignKind, Place>>>);

impl Places {
    pub(super) fn get(&self, kind: &ForeignKind) -> Option<Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(kind).cloned()
    }

    pub(super) fn put(&self, kind: &ForeignKind, place: Place) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MAX_KINDS {
            // So many kinds are somebody's mischief; what is needed is asked for again.
            places.clear();
        }
        places.insert(kind.clone(), place);
    }
}

impl RawResources {
    /// The place of a kind. What is below an object (`rollouts/scale`) has a kind as well, and is none of it.
    pub(super) fn find(self, kind: &str) -> Option<Place> {
        let is_it = |one: &RawResource| one.kind == kind && !one.name.contains('/');
        let found = self.resources.into_iter().find(is_it)?;
        Some(Place { resource: found.name.into(), is_namespaced: found.namespaced })
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_KINDS, Place, Places, RawResources};
    use crate::attribution::kubernetes::owners::ForeignKind;

    const ROLLOUTS: &str = r#"{"kind":"APIResourceList","groupVersion":"argoproj.io/v1alpha1","resources":[
        {"name":"rollouts/scale","kind":"Rollout","namespaced":true},
        {"name":"clusteranalysistemplates","kind":"ClusterAnalysisTemplate","namespaced":false},
        {"name":"rollouts","kind":"Rollout","namespaced":true,"verbs":["get"]}]}"#;

    fn foreign(kind: &str) -> ForeignKind {
        ForeignKind { api_version: "argoproj.io/v1alpha1".into(), kind: kind.into() }
    }

    #[test]
    fn a_kind_is_found_and_its_parts_are_not() {
        let check = |kind: &str, expected: Option<(&str, bool)>| {
            let resources: RawResources = serde_json::from_str(ROLLOUTS).unwrap();
            let expected = expected.map(|(resource, is_namespaced)| Place {
                resource: resource.into(),
                is_namespaced,
            });
            assert_eq!(resources.find(kind), expected);
        };
        check("Rollout", Some(("rollouts", true)));
        check("ClusterAnalysisTemplate", Some(("clusteranalysistemplates", false)));
        check("Experiment", None);
    }

    #[test]
    fn kinds_by_the_hundred_are_not_all_remembered() {
        let places = Places::default();
        let place = Place { resource: "rollouts".into(), is_namespaced: true };
        for number in 0..10 * MAX_KINDS {
            let kind = foreign(&format!("Kind{number}"));
            places.put(&kind, place.clone());
            assert_eq!(places.get(&kind), Some(place.clone()));
            assert!(places.0.lock().unwrap().len() <= MAX_KINDS);
        }
        assert_eq!(places.get(&foreign("Kind0")), None);
    }
}

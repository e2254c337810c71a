//! Pods of an API server that come, change and go, and the watches that are told of it; the objects are as small as what
//! Podmeter reads of them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Sender},
    },
};

use serde_json::{Value, json};

use crate::page_server::Reply;

/// The namespace of all of them.
pub const NAMESPACE: &str = "live";

/// What follows the name of a Deployment in that of its `ReplicaSet`.
const TEMPLATE_HASH: &str = "5d4f8c7b6d";

/// Beyond all versions that were recorded.
const FIRST_VERSION: u64 = 1000;

/// Changes from which a watch can go on; whoever missed more begins anew.
const MAX_CHANGES: usize = 100;

/// The pods, and who watches them.
#[derive(Debug)]
pub struct LivePods(Mutex<State>);

#[derive(Debug)]
struct State {
    version: u64,
    pods: BTreeMap<String, Value>,
    changes: VecDeque<(u64, Vec<u8>)>,
    watchers: Vec<Sender<Vec<u8>>>,
    department: u64,
}

/// A pod as the kubelet tells of it.
#[derive(Clone, Debug)]
pub struct LivePod<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// The Deployment that it is of.
    pub deployment: &'a str,
    /// The value of its label `region`.
    pub region: &'a str,
    /// The ids of its container `main`, the first one first.
    pub ids: &'a [String],
}

impl Default for LivePods {
    fn default() -> Self {
        Self(Mutex::new(State {
            version: FIRST_VERSION,
            pods: BTreeMap::new(),
            changes: VecDeque::new(),
            watchers: Vec::new(),
            department: 0,
        }))
    }
}

impl LivePods {
    /// Tells of a pod that is new, or has changed.
    pub fn put(&self, pod: &LivePod<'_>) {
        let mut state = self.lock();
        let kind = if state.pods.contains_key(pod.name) { "MODIFIED" } else { "ADDED" };
        state.change(kind, pod.object(), |pods, object| {
            pods.insert(pod.name.to_owned(), object);
        });
    }

    /// Tells that a pod is gone.
    pub fn remove(&self, name: &str) {
        let mut state = self.lock();
        let object = state.pods.get(name).expect("it is there").clone();
        state.change("DELETED", object, |pods, _| {
            pods.remove(name);
        });
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().pods.keys().cloned().collect()
    }

    /// Gives all Deployments another value of the label `dept`, one that they never had.
    pub fn relabel_deployments(&self) {
        self.lock().department += 1;
    }

    /// Answers a request, if it is about these pods or their owners; other pods come first.
    #[must_use]
    pub fn reply(&self, path: &str, others: &str) -> Option<Reply> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path == "/api/v1/pods" && query.contains("watch=true") {
            return Some(self.lock().watch(query, others));
        }
        let path = path.strip_prefix("/apis/apps/v1/namespaces/")?.strip_prefix(NAMESPACE)?;
        let object = match path.trim_start_matches('/').split_once('/')? {
            ("replicasets", name) => replica_set(name)?,
            ("deployments", name) => deployment(name, self.lock().department),
            _ => return None,
        };
        Some(Reply::Page(object.to_string().into_bytes()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn change(
        &mut self,
        kind: &str,
        mut object: Value,
        apply: impl FnOnce(&mut BTreeMap<String, Value>, Value),
    ) {
        self.version += 1;
        *object.pointer_mut("/metadata/resourceVersion").expect("every object has one") =
            json!(self.version.to_string());
        let line = line(kind, &object);
        apply(&mut self.pods, object);
        self.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
        self.changes.push_back((self.version, line));
        if self.changes.len() > MAX_CHANGES {
            self.changes.pop_front();
        }
    }

    fn watch(&mut self, query: &str, others: &str) -> Reply {
        let (sender, receiver) = mpsc::channel();
        let send = |piece: Vec<u8>| sender.send(piece).expect("the receiver is here");
        if query.contains("sendInitialEvents=true") {
            send(others.as_bytes().to_vec());
            self.pods.values().for_each(|pod| send(line("ADDED", pod)));
            send(line("BOOKMARK", &end_of_initial_events(self.version)));
            self.watchers.push(sender);
            return Reply::Stream(Arc::new(Mutex::new(receiver)));
        }
        let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let known: u64 = version.and_then(|text| text.parse().ok()).expect("a watch has a version");
        let oldest = self.changes.front().map_or(self.version + 1, |(version, _)| *version);
        if known + 1 < oldest {
            send(line("ERROR", &json!({ "code": 410, "message": "too old resource version" })));
        } else {
            // The head of the answer goes with its first piece, and a quiet server has said that it is there.
            send(line("BOOKMARK", &bookmark(known)));
            let missed = self.changes.iter().filter(|(version, _)| *version > known);
            missed.for_each(|(_, line)| send(line.clone()));
            self.watchers.push(sender);
        }
        Reply::Stream(Arc::new(Mutex::new(receiver)))
    }
}

impl LivePod<'_> {
    fn object(&self) -> Value {
        let Self { name, uid, deployment, region, ids } = self;
        let replica_set = format!("{deployment}-{TEMPLATE_HASH}");
        let current = ids.last().map(|id| format!("containerd://{id}"));
        let n_restarts = ids.len().saturating_sub(1);
        let last = n_restarts.checked_sub(1).and_then(|idx| ids.get(idx));
        let last_state = last.map_or(json!({}), |id| {
            let id = format!("containerd://{id}");
            json!({ "terminated": { "containerID": id, "exitCode": 137, "reason": "Error" } })
        });
        json!({
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": uid,
                "resourceVersion": "",
                "labels": { "region": region, "pod-template-hash": TEMPLATE_HASH },
                "ownerReferences": [owner("ReplicaSet", &replica_set)],
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "nodeName": crate::recorded_api::NODE,
                "containers": [{ "name": "main", "resources": { "limits": { "cpu": "50m" } } }],
            },
            "status": {
                "phase": "Running",
                "qosClass": "Burstable",
                "conditions": [{ "type": "Ready", "status": "True" }],
                "startTime": "2026-01-01T00:00:00Z",
                "containerStatuses": [{
                    "name": "main",
                    "containerID": current,
                    "restartCount": n_restarts,
                    "ready": true,
                    "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
                    "lastState": last_state,
                }],
            },
        })
    }
}

fn owner(kind: &str, name: &str) -> Value {
    let uid = format!("uid-of-{kind}-{name}");
    json!({
        "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true,
    })
}

fn replica_set(name: &str) -> Option<Value> {
    let deployment = name.strip_suffix(TEMPLATE_HASH)?.strip_suffix('-')?;
    let owner = owner("Deployment", deployment);
    Some(metadata_of("ReplicaSet", name, &json!({ "ownerReferences": [owner] })))
}

fn deployment(name: &str, department: u64) -> Value {
    let labels = json!({ "dept": format!("department-{department}") });
    metadata_of("Deployment", name, &json!({ "labels": labels }))
}

/// The metadata of an object, with some of its own.
fn metadata_of(kind: &str, name: &str, own: &Value) -> Value {
    let mut metadata = json!({
        "name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{kind}-{name}"),
    });
    let (all, own) = (metadata.as_object_mut(), own.as_object());
    all.expect("it is one").extend(own.expect("it is one").clone());
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
    })
}

fn bookmark(version: u64) -> Value {
    let metadata = json!({ "resourceVersion": version.to_string() });
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": metadata })
}

fn end_of_initial_events(version: u64) -> Value {
    let annotations = json!({ "k8s.io/initial-events-end": "true" });
    let metadata = json!({ "resourceVersion": version.to_string(), "annotations": annotations });
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": metadata })
}

/// A line of a watch.
fn line(kind: &str, object: &Value) -> Vec<u8> {
    let mut line = json!({ "type": kind, "object": object }).to_string();
    line.push('\n');
    line.into_bytes()
}

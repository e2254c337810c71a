//! A server of recorded objects in place of an API server, where there is no room for a real one: in a virtual machine.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    live_pods::LivePods,
    page_server::{Reply, serve},
    tools::write,
};

/// What Kubernetes 1.34 sent to a watch that begins with all pods of a node.
const STREAM: &str = include_str!("../fixtures/v1.34.9/watch/pods-sendinitial.jsonl");
const REPLICA_SETS: &str = include_str!("../fixtures/v1.34.9/replicasets-partial.json");

/// The node of the recorded pods.
pub const NODE: &str = "vm-node-1";

/// The server, and how it is reached.
#[derive(Debug)]
pub struct RecordedApi {
    address: SocketAddr,
    kubeconfig: PathBuf,
    _dir: TempDir,
}

impl RecordedApi {
    /// Starts it, with a label of the Deployment `n9e-webapi`.
    #[must_use]
    pub fn start(label: (&'static str, &'static str)) -> Self {
        let (key, value) = label;
        Self::start_with(key, move || value.to_owned())
    }

    /// The same with a value of the label that may be another each time that it is asked for.
    #[must_use]
    pub fn start_with(
        key: &'static str,
        value: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        Self::start_by(move |path| reply(path, (key, &value())))
    }

    /// The same with further pods, which come, change and go.
    #[must_use]
    pub fn start_among(label: (&'static str, &'static str), pods: Arc<LivePods>) -> Self {
        Self::start_by(move |path| {
            pods.reply(path, &initial_pods()).unwrap_or_else(|| reply(path, label))
        })
    }

    fn start_by(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let address = serve("application/json", reply);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let text = format!(
            "apiVersion: v1
kind: Config
clusters: [ {{ name: recorded, cluster: {{ server: 'http://{address}' }} }} ]
users: [ {{ name: recorded, user: {{ token: none }} }} ]
contexts: [ {{ name: recorded, context: {{ cluster: recorded, user: recorded }} }} ]
current-context: recorded
"
        );
        Self { address, kubeconfig: write(dir.path(), "kubeconfig", &text), _dir: dir }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The configuration that leads to it.
    #[must_use]
    pub fn config(&self, labels: &str) -> String {
        let kubeconfig = self.kubeconfig.display();
        format!(
            "node_name: {NODE}
kubernetes:
  enabled: true
  kubeconfig: {kubeconfig}
  labels: [ {labels} ]
"
        )
    }
}

fn reply(path: &str, label: (&str, &str)) -> Reply {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let name = path.rsplit('/').next().unwrap_or_default();
    if path == "/api/v1/pods" {
        let is_stream = query.contains("sendInitialEvents=true");
        return Reply::Open(if is_stream { initial().into_bytes() } else { Vec::new() });
    }
    let found = if path.contains("/replicasets/") {
        replica_set(name)
    } else if path.ends_with("/namespaces/n9e/deployments/n9e-webapi") {
        Some(deployment(label))
    } else {
        None
    };
    found.map_or(Reply::NotFound, |object| Reply::Page(object.to_string().into_bytes()))
}

/// The pods that were there at the beginning, and the bookmark that ends them.
fn initial() -> String {
    let is_end = |line: &&str| line.contains("k8s.io/initial-events-end");
    let n_lines = STREAM.lines().position(|line| is_end(&line)).expect("it was recorded") + 1;
    STREAM.lines().take(n_lines).flat_map(|line| [line, "\n"]).collect()
}

/// The pods alone.
fn initial_pods() -> String {
    let initial = initial();
    let is_pod = |line: &&str| !line.contains("k8s.io/initial-events-end");
    initial.lines().filter(is_pod).flat_map(|line| [line, "\n"]).collect()
}

fn replica_set(name: &str) -> Option<Value> {
    let list: Value = serde_json::from_str(REPLICA_SETS).expect("the fixture is JSON");
    let items = list.pointer("/items").and_then(Value::as_array).expect("a list");
    items.iter().find(|item| item.pointer("/metadata/name") == Some(&json!(name))).cloned()
}

/// The owner of the recorded `ReplicaSet`, which was not recorded itself.
fn deployment((key, value): (&str, &str)) -> Value {
    let replica_set = replica_set("n9e-webapi-69bcfdbb4b").expect("it was recorded");
    let uid = replica_set.pointer("/metadata/ownerReferences/0/uid").expect("it has an owner");
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {
            "name": "n9e-webapi", "namespace": "n9e", "uid": uid, "labels": { key: value },
        },
    })
}

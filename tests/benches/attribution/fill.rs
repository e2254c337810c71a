//! A cluster full of objects, as many as can be made in the time that there is, and the pods of some nodes.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use podmeter_tests::{
    cluster::{
        Cluster,
        workload::{controller, owned_by},
    },
    http::{Answer, Client},
};
use serde_json::{Value, json};

/// Deployments whose pods run on the nodes, as docs/kubernetes.md assumes of one node.
pub(crate) const N_DEPLOYMENTS: usize = 30;

/// `ReplicaSet`s to one Deployment in the full cluster: 300,000 to 5,000.
const N_REPLICA_SETS_EACH: usize = 60;

/// Requests at once.
const N_CLIENTS: usize = 6;

/// A recorded pod with two containers, limits, probes and a status.
const RECORDED: &str = include_str!("../../fixtures/v1.34.9/pods-on-node.json");

/// What was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    pub(crate) n_replica_sets: usize,
    pub(crate) n_deployments: usize,
    pub(crate) time: Duration,
}

/// The API as its administrator.
pub(crate) struct Admin {
    client: Client,
    url: String,
}

impl Admin {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self { client: cluster.client(), url: cluster.url().into() }
    }

    /// Creates an object in a collection, and gives its UID.
    fn create(&self, collection: &str, object: &Value) -> String {
        let answer = self.client.post(&format!("{}{collection}", self.url), object);
        let created = parse(&answer, 201);
        let uid = created.pointer("/metadata/uid").and_then(Value::as_str);
        uid.expect("an object has a UID").to_owned()
    }

    /// Requests that the server has answered since its start, of these verbs and for these resources.
    pub(crate) fn n_requests(&self, verbs: &[&str], resources: &[&str]) -> f64 {
        let answer = self.client.get(&format!("{}/metrics", self.url));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let is_one = |line: &str, label: &str, values: &[&str]| {
            values.iter().any(|value| line.contains(&format!("{label}=\"{value}\"")))
        };
        let lines = answer.text().lines().filter(|line| {
            line.starts_with("apiserver_request_total{")
                && is_one(line, "verb", verbs)
                && is_one(line, "resource", resources)
        });
        let number = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        lines.map(|line| number(line).expect("a sample ends with its value")).sum()
    }
}

fn parse(answer: &Answer, expected: u16) -> Value {
    assert_eq!(answer.status, expected, "{}", answer.text());
    serde_json::from_str(answer.text()).expect("the API server answers JSON")
}

/// The pods of some nodes, all of the same Deployments.
pub(crate) struct Pods {
    /// The recorded pod, without what is its own.
    template: Value,
    /// By Deployment.
    replica_sets: Vec<(String, String)>,
}

impl Pods {
    /// Creates the Deployments and their `ReplicaSet`s.
    pub(crate) fn prepare(admin: &Admin) -> Self {
        let recorded: Value = serde_json::from_str(RECORDED).expect("the fixture is JSON");
        let items = recorded.pointer("/items").and_then(Value::as_array).expect("a list");
        let is_webapi =
            |pod: &&Value| pod.pointer("/metadata/labels/app") == Some(&json!("n9e-webapi"));
        let mut template = items.iter().find(is_webapi).expect("it was recorded").clone();
        let spec = template.pointer_mut("/spec").and_then(Value::as_object_mut).expect("a spec");
        // Without the admission that gives it, nobody has the token's volume.
        spec.remove("volumes");
        let containers = spec.get_mut("containers").and_then(Value::as_array_mut).expect("two");
        for container in containers {
            container.as_object_mut().expect("an object").remove("volumeMounts");
        }
        let of_deployment = |n| {
            let deployment = format!("n9e-webapi-{n}");
            let object = controller("Deployment", &deployment, &deployment, &json!([]));
            let uid = admin.create("/apis/apps/v1/namespaces/n9e/deployments", &object);
            let replica_set = format!("{deployment}-69bcfdbb4b");
            let owners = owned_by("Deployment", &deployment, &uid);
            let object = controller("ReplicaSet", &replica_set, &deployment, &owners);
            let uid = admin.create("/apis/apps/v1/namespaces/n9e/replicasets", &object);
            (replica_set, uid)
        };
        Self { template, replica_sets: (0..N_DEPLOYMENTS).map(of_deployment).collect() }
    }

    /// Creates the pods of a node, and writes their status as the kubelet would.
    pub(crate) fn run(&self, admin: &Admin, node: &str, n_pods: usize) {
        for (idx, (replica_set, uid)) in (0..n_pods).zip(self.replica_sets.iter().cycle()) {
            let mut pod = self.template.clone();
            let name = format!("{replica_set}-{node}-{idx}");
            let metadata = json!({
                "name": name, "namespace": "n9e",
                "labels": self.template.pointer("/metadata/labels"),
                "ownerReferences": owned_by("ReplicaSet", replica_set, uid),
            });
            let fields = pod.as_object_mut().expect("an object");
            fields.insert("metadata".into(), metadata);
            let spec = fields.get_mut("spec").and_then(Value::as_object_mut).expect("a spec");
            spec.insert("nodeName".into(), node.into());
            let statuses =
                pod.pointer_mut("/status/containerStatuses").and_then(Value::as_array_mut);
            for (number, status) in statuses.expect("two containers").iter_mut().enumerate() {
                let id = format!("containerd://{:064x}", (idx + 1) * 16 + number + 1);
                status.as_object_mut().expect("an object").insert("containerID".into(), id.into());
            }
            admin.create("/api/v1/namespaces/n9e/pods", &pod);
            let url = format!("{}/api/v1/namespaces/n9e/pods/{name}/status", admin.url);
            parse(&admin.client.put(&url, &pod), 200);
        }
    }
}

/// Creates `ReplicaSet`s and Deployments that are on no node, as many as can be in that time and at most so many.
pub(crate) fn cluster(admin: &Admin, time: Duration, n_most: usize) -> Filled {
    let (started, next) = (Instant::now(), AtomicUsize::new(0));
    let (n_replica_sets, n_deployments) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let one_after_the_other = || {
        while started.elapsed() < time {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= n_most {
                return;
            }
            let (kind, collection, n_made) = if is_deployment(number) {
                ("Deployment", "/apis/apps/v1/namespaces/n9e/deployments", &n_deployments)
            } else {
                ("ReplicaSet", "/apis/apps/v1/namespaces/n9e/replicasets", &n_replica_sets)
            };
            let name = format!("other-{number}");
            drop(admin.create(collection, &controller(kind, &name, &name, &json!([]))));
            n_made.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..N_CLIENTS {
            scope.spawn(one_after_the_other);
        }
    });
    let (n_replica_sets, n_deployments) = (n_replica_sets.into_inner(), n_deployments.into_inner());
    Filled { n_replica_sets, n_deployments, time: started.elapsed() }
}

fn is_deployment(number: usize) -> bool {
    number.is_multiple_of(N_REPLICA_SETS_EACH + 1)
}

//! A node with as many pods as a kubelet runs: all are named at once, for no more requests than docs/kubernetes.md computes.

use std::{collections::BTreeMap, time::Instant};

use podmeter_tests::{
    cgroup::Hierarchy,
    cluster::{
        Cluster, wait_until,
        workload::{controller, owned_by},
    },
    exporter::Exporter,
    skip::skipped,
    tools::podmeter,
};
use serde_json::{Value, json};

use super::{config, deploy, page::Page};

/// What a kubelet runs at most by default.
const N_PODS: usize = 110;

/// Of so many Deployments, as docs/kubernetes.md assumes.
const N_DEPLOYMENTS: usize = 30;

/// Creates the objects, and gives the UIDs of all that are at this path of the API by their names.
fn create(cluster: &Cluster, path: &str, objects: &[Value]) -> BTreeMap<String, String> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    cluster.kubectl().with_input(&["create", "-f", "-"], &list);
    let listed = cluster.kubectl().get_raw(path);
    let items = listed.pointer("/items").and_then(Value::as_array).expect("a list has items");
    let text = |object: &Value, path| {
        object.pointer(path).and_then(Value::as_str).expect("it has a name and a UID").to_owned()
    };
    let named = |object| (text(object, "/metadata/name"), text(object, "/metadata/uid"));
    items.iter().map(named).collect()
}

fn uid<'a>(uids: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    uids.get(name).expect("it was created")
}

/// Creates the Deployments, their `ReplicaSet`s and the pods; gives the pods' UIDs.
fn fill(cluster: &Cluster) -> BTreeMap<String, String> {
    let path = |resource: &str| format!("/apis/apps/v1/namespaces/n9e/{resource}");
    let app = |n: usize| format!("web-{n}");
    let replica_set = |n: usize| format!("web-{n}-5d9c");

    let deployment = |n| controller("Deployment", &app(n), &app(n), &json!([]));
    let deployments: Vec<Value> = (0..N_DEPLOYMENTS).map(deployment).collect();
    let deployments = create(cluster, &path("deployments"), &deployments);

    let owned = |n| {
        let owners = owned_by("Deployment", &app(n), uid(&deployments, &app(n)));
        controller("ReplicaSet", &replica_set(n), &app(n), &owners)
    };
    let replica_sets: Vec<Value> = (0..N_DEPLOYMENTS).map(owned).collect();
    let replica_sets = create(cluster, &path("replicasets"), &replica_sets);

    let pod = |n: usize| {
        let owner = n % N_DEPLOYMENTS;
        let labels = json!({ "app": app(owner), "region": "beijing", "pod-template-hash": "5d9c" });
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": format!("pod-{n}"), "namespace": "n9e", "labels": labels,
                "ownerReferences": owned_by(
                    "ReplicaSet", &replica_set(owner), uid(&replica_sets, &replica_set(owner)),
                ),
            },
            "spec": { "nodeName": "node-1", "containers": [{ "name": "main", "image": "main" }] },
        })
    };
    let pods: Vec<Value> = (0..N_PODS).map(pod).collect();
    create(cluster, "/api/v1/namespaces/n9e/pods", &pods)
}

#[test]
fn a_full_node_is_named_at_once() {
    let (Some(binary), Ok(hierarchy)) = (podmeter(), Hierarchy::find()) else {
        return skipped("no binary, or no cgroup can be made here");
    };
    let Some(cluster) = Cluster::start() else { return };
    let account = deploy(&cluster);
    cluster.kubectl().run(&["create", "namespace", "n9e"]);
    cluster.kubectl().run(&["label", "namespace", "n9e", "team=sre"]);
    let exporter = Exporter::start(&binary, &config(&account, "5m"));
    wait_until("the pods of the empty node are known", || {
        (Page::of(&exporter).bare("podmeter_kubernetes_synced") == Some(1.0)).then_some(())
    });
    let memory = |page: &Page| page.bare("process_resident_memory_bytes").unwrap_or(0.0);
    let before = memory(&Page::of(&exporter));

    let pods = fill(&cluster);
    let root = hierarchy.create("full-node");
    root.set_quota(100_000);
    let mut cgroups = Vec::new();
    for uid in pods.values() {
        let cgroup = root.create_child(&format!("pod{uid}"));
        cgroup.set_quota(50_000);
        cgroups.push(cgroup);
    }
    let began = Instant::now();
    let page = wait_until("all pods are named", || {
        let page = Page::of(&exporter);
        let named = [
            ("namespace", "n9e"),
            ("region", "beijing"),
            ("dept", "cloud"),
            ("team", "sre"),
            ("workload_type", "deployment"),
        ];
        (page.lines("podmeter_cpu_quota_cores", &named).len() == N_PODS).then_some(page)
    });
    println!("report: {N_PODS} pods named after {:.1} s", began.elapsed().as_secs_f64());
    let grown = memory(&page) - before;
    println!("report: memory grew by {:.0} kB with {N_PODS} pods", grown / 1024.0);
    assert_eq!(page.lines("kube_pod_info", &[]).len(), N_PODS);
    expect_requests(&page);
    drop(cgroups);
    drop(root);
}

/// Each `ReplicaSet`, each Deployment and the namespace are read once, however many pods are theirs.
fn expect_requests(page: &Page) {
    let n_requests = |operation| {
        let labels = [("operation", operation)];
        page.number("podmeter_kubernetes_requests_total", &labels)
    };
    for operation in ["list", "watch", "get"] {
        println!("report: requests | {operation} | {}", n_requests(operation).unwrap_or(0.0));
    }
    // Not even that this server cannot stream a list is an error.
    let errors = page.lines("podmeter_kubernetes_errors_total", &[]);
    assert!(errors.is_empty(), "no request had to be repeated: {errors:?}");
    let n_objects = u32::try_from(2 * N_DEPLOYMENTS + 1).expect("a small number");
    assert_eq!(n_requests("get"), Some(f64::from(n_objects)));
}

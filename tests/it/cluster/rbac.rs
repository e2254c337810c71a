//! What `deploy/kustomize` grants is enough for what Podmeter asks, and nothing more.

use std::collections::BTreeSet;

use podmeter_tests::cluster::{
    Cluster, kubectl::Kubectl, service_account::ServiceAccount, wait_until,
};
use serde_json::{Value, json};

use super::{apply_guarded, deploy};

/// An object of each kind that is read, and some that are none of Podmeter's business.
const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: { name: node-1 }
---
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [ { name: web, image: web } ] }
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: { name: web-1, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [ { name: web, image: web } ] }
---
apiVersion: v1
kind: Secret
metadata: { name: web, namespace: shop }
";

/// What Podmeter asks for, each as a request that the API server answers.
const NEEDED: &[&str] = &[
    "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1&limit=500",
    "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1&watch=true&timeoutSeconds=1",
    "/api/v1/namespaces/shop",
    "/api/v1/nodes/node-1",
    "/apis/apps/v1/namespaces/shop/deployments/web",
    "/apis/apps/v1/namespaces/shop/replicasets/web-1",
];

/// What it must not be able to ask for.
const FORBIDDEN: &[&str] = &[
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/secrets",
    "/api/v1/namespaces/shop/secrets/web",
    "/api/v1/nodes/node-1/proxy/metrics",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/namespaces/shop/deployments",
    "/apis/batch/v1/jobs",
    "/metrics",
];

/// All that the role grants beyond what every ServiceAccount may do. Not for `bless`: what is
/// added here, an operator must trust Podmeter with.
const GRANTED: &[&str] = &[
    "get cronjobs.batch",
    "get daemonsets.apps",
    "get deployments.apps",
    "get jobs.batch",
    "get namespaces",
    "get nodes",
    "get nodes/metrics",
    "get replicasets.apps",
    "get statefulsets.apps",
    "list pods",
    "watch pods",
];

#[test]
fn the_role_is_enough_and_no_more() {
    let Some(cluster) = Cluster::start() else { return };
    let podmeter = deploy(&cluster);
    cluster.kubectl().apply(OBJECTS);
    for path in NEEDED {
        let answer = podmeter.kubectl().try_run(&["get", "--raw", path], "");
        assert!(answer.is_ok(), "{path} is needed: {answer:?}");
    }
    for path in FORBIDDEN {
        let error = podmeter.kubectl().try_run(&["get", "--raw", path], "").expect_err(path);
        assert!(error.contains("Forbidden"), "{path}: {error}");
    }
    // The kubelet asks the API server this before it serves a page.
    assert!(may_get_node(&podmeter, "metrics"));
    assert!(!may_get_node(&podmeter, "proxy"));

    cluster.kubectl().run(&["create", "serviceaccount", "--namespace=podmeter", "nobody"]);
    let nobody = cluster.service_account("podmeter", "nobody");
    let everybody = grants(nobody.kubectl());
    let granted = grants(podmeter.kubectl());
    let own: Vec<&str> = granted.difference(&everybody).map(String::as_str).collect();
    assert_eq!(own, GRANTED);
}

/// What a guarded endpoint adds to it: two questions that leave nothing behind.
const GRANTED_FOR_REVIEWS: &[&str] = &[
    "create subjectaccessreviews.authorization.k8s.io",
    "create tokenreviews.authentication.k8s.io",
];

#[test]
fn a_guarded_endpoint_needs_the_reviews_and_no_more() {
    let Some(cluster) = Cluster::start() else { return };
    let podmeter = deploy(&cluster);
    let plain = grants(podmeter.kubectl());
    apply_guarded(&cluster);
    let all = wait_until("the role is in force", || {
        let all = grants(podmeter.kubectl());
        (all.len() >= plain.len() + GRANTED_FOR_REVIEWS.len()).then_some(all)
    });
    let added: Vec<&str> = all.difference(&plain).map(String::as_str).collect();
    assert_eq!(added, GRANTED_FOR_REVIEWS);
}

/// Whether the API server would say yes to the kubelet.
fn may_get_node(account: &ServiceAccount, subresource: &str) -> bool {
    let answer = account.kubectl().review(&json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "verb": "get", "version": "v1", "resource": "nodes", "subresource": subresource,
        } },
    }));
    answer.pointer("/status/allowed").and_then(Value::as_bool).expect("yes or no")
}

/// Everything that the API server says somebody may do, one grant to a line.
fn grants(kubectl: &Kubectl) -> BTreeSet<String> {
    let answer = kubectl.review(&json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": "podmeter" },
    }));
    let status = answer.get("status").expect("an answer has a status");
    assert_eq!(status.get("incomplete"), Some(&json!(false)), "{status}");
    let mut grants = BTreeSet::new();
    for (rules, of) in [("resourceRules", "resources"), ("nonResourceRules", "nonResourceURLs")] {
        for rule in status.get(rules).and_then(Value::as_array).expect("a list of rules") {
            let names = rule.get("resourceNames").map(words).unwrap_or_default();
            for group in rule.get("apiGroups").map_or(vec![String::new()], words) {
                for object in words(rule.get(of).expect("what it is about")) {
                    for verb in words(rule.get("verbs").expect("what may be done")) {
                        grants.insert(format!("{verb} {object}.{group} {}", names.join(" ")));
                    }
                }
            }
        }
    }
    grants.iter().map(|grant| grant.trim_end().trim_end_matches('.').to_owned()).collect()
}

fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
}

//! The harness itself: what a test does to the API server is what a client then meets.

use std::fs;

use podmeter_tests::{
    cluster::{Cluster, wait_until},
    http::{Trust, try_get_https},
};
use serde_json::json;

use super::deploy;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: web-0, namespace: default, labels: { region: beijing } }
spec:
  nodeName: node-1
  containers: [ { name: web, image: web } ]
";

/// All pods.
const PODS: &str = "/api/v1/pods";

#[test]
fn objects_outlive_a_crash_of_the_api_server() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.kubectl().apply(POD);
    let status = json!({ "phase": "Running", "podIP": "10.0.0.1" });
    cluster.set_status("/api/v1/namespaces/default/pods/web-0", &status);

    cluster.kill_api_server();
    let error = cluster.kubectl().try_run(&["get", "--raw", PODS], "").expect_err("it is down");
    assert!(error.contains("refused"), "{error}");

    cluster.restart_api_server();
    let pods = cluster.kubectl().get_raw(PODS);
    assert_eq!(pods.pointer("/items/0/metadata/labels/region"), Some(&json!("beijing")));
    assert_eq!(pods.pointer("/items/0/status/phase"), Some(&json!("Running")));
}

#[test]
fn a_frozen_api_server_takes_connections_and_says_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    let get = |timeout| cluster.kubectl().try_run(&["get", "--raw", PODS, timeout], "");
    cluster.freeze_api_server();
    let error = get("--request-timeout=1s").expect_err("it is frozen");
    assert!(error.contains("exceeded"), "{error}");
    cluster.thaw_api_server();
    assert!(get("--request-timeout=30s").is_ok());
}

#[test]
fn a_compaction_makes_old_versions_gone() {
    let Some(cluster) = Cluster::start_with(&["--watch-cache-sizes=pods#0"]) else { return };
    let version = resource_version(&cluster);
    cluster.kubectl().apply(POD);
    cluster.kubectl().run(&["label", "pod", "web-0", "dept=cloud"]);
    let compacted = cluster.compact();
    let watch = format!("{PODS}?watch=true&timeoutSeconds=5&resourceVersion={version}");
    let answer = cluster.kubectl().run(&["get", "--raw", &watch]);
    assert!(answer.contains(r#""code":410"#), "{answer}");
    let now = format!("{PODS}?watch=true&timeoutSeconds=1&resourceVersion={compacted}");
    assert_eq!(cluster.kubectl().run(&["get", "--raw", &now]), "");
}

#[test]
fn tokens_are_rotated_and_revoked() {
    let Some(cluster) = Cluster::start() else { return };
    let mut podmeter = deploy(&cluster);
    let old = podmeter.token();
    podmeter.rotate(&cluster);
    let new = podmeter.token();
    assert_ne!(old, new);
    // The kubelet's own rotation leaves the old token valid, too.
    for token in [&old, &new] {
        assert_eq!(status(&cluster, token), 200);
    }
    podmeter.revoke(&cluster);
    wait_until("both tokens are refused", || {
        [&old, &new].iter().all(|token| status(&cluster, token) == 401).then_some(())
    });
    podmeter.rotate(&cluster);
    assert_eq!(status(&cluster, &podmeter.token()), 200);
    assert!(podmeter.kubectl().try_run(&["get", "--raw", PODS], "").is_ok());
}

#[test]
fn nothing_is_left_behind() {
    let Some(cluster) = Cluster::start() else { return };
    let url = cluster.url().to_owned();
    let dir = cluster.ca_file().parent().expect("it lies in a folder").to_owned();
    drop(cluster);
    assert!(!dir.exists(), "{} is still there", dir.display());
    assert_eq!(command_lines_with(&dir.to_string_lossy()), [""; 0]);
    assert!(try_get_https(&url, Trust::Anybody, &[]).is_err());
}

/// What was started with an argument that contains this.
fn command_lines_with(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("proc is mounted");
    let files = processes.map(|process| process.expect("an entry").path().join("cmdline"));
    // Some are no processes, and some have ended.
    let lines = files.filter_map(|file| fs::read_to_string(file).ok());
    lines.filter(|line| line.contains(text)).collect()
}

/// The status that a token gets for a list of pods.
fn status(cluster: &Cluster, token: &str) -> u16 {
    let url = format!("{}{PODS}", cluster.url());
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str())];
    let answer = try_get_https(&url, Trust::Authority(cluster.ca_file()), &headers);
    answer.expect("the API server answers").status
}

fn resource_version(cluster: &Cluster) -> String {
    let pods = cluster.kubectl().get_raw(PODS);
    let version = pods.pointer("/metadata/resourceVersion").expect("a list has a version");
    version.as_str().expect("it is a string").to_owned()
}

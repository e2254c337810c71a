//! Against a real Kubernetes API server; `cargo xtask test cluster` brings it, and runs these as root.

mod attribution;
mod chart;
mod daemon_set;
mod dashboards;
mod endpoint;
mod full_node;
mod harness;
mod node;
mod page;
mod pod;
mod privileges;
mod rbac;
mod relay;
mod workload;

use std::path::Path;

use podmeter_tests::cluster::{Cluster, service_account::ServiceAccount};

/// Applies what each profile of `deploy/kustomize` has but the `DaemonSet`, and gives its ServiceAccount.
fn deploy(cluster: &Cluster) -> ServiceAccount {
    let kustomization = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/base");
    cluster.kubectl().run(&["apply", "--kustomize", &kustomization.to_string_lossy()]);
    cluster.service_account("podmeter", "podmeter")
}

/// The same, as a guarded endpoint needs it.
fn deploy_guarded(cluster: &Cluster) -> ServiceAccount {
    apply_guarded(cluster);
    cluster.service_account("podmeter", "podmeter")
}

fn apply_guarded(cluster: &Cluster) {
    let kustomization = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/guarded");
    cluster.kubectl().run(&["apply", "--kustomize", &kustomization.to_string_lossy()]);
}

/// The configuration of Podmeter on `node-1`, as that account, with labels of pods, Deployments and namespaces.
fn config(account: &ServiceAccount, refresh: &str) -> String {
    let kubeconfig = account.kubectl().kubeconfig().display();
    format!(
        "node_name: node-1
kubernetes:
  enabled: true
  kubeconfig: {kubeconfig}
  metadata_refresh: {refresh}
  labels:
    - {{ from: pod.label.region, or: deployment.label.region, to: region }}
    - {{ from: deployment.label.dept, to: dept }}
    - {{ from: namespace.label.team, to: team }}
"
    )
}

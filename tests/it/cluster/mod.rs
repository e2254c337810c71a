//! Against a real Kubernetes API server; `cargo xtask test cluster` brings it, and runs these as root.

mod attribution;
mod harness;
mod node;
mod rbac;

use std::path::Path;

use podmeter_tests::cluster::{Cluster, service_account::ServiceAccount};

/// Applies what `deploy/kustomize` deploys, and gives its ServiceAccount.
fn deploy(cluster: &Cluster) -> ServiceAccount {
    let kustomization = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize");
    cluster.kubectl().run(&["apply", "--kustomize", &kustomization.to_string_lossy()]);
    cluster.service_account("podmeter", "podmeter")
}

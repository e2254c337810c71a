//! What it costs a node to know its pods, and whether a cluster full of other objects makes it dearer: against a real API
//! server. `cargo xtask bench attribution` brings the programs and runs it.
//!
//! Memory is measured twice. The heap is counted to the byte, in this process, by what `podmeter run` uses to follow the
//! pods; each node's is compared with that of a node without pods. RSS is that of the release binary, which does all
//! that Podmeter does, before the cluster was filled and after.

#![expect(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement panics where it cannot be made, prints its table, and counts to less than 2^53"
)]

mod fill;
mod heap;
mod node;
mod table;

use std::{path::Path, process::ExitCode, time::Duration};

use podmeter::config::Config;
use podmeter_tests::{
    cluster::{Cluster, service_account::ServiceAccount},
    heap::Counting,
    tools::podmeter,
};

use self::{
    fill::{Admin, Filled, Pods},
    heap::Heap,
    node::{Node, Requests},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Nodes by their names, and how many pods each has: none, as many as a kubelet runs by default, and ten times that.
const EMPTY: (&str, usize) = ("node-0", 0);
const USUAL: (&str, usize) = ("node-110", 110);
const LARGE: (&str, usize) = ("node-1100", 1100);

/// Objects that the cluster is filled with at most.
const N_MOST: usize = 305_000;

/// All that is measured.
pub(crate) struct Measured {
    pub(crate) filled: Filled,
    /// Of names and labels alone, before and after: the nodes in their order.
    pub(crate) names: [[Heap; 3]; 2],
    /// With the state of pods as well.
    pub(crate) with_state: [Heap; 3],
    /// In the same process, before the cluster was filled and after.
    pub(crate) usual: [u64; 2],
    pub(crate) empty: [u64; 2],
    /// In processes that were started after it was filled.
    pub(crate) usual_anew: u64,
    pub(crate) empty_anew: u64,
    /// Of the usual node, from its start to the end.
    pub(crate) requests: Requests,
    /// Lists and watches of `ReplicaSet`s and Deployments that the server answered, whoever made them.
    pub(crate) n_cluster_wide: f64,
}

fn main() -> ExitCode {
    let seconds = std::env::args().nth(1).and_then(|seconds| seconds.parse().ok());
    let seconds = seconds.expect("the argument is how many seconds the cluster is filled");
    let Some(binary) = podmeter() else { return ExitCode::FAILURE };
    let Some(cluster) = Cluster::start() else { return ExitCode::FAILURE };
    let measured = measure(&binary, &cluster, Duration::from_secs(seconds));
    println!("{}", table::of(&measured));
    if table::is_kept(&measured) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(binary: &Path, cluster: &Cluster, time: Duration) -> Measured {
    let kustomization = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize");
    cluster.kubectl().run(&["apply", "--kustomize", &kustomization.to_string_lossy()]);
    let account = cluster.service_account("podmeter", "podmeter");
    let admin = Admin::of(cluster);
    cluster.kubectl().run(&["create", "namespace", "n9e"]);
    let pods = Pods::prepare(&admin);
    for (node, n_pods) in [USUAL, LARGE] {
        pods.run(&admin, node, n_pods);
    }
    let n_before = n_cluster_wide(&admin);
    let (usual, empty) =
        (Node::start(binary, &account, USUAL), Node::start(binary, &account, EMPTY));
    let names_before = heaps(&account, "pod_state: { enabled: false }");
    let with_state = heaps(&account, "pod_state: { enabled: true }");
    let (usual_before, empty_before) = (usual.settled_bytes(), empty.settled_bytes());

    let filled = fill::cluster(&admin, time, N_MOST);
    let names_after = heaps(&account, "pod_state: { enabled: false }");
    let (usual_after, empty_after) = (usual.settled_bytes(), empty.settled_bytes());
    let requests = usual.requests();
    drop((usual, empty));
    let anew = |node| Node::start(binary, &account, node).settled_bytes();
    let (usual_anew, empty_anew) = (anew(USUAL), anew(EMPTY));
    Measured {
        filled,
        names: [names_before, names_after],
        with_state,
        usual: [usual_before, usual_after],
        empty: [empty_before, empty_after],
        usual_anew,
        empty_anew,
        requests,
        n_cluster_wide: n_cluster_wide(&admin) - n_before,
    }
}

/// The heap of each node.
fn heaps(account: &ServiceAccount, further: &str) -> [Heap; 3] {
    let text = node::config(account, EMPTY.0, further);
    let config = Config::parse(&text, "podmeter.yaml", &|_| None);
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let kubeconfig = account.kubectl().kubeconfig();
    [EMPTY, USUAL, LARGE].map(|(node, _)| heap::of_node(kubeconfig, node, &config))
}

fn n_cluster_wide(admin: &Admin) -> f64 {
    admin.n_requests(&["LIST", "WATCH"], &["replicasets", "deployments"])
}

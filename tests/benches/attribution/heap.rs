//! What the pods of a node cost of this process' heap, to the byte.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use podmeter::{
    attribution::{
        Snapshot,
        kubernetes::{Access, Kubernetes, Settings, view::PodView, workload::AttributedPod},
    },
    cgroup::tree::{CgroupEntry, CgroupTree, State},
    config::Config,
    subject::CgroupId,
};
use podmeter_tests::heap::live_bytes;
use tokio::runtime::{Builder, Runtime};

/// What a node costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heap {
    /// All of attribution: connections, the pods and what is around them, and the names of their cgroups.
    pub(crate) n_bytes: usize,
    /// The names and values of the labels of all pods and their containers.
    pub(crate) n_label_bytes: usize,
}

/// How long the pods and their owners may take to be known.
const PATIENCE: Duration = Duration::from_mins(2);

/// Follows the pods of a node as Podmeter does, each with the cgroups that a kubelet makes for it, and counts what that
/// takes once everything is known.
pub(crate) fn of_node(kubeconfig: &Path, node: &str, config: &Config) -> Heap {
    let kubernetes = &config.kubernetes;
    let settings = || Settings {
        access: Access::Kubeconfig(kubeconfig.into()),
        node: node.into(),
        wanted: kubernetes.labels.wanted(kubernetes.pod_state),
        refresh: kubernetes.metadata_refresh,
    };
    // The paths of the cgroups are not attribution's, so their tree is made before; for that the pods must be known.
    let tree =
        runtime().block_on(async { tree(&*settled(&Kubernetes::start(settings(), None)).await) });
    let runtime = runtime();
    runtime.block_on(async {
        let before = live_bytes();
        let kubernetes = Kubernetes::start(settings(), None);
        let view = settled(&kubernetes).await;
        let mut snapshot = Snapshot::of(&tree);
        snapshot.name(Arc::clone(&view), &tree);
        let n_bytes = live_bytes() - before;
        let labels = view.live().iter().map(|pod| label_bytes(pod, config));
        Heap { n_bytes, n_label_bytes: labels.sum() }
    })
}

/// One that everything that ran in it ends with.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("the runtime starts")
}

async fn settled(kubernetes: &Kubernetes) -> Arc<PodView> {
    kubernetes.wait_settled(Instant::now() + PATIENCE).await;
    let status = kubernetes.status();
    assert!(status.is_synced, "the pods are not known: {status:?}");
    let view = kubernetes.view(|_| true);
    let unknown = view.live().iter().find(|pod| pod.deployment.is_none());
    assert!(unknown.is_none(), "its Deployment is not known: {unknown:?}");
    view
}

/// For each pod its own cgroup, its sandbox's and one for each container.
fn tree(view: &PodView) -> CgroupTree {
    let mut paths = Vec::new();
    for (idx, pod) in view.live().iter().enumerate() {
        let parent = format!("/kubepods/burstable/pod{}", pod.pod.uid.as_str());
        paths.push(parent.clone());
        paths.push(format!("{parent}/{idx:064x}"));
        let ids = pod.pod.containers.iter().flat_map(|container| &container.ids);
        paths.extend(ids.map(|id| format!("{parent}/{}", id.as_str())));
    }
    let entries = paths.into_iter().zip(1..).map(|(path, id)| CgroupEntry {
        id: CgroupId(id),
        path: path.into(),
        state: State::Live,
    });
    entries.collect()
}

/// The text of the labels of a pod, each once, and of the name of each container.
fn label_bytes(pod: &AttributedPod, config: &Config) -> usize {
    let own = [
        ("namespace", Some(&pod.pod.namespace)),
        ("pod", Some(&pod.pod.name)),
        ("deployment", pod.deployment.as_ref()),
        ("workload", pod.workload.as_ref().map(|workload| &workload.name)),
        ("workload_type", pod.workload.as_ref().map(|workload| &workload.kind)),
    ];
    let own = own.iter().filter_map(|(name, value)| Some(name.len() + value.as_ref()?.len()));
    let given = config.kubernetes.labels.apply(pod).labels;
    let given = given.iter().map(|(name, value)| name.len() + value.len());
    let containers = pod.pod.containers.iter();
    let containers = containers.map(|container| "container".len() + container.name.len());
    own.chain(given).chain(containers).sum()
}

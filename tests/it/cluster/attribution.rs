//! Series have the names and labels that a real API server tells, whatever becomes of it, with the role of `deploy/` alone.

use std::{path::Path, process::Command, time::Instant};

use podmeter_tests::{
    cgroup::{Hierarchy, TestCgroup},
    cluster::{Cluster, service_account::ServiceAccount, wait_until},
    disk::{DirectFile, IoStat, ScratchFile},
    exporter::Exporter,
    http,
    skip::skipped,
    tools::{podmeter, write},
    troubleshooting::assert_explained,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{config, deploy, page::Page};

const CONTAINER: &str = "0a2e309d1da55c741068db3a2bce1ceac4c93cbffe201e7ae3b86e26a12dfc35";
const SANDBOX: &str = "29b53e1ea263256bd966d553ec4438c02f0fe94552217dda71e1cb4476cfb8d6";
const IO_BYTES: &str = "podmeter_io_bytes_total";
/// Labels of Deployments are to follow soon.
const REFRESH: &str = "1s";
const POD: &str = "/api/v1/namespaces/n9e/pods/n9e-webapi-5d9c-x7k2p";

/// A Deployment with a label of its own, and a namespace for everything.
const DEPLOYMENT: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: n9e, labels: { team: sre } }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: n9e-webapi, namespace: n9e, labels: { dept: cloud } }
spec:
  selector: { matchLabels: { app: n9e-webapi } }
  template:
    metadata: { labels: { app: n9e-webapi, region: beijing } }
    spec: { containers: [ { name: webapi, image: webapi } ] }
";

/// The cgroups of a pod with one container and its sandbox, in the hierarchy of one controller.
struct Cgroups {
    // Removed from the last to the first.
    container: TestCgroup,
    sandbox: TestCgroup,
    pod: TestCgroup,
    root: TestCgroup,
}

impl Cgroups {
    fn make(hierarchy: &Hierarchy, root: &str, uid: &str) -> Self {
        let root = hierarchy.create(root);
        let pod = root.create_child(&format!("pod{uid}"));
        let sandbox = pod.create_child(SANDBOX);
        let container = pod.create_child(CONTAINER);
        Self { container, sandbox, pod, root }
    }

    /// Gives each a quota, so that each has a series.
    fn set_quotas(&self) {
        for cgroup in [&self.root, &self.pod, &self.sandbox, &self.container] {
            cgroup.set_quota(50_000);
        }
    }
}

/// The container's cgroup in the hierarchy of the io controller, and what it reads and overwrites.
struct ContainerIo {
    cgroups: Cgroups,
    file: ScratchFile,
}

impl ContainerIo {
    fn make(hierarchy: &Hierarchy, uid: &str) -> Result<Self, String> {
        let file = ScratchFile::new_in(Path::new(env!("CARGO_TARGET_TMPDIR")), 1 << 20)?;
        // Where each controller has a hierarchy, a container's path is the same in all. Where there is but one, the
        // container gets a second cgroup there: names and labels are those of the UID and the container id in its path.
        let root = if hierarchy.is_v2() { "attribution-io" } else { "attribution" };
        let cgroups = Cgroups::make(hierarchy, root, uid);
        IoStat::begin(&cgroups.container, file.disk());
        Ok(Self { cgroups, file })
    }

    /// Reads 512 KiB and writes 256 KiB, past the page cache.
    fn run(&self) {
        let before = self.stat();
        let mut file = DirectFile::open(self.file.path()).expect("it was opened before");
        {
            let _inside = self.cgroups.container.enter();
            for idx in 0..16 {
                file.read(32 << 10, idx << 16).expect("the disk gives it");
                file.write(16 << 10, idx << 16).expect("the disk takes it");
            }
        }
        let after = self.stat();
        // A page of the test's own program that is read anew would be the container's, too.
        assert!(after.n_bytes_read - before.n_bytes_read >= 512 << 10, "{before:?} {after:?}");
        assert!(
            after.n_bytes_written - before.n_bytes_written >= 256 << 10,
            "{before:?} {after:?}"
        );
    }

    fn stat(&self) -> IoStat {
        IoStat::of(&self.cgroups.container, self.file.disk())
    }

    /// Checks that the page has the kernel's own numbers, each once and with all these labels.
    fn expect_on(&self, page: &Page, labels: &[(&str, &str)]) {
        let stat = self.stat();
        let device = ("device", self.file.disk().name());
        let truths = [("read", stat.n_bytes_read), ("write", stat.n_bytes_written)];
        for (operation, n_bytes) in truths {
            let own = [("container", "webapi"), device, ("operation", operation)];
            let of_container = page.lines(IO_BYTES, &own);
            assert_eq!(of_container.len(), 1, "the series is there, and once:\n{}", page.0);
            let labelled = page.lines(IO_BYTES, &[&own, labels].concat());
            assert_eq!(labelled, of_container, "it has {labels:?}");
            let n_ours = labelled.first().and_then(|line| line.rsplit(' ').next());
            assert_eq!(n_ours, Some(&*n_bytes.to_string()), "as the kernel counts: {labelled:?}");
        }
    }
}

fn uid(cluster: &Cluster, path: &str) -> String {
    let object = cluster.kubectl().get_raw(path);
    object.pointer("/metadata/uid").and_then(Value::as_str).expect("an object has a UID").into()
}

/// What the Deployment's controllers, the scheduler and the kubelet would make of it; gives the pod's UID.
fn run_webapi(cluster: &Cluster) -> String {
    cluster.kubectl().apply(DEPLOYMENT);
    let owner = |kind: &str, name: &str, uid: String| json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true }]);
    let labels = json!({ "app": "n9e-webapi", "region": "beijing", "pod-template-hash": "5d9c" });
    let spec = json!({ "containers": [{ "name": "webapi", "image": "webapi" }] });
    let deployment = uid(cluster, "/apis/apps/v1/namespaces/n9e/deployments/n9e-webapi");
    let replica_set = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": "n9e-webapi-5d9c", "namespace": "n9e",
            "ownerReferences": owner("Deployment", "n9e-webapi", deployment),
        },
        "spec": {
            "selector": { "matchLabels": { "app": "n9e-webapi" } },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    });
    cluster.kubectl().apply(&replica_set.to_string());
    let replica_set = uid(cluster, "/apis/apps/v1/namespaces/n9e/replicasets/n9e-webapi-5d9c");
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "n9e-webapi-5d9c-x7k2p", "namespace": "n9e", "labels": labels,
            "ownerReferences": owner("ReplicaSet", "n9e-webapi-5d9c", replica_set),
        },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "webapi", "image": "webapi" }] },
    });
    cluster.kubectl().apply(&pod.to_string());
    let container = json!({
        "name": "webapi", "image": "webapi", "imageID": "webapi", "ready": true, "restartCount": 0,
        "containerID": format!("containerd://{CONTAINER}"),
        "state": { "running": { "startedAt": "2026-11-24T12:00:00Z" } },
    });
    cluster.set_status(POD, &json!({ "phase": "Running", "containerStatuses": [container] }));
    uid(cluster, POD)
}

/// Waits until the container's series have these labels, and checks that no other series is the container's.
fn expect_container(exporter: &Exporter, io: &ContainerIo, region: &str, dept: &str) {
    let labels = [
        ("namespace", "n9e"),
        ("pod", "n9e-webapi-5d9c-x7k2p"),
        ("container", "webapi"),
        ("deployment", "n9e-webapi"),
        ("workload", "n9e-webapi"),
        ("workload_type", "deployment"),
        ("team", "sre"),
        ("region", region),
        ("dept", dept),
    ];
    let began = Instant::now();
    let page = wait_until(&format!("region={region} and dept={dept} are on the page"), || {
        let page = Page::of(exporter);
        let n_webapi = page.lines("podmeter_cpu_quota_cores", &[("container", "webapi")]).len();
        assert_eq!(n_webapi, 1, "the container's series is there, and once:\n{}", page.0);
        (!page.lines("podmeter_cpu_quota_cores", &labels).is_empty()).then_some(page)
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("report: labels | region={region}, dept={dept} | on the page after {seconds:.2} s");
    io.expect_on(&page, &labels);
}

#[test]
fn names_and_labels_outlive_whatever_becomes_of_the_api_server() {
    let hierarchies = (Hierarchy::find(), Hierarchy::find_io());
    let (Some(binary), (Ok(hierarchy), Ok(io_hierarchy))) = (podmeter(), hierarchies) else {
        return skipped("no binary, or no cgroup can be made here");
    };
    // Without its own cache the API server refuses to go on from what etcd has forgotten.
    let Some(mut cluster) = Cluster::start_with(&["--watch-cache-sizes=pods#0"]) else { return };
    let mut account = deploy(&cluster);
    let uid = run_webapi(&cluster);
    let cgroups = Cgroups::make(&hierarchy, "attribution", &uid);
    cgroups.set_quotas();
    let io = match ContainerIo::make(&io_hierarchy, &uid) {
        Ok(io) => io,
        Err(reason) => return skipped(reason),
    };
    let exporter = Exporter::start(&binary, &config(&account, REFRESH));

    io.run();
    expect_container(&exporter, &io, "beijing", "cloud");
    let page = Page::of(&exporter);
    let of_pod = page.lines("podmeter_cpu_quota_cores", &[("pod", "n9e-webapi-5d9c-x7k2p")]);
    assert_eq!(of_pod.len(), 3, "the pod, its sandbox and its container: {of_pod:?}");
    assert!(of_pod.iter().any(|line| line.contains("container=\"POD\"")), "{of_pod:?}");
    let phase = [("pod", "n9e-webapi-5d9c-x7k2p"), ("phase", "Running")];
    assert_eq!(page.number("kube_pod_status_phase", &phase), Some(1.0));

    // Labels change.
    label(&cluster, "pod", "n9e-webapi-5d9c-x7k2p", "region=shanghai");
    expect_container(&exporter, &io, "shanghai", "cloud");
    label(&cluster, "deployment", "n9e-webapi", "dept=edge");
    io.run();
    expect_container(&exporter, &io, "shanghai", "edge");

    // The API server dies, and comes back.
    cluster.kill_api_server();
    wait_until("the loss is noticed", || Page::of(&exporter).is("retrying").then_some(()));
    expect_container(&exporter, &io, "shanghai", "edge");
    cluster.restart_api_server();
    label(&cluster, "pod", "n9e-webapi-5d9c-x7k2p", "region=shenzhen");
    expect_container(&exporter, &io, "shenzhen", "edge");

    // What the watch would go on from is forgotten while Podmeter cannot follow.
    let before = Page::of(&exporter).bare("podmeter_kubernetes_resyncs_total").unwrap_or(0.0);
    exporter.signal(Signal::STOP);
    cluster.restart_api_server();
    for region in ["region=a", "region=b", "region=chengdu"] {
        label(&cluster, "pod", "n9e-webapi-5d9c-x7k2p", region);
    }
    cluster.compact();
    exporter.signal(Signal::CONT);
    expect_container(&exporter, &io, "chengdu", "edge");
    wait_until("all pods were read anew", || {
        let after = Page::of(&exporter).bare("podmeter_kubernetes_resyncs_total")?;
        (after > before).then_some(())
    });

    // The token is another one, and the old one no longer good.
    account.revoke(&cluster);
    account.rotate(&cluster);
    cluster.restart_api_server();
    label(&cluster, "pod", "n9e-webapi-5d9c-x7k2p", "region=wuhan");
    expect_container(&exporter, &io, "wuhan", "edge");

    io.run();
    forbid(&mut cluster, &exporter, &io, &binary, &account);
}

/// Takes the role away and gives it back.
fn forbid(
    cluster: &mut Cluster,
    exporter: &Exporter,
    io: &ContainerIo,
    binary: &Path,
    account: &ServiceAccount,
) {
    cluster.kubectl().run(&["delete", "clusterrolebinding", "podmeter"]);
    // A watch that is open stays so; the next one is refused.
    cluster.restart_api_server();
    wait_until("the page says what is forbidden", || {
        let page = Page::of(exporter);
        let forbidden = page.number("podmeter_kubernetes_forbidden", &[("resource", "pods")]);
        (page.is("forbidden") && forbidden == Some(1.0)).then_some(())
    });
    expect_container(exporter, io, "wuhan", "edge");
    let landing = http::get(&exporter.url("/"), &[]);
    assert!(landing.text().contains("cannot watch resource"), "{}", landing.text());
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = write(
        dir.path(),
        "podmeter.yaml",
        &format!("listen: 127.0.0.1:0\n{}", config(account, REFRESH)),
    );
    let check = Command::new(binary).arg("check").arg("--config").arg(file).output();
    let check = check.expect("podmeter runs");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success(), "what was asked for does not work: {said}");
    assert_explained(&said, "FAIL  kubernetes pods ");

    let kustomization = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize");
    cluster.kubectl().run(&["apply", "--kustomize", &kustomization.to_string_lossy()]);
    wait_until("all is well again", || {
        let page = Page::of(exporter);
        let forbidden = page.lines("podmeter_kubernetes_forbidden", &[]);
        (page.is("watching") && forbidden.is_empty()).then_some(())
    });
}

fn label(cluster: &Cluster, kind: &str, name: &str, label: &str) {
    cluster.kubectl().run(&["label", "--overwrite", "--namespace", "n9e", kind, name, label]);
}

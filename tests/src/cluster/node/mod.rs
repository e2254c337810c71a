//! A whole node: containerd, the kubelet with its cAdvisor, and kube-proxy, in a sandbox; scheduler and controllers beside
//! the API server. What is applied runs, in real containers.

mod cgroups;
mod config;
mod image;
mod sandbox;

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use self::{
    cgroups::Cgroups,
    sandbox::{HOST, Link, Sandbox},
};
pub use self::{image::IMAGE, sandbox::ADDRESS};
use super::{Cluster, Options, Programs, start_logged, wait_until};
use crate::{
    skip::skipped,
    tools::{Process, tool},
};

/// The name of the node.
pub const NAME: &str = "node-1";

const CONTROLLERS: &str = "kube-controller-manager";

/// Who signs what the kubelet serves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// The cluster's authority.
    Authority,
    /// The kubelet itself, for its name alone, as most clusters have it.
    Itself,
}

/// A running node with its cluster.
#[derive(Debug)]
pub struct Node {
    _controllers: [Process; 2],
    // Ends before its cgroups are removed and its folder is, and before another one may start.
    sandbox: Sandbox,
    _cgroups: Cgroups,
    cluster: Cluster,
    _link: Link,
    _lock: File,
}

impl Node {
    /// Starts everything and waits until the node is ready, or gives nothing after saying why there is none.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(Serving::Authority)
    }

    /// The same with another certificate of the kubelet.
    #[must_use]
    pub fn start_with(serving: Serving) -> Option<Self> {
        let programs = Programs::find()?;
        let busybox = tool("PODMETER_BUSYBOX")?;
        // The pods' cgroups have one name, so there is one node at a time.
        let lock = env::temp_dir().join("podmeter-test-node.lock");
        let lock = File::create(&lock).expect("a file for the lock");
        lock.lock().expect("it can be locked");
        // What is made first goes last, here as in the fields.
        let link = Link::create();
        let cluster = Cluster::start_at(programs, &Options { address: HOST, flags: &[] });
        let cgroups = match cgroups::make_room() {
            Ok(cgroups) => cgroups,
            Err(reason) => {
                skipped(reason);
                return None;
            }
        };
        let folders = ["usr/bin", "usr/sbin"].map(|folder| cluster.programs.debian(folder));
        let mut sandbox = Sandbox::start(&link, cluster.dir.path(), &folders);
        start_containerd(&cluster, &mut sandbox, &busybox);
        let controllers = start_controllers(&cluster);
        start_kubelet(&cluster, &mut sandbox, serving);
        wait_until("the node is ready", || is_ready(&cluster).then_some(()));
        start_kube_proxy(&cluster, &mut sandbox);
        cgroups::count_io(cluster.dir.path());
        Some(Self {
            _controllers: controllers,
            sandbox,
            _cgroups: cgroups,
            cluster,
            _link: link,
            _lock: lock,
        })
    }

    /// Its API server.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Where the kubelet serves.
    #[must_use]
    pub fn kubelet_url(&self) -> String {
        format!("https://{ADDRESS}:10250")
    }

    /// The certificate that the kubelet made for itself, with the authority that it made for that.
    #[must_use]
    pub fn kubelet_certificate(&self) -> PathBuf {
        certificates_of_kubelet(&self.cluster).join("kubelet.crt")
    }

    /// Where kube-proxy serves.
    #[must_use]
    pub fn kube_proxy_url(&self) -> String {
        format!("http://{ADDRESS}:10249")
    }

    /// Makes an image of a program and gives it to containerd, under a name that a pod asks for.
    pub fn import_program(&self, program: &Path, image: &str) {
        let image = image::of_program(program, image, self.cluster.dir.path());
        import(&self.cluster, &self.sandbox, &image);
    }

    /// The namespace of the node's processes, as a link in `/proc` says it.
    #[must_use]
    pub fn process_namespace(&self) -> PathBuf {
        self.sandbox.process_namespace()
    }

    /// Waits until a namespace has this many pods, all of whose containers run.
    pub fn wait_for_pods(&self, namespace: &str, n_pods: usize) {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        wait_until(&format!("{n_pods} pods of {namespace} run"), || {
            let pods = self.cluster.kubectl().get_raw(&path);
            let pods = pods.get("items")?.as_array()?.clone();
            (pods.len() == n_pods && pods.iter().all(runs)).then_some(())
        });
    }
}

fn start_containerd(cluster: &Cluster, sandbox: &mut Sandbox, busybox: &Path) {
    let dir = cluster.dir.path();
    let config = config::containerd(dir, &cluster.programs.debian(""));
    let containerd = cluster.programs.debian("usr/bin/containerd");
    let mut command = sandbox.command(containerd);
    sandbox.spawn("containerd", command.arg("--config").arg(config));
    let ctr = || sandbox.command(cluster.programs.debian("usr/bin/ctr"));
    wait_until("containerd serves", || {
        ctr().arg("version").output().ok()?.status.success().then_some(())
    });
    import(cluster, sandbox, &image::of_busybox(busybox, dir));
}

/// Gives containerd an image, where the kubelet looks for it.
fn import(cluster: &Cluster, sandbox: &Sandbox, image: &Path) {
    let mut ctr = sandbox.command(cluster.programs.debian("usr/bin/ctr"));
    sandbox::run(ctr.args(["--namespace=k8s.io", "images", "import"]).arg(image));
}

fn start_controllers(cluster: &Cluster) -> [Process; 2] {
    [CONTROLLERS, "kube-scheduler"].map(|name| {
        let kubeconfig = cluster.kubeconfig(name, &format!("system:{name}"), None);
        let mut command = Command::new(cluster.programs.compiled(name));
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        // They serve nothing, and have no rivals.
        command.args(["--port=0", "--secure-port=0", "--leader-elect=false"]);
        if name == CONTROLLERS {
            // Goes into the ConfigMap kube-root-ca.crt of each namespace.
            command.arg(format!("--root-ca-file={}", cluster.ca_file().display()));
            // Each controller has a ServiceAccount and a role of its own; together they have none.
            let tokens = cluster.certificates.token_keys().private.display();
            command.arg("--use-service-account-credentials=true");
            command.arg(format!("--service-account-private-key-file={tokens}"));
        }
        start_logged(cluster.dir.path(), name, &mut command)
    })
}

/// Where the kubelet puts what it makes for itself.
fn certificates_of_kubelet(cluster: &Cluster) -> PathBuf {
    cluster.dir.path().join("kubelet-pki")
}

fn start_kubelet(cluster: &Cluster, sandbox: &mut Sandbox, serving: Serving) {
    let dir = cluster.dir.path();
    let user = format!("system:node:{NAME}");
    let kubeconfig = cluster.kubeconfig("kubelet", &user, Some("system:nodes"));
    let signed = (serving == Serving::Authority)
        .then(|| cluster.certificates.server("kubelet-serving", &[NAME, ADDRESS]));
    let config = config::kubelet(dir, cluster.ca_file(), signed.as_ref());
    let mut command = sandbox.command(cluster.programs.compiled("kubelet"));
    command
        .arg(format!("--config={}", config.display()))
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--hostname-override={NAME}"))
        .arg(format!("--node-ip={ADDRESS}"))
        .arg(format!("--root-dir={}", dir.join("kubelet").display()))
        .arg(format!("--cert-dir={}", certificates_of_kubelet(cluster).display()))
        .arg("--container-runtime=remote")
        .arg("--container-runtime-endpoint=unix:///run/containerd/containerd.sock");
    sandbox.spawn("kubelet", &mut command);
}

fn start_kube_proxy(cluster: &Cluster, sandbox: &mut Sandbox) {
    let kubeconfig = cluster.kubeconfig("kube-proxy", "system:kube-proxy", None);
    let config = config::kube_proxy(cluster.dir.path(), NAME, &kubeconfig);
    let mut command = sandbox.command(cluster.programs.compiled("kube-proxy"));
    sandbox.spawn("kube-proxy", command.arg(format!("--config={}", config.display())));
}

/// Whether the API server's node says so of itself.
fn is_ready(cluster: &Cluster) -> bool {
    let path = format!("/api/v1/nodes/{NAME}");
    // Until the kubelet has registered it, there is none.
    let Ok(node) = cluster.kubectl().try_run(&["get", "--raw", &path], "") else { return false };
    let node: Value = serde_json::from_str(&node).expect("the API server answers JSON");
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|conditions| {
        let is = |condition: &Value, key: &str, value: &str| {
            condition.get(key).and_then(Value::as_str) == Some(value)
        };
        conditions.iter().any(|one| is(one, "type", "Ready") && is(one, "status", "True"))
    })
}

/// Whether all of a pod's containers run.
fn runs(pod: &Value) -> bool {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    let (Some(containers), Some(statuses)) = (containers, statuses) else { return false };
    let n_running = statuses.iter().filter(|status| status.pointer("/state/running").is_some());
    n_running.count() == containers.len()
}

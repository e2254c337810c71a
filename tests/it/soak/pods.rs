//! Pods as a kubelet has them: cgroups named as it names them, real processes in them, and objects of the API that agree.
//!
//! A process of a container is in the network namespace of its pod's sandbox, is throttled, writes a block past the page cache, sends
//! to closed ports, and sleeps for the rest of a second.

use std::{
    collections::VecDeque,
    fs, mem,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use podmeter_tests::{
    cgroup::{Hierarchy, TestCgroup, wait_for},
    live_pods::{LivePod, LivePods},
    tools::Process,
};

use super::schedule::PERIOD_SECONDS;

/// Pods that stay, whose containers are started again and again.
const N_STAYING: usize = 6;

/// Pods that are replaced one after the other.
const N_PASSING: usize = 14;

/// Deployments, so that owners come and go less often than pods.
const N_DEPLOYMENTS: u64 = 8;

/// A fifth of what the loop of a container takes in a second, roughly.
const QUOTA_US: u64 = 2_000;

/// What runs in a sandbox: it holds the pod's network namespace.
const PAUSE: &str = r#"
for cgroup in "$0" "$1"; do echo 0 > "$cgroup/cgroup.procs"; done
ip link set lo up
read -r line
"#;

/// What runs in a container, until it is killed or its standard input ends.
const SCRIPT: &str = r#"
exec 2>/dev/null
for cgroup in "$0" "$1"; do echo 0 > "$cgroup/cgroup.procs"; done
while :; do
    for ((idx = 0; idx < 3000; idx++)); do :; done
    echo datagram > /dev/udp/127.0.0.1/9
    : < /dev/tcp/127.0.0.1/9
    dd if=/dev/zero of="$2" bs=4k count=1 oflag=direct conv=notrunc
    read -r -t 0.7 line
    [ $? -gt 128 ] || exit 0
done
"#;

/// What came and went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PodCount {
    pub(super) pods: u64,
    pub(super) restarts: u64,
    pub(super) relabelled: u64,
}

/// All of them.
pub(super) struct Pods {
    staying: Vec<Pod>,
    passing: VecDeque<Pod>,
    node: Node,
    pub(super) count: PodCount,
}

/// What the pods are on.
struct Node {
    api: Arc<LivePods>,
    /// Where containers write.
    file: PathBuf,
    cpu: TestCgroup,
    /// The other hierarchy of cgroup v1 in which a container has a cgroup.
    io: Option<TestCgroup>,
    n_ids: u64,
}

struct Pod {
    name: String,
    uid: String,
    deployment: String,
    region: u64,
    ids: Vec<String>,
    // Removed from the first to the last.
    main: Container,
    sandbox: Container,
    cgroups: Cgroups,
}

struct Container {
    // Ends before its cgroups, which wait for the block that it may be about to write.
    process: Process,
    _cgroups: Cgroups,
}

/// The same path in each hierarchy.
struct Cgroups {
    cpu: TestCgroup,
    io: Option<TestCgroup>,
}

impl Pods {
    /// Makes the first of them.
    pub(super) fn start(
        hierarchy: &Hierarchy,
        io: Option<&Hierarchy>,
        api: Arc<LivePods>,
        folder: &Path,
    ) -> Self {
        let cpu = hierarchy.create("kubepods");
        let io = io.map(|io| io.create("kubepods"));
        let node = Node { api, file: folder.join("written-by-pods"), cpu, io, n_ids: 0 };
        fs::write(&node.file, [0; 4096]).expect("the folder takes it");
        let mut pods = Self {
            staying: Vec::new(),
            passing: VecDeque::new(),
            node,
            count: PodCount::default(),
        };
        for _ in 0..N_STAYING {
            let pod = pods.make();
            pods.staying.push(pod);
        }
        for _ in 0..N_PASSING {
            let pod = pods.make();
            pods.passing.push_back(pod);
        }
        pods
    }

    /// Lets a second's worth of them change: a pod is replaced, and now and then a container starts again, or a label is
    /// another.
    pub(super) fn tick(&mut self, second: u64) {
        if let Some(pod) = self.passing.pop_front() {
            self.node.remove(pod, second);
        }
        let pod = self.make();
        self.passing.push_back(pod);
        if second.is_multiple_of(2) {
            self.restart(second);
        }
        if second.is_multiple_of(3)
            && let Some(pod) = self.passing.get_mut(N_PASSING / 2)
        {
            // A value that it never had: the series of a label end for good.
            pod.region += 1;
            self.node.tell(pod);
            self.count.relabelled += 1;
        }
        if second.is_multiple_of(PERIOD_SECONDS) {
            self.node.api.relabel_deployments();
        }
    }

    fn make(&mut self) -> Pod {
        self.count.pods += 1;
        let pod = self.node.make(self.count.pods);
        self.node.tell(&pod);
        pod
    }

    /// Starts the container of one of those that stay again: another cgroup, under the labels of the one before.
    fn restart(&mut self, second: u64) {
        let idx = usize::try_from(second / 2).expect("a small number") % self.staying.len();
        let Some(pod) = self.staying.get_mut(idx) else { return };
        let id = self.node.next_id();
        pod.ids.push(id.clone());
        // Whether the API or the kernel tells of it first, nobody knows.
        let is_told_first = second.is_multiple_of(4);
        if is_told_first {
            self.node.tell(pod);
        }
        let main = pod.sandbox.beside(pod.cgroups.child(&id), &self.node.file);
        drop(mem::replace(&mut pod.main, main));
        if !is_told_first {
            self.node.tell(pod);
        }
        self.count.restarts += 1;
    }
}

impl Node {
    fn make(&mut self, number: u64) -> Pod {
        let uid = format!("50a45017-0000-4000-8000-{:06x}{number:06x}", std::process::id());
        let cgroups = Cgroups::in_both(&self.cpu, self.io.as_ref(), &format!("pod{uid}"));
        let sandbox = Container::sandbox(cgroups.child(&self.next_id()));
        let id = self.next_id();
        let main = sandbox.beside(cgroups.child(&id), &self.file);
        Pod {
            name: format!("pod-{number}"),
            uid,
            deployment: format!("app-{}", number % N_DEPLOYMENTS),
            region: 0,
            ids: vec![id],
            main,
            sandbox,
            cgroups,
        }
    }

    fn remove(&self, pod: Pod, second: u64) {
        let name = pod.name.clone();
        if second.is_multiple_of(2) {
            self.api.remove(&name);
            drop(pod);
        } else {
            drop(pod);
            self.api.remove(&name);
        }
    }

    fn tell(&self, pod: &Pod) {
        let Pod { name, uid, deployment, region, ids, .. } = pod;
        let region = format!("region-{region}");
        self.api.put(&LivePod { name, uid, deployment, region: &region, ids });
    }

    fn next_id(&mut self) -> String {
        self.n_ids += 1;
        format!("{:032x}{:032x}", std::process::id(), self.n_ids)
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for pod in &self.staying {
            self.node.api.remove(&pod.name);
        }
        for pod in &self.passing {
            self.node.api.remove(&pod.name);
        }
    }
}

impl Cgroups {
    fn in_both(cpu: &TestCgroup, io: Option<&TestCgroup>, name: &str) -> Self {
        Self { cpu: cpu.create_child(name), io: io.map(|io| io.create_child(name)) }
    }

    fn child(&self, name: &str) -> Self {
        Self::in_both(&self.cpu, self.io.as_ref(), name)
    }
}

impl Container {
    /// A sandbox, with a network namespace of its own.
    fn sandbox(cgroups: Cgroups) -> Self {
        let mut command = Command::new("unshare");
        Self::start(command.args(["--net", "bash", "-c", PAUSE]), cgroups, None)
    }

    /// A container in the network namespace of this sandbox.
    fn beside(&self, cgroups: Cgroups, file: &Path) -> Self {
        cgroups.cpu.set_quota(QUOTA_US);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.process.id()));
        Self::start(command.args(["bash", "-c", SCRIPT]), cgroups, Some(file))
    }

    fn start(command: &mut Command, cgroups: Cgroups, file: Option<&Path>) -> Self {
        let io = cgroups.io.as_ref().unwrap_or(&cgroups.cpu).path();
        command.arg(cgroups.cpu.path()).arg(io).args(file);
        let process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::null()));
        wait_for("the process is in its cgroup", || {
            !cgroups.cpu.read("cgroup.procs").trim().is_empty()
        });
        Self { process, _cgroups: cgroups }
    }
}

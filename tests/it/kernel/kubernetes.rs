//! What the kernel counts for a container of a kubelet with cgroup v2 and the systemd driver has the names and labels of its
//! pod; the pods are recorded ones, the cgroups, the IO and the throttling are real.

use std::time::Instant;

use podmeter::{config::Config, metric::Histogram};
use podmeter_tests::{
    cgroup::{Hierarchy, PATIENCE, TestCgroup, wait_for},
    disk::{DirectFile, Disk, IoStat},
    machine::is_test_vm,
    page::{TestAgent, TestPage},
    recorded_api::RecordedApi,
    skip::{left_out, skipped},
};

/// The recorded pod, and its UID as systemd's slices spell it.
const POD: &str = "n9e-webapi-69bcfdbb4b-cpz7r";
const UID: &str = "7c85ac75_49cc_4c05_b93c_95677628d802";
const WEBAPI: &str = "376fdd29828cfb43773f47ddcce837c1895aea23b6a7a37e4ee17225f03ba3b0";
const BURNER: &str = "78d8f0cf631b8b9e6f1511d3d42ac27fcead57f90c480d51e942423cf14af6ae";
/// Its pause container, whose id no object has.
const SANDBOX: &str = "29b53e1ea263256bd966d553ec4438c02f0fe94552217dda71e1cb4476cfb8d6";

const LABELS: &str =
    "{ from: pod.label.region, to: region }, { from: deployment.label.dept, to: dept }";

/// What every series of the pod has.
const OF_POD: &[(&str, &str)] = &[
    ("namespace", "n9e"),
    ("pod", POD),
    ("deployment", "n9e-webapi"),
    ("workload", "n9e-webapi"),
    ("workload_type", "deployment"),
    ("region", "beijing"),
    // Of the Deployment alone: the pod itself says cloud.
    ("dept", "edge"),
];

/// The cgroups as the kubelet, systemd and containerd make them.
struct Cgroups {
    // Removed from the last to the first.
    webapi: TestCgroup,
    burner: TestCgroup,
    _sandbox: TestCgroup,
    _pod: TestCgroup,
    _burstable: TestCgroup,
    _kubepods: TestCgroup,
}

impl Cgroups {
    fn make(hierarchy: &Hierarchy) -> Result<Self, String> {
        let kubepods = hierarchy.create_as("kubepods.slice")?;
        let inside = |parent: &TestCgroup, name: &str| {
            parent.write("cgroup.subtree_control", "+cpu +io +memory");
            parent.create_child(name)
        };
        let burstable = inside(&kubepods, "kubepods-burstable.slice");
        let pod = inside(&burstable, &format!("kubepods-burstable-pod{UID}.slice"));
        let [sandbox, burner, webapi] =
            [SANDBOX, BURNER, WEBAPI].map(|id| inside(&pod, &format!("cri-containerd-{id}.scope")));
        Ok(Self {
            webapi,
            burner,
            _sandbox: sandbox,
            _pod: pod,
            _burstable: burstable,
            _kubepods: kubepods,
        })
    }
}

#[test]
fn containers_of_the_systemd_driver_are_named_on_cgroup_v2() {
    let hierarchies = (Hierarchy::find(), Hierarchy::find_io());
    let (Ok(hierarchy), Ok(io)) = hierarchies else {
        return skipped("systemd driver | no cgroup can be made here");
    };
    if !hierarchy.is_v2() || !io.is_v2() || !is_test_vm() {
        return left_out("systemd driver | only in a virtual machine with v2");
    }
    let mut cgroups = Cgroups::make(&hierarchy).expect("no kubelet runs in a virtual machine");
    let api = RecordedApi::start(("dept", "edge"));
    let config = Config::parse(&api.config(LABELS), "podmeter.yaml", &|_| None);
    let agent = TestAgent::start(&config.expect("the configuration is valid"));

    let disk = Disk::find("vda").expect("every guest has one");
    {
        let mut file = DirectFile::open(&disk.node()).expect("root may open it");
        let _inside = cgroups.webapi.enter();
        for idx in 0..16 {
            file.read(8192, idx * 65_536).expect("the disk gives it");
            file.write(4096, idx * 65_536).expect("the disk takes it");
        }
    }
    cgroups.burner.set_quota(10_000);
    cgroups.burner.burn(1);
    wait_for("it is throttled", || cgroups.burner.cpu_stat().n_throttled > 3);
    cgroups.burner.stop();

    let quota = "podmeter_cpu_quota_cores";
    let of_burner = [&[("container", "burner")], OF_POD].concat();
    let deadline = Instant::now() + PATIENCE;
    while agent.collect().number(quota, &of_burner).is_none() {
        assert!(Instant::now() < deadline, "the labels are not there: {:?}", agent.kubernetes());
    }
    // A throttle that is under way when its tasks stop ends, and is counted, some periods later.
    let (page, truth) = loop {
        let before = cgroups.burner.cpu_stat().n_throttled;
        let page = agent.collect();
        if cgroups.burner.cpu_stat().n_throttled == before {
            break (page, before);
        }
        assert!(Instant::now() < deadline, "it is throttled without a task");
    };
    expect_io(&page, &cgroups.webapi, &disk);
    let periods = page.number("podmeter_cpu_cfs_throttled_periods_total", &of_burner);
    assert_eq!(periods, Some(truth as f64));
    let durations = page.histogram("podmeter_cpu_throttle_duration_seconds", &of_burner);
    let n_durations = durations.map_or(0, Histogram::count);
    assert!(n_durations > 0, "each throttle has a duration");
    println!("report: systemd driver | cgroup v2 | {n_durations} throttles, {truth} periods");
}

/// The bytes on the page are the kernel's own, and have the names and labels of the pod.
fn expect_io(page: &TestPage, cgroup: &TestCgroup, disk: &Disk) {
    let stat = IoStat::of(cgroup, disk);
    assert!(stat.n_bytes_read >= 16 * 8192 && stat.n_bytes_written >= 16 * 4096, "{stat:?}");
    for (operation, n_bytes) in [("read", stat.n_bytes_read), ("write", stat.n_bytes_written)] {
        let own = [("container", "webapi"), ("device", disk.name()), ("operation", operation)];
        let labels = [&own, OF_POD].concat();
        let ours = page.number("podmeter_io_bytes_total", &labels);
        assert_eq!(ours, Some(n_bytes as f64), "{operation}");
    }
}

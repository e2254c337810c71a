//! The durations of throttles agree with the kernel's own `cpu.stat`, and belong to the owner of the quota.

use std::{
    thread,
    time::{Duration, Instant},
};

use podmeter::{
    cgroup::CgroupTree,
    metric::{Histogram, Value},
    paths::HostPaths,
    source::{
        Source as _,
        probe::{self, Probe, ProbeStatus},
    },
    subject::{CgroupId, Subject},
};
use podmeter_tests::cgroup::{Hierarchy, TestCgroup, wait_for};

/// How long the load runs: a hundred periods, so that one throttle more or less is below the tolerance.
const LOAD: Duration = Duration::from_secs(10);

fn start() -> Option<(Probe, ProbeStatus)> {
    let (mut probes, mut statuses) =
        probe::start(&HostPaths::default(), |name| name == "cpu_throttle");
    let status = statuses.remove(0);
    println!(
        "report: probe | {} | {:?} | {}",
        status.name,
        status.state,
        status.reasons.join("; ")
    );
    let probe = probes.pop()?;
    Some((probe, status))
}

fn histogram(probe: &mut Probe, id: CgroupId) -> Option<Histogram> {
    let collected = probe.collect(&CgroupTree::default(), &[]).unwrap();
    println!("{:?}", collected.stats);
    let samples = collected
        .families
        .into_iter()
        .flat_map(|family| family.samples);
    let mut of_id = samples.filter(|sample| sample.subject == Subject::Cgroup(id));
    match of_id.next()?.value {
        Value::Histogram(histogram) => Some(histogram),
        Value::Number(_) => panic!("durations are a histogram"),
    }
}

#[test]
fn durations_sum_up_to_what_cpu_stat_says() {
    let hierarchy = match Hierarchy::find() {
        Ok(hierarchy) => hierarchy,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let Some((mut probe, _)) = start() else {
        return println!("degraded");
    };
    let mut limited = hierarchy.create("limited");
    limited.set_quota(10_000);
    let parent = hierarchy.create("parent");
    parent.set_quota(20_000);
    let mut child = parent.create_child("child");
    let mut free = hierarchy.create("free");

    let end = Instant::now() + LOAD;
    limited.burn(2);
    child.burn(2);
    free.burn(2);
    thread::sleep(end.saturating_duration_since(Instant::now()));
    for cgroup in [&mut limited, &mut child, &mut free] {
        cgroup.stop();
    }
    for (name, cgroup) in [("limited", &limited), ("parent", &parent)] {
        settle(cgroup);
        let stat = cgroup.cpu_stat();
        let histogram = histogram(&mut probe, cgroup.id()).expect("it was throttled");
        let kernel = stat.throttled_ns as f64 / 1e9;
        let difference = (histogram.sum / kernel - 1.0) * 100.0;
        println!(
            "report: cfs | {name} | events {} | nr_throttled {} | sum {:.3} s | throttled_usec {kernel:.3} s | {difference:+.2} %",
            histogram.count(),
            stat.n_throttled,
            histogram.sum
        );
        assert!(difference.abs() < 2.0);
    }
    assert_eq!(histogram(&mut probe, child.id()), None);
    assert_eq!(histogram(&mut probe, free.id()), None);
}

/// Waits until the kernel has ended the last throttle: its sum no longer grows.
fn settle(cgroup: &TestCgroup) {
    let mut last = cgroup.cpu_stat();
    let mut since = Instant::now();
    wait_for("no throttle is under way", || {
        let now = cgroup.cpu_stat();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(1)
    });
}

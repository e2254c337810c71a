//! Probes follow the configuration of a running process: one that stays goes on counting in its maps, and what cgroups had
//! that are gone is not lost with a label.

use podmeter::{cgroup::watch::DEAD_GRACE, config::Config};
use podmeter_tests::{
    cgroup::TestCgroup,
    page::{TestAgent, TestPage},
    skip::skipped,
    task::TestTask,
};

use super::hierarchy;

const FAMILY: &str = "podmeter_cpu_run_queue_latency_seconds";

fn config(text: &str) -> Config {
    let text = format!("kubernetes: {{ enabled: false }}\n{text}");
    Config::parse(&text, "test.yaml", &|_| None).expect("it is valid")
}

#[test]
fn a_probe_that_stays_counts_on_under_the_new_labels() {
    const ON: &str = "probes: { run_queue: { enabled: true }, network: { enabled: true } }\n";
    const OTHER: &str = "probes: { run_queue: { enabled: true }, network: { enabled: false } }\n\
                         external_labels: { cluster: c1 }\n";

    let Some(hierarchy) = hierarchy() else { return };
    let agent = TestAgent::start(&config(ON));
    let first = agent.collect();
    if !is_attached(&first, "run_queue") {
        return skipped("run_queue cannot attach");
    }
    let had_network = is_attached(&first, "network");
    let home = hierarchy.create("home");
    let mut task = TestTask::asleep(&home);
    // One that is woken before it sleeps again waits for nothing, so some of them may be no wait.
    let mut wake_in = |cgroup: &TestCgroup, n_times: u32| {
        task.move_to(cgroup);
        (0..n_times).for_each(|_| task.wake());
        task.move_to(&home);
    };
    // The first cgroup of the name is gone for good before the labels change: the kernel has nothing of it any more.
    let cgroup = hierarchy.create("reloaded");
    wake_in(&cgroup, 40);
    drop(agent.collect());
    drop(cgroup);
    let cgroup = hierarchy.create("reloaded");
    let path = cgroup.relative_path();
    wake_in(&cgroup, 10);
    drop(agent.collect());
    let n_before = count(&agent.collect_after(2 * DEAD_GRACE), &path, &[]).expect("it is counted");
    assert!(n_before >= 30, "{n_before} of both");
    agent.reload(config(OTHER));
    let page = agent.collect();
    let labels = [("cluster", "c1")];
    let n_after = count(&page, &path, &labels).expect("it has the new label");
    println!("report: reload | {n_before} before | {n_after} after");
    assert!(n_after >= n_before, "{n_after} after {n_before}");
    assert!(!is_attached(&page, "network"));
    let off = [("probe", "network"), ("reason", "disabled")];
    assert_eq!(page.number("podmeter_probe_attached", &off), Some(0.0));
    assert_eq!(page.number("podmeter_source_success", &[("source", "network")]), None);
    wake_in(&cgroup, 10);
    let n_later = count(&agent.collect(), &path, &labels).expect("it is counted");
    assert!(n_later > n_after, "{n_later} after {n_after}");
    agent.reload(config(ON));
    assert_eq!(is_attached(&agent.collect(), "network"), had_network, "it is loaded again");
}

fn is_attached(page: &TestPage, probe: &str) -> bool {
    page.number("podmeter_probe_attached", &[("probe", probe)]) == Some(1.0)
}

fn count(page: &TestPage, path: &str, labels: &[(&str, &str)]) -> Option<u64> {
    let labels: Vec<_> = [("cgroup", path)].into_iter().chain(labels.iter().copied()).collect();
    page.histogram(FAMILY, &labels).map(podmeter::metric::Histogram::count)
}

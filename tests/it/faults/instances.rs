//! A start, and a second Podmeter on the same node.

use std::{path::Path, process::Command, time::Instant};

use podmeter_tests::{
    cgroup::Hierarchy,
    exporter::Exporter,
    http::get,
    netns::Network,
    task::TestTask,
    tools::podmeter,
    whole::{Around, JOBS, NodePage, Whole},
};

const RUN_QUEUE: &str = "podmeter_cpu_run_queue_latency_seconds_count";
const N_WAKES: usize = 200;

/// The time is shown, not judged: `cargo xtask bench` measures it on a quiet machine.
#[test]
fn the_first_page_is_whole() {
    let Some(binary) = podmeter() else { return };
    let around = Around::start();
    let config = around.config();
    let began = Instant::now();
    let exporter = Exporter::start(&binary, &config);
    let page = NodePage::of(&exporter);
    let took = began.elapsed();
    assert_eq!(page.n_up(), JOBS.len(), "the first page has all targets");
    let n_probes = page.count("podmeter_probe_attached", &[]);
    println!(
        "report: faults | start | first page after {} ms (test build), with {} series, {} targets, {n_probes} probes",
        took.as_millis(),
        page.0.n_series(),
        page.n_up()
    );
}

/// Programs attach beside each other: both count every event once. The one that came second says so, until it is alone.
#[test]
fn a_second_podmeter_disturbs_nothing_and_says_that_it_is_one() {
    let Some(binary) = podmeter() else { return };
    // Whoever else runs a Podmeter here runs it in another network namespace.
    let network = Network::create("two");
    network.client.enter(|| beside_each_other(&binary));
}

fn beside_each_other(binary: &Path) {
    let first = Whole::start_by(Command::new(binary));
    let second = first.start_another(Command::new(binary));
    let standing = |page: &NodePage| page.0.sum("podmeter_second_instance", &[]);
    let before = [first.page(), NodePage::of(&second)];
    assert_eq!(before.each_ref().map(standing), [Some(0.0), Some(1.0)]);
    let attached = |page: &NodePage| page.count("podmeter_probe_attached", &[]);
    let n_attached = before.each_ref().map(attached);
    assert!((n_attached[0] - n_attached[1]).abs() < 0.5, "{n_attached:?}");

    let mut counted = String::from("no cgroup can be made here");
    if let Ok(hierarchy) = Hierarchy::find() {
        let cgroup = hierarchy.create("two");
        let mut task = TestTask::asleep(&cgroup);
        let path = cgroup.relative_path();
        let counts = || {
            let pages = [first.page(), NodePage::of(&second)];
            pages.map(|page| page.count(RUN_QUEUE, &[("cgroup", &path)]))
        };
        let n_before = task.n_waits();
        let before_wakes = counts();
        for _ in 0..N_WAKES {
            task.wake();
        }
        let n_waits = (task.n_waits() - n_before) as f64;
        let after = counts();
        let counted_by = [after[0] - before_wakes[0], after[1] - before_wakes[1]];
        counted = format!("{counted_by:?} of {n_waits} waits of a task");
        if before[0].count("podmeter_probe_attached", &[("probe", "run_queue")]) > 0.5 {
            // The last wait of all may come with the next one only.
            assert!(counted_by.iter().all(|n| (n - n_waits).abs() <= 2.0), "{counted}");
            assert!((after[0] - after[1]).abs() <= 1.0, "{counted}");
        }
    }

    let landing = get(&second.url("/"), &[]);
    assert!(landing.text().contains("another Podmeter"), "/ of the second says so");
    assert!(!first.landing().contains("another Podmeter"), "/ of the first does not");
    let Whole { exporter, around } = first;
    exporter.kill();
    let after = NodePage::of(&second);
    assert_eq!(standing(&after), Some(0.0), "it is alone");
    assert_eq!(after.n_up(), JOBS.len());
    assert!((attached(&after) - n_attached[1]).abs() < 0.5, "its programs stay");
    let (status, log) = second.terminate();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("another Podmeter runs on this node"), "{log}");
    assert!(log.contains("the other Podmeter has gone"), "{log}");
    drop(around);
    println!(
        "report: faults | two Podmeters | {n_attached:?} probes attached | counted: {counted} | the second says so, and is the first when that one has been killed"
    );
}

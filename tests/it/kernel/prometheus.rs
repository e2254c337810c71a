//! From the kernel to the query API: what a real Prometheus scraped is what the kernel itself counted.

use std::{
    thread,
    time::{Duration, Instant},
};

use podmeter_tests::{
    cgroup::{CpuStat, TestCgroup},
    dashboards::{ALL, Dashboard, filled},
    exporter::Exporter,
    machine::is_test_vm,
    prometheus::{Labelled, Prometheus},
    tools::{podmeter, tool},
};

use super::hierarchy;

/// How long the load runs.
const LOAD: Duration = Duration::from_secs(5);

/// Between two scrapes; a virtual machine without KVM needs a good part of a second for one.
const SCRAPE_SECONDS: u32 = 2;

/// How long Prometheus may take to start and to scrape: in such a machine, most of a minute.
const PROMETHEUS_PATIENCE: Duration = Duration::from_mins(2);

/// Largest difference, relative: `cpu.stat` is rounded to microseconds.
const TOLERANCE: f64 = 1e-3;

#[test]
fn a_throttle_in_the_kernel_becomes_a_line_that_prometheus_scrapes() {
    let (Some(hierarchy), Some(binary)) = (hierarchy(), podmeter()) else { return };
    let Some(prometheus) = tool("PODMETER_PROMETHEUS") else { return };
    let exporter = Exporter::start(&binary, "");
    let prometheus = Prometheus::start(&prometheus, exporter.address(), SCRAPE_SECONDS);
    let mut limited = hierarchy.create("to-prometheus");
    limited.set_quota(10_000);
    limited.burn(2);
    // The load is the point here: there is no condition to wait for but its end.
    thread::sleep(LOAD);
    if is_test_vm() {
        // A rate is of two scrapes at least that the load was on between.
        for panel in PANELS {
            wait_until_shown(&prometheus, panel);
        }
    }
    limited.stop();

    let selector = format!("{{cgroup=\"{}\"}}", limited.relative_path());
    let durations = "podmeter_cpu_throttle_duration_seconds";
    let of_files = "podmeter_cpu_cfs_throttled_seconds_total";
    let families: &[_] = if is_test_vm() { &[of_files, durations] } else { &[of_files] };
    for family in families {
        let suffix = if *family == durations { "_sum" } else { "" };
        let query = format!("{family}{suffix}{selector}");
        let scraped = wait_until_equal(&prometheus, &query, &limited);
        let kernel = seconds(limited.cpu_stat());
        println!("report: prometheus | {family}{suffix} | {scraped:.3} s | kernel {kernel:.3} s");
    }
    let (health, error) = prometheus.target().expect("it has a target");
    assert_eq!((health.as_str(), error.as_str()), ("up", ""));
}

/// Panels of the dashboard "containers" that need the probe `cpu_throttle`; the quota lasts for less than 50 ms of each
/// period.
const PANELS: &[&str] = &["How long each throttle lasted", "Throttles of more than 50 ms"];

/// The dashboard itself is in this binary: a guest has no folder of it.
const CONTAINERS: &str = include_str!("../../../deploy/dashboards/containers.json");

/// Waits until each query of the panel, as it stands in the dashboard with all of everything chosen, gives more than
/// nought.
fn wait_until_shown(prometheus: &Prometheus, panel: &str) {
    let dashboard = Dashboard::parse("containers", CONTAINERS);
    for query in dashboard.queries(panel) {
        let query = filled(query, |_variable| ALL);
        let deadline = Instant::now() + PROMETHEUS_PATIENCE;
        let mut last = Ok(Vec::new());
        let has_data = |found: &Result<Vec<Labelled>, String>| {
            found.as_ref().is_ok_and(|found| found.iter().any(|(_labels, number)| *number > 0.0))
        };
        while !has_data(&last) {
            assert!(Instant::now() < deadline, "{panel} shows nothing: {query}: {last:?}");
            thread::park_timeout(Duration::from_millis(100));
            last = prometheus.try_query(&query);
        }
        println!("report: prometheus | {panel} | {last:?}");
    }
}

/// Waits until the query gives what `cpu.stat` says, and gives it.
fn wait_until_equal(prometheus: &Prometheus, query: &str, cgroup: &TestCgroup) -> f64 {
    let deadline = Instant::now() + PROMETHEUS_PATIENCE;
    let mut last = None;
    while Instant::now() < deadline {
        last = prometheus.query(query);
        let kernel = seconds(cgroup.cpu_stat());
        if let Some([scraped]) = last.as_deref()
            && kernel > 0.0
            && (scraped / kernel - 1.0).abs() < TOLERANCE
        {
            return *scraped;
        }
        // Asking without a pause would take the CPU from the one that is asked.
        thread::park_timeout(Duration::from_millis(100));
    }
    let target = prometheus.target();
    panic!("{query} is {last:?}, cpu.stat says {:?}; target {target:?}", cgroup.cpu_stat());
}

fn seconds(stat: CpuStat) -> f64 {
    Duration::from_nanos(stat.throttled_ns).as_secs_f64()
}

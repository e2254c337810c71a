//! A cgroup that is removed and made again under its old path goes on with its old series.

use podmeter::{config::Config, metric::Histogram};
use podmeter_tests::{
    cgroup::{Hierarchy, TestCgroup, wait_for},
    page::{TestAgent, TestPage},
};

use super::hierarchy;

#[test]
fn a_restart_keeps_one_series_that_never_falls() {
    let Some(hierarchy) = hierarchy() else { return };
    let agent = TestAgent::start(&Config::default());
    let first = throttled(&hierarchy);
    let (path, first_id) = (first.relative_path(), first.id());
    let before = Numbers::of(&agent.collect(), &path);
    drop(first);
    // Nobody looks while it is gone, and then while it is back.
    let second = throttled(&hierarchy);
    assert_ne!(second.id(), first_id);
    let after = Numbers::of(&agent.collect(), &path);
    println!("report: restart | {before:?} | {after:?}");
    assert!(after.n_throttled_periods > before.n_throttled_periods);
    assert!(after.n_throttles >= before.n_throttles);
    drop(second);
    let last = Numbers::of(&agent.collect(), &path);
    let said = format!("the last values stay for a while: {after:?} | {last:?}");
    assert_eq!(last.n_throttled_periods.to_bits(), after.n_throttled_periods.to_bits(), "{said}");
    // One that was under way on the page before may have ended.
    let with_it = after.n_throttles.map(|n_throttles| n_throttles + 1);
    assert!([after.n_throttles, with_it].contains(&last.n_throttles), "{said}");
}

/// What the page says of one cgroup.
#[derive(Debug)]
struct Numbers {
    n_throttled_periods: f64,
    /// None where the probe cannot attach.
    n_throttles: Option<u64>,
}

impl Numbers {
    fn of(page: &TestPage, path: &str) -> Self {
        let labels = [("cgroup", path)];
        let n_throttled_periods =
            page.number("podmeter_cpu_cfs_throttled_periods_total", &labels).unwrap();
        let histogram = page.histogram("podmeter_cpu_throttle_duration_seconds", &labels);
        Self { n_throttled_periods, n_throttles: histogram.map(Histogram::count) }
    }
}

fn throttled(hierarchy: &Hierarchy) -> TestCgroup {
    let mut cgroup = hierarchy.create("restarted");
    cgroup.set_quota(10_000);
    cgroup.burn(1);
    wait_for("it is throttled", || cgroup.cpu_stat().n_throttled > 3);
    cgroup.stop();
    cgroup
}

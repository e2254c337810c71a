//! What the page says of quotas and periods is what the kernel's files say, with or without probes.

use podmeter::config::Config;
use podmeter_tests::{cgroup::wait_for, page::TestAgent};

use super::hierarchy;

const PERIODS: &str = "podmeter_cpu_cfs_periods_total";
const THROTTLED_PERIODS: &str = "podmeter_cpu_cfs_throttled_periods_total";
const THROTTLED_SECONDS: &str = "podmeter_cpu_cfs_throttled_seconds_total";
const QUOTA: &str = "podmeter_cpu_quota_cores";

#[test]
fn the_page_has_what_cpu_stat_has_and_only_where_a_quota_is() {
    let Some(hierarchy) = hierarchy() else { return };
    let agent = TestAgent::start(&Config::default());
    // Made after the start, so that they are found by their events.
    let mut limited = hierarchy.create("counted");
    limited.set_quota(10_000);
    let free = hierarchy.create("unlimited");
    limited.burn(2);
    wait_for("it is throttled", || limited.cpu_stat().n_throttled > 3);
    limited.stop();

    let before = limited.cpu_stat();
    let page = agent.collect();
    let after = limited.cpu_stat();
    let path = limited.relative_path();
    let number = |name| page.number(name, &[("cgroup", &path)]).expect("it has a quota");
    let check = |name, low: u64, high: u64, unit: f64| {
        let (found, low, high) = (number(name), low as f64 / unit, high as f64 / unit);
        // Seconds are rounded where nanoseconds are not.
        let is_within = low - 1e-9 <= found && found <= high + 1e-9;
        assert!(is_within, "{name}: {low} <= {found} <= {high}");
    };
    check(PERIODS, before.n_periods, after.n_periods, 1.0);
    check(THROTTLED_PERIODS, before.n_throttled, after.n_throttled, 1.0);
    check(THROTTLED_SECONDS, before.throttled_ns, after.throttled_ns, 1e9);
    assert!((number(QUOTA) - 0.1).abs() < 1e-9);
    println!(
        "report: files | periods {} | throttled {}",
        number(PERIODS),
        number(THROTTLED_PERIODS)
    );

    let path = free.relative_path();
    for name in [PERIODS, THROTTLED_PERIODS, THROTTLED_SECONDS, QUOTA] {
        assert_eq!(page.number(name, &[("cgroup", &path)]), None, "{name} without a quota");
    }
}

//! A real Prometheus scrapes the real binary, and its query API returns what the kernel counted.

use podmeter::source::probe::PROBES;
use podmeter_tests::{
    cgroup::{Hierarchy, wait_for},
    exporter::Exporter,
    prometheus::Prometheus,
    skip::skipped,
    tools::{podmeter, tool},
};

#[test]
fn prometheus_scrapes_without_error_and_returns_the_series() {
    let (Some(binary), Some(prometheus)) = (podmeter(), tool("PODMETER_PROMETHEUS")) else {
        return;
    };
    let exporter = Exporter::start(&binary, "");
    let prometheus = Prometheus::start(&prometheus, exporter.address(), 1);
    wait_for("Prometheus has scraped", || {
        let Some((health, error)) = prometheus.target() else { return false };
        assert_eq!(error, "");
        health == "up"
    });
    let has = |query: &str, expected: &[f64]| {
        wait_for(query, || prometheus.query(query).is_some_and(|values| values == expected));
    };
    has("up", &[1.0]);
    has("count(podmeter_build_info)", &[1.0]);
    has("count(podmeter_probe_attached)", &[PROBES.len() as f64]);
    has("min(podmeter_source_success)", &[1.0]);
    has("count(process_resident_memory_bytes)", &[1.0]);
    check_throttling(&prometheus);
    has("min_over_time(up[5m])", &[1.0]);
}

/// A throttled cgroup's series in Prometheus becomes what its `cpu.stat` says, where the test may make cgroups.
fn check_throttling(prometheus: &Prometheus) {
    let hierarchy = match Hierarchy::find() {
        Ok(hierarchy) => hierarchy,
        Err(reason) => return skipped(format_args!("throttling in Prometheus: {reason}")),
    };
    let mut cgroup = hierarchy.create("scraped");
    cgroup.set_quota(10_000);
    cgroup.burn(1);
    wait_for("it is throttled", || cgroup.cpu_stat().n_throttled > 5);
    cgroup.stop();
    let path = cgroup.relative_path();
    let query = format!("podmeter_cpu_cfs_throttled_periods_total{{cgroup=\"{path}\"}}");
    wait_for("Prometheus has what the kernel counted", || {
        let kernel = cgroup.cpu_stat().n_throttled as f64;
        prometheus.query(&query) == Some(vec![kernel])
    });
    println!("report: prometheus | {query} | {}", cgroup.cpu_stat().n_throttled);
}

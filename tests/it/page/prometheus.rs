//! A real Prometheus scrapes the real binary, and its query API returns what the kernel counted.

use std::{net::TcpListener, path::Path, process::Command};

use podmeter_tests::{
    cgroup::{Hierarchy, wait_for},
    exporter::Exporter,
    http::try_get,
    tools::{Process, podmeter, tool, write},
};
use serde_json::Value;
use tempfile::TempDir;

/// A Prometheus that scrapes one target every second.
struct Prometheus {
    url: String,
    _process: Process,
    _dir: TempDir,
}

impl Prometheus {
    fn start(binary: &Path, target: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = write(
            dir.path(),
            "prometheus.yml",
            &format!(
                "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: podmeter
    static_configs: [ {{ targets: [ '{target}' ] }} ]
"
            ),
        );
        // Prometheus does not say which port it took, so it gets one that is free now.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(binary);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error");
        let process = Process::start(&mut command);
        Self { url: format!("http://{address}"), _process: process, _dir: dir }
    }

    /// The field `data` of an answer of its API, once it answers.
    fn data(&self, path: &str) -> Option<Value> {
        let answer = try_get(&format!("{}{path}", self.url), &[]).ok()?;
        let json: Value = serde_json::from_slice(&answer.body).ok()?;
        json.get("data").cloned()
    }

    /// The target's health and its last error.
    fn target(&self) -> Option<(String, String)> {
        let data = self.data("/api/v1/targets")?;
        let target = data.pointer("/activeTargets/0")?;
        let text = |key: &str| Some(target.get(key)?.as_str()?.to_owned());
        Some((text("health")?, text("lastError")?))
    }

    /// The values of a query's result.
    fn query(&self, query: &str) -> Option<Vec<f64>> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let data = self.data(&format!("/api/v1/query?query={query}"))?;
        let value = |series: &Value| series.pointer("/value/1")?.as_str()?.parse().ok();
        data.get("result")?.as_array()?.iter().map(value).collect()
    }
}

#[test]
fn prometheus_scrapes_without_error_and_returns_the_series() {
    let (Some(binary), Some(prometheus)) = (podmeter(), tool("PODMETER_PROMETHEUS")) else {
        return;
    };
    let exporter = Exporter::start(&binary, "");
    let prometheus = Prometheus::start(&prometheus, exporter.address());
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
    has("count(podmeter_probe_attached)", &[1.0]);
    has("min(podmeter_source_success)", &[1.0]);
    has("count(process_resident_memory_bytes)", &[1.0]);
    check_throttling(&prometheus);
    has("min_over_time(up[5m])", &[1.0]);
}

/// A throttled cgroup's series in Prometheus becomes what its `cpu.stat` says, where the test may make cgroups.
fn check_throttling(prometheus: &Prometheus) {
    let hierarchy = match Hierarchy::find() {
        Ok(hierarchy) => hierarchy,
        Err(reason) => return println!("report: skipped | throttling in Prometheus: {reason}"),
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

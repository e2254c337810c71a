//! A real Prometheus that scrapes one target.

use std::{collections::BTreeMap, fmt::Write as _, net::TcpListener, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http::{get, try_get},
    tools::{Process, write},
};

/// A series of a query's result: its labels, and its value.
pub type Labelled = (BTreeMap<String, String>, f64);

/// Prometheus' own counters of samples that a target gave and that it threw away.
const THROWN_AWAY: &[&str] = &[
    "prometheus_target_scrapes_sample_duplicate_timestamp_total",
    "prometheus_target_scrapes_sample_out_of_order_total",
    "prometheus_target_scrapes_sample_out_of_bounds_total",
    "prometheus_target_scrapes_exceeded_sample_limit_total",
    "prometheus_target_scrapes_exceeded_body_size_limit_total",
];

/// A Prometheus that scrapes one target every few seconds.
pub struct Prometheus {
    url: String,
    _process: Process,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts it, to scrape the target every `seconds`.
    #[must_use]
    pub fn start(binary: &Path, target: &str, seconds: u32) -> Self {
        let config = format!(
            "global: {{ scrape_interval: {seconds}s, scrape_timeout: {seconds}s }}
scrape_configs:
  - job_name: podmeter
    static_configs: [ {{ targets: [ '{target}' ] }} ]
"
        );
        Self::with_config(binary, &config)
    }

    /// Starts it with a configuration of the test's own.
    #[must_use]
    pub fn with_config(binary: &Path, config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = write(dir.path(), "prometheus.yml", config);
        // Prometheus does not say which port it took, so it gets one that is free now.
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("there is a free port");
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

    /// What a query means, as Prometheus' own parser sees it, or its complaint, once it answers.
    #[must_use]
    pub fn parse(&self, query: &str) -> Option<Result<Value, String>> {
        let path = format!("/api/v1/parse_query?query={}", percent_encoded(query));
        let answer = try_get(&format!("{}{path}", self.url), &[]).ok()?;
        let json: Value = serde_json::from_slice(&answer.body).ok()?;
        let complaint = || Some(Err(json.get("error")?.as_str()?.to_owned()));
        json.get("data").map_or_else(complaint, |parsed| Some(Ok(parsed.clone())))
    }

    /// The target's health and its last error.
    #[must_use]
    pub fn target(&self) -> Option<(String, String)> {
        let data = self.data("/api/v1/targets")?;
        let target = data.pointer("/activeTargets/0")?;
        let text = |key: &str| Some(target.get(key)?.as_str()?.to_owned());
        Some((text("health")?, text("lastError")?))
    }

    /// The labels of every series that a selector finds, `__name__` among them.
    #[must_use]
    pub fn series(&self, selector: &str) -> Option<Vec<BTreeMap<String, String>>> {
        let data = self.data(&format!("/api/v1/series?match[]={}", percent_encoded(selector)))?;
        serde_json::from_value(data).ok()
    }

    /// The values of a query's result.
    #[must_use]
    pub fn query(&self, query: &str) -> Option<Vec<f64>> {
        let series = self.query_series(query)?;
        Some(series.into_iter().map(|(_labels, value)| value).collect())
    }

    /// The series of a query's result.
    #[must_use]
    pub fn query_series(&self, query: &str) -> Option<Vec<Labelled>> {
        self.try_query(query).ok()
    }

    /// The series of a query's result, or why there is none.
    pub fn try_query(&self, query: &str) -> Result<Vec<Labelled>, String> {
        let url = format!("{}/api/v1/query?query={}", self.url, percent_encoded(query));
        let answer = try_get(&url, &[]).map_err(|error| error.to_string())?;
        let json: Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        if let Some(complaint) = json.get("error").and_then(Value::as_str) {
            return Err(complaint.to_owned());
        }
        let series = |series: &Value| {
            let labels = serde_json::from_value(series.get("metric")?.clone()).ok()?;
            Some((labels, series.pointer("/value/1")?.as_str()?.parse().ok()?))
        };
        let result = json.pointer("/data/result").and_then(Value::as_array);
        let found: Option<Vec<Labelled>> =
            result.and_then(|result| result.iter().map(series).collect());
        found.ok_or_else(|| format!("this is no list of series: {json}"))
    }

    /// The rules that were loaded, as its API has them; of each, `health` is `ok` once it was evaluated without error.
    #[must_use]
    pub fn rules(&self) -> Option<Vec<Value>> {
        let data = self.data("/api/v1/rules")?;
        let groups = data.get("groups")?.as_array()?;
        let rules = groups.iter().filter_map(|group| group.get("rules")?.as_array());
        Some(rules.flatten().cloned().collect())
    }

    /// How many samples it threw away, by the name of its own counter.
    #[must_use]
    pub fn thrown_away(&self) -> BTreeMap<&'static str, f64> {
        let page = get(&format!("{}/metrics", self.url), &[]);
        let value = |name: &&'static str| {
            let line =
                page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value = line.and_then(|value| value.parse().ok());
            (*name, value.unwrap_or_else(|| panic!("Prometheus has no {name}")))
        };
        THROWN_AWAY.iter().map(value).collect()
    }
}

pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02x}").expect("a string takes everything");
    }
    encoded
}

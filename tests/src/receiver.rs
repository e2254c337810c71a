//! Real receivers of remote write, which a test stops and starts again with what they hold.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use podmeter::source::upstream::exposition::{Dialect, Line, Reader, parse_series};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cgroup::wait_for,
    http::{Answer, Client, try_get},
    prometheus::percent_encoded,
    tools::{Process, write},
};

/// The labels of a series, `__name__` among them.
pub type Labels = BTreeMap<String, String>;

/// Times in milliseconds and values, oldest first, by series.
pub type Samples = BTreeMap<Labels, Vec<(i64, f64)>>;

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Prometheus with `--web.enable-remote-write-receiver`.
    Prometheus,
    /// `VictoriaMetrics`, the database of one node.
    VictoriaMetrics,
}

/// How a Prometheus is guarded, and by what the test itself gets in.
#[derive(Debug)]
pub struct Guard {
    /// Its web configuration file, with TLS.
    pub web_config: PathBuf,
    /// Holds a certificate that it takes.
    pub client: Client,
    /// A header `Authorization` that it takes.
    pub authorization: String,
}

/// A receiver on a port of its own, with a folder that outlives its process.
pub struct Receiver {
    kind: Kind,
    guard: Option<Guard>,
    binary: PathBuf,
    address: SocketAddr,
    dir: TempDir,
    process: Option<Process>,
}

impl Receiver {
    /// Starts one, and waits until it answers.
    #[must_use]
    pub fn start(kind: Kind, binary: &Path) -> Self {
        Self::start_by(kind, binary, None)
    }

    /// The same of a Prometheus that lets in only some.
    #[must_use]
    pub fn start_guarded(binary: &Path, guard: Guard) -> Self {
        Self::start_by(Kind::Prometheus, binary, Some(guard))
    }

    fn start_by(kind: Kind, binary: &Path, guard: Option<Guard>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("there is a free port");
        let binary = binary.into();
        let mut receiver = Self { kind, guard, binary, address, dir, process: None };
        receiver.start_again();
        receiver
    }

    /// Who it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Starts it after [`Self::stop`], with what it had.
    pub fn start_again(&mut self) {
        let data = self.dir.path().join("data");
        let mut command = Command::new(&self.binary);
        match self.kind {
            Kind::Prometheus => {
                let config = write(self.dir.path(), "prometheus.yml", "");
                command
                    .arg(format!("--config.file={}", config.display()))
                    .arg(format!("--storage.tsdb.path={}", data.display()))
                    .arg(format!("--web.listen-address={}", self.address))
                    .args(["--web.enable-remote-write-receiver", "--log.level=error"]);
                if let Some(guard) = &self.guard {
                    command.arg(format!("--web.config.file={}", guard.web_config.display()));
                    // It has a line for each client that does not get in.
                    command.stderr(Stdio::null());
                }
            }
            Kind::VictoriaMetrics => {
                command
                    .arg(format!("-storageDataPath={}", data.display()))
                    .arg(format!("-httpListenAddr={}", self.address))
                    .args(["-loggerLevel=ERROR", "-search.latencyOffset=0s"]);
            }
        }
        self.process = Some(Process::start(&mut command));
        let ready = match self.kind {
            Kind::Prometheus => "/-/ready",
            Kind::VictoriaMetrics => "/health",
        };
        wait_for("the receiver answers", || {
            self.ask(ready).is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Stops it; nobody listens at its address any more.
    pub fn stop(&mut self) {
        let process = self.process.take().expect("it runs");
        process.signal(Signal::TERM);
        wait_for("the receiver ends", || process.has_ended());
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it takes what is pushed.
    #[must_use]
    pub fn write_url(&self) -> String {
        self.url("/api/v1/write")
    }

    /// All samples of the series that a selector finds.
    #[must_use]
    pub fn samples(&self, selector: &str) -> Samples {
        match self.kind {
            Kind::Prometheus => self.prometheus_samples(selector),
            Kind::VictoriaMetrics => self.exported_samples(selector),
        }
    }

    /// How many series a query finds now.
    #[must_use]
    pub fn n_series(&self, query: &str) -> usize {
        let path = format!("/api/v1/query?query={}", percent_encoded(query));
        result(&self.json(&path)).len()
    }

    fn prometheus_samples(&self, selector: &str) -> Samples {
        let query = percent_encoded(&format!("{selector}[1h]"));
        let json = self.json(&format!("/api/v1/query?query={query}"));
        let sample = |pair: &Value| {
            let seconds = pair.get(0).and_then(Value::as_f64).expect("a time");
            let value = pair
                .get(1)
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok())
                .expect("a value");
            let milliseconds = (seconds * 1000.0).round().to_string();
            (milliseconds.parse().expect("whole milliseconds"), value)
        };
        let series = |one: &Value| {
            let labels = serde_json::from_value(field(one, "metric").clone()).expect("labels");
            let values = field(one, "values").as_array().expect("values");
            (labels, values.iter().map(sample).collect())
        };
        result(&json).iter().map(series).collect()
    }

    /// One line of JSON for each series, with every sample as it came, stale markers excepted: nothing is taken for a
    /// duplicate.
    fn exported_samples(&self, selector: &str) -> Samples {
        // What came a moment ago is not seen before.
        let _flushed = self.get("/internal/force_flush");
        let selector = percent_encoded(selector);
        let path = format!("/api/v1/export?reduce_mem_usage=1&match[]={selector}");
        let answer = self.get(&path);
        // What is no number in JSON is a text, and a stale marker is nothing.
        let value = |value: &Value| match value {
            Value::String(text) => Some(text.parse().expect("a number")),
            Value::Null => None,
            number => Some(number.as_f64().expect("a number")),
        };
        let mut samples = Samples::new();
        for line in answer.text().lines() {
            let json: Value = serde_json::from_str(line).expect("a line of JSON");
            let labels = serde_json::from_value(field(&json, "metric").clone()).expect("labels");
            let array = |key: &str| field(&json, key).as_array().expect("an array").clone();
            let times = array("timestamps").into_iter().map(|time| time.as_i64().expect("a time"));
            let values = array("values");
            let pairs = times.zip(values.iter().map(value));
            let pairs = pairs.filter_map(|(time, value)| Some((time, value?)));
            let known: &mut Vec<(i64, f64)> = samples.entry(labels).or_default();
            known.extend(pairs);
            known.sort_by_key(|(time, _)| *time);
        }
        samples
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.text()))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    fn ask(&self, path: &str) -> Result<Answer, ureq::Error> {
        let url = self.url(path);
        match &self.guard {
            Some(Guard { client, authorization, .. }) => {
                client.try_get_with(&url, &[("Authorization", authorization)])
            }
            None => try_get(&url, &[]),
        }
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.guard.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }
}

fn field<'a>(json: &'a Value, key: &str) -> &'a Value {
    json.get(key).unwrap_or_else(|| panic!("no {key}: {json}"))
}

fn result(json: &Value) -> Vec<Value> {
    let result = json.pointer("/data/result").and_then(Value::as_array);
    result.unwrap_or_else(|| panic!("no result: {json}")).clone()
}

/// The samples of a page in text 0.0.4: labels, `__name__` among them, and values.
#[must_use]
pub fn page_samples(page: &str) -> Vec<(Labels, f64)> {
    let mut reader = Reader::new(page.as_bytes(), Dialect::Text);
    let mut samples = Vec::new();
    while let Some(line) = reader.next_line() {
        if let Line::Sample { series, tail } = line.expect("a page has lines that are ones") {
            let parts = parse_series(series).expect("a series");
            let own = [("__name__".to_owned(), parts.name.into_owned())];
            let given = parts.labels.into_iter();
            let given = given.map(|(name, value)| (name.into_owned(), value.into_owned()));
            let value = str::from_utf8(tail.value).ok().and_then(|text| text.parse().ok());
            samples.push((own.into_iter().chain(given).collect(), value.expect("a number")));
        }
    }
    samples
}

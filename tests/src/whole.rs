//! The whole as a node has it: `podmeter run` with the kernel probes that the machine allows, before it a kubelet and a
//! kube-proxy with recorded pages, an API server with recorded pods, and a token; each can be taken away and given back.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    cgroup::PATIENCE,
    exporter::Exporter,
    exposition::Exposition,
    gate::Gate,
    http::{Answer, get},
    recorded_api::{NODE, RecordedApi},
    target::Target,
    tools::{podmeter, write},
};

/// The recorded pages, each of which is a target.
pub const JOBS: [&str; 5] = [
    "kubelet-metrics",
    "kubelet-metrics-cadvisor",
    "kubelet-metrics-probes",
    "kubelet-metrics-resource",
    "kube-proxy-metrics",
];

/// The version of Kubernetes that they were recorded from.
pub const VERSION: &str = "v1.34.9";

/// Between two looks at whether it has come up.
const PAUSE: Duration = Duration::from_millis(100);

/// Further targets of a large page: what the kernel sends ahead for a client on the loopback is less.
const N_MORE: usize = 10;

/// What a scraper waits for on a busy machine.
pub const PATIENT: (&str, &str) = ("X-Prometheus-Scrape-Timeout-Seconds", "25");

/// The whole.
#[derive(Debug)]
pub struct Whole {
    /// Podmeter itself.
    pub exporter: Exporter,
    /// What is before Podmeter.
    pub around: Around,
}

/// What a Podmeter has around it.
#[derive(Debug)]
pub struct Around {
    /// The way to all targets.
    pub targets: Gate,
    /// The way to the API server.
    pub api: Gate,
    /// Names of targets, each with its page.
    jobs: Vec<(String, &'static str)>,
    /// Further keys of the configuration.
    more: String,
    /// Rules of `kubernetes.labels`.
    labels: Vec<&'static str>,
    dir: TempDir,
    _recorded: RecordedApi,
}

impl Around {
    /// Starts the targets and the API server.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(RecordedApi::start(("dept", "edge")), Target::start(VERSION))
    }

    /// The same with others than the usual ones.
    #[must_use]
    pub fn start_with(recorded: RecordedApi, targets: Target) -> Self {
        Self::start_before(recorded, targets.address())
    }

    /// The same with a server that has further pages beside those of [`JOBS`].
    #[must_use]
    pub fn start_before(recorded: RecordedApi, targets: SocketAddr) -> Self {
        let api = Gate::before(recorded.address());
        let targets = Gate::before(targets);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let jobs = JOBS.iter().map(|job| ((*job).to_owned(), *job)).collect();
        let labels = vec!["{ from: deployment.label.dept, to: dept }"];
        let more = String::new();
        let around = Self { targets, api, jobs, more, labels, dir, _recorded: recorded };
        around.give_token();
        around
    }

    /// The same with so many cAdvisors more, for a page that is larger than what the kernel takes of it for a client.
    #[must_use]
    pub fn enlarged(mut self, n_more: usize) -> Self {
        let more = (0..n_more).map(|idx| (format!("more-{idx}"), "kubelet-metrics-cadvisor"));
        self.jobs.extend(more);
        self
    }

    /// The same with further keys in the configuration.
    #[must_use]
    pub fn configured(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self
    }

    /// The same with one more rule of `kubernetes.labels`.
    #[must_use]
    pub fn labelled(mut self, rule: &'static str) -> Self {
        self.labels.push(rule);
        self
    }

    /// How many targets there are.
    #[must_use]
    pub fn n_targets(&self) -> usize {
        self.jobs.len()
    }

    /// The configuration of a Podmeter in the midst of it.
    #[must_use]
    pub fn config(&self) -> String {
        let token = self.token_file().display().to_string();
        let api = self.api.address();
        let kubeconfig = format!(
            "apiVersion: v1
kind: Config
clusters: [ {{ name: recorded, cluster: {{ server: 'http://{api}' }} }} ]
users: [ {{ name: recorded, user: {{ tokenFile: '{token}' }} }} ]
contexts: [ {{ name: recorded, context: {{ cluster: recorded, user: recorded }} }} ]
current-context: recorded
"
        );
        let kubeconfig = write(self.dir.path(), "kubeconfig", &kubeconfig);
        let mut config = format!(
            "node_name: {NODE}
probes: {{ run_queue: {{ enabled: true }} }}
kubernetes:
  enabled: true
  kubeconfig: {}
  labels: [ {} ]
scrape_configs:
",
            kubeconfig.display(),
            self.labels.join(", ")
        );
        let targets = self.targets.address();
        for (job, page) in &self.jobs {
            let authorization = format!("authorization: {{ credentials_file: '{token}' }}");
            writeln!(
                config,
                "- {{ job_name: {job}, url: 'http://{targets}/{page}', {authorization} }}"
            )
            .expect("a string takes all");
        }
        config.push_str(&self.more);
        config
    }

    /// Puts the token where Podmeter reads it.
    pub fn give_token(&self) {
        fs::write(self.token_file(), "a-token").expect("the folder takes it");
    }

    /// Takes the token away.
    pub fn take_token(&self) {
        fs::remove_file(self.token_file()).expect("it is there");
    }

    fn token_file(&self) -> PathBuf {
        self.dir.path().join("token")
    }
}

impl Whole {
    /// Starts all of it and waits until the pods are known; nothing where there is no binary, after saying so.
    #[must_use]
    pub fn start() -> Option<Self> {
        Some(Self::start_by(Command::new(podmeter()?)))
    }

    /// The same by a command that executes the binary.
    #[must_use]
    pub fn start_by(command: Command) -> Self {
        Self::start_in(Around::start(), command)
    }

    /// The same with a page of several megabytes.
    #[must_use]
    pub fn start_large(command: Command) -> Self {
        Self::start_in(Around::start().enlarged(N_MORE), command)
    }

    /// The same in the midst of others than the usual ones.
    #[must_use]
    pub fn start_in(around: Around, command: Command) -> Self {
        Self::start_with(around, command, "")
    }

    /// The same with more of a configuration, which later ones may not have.
    #[must_use]
    pub fn start_with(around: Around, command: Command, more: &str) -> Self {
        let exporter = Exporter::start_by(command, &(around.config() + more));
        let whole = Self { exporter, around };
        let deadline = Instant::now() + PATIENCE;
        while !whole.page().knows_pods() {
            assert!(Instant::now() < deadline, "the pods stay unknown: {}", whole.landing());
            thread::sleep(PAUSE);
        }
        whole
    }

    /// A second Podmeter beside the first, by the same configuration.
    #[must_use]
    pub fn start_another(&self, command: Command) -> Exporter {
        Exporter::start_by(command, &self.around.config())
    }

    /// A whole page, read strictly.
    #[must_use]
    pub fn page(&self) -> NodePage {
        NodePage::of(&self.exporter)
    }

    /// Ends Podmeter in an instant and starts it again, in the midst of the same.
    #[must_use]
    pub fn restart(self, command: Command) -> Self {
        let Self { exporter, around } = self;
        exporter.kill();
        let exporter = Exporter::start_by(command, &around.config());
        Self { exporter, around }
    }

    /// The text of `/`.
    #[must_use]
    pub fn landing(&self) -> String {
        get(&self.exporter.url("/"), &[]).text().to_owned()
    }
}

/// A page of the whole.
#[derive(Debug)]
pub struct NodePage(pub Exposition);

impl NodePage {
    /// Scrapes one.
    #[must_use]
    pub fn of(exporter: &Exporter) -> Self {
        Self::read(&get(&exporter.url("/metrics"), &[PATIENT]))
    }

    /// Reads an answer.
    #[must_use]
    pub fn read(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.text());
        Self(Exposition::parse(answer.text()))
    }

    /// The sum of the series with this name and these labels, nought if there is none.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0.sum(name, labels).unwrap_or_default()
    }

    /// How many targets are up.
    #[must_use]
    pub fn n_up(&self) -> usize {
        self.0.values("up", &[]).filter(|value| *value > 0.5).count()
    }

    /// Whether the API server's watch is followed.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.count("podmeter_kubernetes_state", &[("state", "watching")]) > 0.5
    }

    /// Whether the recorded pods and the label of their Deployment are on it.
    #[must_use]
    pub fn knows_pods(&self) -> bool {
        let of_deployment = [("deployment", "n9e-webapi"), ("dept", "edge")];
        self.count("kube_pod_info", &[("namespace", "n9e")]) > 0.5
            && self.0.sum("container_cpu_usage_seconds_total", &of_deployment).is_some()
    }

    /// Scrapes that gave nothing, of all targets, by reason.
    #[must_use]
    pub fn n_failures(&self, reason: &str) -> f64 {
        self.count("podmeter_target_failures_total", &[("reason", reason)])
    }

    /// How often a limit of the endpoint was met.
    #[must_use]
    pub fn n_limit_hits(&self, limit: &str) -> f64 {
        self.count("podmeter_http_limit_hits_total", &[("limit", limit)])
    }
}

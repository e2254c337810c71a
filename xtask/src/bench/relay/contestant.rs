//! Who is measured: Podmeter, vmagent and Prometheus, each with the same target, rules and labels.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    cadvisor::DROPPED,
    server::{Packed, Target, wait_until},
};
use crate::bench::{
    exporter::Exporter,
    measured::{self, Measured},
    pace::Pace,
};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Podmeter pushes no more often.
const SHORTEST_PUSH: Duration = Duration::from_secs(1);

/// Who, and how it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Contestant {
    Podmeter,
    /// With gzip towards the scraper.
    PodmeterGzip,
    /// It asks by itself, and writes to a receiver that swallows, as vmagent does.
    PodmeterPushing,
    Vmagent,
    Prometheus,
    /// Without a storage of its own: it writes to a receiver that swallows, as vmagent does.
    PrometheusAgent,
    /// As a kubelet answers those who take gzip, which these two always do.
    VmagentOfGzip,
    PrometheusOfGzip,
    /// What only copies.
    Copier,
}

/// Where the programs are, and who is there to talk to.
#[derive(Debug)]
pub(in crate::bench) struct Place {
    pub(in crate::bench) podmeter: PathBuf,
    pub(in crate::bench) vmagent: PathBuf,
    pub(in crate::bench) prometheus: PathBuf,
    pub(in crate::bench) api_server: SocketAddr,
    pub(in crate::bench) sink: SocketAddr,
    /// The configuration that leaves all kernel probes off.
    pub(in crate::bench) without_probes: String,
    /// This program, which can be the copier.
    pub(in crate::bench) xtask: PathBuf,
    /// Between two scrapes.
    pub(in crate::bench) interval: Duration,
    /// The page as those get it who take gzip.
    pub(in crate::bench) packed: Packed,
}

/// A running one.
#[derive(Debug)]
pub(in crate::bench) enum Running {
    /// It is asked by the bench, as by a Prometheus.
    Asked { exporter: Exporter, gzip: bool, pace: Pace },
    /// It asks by itself, and says on its page what it did.
    Pushing { exporter: Exporter },
    /// It is asked the same way, and gives what it got.
    Copying { process: Measured, address: SocketAddr, pace: Pace },
    /// It asks by itself.
    Asking {
        process: Measured,
        address: SocketAddr,
        /// Its own counter of samples.
        samples: &'static str,
    },
}

impl Contestant {
    pub(in crate::bench) const ALL: [Self; 7] = [
        Self::Podmeter,
        Self::Vmagent,
        Self::Prometheus,
        Self::PodmeterGzip,
        Self::VmagentOfGzip,
        Self::PrometheusOfGzip,
        Self::Copier,
    ];

    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Podmeter => "Podmeter",
            Self::PodmeterGzip => "Podmeter, gzip to the scraper",
            Self::PodmeterPushing => "Podmeter, remote write",
            Self::Vmagent => "vmagent",
            Self::Prometheus => "Prometheus",
            Self::PrometheusAgent => "Prometheus, agent mode",
            Self::VmagentOfGzip => "vmagent, gzip from the kubelet",
            Self::PrometheusOfGzip => "Prometheus, gzip from the kubelet",
            Self::Copier => "a copy from socket to socket",
        }
    }

    /// Whether the target gives it gzip.
    pub(in crate::bench) fn takes_gzip(self) -> bool {
        matches!(self, Self::VmagentOfGzip | Self::PrometheusOfGzip)
    }

    /// Starts it with this target.
    pub(in crate::bench) fn start(self, place: &Place, target: &Target) -> Result<Running> {
        match self {
            Self::Podmeter | Self::PodmeterGzip => {
                let exporter = podmeter(place, target, "")?;
                let gzip = self == Self::PodmeterGzip;
                Ok(Running::Asked { exporter, gzip, pace: Pace::new(place.interval) })
            }
            Self::PodmeterPushing => {
                let interval = place.interval.max(SHORTEST_PUSH).as_millis();
                let push = format!(
                    "remote_write_interval: {interval}ms\n\
                     remote_write: [ {{ url: 'http://{}/api/v1/write' }} ]\n",
                    place.sink
                );
                Ok(Running::Pushing { exporter: podmeter(place, target, &push)? })
            }
            Self::Vmagent | Self::VmagentOfGzip => vmagent(place, target),
            Self::Prometheus | Self::PrometheusOfGzip => prometheus(place, target),
            Self::PrometheusAgent => prometheus_agent(place, target),
            Self::Copier => copier(place, target),
        }
    }
}

/// It, when it knows the pods.
fn podmeter(place: &Place, target: &Target, more: &str) -> Result<Exporter> {
    let more = format!("{}{more}", place.without_probes);
    let configuration = configuration(place.api_server, target, &more)?;
    let mut exporter = Exporter::start(&place.podmeter, &configuration)?;
    exporter.first_page()?;
    wait_until("podmeter knows the pods", PATIENCE, || {
        exporter.scrape().is_ok_and(|page| page.contains(WATCHING))
    })?;
    Ok(exporter)
}

/// On its page, when it knows the pods.
pub(in crate::bench) const WATCHING: &str = "podmeter_kubernetes_state{state=\"watching\"} 1";

/// Its configuration with the target and the pods of an API server, whose label `region` each series of a pod gets.
pub(in crate::bench) fn configuration(
    api_server: SocketAddr,
    target: &Target,
    more: &str,
) -> Result<String> {
    let kubeconfig = measured::dir()?.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{ name: b, cluster: {{ server: 'http://{api_server}' }} }}]\n\
         users: [{{ name: b, user: {{ }} }}]\ncontexts: [{{ name: b, context: {{ cluster: b, user: b }} }}]\n\
         current-context: b\n"
    );
    fs::write(&kubeconfig, text).context("failed to write the kubeconfig")?;
    Ok(format!(
        "node_name: bench
kubernetes:
  enabled: true
  kubeconfig: {}
  pod_state: {{ enabled: false }}
  labels: [ {{ from: pod.label.region, to: region }} ]
scrape_configs:
  - job_name: cadvisor
    url: http://{}/metrics/cadvisor
    honor_timestamps: false
    metric_relabel_configs:
{}{more}",
        kubeconfig.display(),
        target.address(),
        rules(),
    ))
}

/// The rules, as each of the three has them in its configuration.
fn rules() -> String {
    let rule = |(sources, regex): &(&[&str], &str)| {
        format!(
            "      - {{ source_labels: [{}], regex: '{regex}', action: drop }}\n",
            sources.join(", ")
        )
    };
    DROPPED.iter().map(rule).collect()
}

/// The part of the configuration that vmagent has from Prometheus. Neither can ask the API for a label of a sample's
/// pod, so that each series gets its label for nothing, as one of the target's.
fn scrape_config(target: &Target, interval: Duration) -> String {
    let milliseconds = interval.as_millis();
    format!(
        "global: {{ scrape_interval: {milliseconds}ms, scrape_timeout: {milliseconds}ms }}
scrape_configs:
  - job_name: cadvisor
    metrics_path: /metrics/cadvisor
    honor_timestamps: false
    static_configs: [ {{ targets: ['{}'], labels: {{ node: bench, region: beijing }} }} ]
    metric_relabel_configs:
{}",
        target.address(),
        rules()
    )
}

fn vmagent(place: &Place, target: &Target) -> Result<Running> {
    let config = measured::dir()?.join("vmagent.yaml");
    fs::write(&config, scrape_config(target, place.interval))
        .context("failed to write vmagent's configuration")?;
    let address = measured::free_address()?;
    let mut command = Command::new(&place.vmagent);
    command
        .arg(format!("-promscrape.config={}", config.display()))
        // It takes 16 MiB by default, and the page of 250 pods has more.
        .arg("-promscrape.maxScrapeSize=64MiB")
        .arg(format!("-remoteWrite.url=http://{}/api/v1/write", place.sink))
        .arg(format!("-remoteWrite.tmpDataPath={}", fresh("vmagent-data")?.display()))
        .arg(format!("-httpListenAddr={address}"));
    let samples = "vmagent_remotewrite_global_rows_pushed_before_relabel_total";
    asking(&mut command, "vmagent", target, address, samples)
}

fn prometheus(place: &Place, target: &Target) -> Result<Running> {
    let config = measured::dir()?.join("prometheus.yaml");
    fs::write(&config, scrape_config(target, place.interval))
        .context("failed to write Prometheus' configuration")?;
    let address = measured::free_address()?;
    let mut command = Command::new(&place.prometheus);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", fresh("prometheus-data")?.display()))
        .arg(format!("--web.listen-address={address}"));
    let samples = "prometheus_tsdb_head_samples_appended_total{type=\"float\"}";
    asking(&mut command, "prometheus", target, address, samples)
}

fn prometheus_agent(place: &Place, target: &Target) -> Result<Running> {
    let config = measured::dir()?.join("prometheus-agent.yaml");
    let write = format!("remote_write: [ {{ url: 'http://{}/api/v1/write' }} ]\n", place.sink);
    fs::write(&config, scrape_config(target, place.interval) + &write)
        .context("failed to write the configuration of Prometheus' agent")?;
    let address = measured::free_address()?;
    let mut command = Command::new(&place.prometheus);
    command
        .arg("--agent")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.agent.path={}", fresh("prometheus-agent-data")?.display()))
        .arg(format!("--web.listen-address={address}"));
    let samples = "prometheus_agent_samples_appended_total{type=\"float\"}";
    asking(&mut command, "prometheus-agent", target, address, samples)
}

fn copier(place: &Place, target: &Target) -> Result<Running> {
    let address = measured::free_address()?;
    let mut command = Command::new(&place.xtask);
    command.args(["bench", "copier"]);
    command.args(["--listen", &address.to_string(), "--target", &target.address().to_string()]);
    let process = Measured::start(&mut command, "copier")?;
    let log = process.log().display().to_string();
    wait_until(&format!("the copier listens, see {log}"), PATIENCE, || get(address, "/").is_ok())?;
    Ok(Running::Copying { process, address, pace: Pace::new(place.interval) })
}

fn asking(
    command: &mut Command,
    name: &str,
    target: &Target,
    address: SocketAddr,
    samples: &'static str,
) -> Result<Running> {
    let process = Measured::start(command, name)?;
    let log = process.log().display().to_string();
    // The second time it is past its start, and at the first it may have been asked for its readiness.
    wait_until(&format!("{name} asks, see {log}"), PATIENCE, || target.n_refused() > 1)?;
    Ok(Running::Asking { process, address, samples })
}

/// An empty folder of that name.
fn fresh(name: &str) -> Result<PathBuf> {
    let dir = measured::dir()?.join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("failed to remove {}", dir.display()))?;
    }
    Ok(dir)
}

impl Running {
    pub(in crate::bench) fn process(&self) -> &Measured {
        match self {
            Self::Asked { exporter, .. } | Self::Pushing { exporter } => exporter.process(),
            Self::Asking { process, .. } | Self::Copying { process, .. } => process,
        }
    }

    /// Where it serves a page, if it is one that is asked for it.
    pub(in crate::bench) fn page_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Asked { exporter, .. } => Some(exporter.address()),
            Self::Copying { address, .. } => Some(*address),
            Self::Asking { .. } | Self::Pushing { .. } => None,
        }
    }

    /// Has it scrape the target once: where it does so by itself, this waits for that.
    pub(in crate::bench) fn scrape(&mut self, target: &Target) -> Result<()> {
        let n_served = target.n_served();
        let (address, encoding, pace) = match self {
            Self::Asked { exporter, gzip, pace } => {
                (exporter.address(), if *gzip { "gzip" } else { "identity" }, pace)
            }
            Self::Copying { address, pace, .. } => (*address, "identity", pace),
            Self::Asking { .. } | Self::Pushing { .. } => {
                return target.wait_for_next(n_served, PATIENCE);
            }
        };
        pace.wait();
        swallow(address, encoding)?;
        // It may come to count the page only after that was handed on.
        target.wait_for_next(n_served, PATIENCE).context("the target was not asked")
    }

    /// How many samples it delivered of each page that the target gave; its own about the scrape are among them.
    ///
    /// The copier delivers what came.
    pub(in crate::bench) fn n_samples(&self, target: &Target, n_given: usize) -> Result<f64> {
        let (page, series) = match self {
            Self::Copying { .. } => return Ok(f64::from(u32::try_from(n_given)?)),
            Self::Asked { exporter, .. } | Self::Pushing { exporter } => {
                let series = "scrape_samples_post_metric_relabeling{job=\"cadvisor\"";
                return number(&exporter.scrape()?, series);
            }
            Self::Asking { address, samples, .. } => (get(*address, "/metrics")?, *samples),
        };
        let n_served = u32::try_from(target.n_served())?;
        Ok((number(&page, series)? / f64::from(n_served.max(1))).round())
    }
}

/// The value of the first series that begins so.
fn number(page: &str, series: &str) -> Result<f64> {
    let line = page.lines().find(|line| line.starts_with(series));
    let value = line.and_then(|line| line.rsplit(' ').next()?.trim().parse().ok());
    value.with_context(|| format!("there is no {series} on the page"))
}

/// Asks for a page and throws it away, which costs least.
fn swallow(address: SocketAddr, encoding: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).context("failed to connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept: text/plain\r\nAccept-Encoding: {encoding}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).context("failed to send the request")?;
    let mut buffer = vec![0; 1 << 20];
    let mut n_bytes = stream.read(&mut buffer).context("failed to read the answer")?;
    if !buffer.starts_with(b"HTTP/1.1 200 ") {
        bail!("the answer is no page");
    }
    loop {
        match stream.read(&mut buffer).context("failed to read the answer")? {
            0 => break,
            n_read => n_bytes += n_read,
        }
    }
    if n_bytes < 1 << 18 {
        bail!("the page has only {n_bytes} bytes");
    }
    Ok(())
}

/// A small page of a contestant about itself.
fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).context("failed to connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).context("failed to send the request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("failed to read the answer")?;
    Ok(answer)
}

//! `podmeter run`: the agent behind the server, from start to SIGTERM.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    task,
};
use tracing::info;

use crate::{
    agent::{Agent, CollectionError, ScrapeRequest, SourceRun, StartError},
    attribution::kubernetes::{KubernetesStatus, SyncState},
    caps::privileged::Privileged,
    config::Config,
    demand::{Demand, DemandError},
    page::Page,
    paths::HostPaths,
    server::{
        Server, ServerError,
        app::{
            App, Attachment, Fact, Handler, Landing, Outcome, ProbeState, Readiness, SourceError,
            SourceState,
        },
        limits::{Limit, Limits},
    },
    source::probe::ProbeStatus,
    targets::{LastScrape, Remark},
};

/// Why Podmeter does not serve.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot listen.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// There is no agent.
    #[error(transparent)]
    Agent(#[from] StartError),
    /// It could not be told to stop.
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
    /// The start panicked.
    #[error("starting ended early, which is a bug")]
    Start(#[from] task::JoinError),
}

/// Serves until SIGTERM or SIGINT, then lets running requests finish. Requests that come early wait for the start.
pub async fn run(
    config: Config,
    listener: TcpListener,
    privileged: Privileged,
) -> Result<(), RunError> {
    let began = Instant::now();
    let stop = stop_signal().map_err(RunError::Signals)?;
    let server = Server::new(listener, Limits::default())?;
    let address = server.local_addr();
    let paths = config.paths.clone();
    let agent = task::spawn_blocking(move || Agent::start(&config, &privileged)).await??;
    let url = format!("http://{}/metrics", reachable(address));
    info!(%address, start = ?began.elapsed(), "serving {url}");
    let node = Node { agent, kernel: kernel(&paths) };
    server.serve(Arc::new(node), stop).await;
    info!("stopped");
    Ok(())
}

/// The agent with what the landing page says of the machine.
struct Node {
    agent: Arc<Agent>,
    kernel: String,
}

impl App for Node {
    type Error = CollectionError;

    fn demand(&self, query: &str) -> Result<Demand, DemandError> {
        self.agent.offer().demand(query)
    }

    async fn metrics(
        &self,
        demand: Demand,
        time_limit: Option<Duration>,
    ) -> Result<Arc<Page>, CollectionError> {
        self.agent.scrape(ScrapeRequest::part(demand, time_limit)).await
    }

    fn ready(&self) -> Readiness {
        match self.agent.no_cgroups() {
            None => Readiness::Ready,
            Some(reason) => Readiness::NotReady { reason: reason.into() },
        }
    }

    fn landing(&self) -> Landing {
        Landing {
            version: env!("CARGO_PKG_VERSION").into(),
            node_name: self.agent.node_name().into(),
            kernel: self.kernel.clone(),
            uptime: self.agent.started().elapsed(),
            kubernetes: kubernetes_facts(self.agent.kubernetes().as_ref()),
            probes: self.agent.probes().iter().map(probe_state).collect(),
            sources: self.agent.runs().into_iter().map(source_state).collect(),
            targets_from: self.agent.local_targets().as_str().into(),
            targets: self.agent.last_scrapes().into_iter().map(target_state).collect(),
        }
    }

    fn observe(&self, handler: Handler, status: u16) {
        self.agent.metrics().record_request(handler.as_str(), status);
    }

    fn limit_hit(&self, limit: Limit) {
        self.agent.metrics().record_limit(limit.as_str());
    }
}

fn probe_state(status: &ProbeStatus) -> ProbeState {
    let reasons = status.reasons.join("; ");
    let attachment = match status.state {
        Ok(hook) if reasons.is_empty() => Attachment::Attached { hook: hook.as_str().into() },
        Ok(hook) => Attachment::Attached { hook: format!("{} ({reasons})", hook.as_str()) },
        Err(_) => Attachment::Absent { reason: format!("{reasons}; instead: {}", status.instead) },
    };
    ProbeState { name: status.name.into(), attachment }
}

fn kubernetes_facts(status: Option<&KubernetesStatus>) -> Vec<Fact> {
    let Some(status) = status else {
        return Vec::new();
    };
    let fact = |name: &str, text: String, is_well| Fact { name: name.into(), text, is_well };
    let is_watching = status.state == SyncState::Watching;
    let pods = format!("{} of node {}, by {}", status.numbers.n_live, status.node, status.access);
    let mut facts = vec![
        fact("state", status.state.as_str().into(), is_watching),
        fact("pods", pods, status.is_synced),
    ];
    let now = Instant::now();
    if let Some(age) = status.event_age(now) {
        facts.push(fact("last event", format!("{} s ago", age.as_secs()), is_watching));
    }
    for (resource, message) in &status.forbidden {
        facts.push(fact(&format!("{resource} forbidden"), message.clone(), false));
    }
    if let Some((at, error)) = &status.last_error {
        let ago = now.saturating_duration_since(*at).as_secs();
        facts.push(fact("last error", format!("{error} ({ago} s ago)"), is_watching));
    }
    facts
}

fn source_state(run: SourceRun) -> SourceState {
    let outcome = if run.success { Outcome::Success } else { Outcome::Failure };
    SourceState {
        name: run.name.into(),
        last_run: run.last.map(|(ended, duration)| crate::server::app::SourceRun {
            duration,
            age: ended.elapsed(),
            outcome,
        }),
        last_error: run.last_error.map(|(at, message)| SourceError { message, age: at.elapsed() }),
        remark: None,
    }
}

fn target_state((job, last): (&str, Option<LastScrape>)) -> SourceState {
    let outcome = |last: &LastScrape| match (&last.error, last.remark) {
        (None, Some(Remark::NotFound)) => Outcome::NoData,
        (None, Some(Remark::SameAsKubelet) | None) => Outcome::Success,
        (Some(_), _) => Outcome::Failure,
    };
    let run = last.as_ref().map(|last| crate::server::app::SourceRun {
        duration: last.duration,
        age: last.ended.elapsed(),
        outcome: outcome(last),
    });
    let remark = last.as_ref().and_then(|last| last.remark);
    let error = last.and_then(|last| last.last_error);
    SourceState {
        name: job.into(),
        last_run: run,
        last_error: error.map(|(at, message)| SourceError { message, age: at.elapsed() }),
        remark: remark.map(|remark| remark.as_str().into()),
    }
}

/// An address that a person on this machine can open.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Ends when the process is asked to stop.
///
/// The signals are caught from this call on, not from the first poll, so that none which comes during the start ends
/// the process without its leave.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
        }
    })
}

fn kernel(paths: &HostPaths) -> String {
    proc_text(paths, "sys/kernel/osrelease")
}

/// A line of procfs for the landing page, where a gap is better than no page.
fn proc_text(paths: &HostPaths, file: &str) -> String {
    match fs::read_to_string(paths.proc.join(file)) {
        Ok(text) => text.trim().into(),
        Err(error) => format!("unknown: {file}: {error}"),
    }
}

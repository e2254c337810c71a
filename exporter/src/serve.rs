//! `podmeter run`: the agent behind the server, from start to SIGTERM.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task,
};
use tracing::{debug, info, warn};

use crate::{
    agent::{Agent, CollectionError, ConfigStatus, ScrapeRequest, SourceRun, StartError},
    attribution::kubernetes::{KubernetesStatus, NoAccess, SyncState, review::Review},
    caps::privileged::Privileged,
    config::origin::{Loaded, Origin},
    demand::{Demand, DemandError},
    error_chain::one_line,
    instance::{Instance, Standing},
    page::Page,
    paths::HostPaths,
    reload,
    remote_write::{pusher, status::EndpointStatus},
    server::{
        Server, ServerError,
        app::{
            App, Attachment, Busy, Fact, Handler, Landing, Outcome, ProbeState, Readiness,
            SourceError, SourceState, TlsFailure, TokenVerdict,
        },
        limits::{Limit, Limits},
        web::{Web, WebError},
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
    /// The web configuration cannot be used.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The Kubernetes API is to say who may read the page, and cannot be found.
    #[error(transparent)]
    NoAccess(#[from] NoAccess),
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
    origin: Origin,
    Loaded { config, text }: Loaded,
    listener: TcpListener,
    privileged: Privileged,
) -> Result<(), RunError> {
    let began = Instant::now();
    let stop = stop_signal().map_err(RunError::Signals)?;
    // From now on a SIGHUP ends nothing; one that comes during the start is heard after it.
    let hangup = signal(SignalKind::hangup()).map_err(RunError::Signals)?;
    let web = match config.web.config_file.clone() {
        Some(path) => task::spawn_blocking(move || Web::load(&path)).await??,
        None => Web::none(),
    };
    let reviews_tokens = config.web.kubernetes_auth;
    if reviews_tokens && !web.has_tls() && !config.listen.ip().is_loopback() {
        warn!(
            "tokens of scrapers come without TLS, and can be read on their way: set tls_server_config"
        );
    }
    let scheme = if web.has_tls() { "https" } else { "http" };
    let server = Server::new(listener, Limits::default())?.guarded_by(web);
    let address = server.local_addr();
    let paths = config.paths.clone();
    let agent = task::spawn_blocking(move || Agent::start(&config, &privileged)).await??;
    if reviews_tokens && agent.reviewer().is_none() {
        return Err(NoAccess { key: "web.kubernetes_auth" }.into());
    }
    let url = format!("{scheme}://{}/metrics", reachable(address));
    info!(%address, start = ?began.elapsed(), "serving {url}");
    let reloads = task::spawn(reload::follow(Arc::clone(&agent), origin, text, hangup));
    let node = Node {
        agent,
        kernel: kernel(&paths),
        reviews_tokens,
        has_warned_of_review: AtomicBool::new(false),
        instance: Instance::default(),
    };
    node.look_for_others();
    let (stopping, mut stopped) = watch::channel(false);
    let pusher = task::spawn(pusher::run(Arc::clone(&node.agent), stopping.subscribe()));
    // The server and the pusher both hear of it.
    task::spawn(async move {
        stop.await;
        stopping.send_replace(true);
    });
    let stop = async move {
        // An error would be that nobody can say it any more.
        drop(stopped.wait_for(|is_stopping| *is_stopping).await);
    };
    server.serve(Arc::new(node), stop).await;
    if let Err(error) = pusher.await {
        warn!(%error, "pushing ended early, which is a bug");
    }
    reloads.abort();
    info!("stopped");
    Ok(())
}

/// The agent with what the landing page says of the machine.
struct Node {
    agent: Arc<Agent>,
    kernel: String,
    /// Whether a scraper must show a token; no reload changes it.
    reviews_tokens: bool,
    has_warned_of_review: AtomicBool,
    instance: Instance,
}

impl Node {
    /// Notes whether another Podmeter was here before.
    fn look_for_others(&self) -> Standing {
        let standing = self.instance.look();
        self.agent.metrics().record_instance(standing == Standing::Second);
        standing
    }
}

/// What the owner of a token must be allowed to get, as for kube-rbac-proxy.
const REVIEWED_PATH: &str = "/metrics";

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
        self.look_for_others();
        self.agent.scrape(ScrapeRequest::part(demand, time_limit)).await
    }

    fn ready(&self) -> Readiness {
        match self.agent.no_cgroups() {
            None => Readiness::Ready,
            Some(reason) => Readiness::NotReady { reason: reason.into() },
        }
    }

    fn landing(&self) -> Landing {
        let mut configuration = configuration_facts(&self.agent.config_status());
        if self.look_for_others() == Standing::Second {
            configuration.push(Fact {
                name: "another Podmeter".into(),
                text: "was here before: the sum of both pages counts twice".into(),
                is_well: false,
            });
        }
        Landing {
            version: env!("CARGO_PKG_VERSION").into(),
            node_name: self.agent.node_name(),
            kernel: self.kernel.clone(),
            uptime: self.agent.started().elapsed(),
            busy: self.agent.busy().map(|(rates, at)| Busy { rates, age: at.elapsed() }),
            configuration,
            kubernetes: kubernetes_facts(self.agent.kubernetes().as_ref()),
            probes: self.agent.probes().iter().map(probe_state).collect(),
            sources: self.agent.runs().into_iter().map(source_state).collect(),
            targets_from: self.agent.local_targets().as_str().into(),
            targets: self.agent.last_scrapes().into_iter().map(target_state).collect(),
            remote_write: self.agent.receivers().iter().map(receiver_fact).collect(),
        }
    }

    fn reviews_tokens(&self) -> bool {
        self.reviews_tokens
    }

    async fn review(&self, token: &str) -> TokenVerdict {
        let Some(reviewer) = self.agent.reviewer() else {
            return TokenVerdict::Unavailable;
        };
        let verdict = match reviewer.review(token, REVIEWED_PATH).await {
            Ok(Review::Allowed) => TokenVerdict::Allowed,
            Ok(Review::Unknown) => TokenVerdict::Unknown,
            Ok(Review::Forbidden { user }) => TokenVerdict::Forbidden { user },
            Err(error) => {
                let error = one_line(&error);
                if self.has_warned_of_review.swap(true, Ordering::Relaxed) {
                    debug!(error, "a scraper's token could not be reviewed");
                } else {
                    warn!(
                        error,
                        "a scraper's token could not be reviewed (said once until it can)"
                    );
                }
                TokenVerdict::Unavailable
            }
        };
        if verdict != TokenVerdict::Unavailable {
            self.has_warned_of_review.store(false, Ordering::Relaxed);
        }
        self.agent.metrics().record_token_review(verdict.as_str());
        verdict
    }

    fn observe(&self, handler: Handler, status: u16) {
        self.agent.metrics().record_request(handler.as_str(), status);
    }

    fn limit_hit(&self, limit: Limit) {
        self.agent.metrics().record_limit(limit.as_str());
    }

    fn tls_failed(&self, failure: TlsFailure) {
        self.agent.metrics().record_tls_failure(failure.as_str());
    }

    fn web_config_read(&self, is_good: bool) {
        self.agent.metrics().record_web_config(is_good);
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

fn configuration_facts(status: &ConfigStatus) -> Vec<Fact> {
    let ago = |at: Instant| format!("{} s ago", at.elapsed().as_secs());
    let fact = |name: &str, text, is_well| Fact { name: name.into(), text, is_well };
    let mut facts = vec![fact("in force since", ago(status.since), true)];
    if let Some((at, error)) = &status.refused {
        facts.push(fact("refused", format!("{error} ({})", ago(*at)), false));
    }
    facts
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

fn receiver_fact(status: &EndpointStatus) -> Fact {
    let ago = |at: &Instant| format!("{} s ago", at.elapsed().as_secs());
    let taken = match &status.last_success {
        Some(at) => format!("{} samples taken, the last {}", status.totals.samples, ago(at)),
        None => "nothing taken yet".into(),
    };
    let buffer = status.buffer_error.as_ref();
    let buffer = buffer.map(|error| format!("; the buffer does not work: {error}"));
    let error = status.last_error.as_ref();
    let error = error.map(|(at, error)| format!("; last error: {error} ({})", ago(at)));
    Fact {
        name: status.name.clone(),
        text: format!(
            "{taken}; {} wait{}{}",
            status.n_pending_samples,
            buffer.unwrap_or_default(),
            error.unwrap_or_default()
        ),
        is_well: status.is_well(),
    }
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

fn target_state((job, last): (String, Option<LastScrape>)) -> SourceState {
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
        name: job,
        last_run: run,
        last_error: error.map(|(at, message)| SourceError { message, age: at.elapsed() }),
        remark: remark.map(|remark| remark.as_str().into()),
    }
}

/// An address that a person on this machine can open.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
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

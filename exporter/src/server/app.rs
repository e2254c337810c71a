//! What the server asks of the rest of Podmeter, and what it tells it. No IO.

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use super::limits::Limit;
use crate::{
    demand::{Demand, DemandError},
    labelling::glance::Rates,
    page::Page,
};

/// The side of Podmeter that knows the answers.
pub trait App: Send + Sync + 'static {
    /// Why there is no page at all; a page that lacks a source is not an error.
    type Error: Error + Send + Sync + 'static;

    /// Which part of the page a query, without its `?`, asks for; must not block.
    fn demand(&self, query: &str) -> Result<Demand, DemandError>;

    /// Collects that part of the page now, within the time if the scraper says one. It is dropped unfinished when the
    /// client goes or the time is up.
    fn metrics(
        &self,
        demand: Demand,
        time_limit: Option<Duration>,
    ) -> impl Future<Output = Result<Arc<Page>, Self::Error>> + Send;

    /// Whether scrapes give what was asked for; must not block.
    fn ready(&self) -> Readiness;

    /// What `/` shows; must not block.
    fn landing(&self) -> Landing;

    /// Whether the Kubernetes API is asked who may read the page.
    fn reviews_tokens(&self) -> bool;

    /// What the Kubernetes API says of a token now; in bounded time.
    fn review(&self, token: &str) -> impl Future<Output = TokenVerdict> + Send;

    /// Called once for each answer.
    fn observe(&self, handler: Handler, status: u16);

    /// Called each time that a limit is met.
    fn limit_hit(&self, limit: Limit);

    /// Called each time that a TLS handshake fails.
    fn tls_failed(&self, failure: TlsFailure);

    /// Called each time that a changed web configuration was read: whether it holds now.
    fn web_config_read(&self, is_good: bool);
}

/// What the Kubernetes API says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    /// Its owner may read the page.
    Allowed,
    /// It is nobody's, or has expired.
    Unknown,
    /// Its owner may not read the page.
    Forbidden {
        /// The owner.
        user: String,
    },
    /// The API cannot be asked.
    Unavailable,
}

impl TokenVerdict {
    /// The value of a label.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Unknown => "unknown",
            Self::Forbidden { .. } => "forbidden",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// The client speaks something else.
    NoTls,
    /// The client's certificate is not as the policy wants it.
    ClientCertificate,
    /// The client does not take the endpoint's certificate.
    ServerCertificate,
    /// They have no version, cipher suite or curve in common.
    Incompatible,
    /// The client left, or sent what makes no sense.
    Broken,
}

impl TlsFailure {
    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTls => "no_tls",
            Self::ClientCertificate => "client_certificate",
            Self::ServerCertificate => "server_certificate",
            Self::Incompatible => "incompatible",
            Self::Broken => "broken",
        }
    }
}

/// Which part of the server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// `/metrics`.
    Metrics,
    /// `/healthz`.
    Healthz,
    /// `/readyz`.
    Readyz,
    /// `/`.
    Landing,
    /// Any other path.
    Unknown,
}

impl Handler {
    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Landing => "landing",
            Self::Unknown => "unknown",
        }
    }
}

/// The answer to `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Ready.
    Ready,
    /// Not ready.
    NotReady {
        /// What is missing, in a sentence for an operator.
        reason: String,
    },
}

/// What `/` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Landing {
    /// Podmeter's version.
    pub version: String,
    /// The node's name.
    pub node_name: String,
    /// The kernel's release.
    pub kernel: String,
    /// How long Podmeter has run.
    pub uptime: Duration,
    /// Who was busy between the last two collections; none before there were two.
    pub busy: Option<Busy>,
    /// Since when the configuration is in force, and why a later one is not.
    pub configuration: Vec<Fact>,
    /// How it stands with the Kubernetes API, in rows of what and how.
    pub kubernetes: Vec<Fact>,
    /// Every probe, in the order to show.
    pub probes: Vec<ProbeState>,
    /// Every source, in the order to show.
    pub sources: Vec<SourceState>,
    /// Which targets there are, and why.
    pub targets_from: String,
    /// Every target whose page is relayed, in the order to show.
    pub targets: Vec<SourceState>,
    /// Every receiver that pages are pushed to, in rows of which and how.
    pub remote_write: Vec<Fact>,
}

/// Who was busy.
#[derive(Clone, Debug, PartialEq)]
pub struct Busy {
    /// Everybody.
    pub rates: Rates,
    /// How long ago the second collection was.
    pub age: Duration,
}

/// One row of a table of facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub name: String,
    /// How it is.
    pub text: String,
    /// Whether that is well.
    pub is_well: bool,
}

/// One row of the table of probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeState {
    /// The probe's name.
    pub name: String,
    /// Whether it measures.
    pub attachment: Attachment,
}

/// Whether a probe measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// It does.
    Attached {
        /// What it is attached to.
        hook: String,
    },
    /// It does not.
    Absent {
        /// Why not, and what to do.
        reason: String,
    },
}

/// One row of the table of sources, or of that of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// The source's name.
    pub name: String,
    /// Its last run; none if it has not run yet.
    pub last_run: Option<SourceRun>,
    /// The last error, even if later runs succeeded.
    pub last_error: Option<SourceError>,
    /// What else is to be said of it.
    pub remark: Option<String>,
}

/// One run of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRun {
    /// How long it took.
    pub duration: Duration,
    /// How long ago it ended.
    pub age: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a run of a source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It gave all of its families.
    Success,
    /// It gave none, because there is nothing to measure here.
    NoData,
    /// It gave none, because of an error.
    Failure,
}

/// An error of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// The whole chain of causes.
    pub message: String,
    /// How long ago it happened.
    pub age: Duration,
}

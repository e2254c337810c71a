//! The web configuration as it is now: read at the start, and again when it or a file that it names has changed.
//!
//! exporter-toolkit reads its file for each connection and each request. Here the files are looked at for each, but not
//! twice within [`LOOK_PAUSE`], and read when they are others. What cannot be used leaves all as it was, and is said.

mod tls;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use hyper::header::{HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};
use rustls::ServerConfig;
use tokio::{sync::Mutex, task};
use tracing::{info, warn};

pub use self::tls::TlsError;
use crate::{
    config::web::{ClientAuth, WebConfig, WebConfigError},
    error_chain::one_line,
    files::Stamp,
    server::{app::Fact, guard::Users},
};

/// How long nobody looks at the files again: thousands of connections cost no more than one look a second.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// When a refused file is tried again though none of the files that are known has changed: it may name others.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// Why a web configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The file.
    #[error(transparent)]
    Config(#[from] WebConfigError),
    /// What it says of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A header that is none.
    #[error("http_server_config.headers has a name that is none")]
    HeaderName(#[from] InvalidHeaderName),
    /// A header whose value is none.
    #[error("http_server_config.headers has a value that is none")]
    HeaderValue(#[from] InvalidHeaderValue),
    /// The new file would open what the old one guards.
    #[error("the new file has no {0} any more: what is guarded opens by a restart only")]
    Opens(&'static str),
    /// The new file has TLS, and the old one had none.
    #[error("the new file has tls_server_config, which the old one had not: restart for it")]
    Closes,
    /// Reading panicked.
    #[error("reading the web configuration ended early, which is a bug")]
    Panicked(#[from] task::JoinError),
}

/// The web configuration, which may change while the server runs.
#[derive(Debug)]
pub struct Web {
    path: Option<PathBuf>,
    current: RwLock<Arc<Rules>>,
    watch: Mutex<Watch>,
}

/// What holds for connections and requests that begin now.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Which reading of the files this is.
    pub(super) generation: u64,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) client_auth: ClientAuth,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may read the page by a password; if there is nobody, none is asked for.
    pub(super) users: Users,
    /// The files that it was made of.
    files: Vec<PathBuf>,
}

#[derive(Debug)]
struct Watch {
    looked: Instant,
    stamp: Stamp,
    /// When a changed file was refused the last time, and why.
    refused: Option<(Instant, String)>,
}

/// What became of a look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Unchanged,
    Reloaded,
    Refused,
}

impl Web {
    /// No web configuration: plain HTTP for everybody.
    #[must_use]
    pub fn none() -> Self {
        Self::new(None, Rules::default(), Stamp::default())
    }

    /// Reads the file and those that it names; this blocks.
    pub fn load(path: &Path) -> Result<Self, WebError> {
        let (rules, stamp) = Rules::read(path, 0)?;
        Ok(Self::new(Some(path.into()), rules, stamp))
    }

    fn new(path: Option<PathBuf>, rules: Rules, stamp: Stamp) -> Self {
        Self {
            path,
            current: RwLock::new(Arc::new(rules)),
            watch: Mutex::new(Watch { looked: Instant::now(), stamp, refused: None }),
        }
    }

    /// Whether connections have TLS; that does not change while the server runs.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.current().tls.is_some()
    }

    /// How the endpoint is guarded, in one line; never a secret.
    #[must_use]
    pub fn describe(&self) -> String {
        let facts = self.current().facts();
        let facts: Vec<_> =
            facts.iter().map(|fact| format!("{}: {}", fact.name, fact.text)).collect();
        facts.join(", ")
    }

    /// What holds now, as far as it was looked at.
    pub(super) fn current(&self) -> Arc<Rules> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files, unless that was done a moment ago or another task does it.
    pub(super) async fn look(&self) -> Look {
        let (Some(path), Ok(mut watch)) = (&self.path, self.watch.try_lock()) else {
            return Look::Unchanged;
        };
        if watch.looked.elapsed() < LOOK_PAUSE {
            return Look::Unchanged;
        }
        // Also if this task ends before its look does: then the next look finds what this one has.
        watch.looked = Instant::now();
        let old = self.current();
        let is_due = watch.refused.as_ref().is_some_and(|(at, _)| at.elapsed() >= RETRY_PAUSE);
        let known = (!is_due).then(|| watch.stamp.clone());
        let path = path.clone();
        let read = task::spawn_blocking(move || reread(&path, &old, known.as_ref())).await;
        let read = match read {
            Ok(None) => return Look::Unchanged,
            Ok(Some((stamp, read))) => {
                watch.stamp = stamp;
                read
            }
            Err(error) => Err(error.into()),
        };
        match read {
            Ok(rules) => {
                info!("the web configuration has changed, and holds from now on");
                watch.refused = None;
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
                Look::Reloaded
            }
            Err(error) => {
                let error = one_line(&error);
                if watch.refused.as_ref().is_none_or(|(_, known)| *known != error) {
                    warn!(error, "the changed web configuration is refused, the old one stays");
                }
                watch.refused = Some((Instant::now(), error));
                Look::Refused
            }
        }
    }

    /// How the endpoint is guarded, for people; never a secret.
    pub(super) async fn facts(&self) -> Vec<Fact> {
        let mut facts = self.current().facts();
        if let Some((at, error)) = &self.watch.lock().await.refused {
            let text =
                format!("refused, the old one stays: {error} ({} s ago)", at.elapsed().as_secs());
            facts.push(Fact { name: "web configuration".into(), text, is_well: false });
        }
        facts
    }
}

/// The new rules with what the files looked like before they were read; none if they look as known.
fn reread(
    path: &Path,
    old: &Rules,
    known: Option<&Stamp>,
) -> Option<(Stamp, Result<Rules, WebError>)> {
    let seen = stamp(path, &old.files);
    if known == Some(&seen) {
        return None;
    }
    let read = Rules::read(path, old.generation + 1).and_then(|(rules, stamp)| {
        rules.check_after(old)?;
        Ok((rules, stamp))
    });
    Some(match read {
        Ok((rules, stamp)) => (stamp, Ok(rules)),
        Err(error) => (seen, Err(error)),
    })
}

fn stamp(path: &Path, files: &[PathBuf]) -> Stamp {
    Stamp::of([path.to_path_buf()].iter().chain(files))
}

impl Rules {
    fn read(path: &Path, generation: u64) -> Result<(Self, Stamp), WebError> {
        // Before the reading: what changes meanwhile is seen at the next look.
        let before = stamp(path, &[]);
        let config = WebConfig::load(path)?;
        let files: Vec<_> = config.files().cloned().collect();
        let stamps = stamp(path, &files);
        let tls = config.tls.as_ref().map(tls::build).transpose()?;
        let mut headers = Vec::new();
        for (name, value) in &config.headers {
            headers.push((name.parse()?, value.parse()?));
        }
        let client_auth = config.tls.map(|tls| tls.client_auth).unwrap_or_default();
        let users = config.users;
        // The file itself may have changed between its reading and the second stamp.
        let stamp = if stamp(path, &[]) == before { stamps } else { before };
        Ok((Self { generation, tls, client_auth, headers, users, files }, stamp))
    }

    /// Whether not everybody is let in.
    pub(super) fn is_guarded(&self) -> bool {
        self.client_auth.is_required() || !self.users.is_empty()
    }

    fn facts(&self) -> Vec<Fact> {
        let fact =
            |name: &str, text: &str| Fact { name: name.into(), text: text.into(), is_well: true };
        let certificate = match self.client_auth {
            ClientAuth::NoClientCert => "not asked for",
            ClientAuth::RequestClientCert => "asked for, not checked",
            ClientAuth::RequireAnyClientCert => "any is needed",
            ClientAuth::VerifyClientCertIfGiven => "checked if given",
            ClientAuth::RequireAndVerifyClientCert => "needed and checked",
        };
        let tls = if self.tls.is_some() { "yes" } else { "no" };
        let users = match self.users.len() {
            0 => "not asked for".to_owned(),
            n => format!("of one of {n} users"),
        };
        vec![fact("TLS", tls), fact("client certificate", certificate), fact("password", &users)]
    }

    /// A file that is cut short or emptied must not open the endpoint.
    fn check_after(&self, old: &Self) -> Result<(), WebError> {
        match (&old.tls, &self.tls) {
            (Some(_), None) => return Err(WebError::Opens("tls_server_config")),
            (None, Some(_)) => return Err(WebError::Closes),
            _ => {}
        }
        if old.client_auth.is_required() && !self.client_auth.is_required() {
            return Err(WebError::Opens("client_auth_type that requires a certificate"));
        }
        if !old.users.is_empty() && self.users.is_empty() {
            return Err(WebError::Opens("basic_auth_users"));
        }
        Ok(())
    }
}

//! Why `podmeter top` has nothing to show, and what to do about it.

use std::io;

use http::{StatusCode, Uri};

use crate::source::upstream::{client::error::FetchError, exposition::LineError};

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// `--url` cannot be asked.
    #[error("--url {url} cannot be asked: {reason}")]
    Url {
        /// As given.
        url: String,
        /// Why not.
        reason: &'static str,
    },
    /// Nobody answers.
    #[error(
        "nobody answers at {endpoint}: start Podmeter there (`podmeter run`), or say where it is by --url or --config"
    )]
    NobodyThere {
        /// Scheme, host and port.
        endpoint: String,
        /// What was tried.
        source: FetchError,
    },
    /// The endpoint does not know who asks.
    #[error(
        "{endpoint} answers only to whom it knows: give --token-file, or --username and --password-file, or --cert-file and --key-file"
    )]
    Unauthorized {
        /// Scheme, host and port.
        endpoint: String,
    },
    /// The endpoint knows who asks, and does not want to answer.
    #[error(
        "{endpoint} does not answer to whoever these credentials belong to: let them get the non-resource URL /metrics"
    )]
    Forbidden {
        /// Scheme, host and port.
        endpoint: String,
    },
    /// Something else listens there.
    #[error("what answers at {endpoint} is no Podmeter: say where it is by --url or --config")]
    NotPodmeter {
        /// Scheme, host and port.
        endpoint: String,
    },
    /// Its certificate is not trusted, or TLS went wrong otherwise.
    #[error(
        "{endpoint} cannot be trusted: give its authority by --ca-file, or --insecure-skip-verify to believe whoever answers"
    )]
    Tls {
        /// Scheme, host and port.
        endpoint: String,
        /// What TLS said.
        source: FetchError,
    },
    /// There is no page for another reason.
    #[error("{endpoint} gives no page")]
    Fetch {
        /// Scheme, host and port.
        endpoint: String,
        /// Why.
        source: FetchError,
    },
    /// A page that cannot be read.
    #[error("the page of {endpoint} cannot be read; is it of this version, {version}?", version = env!("CARGO_PKG_VERSION"))]
    Page {
        /// Scheme, host and port.
        endpoint: String,
        /// Where.
        source: LineError,
    },
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The terminal cannot be used.
    #[error("the terminal cannot be used; `podmeter top --once`, or a pipe, needs none")]
    Terminal(#[source] io::Error),
}

impl TopError {
    /// What a failed request means here.
    pub(super) fn of_fetch(url: &Uri, source: FetchError) -> Self {
        let endpoint = endpoint(url);
        match source {
            FetchError::Connect(_) => Self::NobodyThere { endpoint, source },
            FetchError::Tls { .. } | FetchError::TlsFiles(_) => Self::Tls { endpoint, source },
            FetchError::Status { status: StatusCode::UNAUTHORIZED } => {
                Self::Unauthorized { endpoint }
            }
            FetchError::Status { status: StatusCode::FORBIDDEN } => Self::Forbidden { endpoint },
            // A Podmeter has this path, and these sources.
            FetchError::Status { status: StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST } => {
                Self::NotPodmeter { endpoint }
            }
            source => Self::Fetch { endpoint, source },
        }
    }
}

/// The URL without what top adds to it.
pub(super) fn endpoint(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    format!("{scheme}://{authority}")
}

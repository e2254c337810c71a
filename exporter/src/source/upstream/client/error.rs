//! Why a target gave no page, by what an operator would do about it.

use std::{error::Error, io, path::PathBuf, time::Duration};

use hyper::StatusCode;
use rustls::CertificateError;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file with a token or a password.
    #[error("cannot read the credentials in {path}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file with a token or a password that says nothing that a header can carry.
    #[error("the credentials in {path} are empty or no single line of text")]
    BadCredentials {
        /// The file, or where in the configuration.
        path: String,
    },
    /// A file of `tls_config`.
    #[error(transparent)]
    TlsFiles(#[from] super::tls::TlsFilesError),
    /// Nobody took the connection.
    #[error("cannot connect: is the target running, and is the address right?")]
    Connect(#[source] BoxError),
    /// The target's certificate, or what else TLS refused.
    #[error("{hint}")]
    Tls {
        /// What to do.
        hint: &'static str,
        /// What TLS said.
        source: rustls::Error,
    },
    /// It did not end in time.
    #[error("no whole page within {:.1} s: {phase}", limit.as_secs_f64())]
    Timeout {
        /// The time that there was.
        limit: Duration,
        /// How far it came.
        phase: Phase,
    },
    /// Another status than 200.
    #[error("the target answered {status}{}", status_hint(*status))]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// The page is too large.
    #[error("the page has more than {limit} bytes: raise body_size_limit, or scrape less")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// An encoding that was not asked for.
    #[error("the page has the Content-Encoding {encoding}, which was not asked for")]
    Encoding {
        /// Its name.
        encoding: String,
    },
    /// What claims to be gzip is none, or ends early.
    #[error("the page is no valid gzip")]
    Gzip(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke {phase}")]
    Broken {
        /// How far it came.
        phase: Phase,
        /// Why.
        source: BoxError,
    },
}

/// An error of the HTTP library.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Phase {
    /// Before the headers of the answer.
    #[error("before the target answered")]
    Headers,
    /// In the middle of the page.
    #[error("in the middle of the page, after {n_bytes} bytes")]
    Body {
        /// What had come.
        n_bytes: usize,
    },
}

impl FetchError {
    /// The value of a label: few words, for good.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Credentials { .. } | Self::BadCredentials { .. } => "credentials",
            Self::TlsFiles(_) => "tls_files",
            Self::Connect(_) => "connect",
            Self::Tls { .. } => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Status { status: StatusCode::UNAUTHORIZED } => "unauthorized",
            Self::Status { status: StatusCode::FORBIDDEN } => "forbidden",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "body_size_limit",
            Self::Encoding { .. } | Self::Gzip(_) => "encoding",
            Self::Broken { .. } => "broken",
        }
    }

    /// Every value of [`Self::reason`].
    pub const REASONS: &[&str] = &[
        "credentials",
        "tls_files",
        "connect",
        "tls",
        "timeout",
        "unauthorized",
        "forbidden",
        "status",
        "body_size_limit",
        "encoding",
        "broken",
    ];

    /// Finds out what a failed request was.
    pub(super) fn of_request(error: hyper_util::client::legacy::Error) -> Self {
        let is_connect = error.is_connect();
        if let Some(source) = rustls_error(&error) {
            return Self::Tls { hint: tls_hint(&source), source };
        }
        if is_connect {
            Self::Connect(error.into())
        } else {
            Self::Broken { phase: Phase::Headers, source: error.into() }
        }
    }
}

fn status_hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            ": it does not know who asks; check authorization.credentials_file or the client certificate"
        }
        StatusCode::FORBIDDEN => {
            ": who asks may not; a kubelet wants the permission to get nodes/metrics"
        }
        StatusCode::NOT_FOUND => ": check the path of the URL",
        _ if status.is_redirection() => {
            ": it points elsewhere, which is not followed; give that URL"
        }
        _ => "",
    }
}

/// The error of TLS in a chain of causes, through the wrappings of `io::Error`.
fn rustls_error(error: &(dyn Error + 'static)) -> Option<rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found.clone());
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn tls_hint(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the target's certificate is for another name: set tls_config.server_name to one that it has; \
             for a kubelet that scrape_configs does not name, in kubelet.tls_config"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "the target's certificate is not valid at this time: renew it, or set the clock right",
        rustls::Error::InvalidCertificate(_) => {
            "the target's certificate is signed by nobody that is trusted: set tls_config.ca_file to its authority, \
             or insecure_skip_verify: true to believe whoever answers; for a kubelet that scrape_configs does not \
             name, in kubelet.tls_config"
        }
        rustls::Error::AlertReceived(_) => {
            "the target refused the connection: it may want a client certificate (tls_config.cert_file, key_file)"
        }
        _ => "the target does not speak TLS as it should: is the URL's https right?",
    }
}

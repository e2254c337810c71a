//! Where a target is and how it is asked, in Prometheus' words; checked by the configuration, and pure data here.

use std::{fmt, path::PathBuf};

use http::Uri;

/// Everything that a client must know of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The page, with `params` in its query.
    pub url: Uri,
    /// What proves who asks.
    pub credentials: Option<Credentials>,
    /// How the target proves who it is, where the URL begins with `https`.
    pub tls: TlsConfig,
    /// Whether a compressed page is asked for (`enable_compression`).
    pub compression: Compression,
    /// Largest page without compression, in bytes (`body_size_limit`).
    pub max_body_bytes: usize,
}

/// The header `Authorization`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `authorization`: a type, mostly `Bearer`, and a token.
    Token {
        /// The type.
        scheme: String,
        /// The token.
        token: Secret,
    },
    /// `basic_auth`.
    Basic {
        /// The user; has no colon.
        username: String,
        /// The password.
        password: Secret,
    },
}

/// Something that no log and no page may show.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// It stands in the configuration.
    Inline(String),
    /// It stands in a file, which is read again for each request because it rotates.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => formatter.write_str("<secret>"),
            Self::File(path) => write!(formatter, "<secret in {}>", path.display()),
        }
    }
}

/// `tls_config`; files are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// The authorities that are trusted, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Podmeter's own certificate and key.
    pub client: Option<ClientCertificate>,
    /// The name that the certificate must have, if not the URL's.
    pub server_name: Option<String>,
    /// Whether the target's certificate is looked at.
    pub verification: Verification,
}

/// A client certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with intermediate ones behind it.
    pub cert_file: PathBuf,
    /// The key.
    pub key_file: PathBuf,
}

/// Whether the target must prove who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// It must.
    #[default]
    Required,
    /// It need not (`insecure_skip_verify`): whoever answers at the address is believed.
    Skipped,
}

/// Whether the target may compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Identity: on the same machine compressing costs the node more than the bytes.
    Refused,
    /// gzip, if the target has it.
    Accepted,
}

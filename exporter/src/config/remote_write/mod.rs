//! `remote_write`: who gets what is collected, in Prometheus' words. Pure.
//!
//! `${NAME}` is replaced in `url`, in the values of `headers`, in `buffer.directory` and where `scrape_configs` has it
//! replaced; not in rules.

mod queue;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;
use serde_saphyr::Spanned;

use self::queue::RawQueue;
pub use self::queue::{OnTooMany, QueueConfig};
use super::{
    ConfigError, Context,
    scrape::{self, RawAuthorization, RawBasicAuth, RawTls, ScrapeError},
    units,
};
use crate::{
    labelling::relabel::rule::RuleConfig,
    source::upstream::client::config::{ClientConfig, Compression},
};

/// How often what is pushed is collected, if the file does not say so.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);
/// The shortest that it can be; the longest that an answer's samples stay fresh in Prometheus is five minutes.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_mins(5);
/// How long a receiver may take, as in Prometheus.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often metadata is sent with the message of 1.0, as in Prometheus.
const DEFAULT_METADATA_INTERVAL: Duration = Duration::from_mins(1);
/// What is read of an answer, which is a line of text.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Most receivers of one node; each has a queue of its own.
const MAX_ENDPOINTS: usize = 16;
/// Least that a buffer may have: a few segments.
const LEAST_BUFFER_BYTES: u64 = 1 << 20;

/// One receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteWriteConfig {
    /// What it is called in metrics and in the log; no two have the same.
    pub name: String,
    /// Where it is, and what proves who sends.
    pub client: ClientConfig,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// More headers of each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which message is sent.
    pub message: MessageKind,
    /// What is done to each series before it is sent, behind all that is done for the page.
    pub rules: Vec<RuleConfig>,
    /// How what is to be sent waits.
    pub queue: QueueConfig,
    /// How often metadata is sent, if at all.
    pub metadata_interval: Option<Duration>,
    /// Where what was not sent yet lies on disk, if it does.
    pub buffer: Option<BufferConfig>,
}

/// `protobuf_message`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageKind {
    /// Of Remote-Write 1.0.
    #[default]
    WriteRequest,
    /// Of Remote-Write 2.0.
    Request,
}

impl MessageKind {
    /// Its name, as the configuration and the header `Content-Type` have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WriteRequest => "prometheus.WriteRequest",
            Self::Request => "io.prometheus.write.v2.Request",
        }
    }
}

/// `buffer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferConfig {
    /// The folder, which is nobody else's.
    pub directory: PathBuf,
    /// Most bytes that its files have together.
    pub size_limit: u64,
}

/// What is wrong with a receiver.
#[derive(Debug, thiserror::Error)]
pub enum RemoteWriteError {
    /// No URL.
    #[error(
        "`url` is `{0}`, but it takes http:// or https://, a host and a path, such as https://metrics.example/api/v1/write"
    )]
    Url(String),
    /// Two receivers of one name.
    #[error("the name `{0}` stands here for the second time: give each item a `name` of its own")]
    SameName(String),
    /// Two buffers in one folder.
    #[error("`buffer.directory` is `{}` for the second time: give each item a folder of its own", .0.display())]
    SameDirectory(PathBuf),
    /// Too many.
    #[error("there are more than {MAX_ENDPOINTS} items")]
    TooMany,
    /// A header that is none, or that Podmeter sets itself.
    #[error("`headers` has `{0}`, which is no header, or one that Podmeter sets itself")]
    Header(String),
    /// A value that is none.
    #[error("`{key}` is `{value}`, but {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it should say.
        wanted: &'static str,
    },
    /// What it has in common with a target.
    #[error(transparent)]
    Common(#[from] ScrapeError),
}

/// One item of the list as it stands in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRemoteWrite {
    url: Option<String>,
    name: Option<String>,
    remote_timeout: Option<String>,
    headers: BTreeMap<String, String>,
    protobuf_message: Option<String>,
    write_relabel_configs: Vec<RuleConfig>,
    authorization: Option<RawAuthorization>,
    basic_auth: Option<RawBasicAuth>,
    tls_config: RawTls,
    queue_config: RawQueue,
    metadata_config: RawMetadata,
    buffer: Option<RawBuffer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawMetadata {
    send: Option<bool>,
    send_interval: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawBuffer {
    directory: Option<String>,
    size_limit: Option<String>,
}

/// How often what is pushed is collected.
pub(super) fn interval(text: Option<String>, file: &str) -> Result<Duration, ConfigError> {
    let Some(text) = text else {
        return Ok(DEFAULT_INTERVAL);
    };
    let span = units::span(&text).filter(|span| INTERVALS.contains(span));
    span.ok_or_else(|| ConfigError::Value {
        file: file.into(),
        key: "remote_write_interval".into(),
        value: text,
        wanted: "it takes a span from 1s to 5m",
    })
}

/// Checks all receivers; an error names the one it is in.
pub(super) fn resolve(
    raw: Vec<Spanned<RawRemoteWrite>>,
    context: &Context<'_>,
) -> Result<Vec<RemoteWriteConfig>, ConfigError> {
    let mut endpoints: Vec<RemoteWriteConfig> = Vec::new();
    let (mut names, mut directories) = (HashSet::new(), HashSet::new());
    for spanned in raw {
        let place = context.place(&spanned.referenced);
        let error = |source| ConfigError::RemoteWrite { place: place.clone(), source };
        let endpoint = spanned.value.resolve(context, &place)?;
        if !names.insert(endpoint.name.clone()) {
            return Err(error(RemoteWriteError::SameName(endpoint.name)));
        }
        if let Some(buffer) = &endpoint.buffer
            && !directories.insert(buffer.directory.clone())
        {
            return Err(error(RemoteWriteError::SameDirectory(buffer.directory.clone())));
        }
        if endpoints.len() == MAX_ENDPOINTS {
            return Err(error(RemoteWriteError::TooMany));
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

impl RawRemoteWrite {
    fn resolve(self, context: &Context<'_>, place: &str) -> Result<RemoteWriteConfig, ConfigError> {
        let error = |source| ConfigError::RemoteWrite { place: place.to_owned(), source };
        let common = |source: ScrapeError| error(source.into());
        let text = self.url.ok_or_else(|| common(ScrapeError::Missing("url")))?;
        let text = context.expand("url", &text)?;
        if scrape::has_user(&text) {
            return Err(common(ScrapeError::UserInUrl));
        }
        let url = scrape::url(&text, &BTreeMap::new(), context)?
            .ok_or_else(|| error(RemoteWriteError::Url(text)))?;
        let credentials = scrape::credentials(self.authorization, self.basic_auth, context, place)?;
        let tls = self.tls_config.resolve(context, place)?;
        let rules = scrape::check_rules("write_relabel_configs", self.write_relabel_configs);
        Ok(RemoteWriteConfig {
            name: self.name.filter(|name| !name.is_empty()).unwrap_or_else(|| name_of(&url)),
            client: ClientConfig {
                url,
                credentials,
                tls,
                compression: Compression::Refused,
                max_body_bytes: MAX_ANSWER_BYTES,
            },
            timeout: span("remote_timeout", self.remote_timeout, DEFAULT_TIMEOUT).map_err(error)?,
            headers: headers(self.headers, context, place)?,
            message: message(self.protobuf_message).map_err(error)?,
            rules: rules.map_err(common)?,
            queue: self.queue_config.resolve().map_err(error)?,
            metadata_interval: self.metadata_config.resolve().map_err(error)?,
            buffer: self.buffer.map(|buffer| buffer.resolve(context, place)).transpose()?,
        })
    }
}

impl RawMetadata {
    fn resolve(self) -> Result<Option<Duration>, RemoteWriteError> {
        let key = "metadata_config.send_interval";
        let interval = span(key, self.send_interval, DEFAULT_METADATA_INTERVAL)?;
        Ok(self.send.unwrap_or(true).then_some(interval))
    }
}

impl RawBuffer {
    fn resolve(self, context: &Context<'_>, place: &str) -> Result<BufferConfig, ConfigError> {
        let error = |source| ConfigError::RemoteWrite { place: place.to_owned(), source };
        let missing = |key| error(ScrapeError::Missing(key).into());
        let directory = self.directory.ok_or_else(|| missing("buffer.directory"))?;
        let directory = PathBuf::from(context.expand("buffer.directory", &directory)?);
        let text = self.size_limit.ok_or_else(|| missing("buffer.size_limit"))?;
        let size_limit = units::bytes(&text).filter(|bytes| *bytes >= LEAST_BUFFER_BYTES);
        let Some(size_limit) = size_limit else {
            return Err(error(RemoteWriteError::Value {
                key: "buffer.size_limit",
                value: text,
                wanted: "it takes a number of bytes with its unit, such as 512MB, at least 1MB",
            }));
        };
        if !directory.is_absolute() {
            return Err(error(RemoteWriteError::Value {
                key: "buffer.directory",
                value: directory.display().to_string(),
                wanted: "it takes a path from the root, such as /var/lib/podmeter/remote-write",
            }));
        }
        Ok(BufferConfig { directory, size_limit })
    }
}

/// Host and port, which tell most receivers apart.
fn name_of(url: &Uri) -> String {
    url.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default()
}

fn message(text: Option<String>) -> Result<MessageKind, RemoteWriteError> {
    let Some(text) = text else {
        return Ok(MessageKind::default());
    };
    let kinds = [MessageKind::WriteRequest, MessageKind::Request];
    kinds.into_iter().find(|kind| kind.as_str() == text).ok_or(RemoteWriteError::Value {
        key: "protobuf_message",
        value: text,
        wanted: "it takes prometheus.WriteRequest or io.prometheus.write.v2.Request",
    })
}

fn headers(
    headers: BTreeMap<String, String>,
    context: &Context<'_>,
    place: &str,
) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    /// What the connection, the body and who sends are said by.
    const OWN: &[&str] = &[
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-prometheus-remote-write-version",
    ];
    let mut checked = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let bad = || ConfigError::RemoteWrite {
            place: place.to_owned(),
            source: RemoteWriteError::Header(name.clone()),
        };
        let value = context.expand(&format!("headers.{name}"), &value)?;
        let parsed = HeaderName::try_from(name.as_str()).ok();
        let parsed = parsed.filter(|name| !OWN.contains(&name.as_str())).ok_or_else(bad)?;
        let mut value = HeaderValue::try_from(value).map_err(|_control| bad())?;
        // It may be a key.
        value.set_sensitive(true);
        checked.push((parsed, value));
    }
    Ok(checked)
}

/// A span that is not zero.
fn span(
    key: &'static str,
    text: Option<String>,
    default: Duration,
) -> Result<Duration, RemoteWriteError> {
    let Some(text) = text else {
        return Ok(default);
    };
    units::span(&text).filter(|span| !span.is_zero()).ok_or(RemoteWriteError::Value {
        key,
        value: text,
        wanted: "it takes a span such as 10s or 1m30s",
    })
}

#[cfg(test)]
mod tests;

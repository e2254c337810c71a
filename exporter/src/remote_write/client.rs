//! Sends one request to a receiver, and says what its answer means.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use tokio::{sync::Mutex, time};

use super::{retry, status::DropReason};
use crate::{
    config::remote_write::{MessageKind, OnTooMany, QueueConfig, RemoteWriteConfig},
    source::upstream::client::{error::FetchError, link::Link},
};

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const SAMPLES_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-samples-written");

/// What is shown of a receiver's own words.
const MAX_WORDS_CHARS: usize = 200;

/// What a receiver has said that it has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All of it.
    All,
    /// So many samples (2.0).
    Samples(usize),
}

/// Why a receiver has not taken a request.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nobody took the connection.
    #[error("cannot connect: is the receiver running, and is `url` right?")]
    Connect(#[source] Box<dyn Error + Send + Sync>),
    /// What TLS refused.
    #[error("TLS with the receiver failed: look at tls_config, and at the receiver's certificate")]
    Tls(#[source] rustls::Error),
    /// The connection broke.
    #[error("the connection broke before the receiver answered")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    /// Files that the configuration names.
    #[error(transparent)]
    Files(FetchError),
    /// It did not answer in time.
    #[error("no answer within {} s (remote_timeout)", .0.as_secs_f64())]
    Timeout(Duration),
    /// Another status than one of success.
    #[error("the receiver answered {status}{}{}", hint(*status), quoted(words))]
    Status {
        /// The status.
        status: StatusCode,
        /// How long it wants not to be asked.
        retry_after: Option<Duration>,
        /// The beginning of what it says.
        words: String,
    },
}

/// What is to be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The request is sent again, after that time at least.
    Again(Option<Duration>),
    /// The request is dropped.
    Drop(DropReason),
}

impl SendError {
    /// What is to be done, as the protocol says: only what may pass is tried again.
    pub(super) fn remedy(&self, queue: &QueueConfig) -> Remedy {
        let Self::Status { status, retry_after, .. } = self else {
            return Remedy::Again(None);
        };
        match *status {
            StatusCode::TOO_MANY_REQUESTS => match queue.on_too_many {
                OnTooMany::Retry => Remedy::Again(*retry_after),
                OnTooMany::Drop => Remedy::Drop(DropReason::TooManyRequests),
            },
            status if status.is_server_error() => Remedy::Again(*retry_after),
            StatusCode::BAD_REQUEST => Remedy::Drop(DropReason::BadRequest),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Remedy::Drop(DropReason::Unauthorized)
            }
            _ => Remedy::Drop(DropReason::Rejected),
        }
    }

    fn of_fetch(error: FetchError, limit: Duration) -> Self {
        match error {
            FetchError::Connect(source) => Self::Connect(source),
            FetchError::Tls { source, .. } => Self::Tls(source),
            FetchError::Broken { source, .. } => Self::Broken(source),
            FetchError::Timeout { .. } => Self::Timeout(limit),
            FetchError::Credentials { .. }
            | FetchError::BadCredentials { .. }
            | FetchError::TlsFiles(_)
            | FetchError::Status { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Encoding { .. }
            | FetchError::Gzip(_) => Self::Files(error),
        }
    }
}

/// Sends a message without samples.
pub(super) async fn try_out(
    link: &Mutex<Link>,
    config: &RemoteWriteConfig,
) -> Result<(), SendError> {
    // The compressed form of a message without bytes.
    let empty = Bytes::from_static(&[0]);
    post(link, config, config.message, empty).await.map(drop)
}

/// Sends a compressed message of that kind.
pub(super) async fn post(
    link: &Mutex<Link>,
    config: &RemoteWriteConfig,
    kind: MessageKind,
    body: Bytes,
) -> Result<Taken, SendError> {
    let limit = config.timeout;
    let answered = time::timeout(limit, ask(link, config, kind, body)).await;
    answered.map_err(|_elapsed| SendError::Timeout(limit))?
}

async fn ask(
    link: &Mutex<Link>,
    config: &RemoteWriteConfig,
    kind: MessageKind,
    body: Bytes,
) -> Result<Taken, SendError> {
    let on_error = |error| SendError::of_fetch(error, config.timeout);
    let ready = link.lock().await.ready().await.map_err(on_error)?;
    let answer = ready.send(request(config, kind, body)).await.map_err(on_error)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    // The connection is used again only behind the end of the answer.
    let words = words(answer, config.client.max_body_bytes).await;
    if status.is_success() {
        return Ok(taken(kind, &headers));
    }
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| retry::after(value, SystemTime::now()));
    Err(SendError::Status { status, retry_after, words })
}

fn request(config: &RemoteWriteConfig, kind: MessageKind, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = config.client.url.clone();
    let (content_type, version) = match kind {
        MessageKind::WriteRequest => ("application/x-protobuf", "0.1.0"),
        MessageKind::Request => {
            ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0")
        }
    };
    let agent = concat!("podmeter/", env!("CARGO_PKG_VERSION"));
    let headers = request.headers_mut();
    for (name, value) in &config.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(VERSION, HeaderValue::from_static(version));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    request
}

/// A receiver of 2.0 must say how many samples it has taken; one that says nothing has not understood the message.
fn taken(kind: MessageKind, headers: &HeaderMap) -> Taken {
    match kind {
        MessageKind::WriteRequest => Taken::All,
        MessageKind::Request => {
            let written = headers.get(SAMPLES_WRITTEN).and_then(|value| value.to_str().ok());
            Taken::Samples(written.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
        }
    }
}

/// The beginning of an answer, on one line.
async fn words(answer: Response<Incoming>, max_bytes: usize) -> String {
    let Ok(body) = Limited::new(answer.into_body(), max_bytes).collect().await else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_WORDS_CHARS).collect()
}

fn quoted(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            " (check authorization, basic_auth or the client certificate)"
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            " (check the path of `url`; a Prometheus needs --web.enable-remote-write-receiver)"
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            " (it does not know the message: set protobuf_message to the other one)"
        }
        StatusCode::PAYLOAD_TOO_LARGE => " (lower queue_config.max_samples_per_send)",
        status if status.is_redirection() => " (redirections are not followed; give that URL)",
        _ => "",
    }
}

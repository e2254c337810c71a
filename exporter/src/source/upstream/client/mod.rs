//! Asks one target for its page: HTTP/1.1, plain or TLS, with a time limit over all of it.
//!
//! Connections are kept between scrapes; files with tokens, keys and authorities are read again when they change.
//! Proxies of the environment are not used, and redirections not followed: a target is on this node.

pub mod config;
pub mod error;
pub mod link;

mod body;
mod tls;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{
        ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue,
        USER_AGENT,
    },
};
use tokio::time;

use self::{
    body::Unpacker,
    config::{ClientConfig, Compression},
    error::{FetchError, Phase},
    link::Link,
};

/// The formats that are understood, as Prometheus 3 asks for them, without protobuf.
const ACCEPTED: &str =
    "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.8,*/*;q=0.1";

/// Most bytes of the wire that are unpacked at once: gzip makes a thousand of one.
const PIECE_BYTES: usize = 64 << 10;

const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// A client of one target.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    link: Link,
}

/// A page that is coming.
pub struct Answer {
    content_type: Option<String>,
    body: Incoming,
    /// What has come over the wire and was not looked at.
    received: Bytes,
    unpacker: Unpacker,
    has_ended: bool,
    deadline: Instant,
    limit: Duration,
}

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self { link: Link::new(config.clone(), 1), config }
    }

    /// Asks for the page, which must have come as a whole within this time.
    pub async fn fetch(&mut self, limit: Duration) -> Result<Answer, FetchError> {
        let deadline = Instant::now() + limit;
        let answer = time::timeout_at(deadline.into(), self.ask(limit)).await;
        let answer =
            answer.map_err(|_elapsed| FetchError::Timeout { limit, phase: Phase::Headers })??;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status { status: answer.status() });
        }
        let content_type = header(&answer, &CONTENT_TYPE).map(str::to_owned);
        let encoding = header(&answer, &CONTENT_ENCODING).unwrap_or_default();
        let unpacker = Unpacker::new(encoding, self.config.max_body_bytes)?;
        let (body, received) = (answer.into_body(), Bytes::new());
        Ok(Answer { content_type, body, received, unpacker, has_ended: false, deadline, limit })
    }

    async fn ask(&mut self, limit: Duration) -> Result<Response<Incoming>, FetchError> {
        let ready = self.link.ready().await?;
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.config.url.clone();
        let encoding = match self.config.compression {
            Compression::Refused => "identity",
            Compression::Accepted => "gzip",
        };
        let agent = concat!("podmeter/", env!("CARGO_PKG_VERSION"));
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Ok(seconds) = HeaderValue::from_str(&limit.as_secs_f64().to_string()) {
            headers.insert(SCRAPE_TIMEOUT, seconds);
        }
        ready.send(request).await
    }
}

impl Answer {
    /// The header `Content-Type`.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// How many bytes of the page have come, unpacked.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.unpacker.n_bytes()
    }

    /// The next bytes of the page, unpacked; nothing at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        while !self.has_ended {
            if self.received.is_empty() {
                self.receive().await?;
            }
            let unpacked = if self.has_ended {
                self.unpacker.finish()?
            } else {
                let n_bytes = self.received.len().min(PIECE_BYTES);
                self.unpacker.unpack(self.received.split_to(n_bytes))?
            };
            if !unpacked.is_empty() {
                return Ok(Some(unpacked));
            }
        }
        Ok(None)
    }

    /// Waits for the next bytes on the wire.
    async fn receive(&mut self) -> Result<(), FetchError> {
        let frame = time::timeout_at(self.deadline.into(), self.body.frame()).await;
        let phase = self.unpacker.phase();
        match frame {
            Err(_elapsed) => Err(FetchError::Timeout { limit: self.limit, phase }),
            Ok(Some(Err(error))) => Err(FetchError::Broken { phase, source: error.into() }),
            Ok(Some(Ok(frame))) => {
                self.received = frame.into_data().unwrap_or_default();
                Ok(())
            }
            Ok(None) => {
                self.has_ended = true;
                Ok(())
            }
        }
    }
}

fn header<'a>(answer: &'a Response<Incoming>, name: &HeaderName) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;

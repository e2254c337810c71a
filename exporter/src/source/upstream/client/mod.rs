//! Asks one target for its page: HTTP/1.1, plain or TLS, with a time limit over all of it.
//!
//! Connections are kept between scrapes; files with tokens, keys and authorities are read again when they change.
//! Proxies of the environment are not used, and redirections not followed: a target is on this node.

pub mod config;
pub mod error;

mod body;
mod tls;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName,
        HeaderValue, USER_AGENT,
    },
};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::pki_types::ServerName;
use tokio::{task, time};

use self::{
    body::Unpacker,
    config::{ClientConfig, Compression, Credentials, Secret},
    error::{FetchError, Phase},
};
use crate::files::{self, Stamp};

/// The formats that are understood, as Prometheus 3 asks for them, without protobuf.
const ACCEPTED: &str =
    "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.8,*/*;q=0.1";

/// How long a connection is kept for the next scrape.
const IDLE_TIME: Duration = Duration::from_secs(150);

/// Most bytes of the wire that are unpacked at once: gzip makes a thousand of one.
const PIECE_BYTES: usize = 64 << 10;

/// Largest file with a token or a password.
const MAX_SECRET_BYTES: u64 = 64 << 10;

const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// A client of one target.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    pool: Option<(Stamp, HttpPool)>,
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

type HttpPool = Pool<HttpsConnector<HttpConnector>, Empty<Bytes>>;

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self { config, pool: None }
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
        let authorization = self.prepare().await?;
        let mut request = Request::new(Empty::new());
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
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let Some((_, pool)) = &self.pool else {
            // `prepare` makes it; without it nothing was connected.
            return Err(FetchError::Connect("no connection was prepared".into()));
        };
        pool.request(request).await.map_err(FetchError::of_request)
    }

    /// Reads what is in files, and makes the pool of connections anew if one of them changed.
    async fn prepare(&mut self) -> Result<Option<HeaderValue>, FetchError> {
        let config = self.config.clone();
        let known = self.pool.as_ref().map(|(stamp, _)| stamp.clone());
        let read = task::spawn_blocking(move || {
            let authorization = config.credentials.as_ref().map(authorization).transpose()?;
            let stamp = tls::stamp(&config.tls);
            let pool = if known.as_ref() == Some(&stamp) { None } else { Some(pool(&config)?) };
            Ok::<_, FetchError>((authorization, pool.map(|pool| (stamp, pool))))
        });
        let (authorization, pool) =
            read.await.map_err(|error| FetchError::Connect(error.into()))??;
        if pool.is_some() {
            self.pool = pool;
        }
        Ok(authorization)
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

fn pool(config: &ClientConfig) -> Result<HttpPool, FetchError> {
    let tls = if config.url.scheme_str() == Some("https") {
        tls::build(&config.tls)?
    } else {
        // Nothing is trusted, as nothing will be asked.
        tls::build_unused()?
    };
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let name = config.tls.server_name.as_deref().map(|name| ServerName::try_from(name.to_owned()));
    let connector = match name {
        Some(Ok(name)) => {
            builder.with_server_name_resolver(FixedServerNameResolver::new(name)).enable_http1()
        }
        Some(Err(_)) | None => builder.enable_http1(),
    };
    Ok(Pool::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(1)
        .build(connector.build()))
}

/// The header `Authorization`; reads files, and so blocks.
fn authorization(credentials: &Credentials) -> Result<HeaderValue, FetchError> {
    let (secret, text) = match credentials {
        Credentials::Token { scheme, token } => (token, format!("{scheme} {}", reveal(token)?)),
        Credentials::Basic { username, password } => {
            let pair = STANDARD.encode(format!("{username}:{}", reveal(password)?));
            (password, format!("Basic {pair}"))
        }
    };
    let mut value = HeaderValue::try_from(text).map_err(|_control| bad(secret))?;
    value.set_sensitive(true);
    Ok(value)
}

fn reveal(secret: &Secret) -> Result<String, FetchError> {
    let text = match secret {
        Secret::Inline(text) => text.clone(),
        Secret::File(path) => read_secret(path)?,
    };
    let text = text.trim();
    if text.is_empty() { Err(bad(secret)) } else { Ok(text.to_owned()) }
}

fn read_secret(path: &Path) -> Result<String, FetchError> {
    let on_error = |source| FetchError::Credentials { path: path.into(), source };
    files::read_text(path, MAX_SECRET_BYTES).map_err(on_error)
}

fn bad(secret: &Secret) -> FetchError {
    let path = match secret {
        Secret::Inline(_) => "the configuration".to_owned(),
        Secret::File(path) => path.display().to_string(),
    };
    FetchError::BadCredentials { path }
}

#[cfg(test)]
mod tests;

//! Connections to one URL: plain or TLS, kept for the next request, with what proves who asks.
//!
//! Files with tokens, keys and authorities are read again when they change. Proxies of the environment are not used, and
//! redirections not followed.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    header::{AUTHORIZATION, HeaderValue},
};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::pki_types::ServerName;
use tokio::task;

use super::{
    config::{ClientConfig, Credentials, Secret},
    error::FetchError,
    tls,
};
use crate::files::{self, Stamp};

/// How long a connection is kept for the next request.
const IDLE_TIME: Duration = Duration::from_secs(150);

/// Largest file with a token or a password.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Connections to one URL.
#[derive(Debug)]
pub struct Link {
    config: ClientConfig,
    n_kept: usize,
    pool: Option<(Stamp, HttpPool)>,
}

/// Connections that can be used now.
#[derive(Debug)]
pub struct Ready {
    authorization: Option<HeaderValue>,
    pool: HttpPool,
}

type HttpPool = Pool<HttpsConnector<HttpConnector>, Full<Bytes>>;

impl Link {
    /// None yet; so many are kept at most while they have nothing to do.
    #[must_use]
    pub fn new(config: ClientConfig, n_kept: usize) -> Self {
        Self { config, n_kept, pool: None }
    }

    /// Reads what is in files, and makes the pool of connections anew if one of them changed.
    pub async fn ready(&mut self) -> Result<Ready, FetchError> {
        let (config, n_kept) = (self.config.clone(), self.n_kept);
        let known = self.pool.clone();
        let read = task::spawn_blocking(move || {
            let authorization = config.credentials.as_ref().map(authorization).transpose()?;
            let stamp = tls::stamp(&config.tls);
            let pool = match known {
                Some((seen, pool)) if seen == stamp => pool,
                Some(_) | None => pool(&config, n_kept)?,
            };
            Ok::<_, FetchError>((authorization, stamp, pool))
        });
        let (authorization, stamp, pool) =
            read.await.map_err(|error| FetchError::Connect(error.into()))??;
        self.pool = Some((stamp, pool.clone()));
        Ok(Ready { authorization, pool })
    }
}

impl Ready {
    /// Sends a request, with the header `Authorization` if there is one.
    pub async fn send(
        self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, FetchError> {
        if let Some(authorization) = self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        self.pool.request(request).await.map_err(FetchError::of_request)
    }
}

fn pool(config: &ClientConfig, n_kept: usize) -> Result<HttpPool, FetchError> {
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
        .pool_max_idle_per_host(n_kept)
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

//! Requests to a server on this machine.

use std::{fs, path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use ureq::{
    Agent, Body,
    http::Response,
    tls::{Certificate, RootCerts, TlsConfig},
};

/// Longest that a test waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header `Content-Type`, or nothing.
    pub content_type: String,
    /// The header `Content-Encoding`, or nothing.
    pub content_encoding: String,
    /// The body as sent.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("the body is UTF-8")
    }
}

/// Asks for a URL with these headers.
#[must_use]
pub fn get(url: &str, headers: &[(&str, &str)]) -> Answer {
    try_get(url, headers).unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

/// Asks for a URL where the server may not be there yet.
pub fn try_get(url: &str, headers: &[(&str, &str)]) -> Result<Answer, ureq::Error> {
    get_with(&agent(None), url, headers)
}

/// Which server's certificate is good.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// One that is signed by the certificate in this file.
    Authority(&'a Path),
    /// Any.
    Anybody,
}

/// Asks for an `https` URL.
pub fn try_get_https(
    url: &str,
    trust: Trust<'_>,
    headers: &[(&str, &str)],
) -> Result<Answer, ureq::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    let tls = match trust {
        Trust::Authority(file) => {
            let pem = fs::read(file).expect("the authority's certificate can be read");
            let certificate = Certificate::from_pem(&pem)?;
            tls.root_certs(RootCerts::Specific(Arc::new(vec![certificate])))
        }
        Trust::Anybody => tls.disable_verification(true),
    };
    get_with(&agent(Some(tls.build())), url, headers)
}

/// Sends a JSON document.
#[must_use]
pub fn post_json(url: &str, body: &Value) -> Answer {
    let sent = agent(None).post(url).send(body.to_string());
    let answer = sent.and_then(answer);
    answer.unwrap_or_else(|error| panic!("POST {url}: {error}"))
}

fn agent(tls: Option<TlsConfig>) -> Agent {
    let mut config =
        Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT));
    if let Some(tls) = tls {
        config = config.tls_config(tls);
    }
    config.build().new_agent()
}

fn get_with(agent: &Agent, url: &str, headers: &[(&str, &str)]) -> Result<Answer, ureq::Error> {
    let mut request = agent.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request.call()?)
}

fn answer(mut response: Response<Body>) -> Result<Answer, ureq::Error> {
    let header = |name| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (content_type, content_encoding) = (header("content-type"), header("content-encoding"));
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_vec()?;
    Ok(Answer { status, content_type, content_encoding, body })
}

//! Requests to a server on this machine.

use std::{fs, path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use ureq::{
    Agent, Body,
    http::{Method, Request, Response},
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
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
    get_with(&agent(Some(tls(trust, None)?)), url, headers)
}

/// Somebody whom a server knows by a certificate, and who keeps connections for further requests.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
}

impl Client {
    /// The holder of a certificate and its key, which are in these files, for a server whose certificate the authority
    /// signed.
    #[must_use]
    pub fn new(authority: &Path, certificate: &Path, key: &Path) -> Self {
        let read = |file: &Path| fs::read(file).expect("the file can be read");
        let certificate = Certificate::from_pem(&read(certificate)).expect("a certificate");
        let key = PrivateKey::from_pem(&read(key)).expect("a key");
        let own = ClientCert::new_with_certs(&[certificate], key);
        let tls = tls(Trust::Authority(authority), Some(own)).expect("a certificate");
        Self { agent: agent(Some(tls)) }
    }

    /// Asks for a URL.
    #[must_use]
    pub fn get(&self, url: &str) -> Answer {
        get_with(&self.agent, url, &[]).unwrap_or_else(|error| panic!("GET {url}: {error}"))
    }

    /// Asks for a URL with these headers.
    #[must_use]
    pub fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_get_with(url, headers).unwrap_or_else(|error| panic!("GET {url}: {error}"))
    }

    /// The same where the server may not be there yet.
    pub fn try_get_with(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, ureq::Error> {
        get_with(&self.agent, url, headers)
    }

    /// Sends a JSON document by POST.
    #[must_use]
    pub fn post(&self, url: &str, body: &Value) -> Answer {
        self.send(Method::POST, url, body)
    }

    /// Sends a JSON document by PUT.
    #[must_use]
    pub fn put(&self, url: &str, body: &Value) -> Answer {
        self.send(Method::PUT, url, body)
    }

    fn send(&self, method: Method, url: &str, body: &Value) -> Answer {
        let request = Request::builder().method(method.clone()).uri(url);
        let request = request.header("Content-Type", "application/json").body(body.to_string());
        let sent = self.agent.run(request.expect("the URL is valid"));
        sent.and_then(answer).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
    }
}

fn tls(trust: Trust<'_>, own: Option<ClientCert>) -> Result<TlsConfig, ureq::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider).client_cert(own);
    let tls = match trust {
        Trust::Authority(file) => {
            let pem = fs::read(file).expect("the authority's certificate can be read");
            let certificate = Certificate::from_pem(&pem)?;
            tls.root_certs(RootCerts::Specific(Arc::new(vec![certificate])))
        }
        Trust::Anybody => tls.disable_verification(true),
    };
    Ok(tls.build())
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

//! Requests to a server on this machine.

use std::time::Duration;

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
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .build();
    let mut request = ureq::Agent::from(config).get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.call()?;
    let header = |name| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (content_type, content_encoding) = (header("content-type"), header("content-encoding"));
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_vec()?;
    Ok(Answer { status, content_type, content_encoding, body })
}

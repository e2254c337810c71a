//! For the fuzz targets: what becomes of single headers.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderValue};

use super::{
    guard::{self, Login},
    scrape,
};

/// The user and the password in a header `Authorization`.
#[must_use]
pub fn login(header: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, text) = authorization(header)?;
    let login = Login::parse(&text).filter(|_| scheme == "basic")?;
    Some((login.name, login.password))
}

/// The scheme and what follows it in a header `Authorization`.
#[must_use]
pub fn authorization(header: &[u8]) -> Option<(String, String)> {
    let value = HeaderValue::from_bytes(header).ok()?;
    let headers = HeaderMap::from_iter([(hyper::header::AUTHORIZATION, value)]);
    let found = guard::authorization(&headers)?;
    Some((found.scheme, found.text.into()))
}

/// How long targets and sources may take by a header `X-Prometheus-Scrape-Timeout-Seconds`.
#[must_use]
pub fn patience(header: &[u8], longest: Duration) -> Option<Duration> {
    let value = HeaderValue::from_bytes(header).ok()?;
    scrape::patience(&HeaderMap::from_iter([(scrape::SCRAPE_TIMEOUT, value)]), longest)
}

//! The URL of a target. Pure.

use std::collections::BTreeMap;

use http::Uri;

use crate::{
    config::{ConfigError, Context},
    percent::escaped,
};

/// The URL with its parameters; none if it is none.
pub(in crate::config) fn url(
    text: &str,
    params: &BTreeMap<String, Vec<String>>,
    context: &Context<'_>,
) -> Result<Option<Uri>, ConfigError> {
    let mut text = text.to_owned();
    for (name, values) in params {
        for value in values {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.extend(escaped(name));
            text.push('=');
            text.extend(escaped(&context.expand("params", value)?));
        }
    }
    let url: Option<Uri> = text.parse().ok();
    let is_http = |url: &Uri| matches!(url.scheme_str(), Some("http" | "https"));
    Ok(url.filter(|url| is_http(url) && url.host().is_some_and(|host| !host.is_empty())))
}

/// Whether there is something before the host, in a URL or in what was meant to be one.
pub(in crate::config) fn has_user(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest.get(..end).is_some_and(|authority| authority.contains('@'))
}

//! The URL of a target. Pure.

use std::collections::BTreeMap;

use http::Uri;

use crate::config::{ConfigError, Context};

/// The URL with its parameters; none if it is none.
pub(super) fn url(
    text: &str,
    params: &BTreeMap<String, Vec<String>>,
    context: &Context<'_>,
) -> Result<Option<Uri>, ConfigError> {
    let mut text = text.to_owned();
    for (name, values) in params {
        for value in values {
            text.push(if text.contains('?') { '&' } else { '?' });
            percent_encode(name, &mut text);
            text.push('=');
            percent_encode(&context.expand("params", value)?, &mut text);
        }
    }
    let url: Option<Uri> = text.parse().ok();
    let is_http = |url: &Uri| matches!(url.scheme_str(), Some("http" | "https"));
    Ok(url.filter(|url| is_http(url) && url.host().is_some_and(|host| !host.is_empty())))
}

fn percent_encode(text: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).map_or('0', |digit| char::from(*digit));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

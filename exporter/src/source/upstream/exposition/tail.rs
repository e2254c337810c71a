//! What follows a series: its value, its timestamp, its exemplar.

use std::str;

use super::{
    Dialect,
    fault::{Fault, Misread},
    series, skip_blanks,
};

/// Value, timestamp and exemplar of a sample, each as it stands and each checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail<'a> {
    /// A decimal number, `NaN`, `+Inf` or `-Inf`; other spellings of the latter have become these.
    pub value: &'a [u8],
    /// Milliseconds in text 0.0.4, seconds in `OpenMetrics`.
    pub timestamp: Option<&'a [u8]>,
    /// `{labels} value [timestamp]` of an exemplar, which only `OpenMetrics` has.
    pub exemplar: Option<&'a [u8]>,
}

/// Reads the rest of a line, from behind the series.
pub(super) fn parse(text: &[u8], dialect: Dialect) -> Result<Tail<'_>, Misread> {
    let (value, rest) = split_word(skip_blanks(text));
    let Some(value) = number(value) else {
        return Err(Misread::before(skip_blanks(text), Fault::Value));
    };
    let mut rest = skip_blanks(rest);
    let mut timestamp = None;
    if !matches!(rest.first(), None | Some(b'#')) {
        let (word, after) = split_word(rest);
        if !is_timestamp(word, dialect) {
            return Err(Misread::before(rest, Fault::Timestamp));
        }
        timestamp = Some(word);
        rest = skip_blanks(after);
    }
    match (rest.first(), dialect) {
        (None, _) => Ok(Tail { value, timestamp, exemplar: None }),
        (Some(b'#'), Dialect::OpenMetrics) => {
            let exemplar = skip_blanks(rest.get(1..).unwrap_or_default());
            check_exemplar(exemplar)?;
            Ok(Tail { value, timestamp, exemplar: Some(exemplar) })
        }
        (Some(_), _) => Err(Misread::before(rest, Fault::Trailing)),
    }
}

fn check_exemplar(text: &[u8]) -> Result<(), Misread> {
    let fault = |rest| Misread::before(rest, Fault::Exemplar);
    if !text.starts_with(b"{") {
        return Err(fault(text));
    }
    let (labels, rest) = series::split(text)?;
    series::check_labels(labels).map_err(|_misread| fault(text))?;
    let rest = skip_blanks(rest);
    let (value, after) = split_word(rest);
    number(value).ok_or_else(|| fault(rest))?;
    let (timestamp, after) = split_word(skip_blanks(after));
    let has_timestamp = timestamp.is_empty() || is_timestamp(timestamp, Dialect::OpenMetrics);
    if has_timestamp && skip_blanks(after).is_empty() { Ok(()) } else { Err(fault(rest)) }
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// The number in a spelling that every reader takes, if it is one: no `_`, no hexadecimal digits, as Prometheus has it.
fn number(text: &[u8]) -> Option<&[u8]> {
    if is_decimal(text) {
        return Some(text);
    }
    let (is_negative, unsigned) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let is = |word: &[u8]| unsigned.eq_ignore_ascii_case(word);
    if unsigned == text && is(b"nan") {
        Some(b"NaN")
    } else if is(b"inf") || is(b"infinity") {
        Some(if is_negative { b"-Inf" } else { b"+Inf" })
    } else {
        None
    }
}

/// Whether the text is a decimal number as Go's `strconv.ParseFloat` takes it: `1`, `-1.5`, `.5`, `5.`, `+1e-09`.
fn is_decimal(text: &[u8]) -> bool {
    let rest = skip_sign(text);
    let after_whole = skip_digits(rest);
    let n_whole = rest.len() - after_whole.len();
    let (n_fraction, rest) = match after_whole.split_first() {
        Some((b'.', fraction)) => {
            let after = skip_digits(fraction);
            (fraction.len() - after.len(), after)
        }
        _ => (0, after_whole),
    };
    if n_whole + n_fraction == 0 {
        return false;
    }
    match rest.split_first() {
        None => true,
        Some((b'e' | b'E', exponent)) => {
            let digits = skip_sign(exponent);
            !digits.is_empty() && skip_digits(digits).is_empty()
        }
        Some(_) => false,
    }
}

fn skip_sign(text: &[u8]) -> &[u8] {
    match text.split_first() {
        Some((b'+' | b'-', rest)) => rest,
        _ => text,
    }
}

fn skip_digits(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let Some((b'0'..=b'9', after)) = rest.split_first() {
        rest = after;
    }
    rest
}

/// Text 0.0.4 counts whole milliseconds in 64 bits, `OpenMetrics` seconds with a fraction.
fn is_timestamp(text: &[u8], dialect: Dialect) -> bool {
    let text = str::from_utf8(text).unwrap_or_default();
    match dialect {
        Dialect::Text => text.parse::<i64>().is_ok(),
        Dialect::OpenMetrics => {
            is_decimal(text.as_bytes()) && text.parse::<f64>().is_ok_and(f64::is_finite)
        }
    }
}

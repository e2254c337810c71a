//! Lines that begin with `#`: `HELP`, `TYPE`, `UNIT`, `EOF`, and comments, which are passed over.

use std::borrow::Cow;

use super::{
    Dialect, Line,
    fault::{Fault, Misread},
    series, skip_blanks,
};
use crate::metric::FamilyType;

/// Reads a line whose first byte is `#`; a comment gives nothing.
pub(super) fn parse(line: &[u8], dialect: Dialect) -> Result<Option<Line<'_>>, Misread> {
    let text = skip_blanks(line.get(1..).unwrap_or_default());
    if dialect == Dialect::OpenMetrics && text == b"EOF" {
        return Ok(Some(Line::Eof));
    }
    let keyword = |word: &[u8]| {
        let rest = text.strip_prefix(word)?;
        matches!(rest.first(), Some(b' ' | b'\t')).then(|| skip_blanks(rest))
    };
    if let Some(rest) = keyword(b"HELP") {
        let (family, rest) = series::family_name(rest)?;
        // One blank ends the name; any more belong to the text.
        let help = rest.get(1..).unwrap_or_default();
        return Ok(Some(Line::Help {
            family,
            text: unescape_help(series::check_utf8(help)?, dialect),
        }));
    }
    if let Some(rest) = keyword(b"TYPE") {
        let (family, rest) = series::family_name(rest)?;
        let word = skip_blanks(rest);
        let family_type = family_type(word.trim_ascii_end(), dialect)
            .ok_or_else(|| Misread::before(word, Fault::Type))?;
        return Ok(Some(Line::Type { family, family_type }));
    }
    if dialect == Dialect::OpenMetrics
        && let Some(rest) = keyword(b"UNIT")
    {
        let (family, rest) = series::family_name(rest)?;
        let unit = series::check_utf8(skip_blanks(rest))?.trim_ascii_end();
        return Ok(Some(Line::Unit { family, unit }));
    }
    Ok(None)
}

/// The type; one of `OpenMetrics` that text 0.0.4 does not know is no error there, since many exporters write it.
///
/// A gauge histogram has no counterpart in text 0.0.4; its samples stay as they are, without a type.
fn family_type(word: &[u8], dialect: Dialect) -> Option<FamilyType> {
    let is_openmetrics = dialect == Dialect::OpenMetrics;
    match word {
        b"counter" => Some(FamilyType::Counter),
        b"gauge" => Some(FamilyType::Gauge),
        b"histogram" => Some(FamilyType::Histogram),
        b"summary" => Some(FamilyType::Summary),
        b"info" if is_openmetrics => Some(FamilyType::Info),
        b"stateset" if is_openmetrics => Some(FamilyType::StateSet),
        b"untyped" | b"unknown" | b"info" | b"stateset" | b"gaugehistogram" => {
            Some(FamilyType::Unknown)
        }
        _ => None,
    }
}

/// Both formats escape `\` and the line's end in a help, `OpenMetrics` quotes too; any other `\` stays.
fn unescape_help(text: &str, dialect: Dialect) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => out.push('\n'),
            Some('\\') | None => out.push('\\'),
            Some('"') if dialect == Dialect::OpenMetrics => out.push('"'),
            Some(other) => out.extend(['\\', other]),
        }
    }
    Cow::Owned(out)
}

//! `name{label="value",…}`: where it ends, and, when it has to be understood, what it says.

use std::{borrow::Cow, str};

use memchr::memchr2;

use super::{
    fault::{Fault, Misread},
    skip_blanks,
};

/// A series, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesParts<'a> {
    /// The metric's name.
    pub name: Cow<'a, str>,
    /// Label names and values in the order that they stand in, empty values included; no name stands twice.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Whether it stands as every writer would write it: no white space, no comma at the end, no name in quotes, no
    /// needless escape. Such bytes can be taken over as they are.
    pub is_canonical: bool,
}

/// Most labels of a series: each is compared with all before it. kube-state-metrics' longest have some fifty.
pub(super) const MAX_LABELS: usize = 1024;

/// Most labels that are room for at first; more cost a second allocation.
const LIKELY_LABELS: usize = 16;

/// Understands the bytes of a series, as [`super::Line::Sample`] gives them.
///
/// The error's column counts from the beginning of the series.
pub fn parse_series(series: &[u8]) -> Result<SeriesParts<'_>, (usize, Fault)> {
    parse(series).map_err(|misread| {
        let misread = misread.within(series);
        (misread.column(), misread.fault)
    })
}

fn parse(series: &[u8]) -> Result<SeriesParts<'_>, Misread> {
    // The names' and values' ends are ASCII, so that whatever is cut out of UTF-8 there is UTF-8.
    check_utf8(series)?;
    let (name, after_name) = bare_name(series, is_metric_byte);
    let mut parser = Parser {
        name: (!name.is_empty()).then(|| utf8(name)),
        labels: Vec::with_capacity(LIKELY_LABELS),
        is_canonical: true,
    };
    let rest = skip_blanks(after_name);
    match rest.split_first() {
        Some((b'{', labels)) => {
            parser.is_canonical &= rest.len() == after_name.len();
            parser.labels(labels)?;
        }
        _ => parser.is_canonical &= after_name.is_empty(),
    }
    let Some(name) = parser.name else {
        return Err(Misread::before(series, Fault::MetricName));
    };
    Ok(SeriesParts { name, labels: parser.labels, is_canonical: parser.is_canonical })
}

/// Checks `{labels}` of an exemplar, which have no name.
pub(super) fn check_labels(text: &[u8]) -> Result<(), Misread> {
    check_utf8(text)?;
    let mut parser =
        Parser { name: Some(Cow::Borrowed("")), labels: Vec::new(), is_canonical: true };
    parser.labels(text.strip_prefix(b"{").unwrap_or(text))
}

/// Finds where a series ends: behind its `}`, or behind its name if it has no labels.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Misread> {
    let (name, after_name) = bare_name(line, is_metric_byte);
    let rest = skip_blanks(after_name);
    let end = match rest.first() {
        Some(b'{') => line.len() - skip_braces(rest)?.len(),
        _ if name.is_empty() => return Err(Misread::before(line, Fault::MetricName)),
        _ if after_name.len() == rest.len() && !rest.is_empty() => {
            return Err(Misread::before(rest, Fault::MetricName));
        }
        _ => name.len(),
    };
    Ok(line.split_at_checked(end).unwrap_or((line, &[])))
}

/// Passes over `{…}`, minding only quotes.
fn skip_braces(text: &[u8]) -> Result<&[u8], Misread> {
    let mut rest = text;
    loop {
        let (byte, after) = split_at_either(rest, b'"', b'}')
            .ok_or_else(|| Misread::before(&[], Fault::ClosingBrace))?;
        if byte == b'}' {
            return Ok(after);
        }
        rest = skip_quoted(after)?.1;
    }
}

/// The text up to the closing quote, and what comes after that.
fn skip_quoted(text: &[u8]) -> Result<(&[u8], &[u8]), Misread> {
    let mut rest = text;
    loop {
        let (byte, after) = split_at_either(rest, b'"', b'\\')
            .ok_or_else(|| Misread::before(&[], Fault::ClosingQuote))?;
        if byte == b'"' {
            let inner = text.get(..text.len() - after.len() - 1).unwrap_or_default();
            return Ok((inner, after));
        }
        rest = after.get(1..).unwrap_or_default();
    }
}

fn split_at_either(text: &[u8], one: u8, other: u8) -> Option<(u8, &[u8])> {
    let at = memchr2(one, other, text)?;
    text.get(at..)?.split_first().map(|(byte, after)| (*byte, after))
}

struct Parser<'a> {
    name: Option<Cow<'a, str>>,
    labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    is_canonical: bool,
}

impl<'a> Parser<'a> {
    /// Reads the labels from behind `{` to behind `}`, where the text ends.
    fn labels(&mut self, text: &'a [u8]) -> Result<(), Misread> {
        let mut rest = text;
        loop {
            let at = self.blanks(rest);
            if at.first() == Some(&b'}') {
                // `{}`, and a comma before the brace, are allowed and nobody writes them.
                self.is_canonical = false;
                return Ok(());
            }
            let after_item = self.item(at)?;
            rest = self.blanks(after_item);
            match rest.split_first() {
                Some((b',', after)) => rest = after,
                Some((b'}', _)) => return Ok(()),
                _ => return Err(Misread::before(rest, Fault::Separator)),
            }
        }
    }

    /// Reads `name="value"`, or the metric's own name in quotes.
    fn item(&mut self, text: &'a [u8]) -> Result<&'a [u8], Misread> {
        let (name, after_name) = if let Some(quoted) = text.strip_prefix(b"\"") {
            self.is_canonical = false;
            let (inner, after) = skip_quoted(quoted)?;
            (self.unescape(inner), after)
        } else {
            let (name, after) = bare_name(text, is_label_byte);
            (utf8(name), after)
        };
        let after_blanks = self.blanks(after_name);
        let Some((b'=', after_equals)) = after_blanks.split_first() else {
            let is_own_name = text.first() == Some(&b'"') && !name.is_empty();
            if is_own_name && self.name.is_none() {
                self.name = Some(name);
                return Ok(after_blanks);
            }
            let fault = if name.is_empty() { Fault::LabelName } else { Fault::Equals };
            return Err(Misread::before(after_blanks, fault));
        };
        if name.is_empty() {
            return Err(Misread::before(text, Fault::LabelName));
        }
        if self.labels.len() == MAX_LABELS {
            return Err(Misread::before(text, Fault::TooManyLabels));
        }
        if name == "__name__" || self.labels.iter().any(|(known, _)| *known == name) {
            return Err(Misread::before(text, Fault::DuplicateLabel));
        }
        let quote = self.blanks(after_equals);
        let Some((b'"', quoted)) = quote.split_first() else {
            return Err(Misread::before(quote, Fault::OpeningQuote));
        };
        let (inner, after) = skip_quoted(quoted)?;
        let value = self.unescape(inner);
        self.labels.push((name, value));
        Ok(after)
    }

    fn blanks(&mut self, text: &'a [u8]) -> &'a [u8] {
        let rest = skip_blanks(text);
        self.is_canonical &= rest.len() == text.len();
        rest
    }

    /// Takes the escapes out; a `\` before any other letter stays, as `OpenMetrics` has it.
    fn unescape(&mut self, text: &'a [u8]) -> Cow<'a, str> {
        let text = utf8(text);
        if !text.contains('\\') {
            return text;
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
                Some(escaped @ ('\\' | '"')) => out.push(escaped),
                other => {
                    self.is_canonical = false;
                    out.push('\\');
                    out.extend(other);
                }
            }
        }
        Cow::Owned(out)
    }
}

/// Reads the name of a family in a line of metadata, in quotes or not.
pub(super) fn family_name(text: &[u8]) -> Result<(Cow<'_, str>, &[u8]), Misread> {
    let (name, rest) = if let Some(quoted) = text.strip_prefix(b"\"") {
        let (inner, after) = skip_quoted(quoted)?;
        check_utf8(inner).map_err(|_misread| Misread::before(text, Fault::Utf8))?;
        let mut parser = Parser { name: None, labels: Vec::new(), is_canonical: true };
        (parser.unescape(inner), after)
    } else {
        let (name, after) = bare_name(text, is_metric_byte);
        (utf8(name), after)
    };
    if name.is_empty() || !matches!(rest.first(), None | Some(b' ' | b'\t')) {
        return Err(Misread::before(text, Fault::MetricName));
    }
    Ok((name, rest))
}

/// The text, if it is UTF-8.
pub(super) fn check_utf8(text: &[u8]) -> Result<&str, Misread> {
    str::from_utf8(text).map_err(|error| {
        Misread::before(text.get(error.valid_up_to()..).unwrap_or_default(), Fault::Utf8)
    })
}

/// Text that is known to be UTF-8; of anything else nothing is left.
fn utf8(text: &[u8]) -> Cow<'_, str> {
    Cow::Borrowed(str::from_utf8(text).unwrap_or_default())
}

/// The name at the beginning of the text, which is empty if none begins there.
fn bare_name(text: &[u8], is_name_byte: fn(u8) -> bool) -> (&[u8], &[u8]) {
    let starts = text.first().is_some_and(|byte| !byte.is_ascii_digit());
    let n_bytes = text.iter().position(|byte| !is_name_byte(*byte)).unwrap_or(text.len());
    text.split_at_checked(if starts { n_bytes } else { 0 }).unwrap_or((text, &[]))
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_metric_byte(byte: u8) -> bool {
    is_label_byte(byte) || byte == b':'
}

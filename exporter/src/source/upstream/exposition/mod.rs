//! Reads the text formats, 0.0.4 and `OpenMetrics` 1.0, line by line, into ranges of the page's bytes. Pure.
//!
//! The formats: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>. White space is taken as liberally as Prometheus' own
//! reader of text 0.0.4 takes it, in both. A line that is none costs only itself.

mod fault;
mod metadata;
mod series;
mod tail;

use std::borrow::Cow;

use memchr::memchr;

use self::fault::Misread;
pub use self::{
    fault::{Fault, LineError},
    series::{SeriesParts, parse_series},
    tail::Tail,
};
use crate::metric::FamilyType;

/// Which of the two formats a page is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus' text exposition format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Dialect {
    /// The format that a `Content-Type` names; none if it is not one of these two.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("text/plain") {
            Some(Self::Text)
        } else if media_type.eq_ignore_ascii_case("application/openmetrics-text") {
            Some(Self::OpenMetrics)
        } else {
            None
        }
    }
}

/// One line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `# HELP`.
    Help {
        /// The family.
        family: Cow<'a, str>,
        /// Its help, without escapes.
        text: Cow<'a, str>,
    },
    /// `# TYPE`.
    Type {
        /// The family.
        family: Cow<'a, str>,
        /// Its type.
        family_type: FamilyType,
    },
    /// `# UNIT`.
    Unit {
        /// The family.
        family: Cow<'a, str>,
        /// Its unit.
        unit: &'a str,
    },
    /// A sample.
    Sample {
        /// The series as it stands, `name{labels}`, not understood yet.
        series: &'a [u8],
        /// What follows it.
        tail: Tail<'a>,
    },
    /// `# EOF` of `OpenMetrics`; nothing comes after it.
    Eof,
}

/// A place in a page, going forward line by line.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    dialect: Dialect,
    is_at_metadata: bool,
    place: Place,
}

/// How far a page was read that comes in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    line_number: usize,
    has_ended: bool,
    /// Whether something came behind the end, which is said once.
    has_more: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of a page.
    #[must_use]
    pub fn new(page: &'a [u8], dialect: Dialect) -> Self {
        Self::resume(page, dialect, Place::default())
    }

    /// A reader of the next lines of a page, which goes on where another one stopped.
    #[must_use]
    pub fn resume(lines: &'a [u8], dialect: Dialect, place: Place) -> Self {
        Self { rest: lines, dialect, is_at_metadata: false, place }
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// The number of the line that was read last, from 1.
    #[must_use]
    pub fn line_number(&self) -> usize {
        self.place.line_number
    }

    /// Whether the line that was read last begins with `#`.
    #[must_use]
    pub fn is_at_metadata(&self) -> bool {
        self.is_at_metadata
    }

    /// Takes the next line if it is a sample of exactly this series; otherwise stays where it is.
    ///
    /// This is how a page that looks like the one before is read: comparing bytes, not looking for where things end.
    pub fn take_sample_of(&mut self, series: &[u8]) -> Option<Tail<'a>> {
        let after = self.rest.strip_prefix(series)?;
        if self.place.has_ended || !matches!(after.first(), Some(b' ' | b'\t')) {
            return None;
        }
        let (line, rest) = split_line(after);
        let tail = tail::parse(line, self.dialect).ok()?;
        self.rest = rest;
        self.place.line_number += 1;
        Some(tail)
    }

    /// Takes the next line that says something: empty ones and comments are passed over.
    pub fn next_line(&mut self) -> Option<Result<Line<'a>, LineError>> {
        while !self.rest.is_empty() {
            let (line, rest) = split_line(self.rest);
            self.rest = rest;
            self.place.line_number += 1;
            self.is_at_metadata = skip_blanks(line).starts_with(b"#");
            if self.place.has_ended {
                self.rest = &[];
                if std::mem::replace(&mut self.place.has_more, true) {
                    return None;
                }
                return Some(Err(self.error(Misread::at_start(Fault::AfterEof))));
            }
            match read_line(line, self.dialect) {
                Ok(None) => {}
                Ok(Some(line)) => {
                    self.place.has_ended = line == Line::Eof;
                    return Some(Ok(line));
                }
                Err(misread) => {
                    return Some(Err(self.error(misread.within(line))));
                }
            }
        }
        None
    }

    fn error(&self, misread: Misread) -> LineError {
        LineError { line: self.place.line_number, column: misread.column(), fault: misread.fault }
    }
}

/// The next line, without its end, and what comes after it.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match memchr(b'\n', text).and_then(|end| text.split_at_checked(end)) {
        Some((line, rest)) => (line, rest.strip_prefix(b"\n").unwrap_or(rest)),
        None => (text, &[][..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

fn read_line(line: &[u8], dialect: Dialect) -> Result<Option<Line<'_>>, Misread> {
    let text = skip_blanks(line);
    match text.first() {
        None => Ok(None),
        Some(b'#') => metadata::parse(text, dialect),
        Some(_) => {
            let (series, rest) = series::split(text)?;
            let tail = tail::parse(rest, dialect)?;
            Ok(Some(Line::Sample { series, tail }))
        }
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let Some((b' ' | b'\t', after)) = rest.split_first() {
        rest = after;
    }
    rest
}

#[cfg(test)]
mod tests;

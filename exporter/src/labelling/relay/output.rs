//! The samples of a page as they are written, once or once for each format.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use super::{
    Counts, MAX_PAGE_BYTES, OwnerKind, Relay, RelayError, Timestamps,
    cache::{Derived, Outcome},
    families::FamilyIdx,
    write,
};
use crate::{
    page::{
        relayed::{Form, Group, Line, RelayedPage, Run},
        spelling::write_seconds,
    },
    source::upstream::exposition::{Dialect, Tail},
};

/// What is written.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// The series of each sample, and whom it is about.
    identities: Vec<(Group, OwnerKind)>,
    runs: Vec<Run>,
    run_family: Option<FamilyIdx>,
}

impl Output {
    /// Nothing yet, with room for so much.
    pub(super) fn with_capacity(n_bytes: usize, n_lines: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(n_bytes),
            lines: Vec::with_capacity(n_lines),
            identities: Vec::with_capacity(n_lines),
            runs: Vec::new(),
            run_family: None,
        }
    }

    /// The page, and the series of each of its samples.
    pub(super) fn into_page(self) -> (RelayedPage, Vec<(Group, OwnerKind)>) {
        let page =
            RelayedPage { bytes: Bytes::from(self.bytes), lines: self.lines, runs: self.runs };
        (page, self.identities)
    }

    /// From the next sample on its family is looked up anew.
    pub(super) fn forget_family(&mut self) {
        self.run_family = None;
    }

    /// Writes a sample, once, or once for each format if they spell it differently.
    pub(super) fn sample(
        &mut self,
        relay: &Relay,
        raw: &[u8],
        derived: &Derived,
        tail: Tail<'_>,
        dialect: Dialect,
        counts: &mut Counts,
    ) -> Result<(), RelayError> {
        let (text, openmetrics) = match &derived.outcome {
            Outcome::Dropped(reason) => {
                counts.drop_one(*reason);
                return Ok(());
            }
            Outcome::Served { rewritten, openmetrics } => {
                let appended = || {
                    let row = relay.owners.get(derived.owner);
                    Spelling::Appended(raw, row.map_or(&[], |row| &row.suffix))
                };
                let text = rewritten.as_deref().map_or_else(appended, Spelling::Whole);
                (text, openmetrics.as_deref().map(Spelling::Whole))
            }
        };
        self.count(relay, derived, counts);
        let timestamp = match (relay.settings.timestamps, tail.timestamp, dialect) {
            (Timestamps::LeftOut, _, _) | (_, None, _) => None,
            (Timestamps::Honored, Some(timestamp), Dialect::Text) => Some(Cow::Borrowed(timestamp)),
            (Timestamps::Honored, Some(timestamp), Dialect::OpenMetrics) => {
                Some(Cow::Owned(write::milliseconds(timestamp)))
            }
        };
        let has_two_spellings = openmetrics.is_some() || tail.exemplar.is_some();
        let form = match timestamp {
            _ if has_two_spellings => Form::TextOnly,
            Some(_) => Form::Timestamped,
            None => Form::Same,
        };
        let start = self.begin(text, tail.value);
        if let Some(timestamp) = &timestamp {
            self.bytes.push(b' ');
            self.bytes.extend_from_slice(timestamp);
        }
        self.end(start, form, derived.group)?;
        if has_two_spellings {
            let start = self.begin(openmetrics.unwrap_or(text), tail.value);
            if let Some(timestamp) = &timestamp {
                self.bytes.push(b' ');
                write_seconds(&mut self.bytes, timestamp);
            }
            if let Some(exemplar) = tail.exemplar {
                self.bytes.extend_from_slice(b" # ");
                self.bytes.extend_from_slice(exemplar);
            }
            self.end(start, Form::OpenMetricsOnly, derived.group)?;
        }
        Ok(())
    }

    fn count(&mut self, relay: &Relay, derived: &Derived, counts: &mut Counts) {
        counts.keep_one(derived.owner_kind);
        self.identities.push((derived.identity, derived.owner_kind));
        if self.run_family != Some(derived.family)
            && let Some(family) = relay.families.meta(derived.family)
        {
            self.runs.push(Run { family: Arc::clone(family), n_lines: 0 });
            self.run_family = Some(derived.family);
        }
    }

    fn begin(&mut self, series: Spelling<'_>, value: &[u8]) -> usize {
        let start = self.bytes.len();
        match series {
            Spelling::Appended(raw, suffix) => write::appended(&mut self.bytes, raw, suffix),
            Spelling::Whole(series) => self.bytes.extend_from_slice(series),
        }
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(value);
        start
    }

    fn end(&mut self, start: usize, form: Form, group: Group) -> Result<(), RelayError> {
        self.bytes.push(b'\n');
        if self.bytes.len() > MAX_PAGE_BYTES {
            return Err(RelayError::TooLarge);
        }
        let in_32_bits = |n: usize| u32::try_from(n).map_err(|_too_large| RelayError::TooLarge);
        let (start, n_bytes) = (in_32_bits(start)?, in_32_bits(self.bytes.len() - start)?);
        self.lines.push(Line { start, n_bytes, form, group });
        if let Some(run) = self.runs.last_mut() {
            run.n_lines += 1;
        }
        Ok(())
    }
}

/// Where the bytes of a series come from.
#[derive(Clone, Copy)]
enum Spelling<'a> {
    Appended(&'a [u8], &'a [u8]),
    Whole(&'a [u8]),
}

//! One page through the relay, line by line.

use std::{borrow::Cow, collections::HashSet, mem, sync::Arc};

use bytes::Bytes;

use super::{
    Counts, DropReason, MAX_PAGE_BYTES, OwnerKind, Relay, RelayError, Relayed, Timestamps,
    cache::{Derived, Entry, Outcome, SeriesIdx},
    derive::{Context, Refusal},
    families::{Declared, FamilyIdx},
    pods::{OwnerIdx, Pods},
    write,
};
use crate::{
    page::{
        relayed::{Form, Group, Line as PageLine, RelayedPage, Run},
        spelling::write_seconds,
    },
    source::upstream::exposition::{Dialect, Line, LineError, Reader, Tail},
};

/// Unseen series are looked for every so many pages, and when there are many.
const SCRAPES_PER_EVICTION: u32 = 8;

/// So many rows of pods that are gone are kept before everything is read anew.
const MAX_IDLE_OWNERS: usize = 512;

/// One page on its way.
pub(super) struct Pass<'a> {
    relay: &'a mut Relay,
    pods: &'a dyn Pods,
    dialect: Dialect,
    reader: Reader<'a>,
    out: Output,
    counts: Counts,
    first_fault: Option<LineError>,
    /// The series before this one.
    previous: Option<SeriesIdx>,
    has_ended: bool,
}

/// What is written.
struct Output {
    bytes: Vec<u8>,
    lines: Vec<PageLine>,
    /// The series of each sample, and whom it is about.
    identities: Vec<(Group, OwnerKind)>,
    runs: Vec<Run>,
    run_family: Option<FamilyIdx>,
}

impl<'a> Pass<'a> {
    /// At the beginning of the page.
    pub(super) fn new(
        relay: &'a mut Relay,
        page: &'a [u8],
        dialect: Dialect,
        pods: &'a dyn Pods,
    ) -> Self {
        // As much as last time and a little more; a first page grows by its labels.
        let n_bytes = match relay.last_n_bytes {
            0 => page.len() + page.len() / 4,
            last => last + last / 16,
        };
        let n_lines = relay.cache.len() + relay.cache.len() / 16;
        Self {
            out: Output {
                bytes: Vec::with_capacity(n_bytes),
                lines: Vec::with_capacity(n_lines),
                identities: Vec::with_capacity(n_lines),
                runs: Vec::new(),
                run_family: None,
            },
            relay,
            pods,
            dialect,
            reader: Reader::new(page, dialect),
            counts: Counts::default(),
            first_fault: None,
            previous: None,
            has_ended: false,
        }
    }

    /// Goes through the page.
    pub(super) fn run(mut self) -> Result<Relayed, RelayError> {
        while self.step()? {}
        if self.dialect == Dialect::OpenMetrics && !self.has_ended {
            return Err(RelayError::NoEof);
        }
        if let Some(fault) = self.first_fault
            && self.counts.n_samples == self.counts.dropped(DropReason::Malformed)
        {
            return Err(RelayError::NoMetrics(fault));
        }
        let mut page = RelayedPage {
            bytes: Bytes::from(self.out.bytes),
            lines: self.out.lines,
            runs: self.out.runs,
        };
        if self.counts.n_misses > 0 || self.relay.had_duplicates {
            self.relay.had_duplicates =
                leave_out_duplicates(&mut page, &self.out.identities, &mut self.counts);
        }
        if let Some(limit) = self.relay.settings.sample_limit
            && self.counts.n_kept > limit
        {
            return Err(RelayError::SampleLimit { n_samples: self.counts.n_kept, limit });
        }
        self.counts.n_evicted = self.relay.evict(self.counts.n_samples);
        Ok(Relayed { page, counts: self.counts, first_fault: self.first_fault })
    }

    /// Takes one line; says whether there was one.
    fn step(&mut self) -> Result<bool, RelayError> {
        // The series that came behind the one before, last time.
        let cache = &self.relay.cache;
        let guess = self.previous.map_or(0, |idx| cache.get(idx).map_or(0, |entry| entry.next));
        if let Some(entry) = cache.get(guess)
            && let Some(tail) = self.reader.take_sample_of(&entry.raw)
        {
            self.known(guess, tail)?;
            return Ok(true);
        }
        match self.reader.next_line() {
            None => return Ok(false),
            Some(Ok(Line::Sample { series, tail })) => self.sample(series, tail)?,
            Some(Ok(Line::Eof)) => self.has_ended = true,
            Some(Ok(line)) => self.metadata(&line),
            Some(Err(error)) if self.reader.is_at_metadata() => {
                self.first_fault.get_or_insert(error);
                self.counts.n_bad_metadata += 1;
            }
            Some(Err(error)) => self.bad_sample(error),
        }
        Ok(true)
    }

    fn metadata(&mut self, line: &Line<'_>) {
        let families = &mut self.relay.families;
        let declared = match line {
            Line::Help { family, text } => families.declare_help(family, text),
            Line::Type { family, family_type } => {
                families.declare_type(family, *family_type, self.dialect)
            }
            Line::Unit { family, unit } => families.declare_unit(family, unit),
            Line::Sample { .. } | Line::Eof => Declared::Agreed,
        };
        match declared {
            Declared::Agreed => {}
            Declared::Conflict => self.counts.n_conflicts += 1,
            Declared::NoRoom => self.counts.n_bad_metadata += 1,
        }
        // The same family may have another type or help than a moment ago.
        self.out.run_family = None;
    }

    fn bad_sample(&mut self, error: LineError) {
        self.first_fault.get_or_insert(error);
        self.counts.n_samples += 1;
        self.counts.drop_one(DropReason::Malformed);
    }

    /// A sample that is not the one that came here last time.
    fn sample(&mut self, series: &[u8], tail: Tail<'_>) -> Result<(), RelayError> {
        if let Some(idx) = self.relay.cache.find(series) {
            return self.known(idx, tail);
        }
        let Some(derived) = self.derive(series)? else {
            return Ok(());
        };
        let has_row = derived.owner != OwnerIdx::MAX;
        let entry = if has_row { self.relay.cache.insert(series, derived.clone()) } else { None };
        if let Some(idx) = entry {
            return self.known(idx, tail);
        }
        self.counts.n_uncached += 1;
        self.counts.n_samples += 1;
        self.counts.n_added += 1;
        self.out.sample(self.relay, series, &derived, tail, self.dialect, &mut self.counts)
    }

    /// What becomes of a series; nothing if it is none.
    fn derive(&mut self, series: &[u8]) -> Result<Option<Derived>, RelayError> {
        self.counts.n_misses += 1;
        let Relay { settings, hasher, families, owners, .. } = &mut *self.relay;
        let mut context = Context { settings, families, owners, pods: self.pods, hasher };
        let line = self.reader.line_number();
        match context.derive(series) {
            Ok(derived) => Ok(Some(derived)),
            Err(Refusal::Malformed { column, fault }) => {
                self.bad_sample(LineError { line, column, fault });
                Ok(None)
            }
            Err(Refusal::LabelLimit { limit_name }) => {
                Err(RelayError::LabelLimit { line, limit_name })
            }
        }
    }

    /// A sample of a series that is in the cache.
    fn known(&mut self, idx: SeriesIdx, tail: Tail<'_>) -> Result<(), RelayError> {
        if !self.is_valid(idx) {
            let raw = self.relay.cache.get(idx).map(|entry| entry.raw.clone()).unwrap_or_default();
            if let Some(derived) = self.derive(&raw)? {
                self.relay.cache.replace(idx, derived);
            }
        }
        let (scrape, last) = (self.relay.scrape, self.relay.last);
        if let Some(previous) = self.previous.and_then(|idx| self.relay.cache.get_mut(idx)) {
            previous.next = idx;
        }
        self.previous = Some(idx);
        self.counts.n_samples += 1;
        let Some(entry) = self.relay.cache.get_mut(idx) else {
            return Ok(());
        };
        let seen = mem::replace(&mut entry.seen, scrape);
        if seen == scrape {
            self.counts.drop_one(DropReason::Duplicate);
            return Ok(());
        }
        let Some(entry) = self.relay.cache.get(idx) else {
            return Ok(());
        };
        let is_dropped = matches!(entry.derived.outcome, Outcome::Dropped(_));
        self.counts.n_added += usize::from(!is_dropped && (seen != last || last == 0));
        let Entry { raw, derived, .. } = entry;
        self.out.sample(self.relay, raw, derived, tail, self.dialect, &mut self.counts)
    }

    fn is_valid(&self, idx: SeriesIdx) -> bool {
        self.relay.cache.get(idx).is_some_and(|entry| {
            let derived = &entry.derived;
            let owner = self.relay.owners.get(derived.owner);
            derived.generation == self.relay.families.generation()
                && owner.is_some_and(|row| row.version == derived.owner_version)
        })
    }
}

impl Output {
    /// Writes a sample, once, or once for each format if they spell it differently.
    fn sample(
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
        self.lines.push(PageLine { start, n_bytes, form, group });
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

/// Leaves out all but the first of equal series; says whether there were any.
fn leave_out_duplicates(
    page: &mut RelayedPage,
    identities: &[(Group, OwnerKind)],
    counts: &mut Counts,
) -> bool {
    let mut seen = HashSet::with_capacity(identities.len());
    if identities.iter().all(|(identity, _)| seen.insert(*identity)) {
        return false;
    }
    seen.clear();
    let mut identities = identities.iter();
    page.retain(|_, _| match identities.next() {
        Some((identity, kind)) if !seen.insert(*identity) => {
            counts.keep_one_less(*kind);
            counts.drop_one(DropReason::Duplicate);
            false
        }
        _ => true,
    });
    true
}

impl Relay {
    /// Forgets what was not seen for long; says how many series that were.
    fn evict(&mut self, n_samples: usize) -> usize {
        let is_time = self.scrape.is_multiple_of(SCRAPES_PER_EVICTION);
        if !is_time && self.cache.len() <= n_samples + n_samples / 4 + 1024 {
            return 0;
        }
        let n_evicted = self.cache.evict(self.scrape);
        // Rows of pods and families have places that series point to, so they go all at once.
        if self.owners.len() > 2 * self.cache.n_owners() + MAX_IDLE_OWNERS
            || self.families.is_full()
        {
            let n_series = self.cache.len();
            self.cache.clear();
            self.owners.clear();
            self.families.clear();
            return n_evicted + n_series;
        }
        n_evicted
    }
}

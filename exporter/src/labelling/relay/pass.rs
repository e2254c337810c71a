//! One page through the relay, line by line, as its pieces come.

use std::{collections::HashSet, mem};

use memchr::{memchr, memrchr};

use super::{
    Counts, DropReason, OwnerKind, Relay, RelayError, Relayed,
    cache::{Derived, Entry, Outcome, SeriesIdx},
    derive::{Context, Refusal},
    families::Declared,
    output::Output,
    pods::{OwnerIdx, Pods},
};
use crate::{
    page::relayed::{Group, RelayedPage},
    source::upstream::exposition::{Dialect, Line, LineError, Place, Reader, Tail},
};

/// Unseen series are looked for every so many pages, and when there are many.
const SCRAPES_PER_EVICTION: u32 = 8;

/// So many rows of pods that are gone are kept before everything is read anew.
const MAX_IDLE_OWNERS: usize = 512;

/// A page that has not come to its end.
#[derive(Debug)]
pub struct Incoming {
    dialect: Dialect,
    place: Place,
    /// The beginning of a line whose end has not come.
    cut: Vec<u8>,
    out: Output,
    counts: Counts,
    first_fault: Option<LineError>,
    /// The series before the next one.
    previous: Option<SeriesIdx>,
    has_ended: bool,
    /// Whether a sample was written as what its series was before the type of its family was known.
    has_outdated: bool,
}

/// Some of its lines on their way.
struct Pass<'a> {
    relay: &'a mut Relay,
    pods: &'a dyn Pods,
    reader: Reader<'a>,
    page: &'a mut Incoming,
}

impl Incoming {
    /// Nothing has come yet.
    pub(super) fn new(relay: &Relay, dialect: Dialect) -> Self {
        // As much as last time and a little more.
        let n_bytes = relay.last_n_bytes + relay.last_n_bytes / 16;
        let n_lines = relay.cache.len() + relay.cache.len() / 16;
        Self {
            dialect,
            place: Place::default(),
            cut: Vec::new(),
            out: Output::with_capacity(n_bytes, n_lines),
            counts: Counts::default(),
            first_fault: None,
            previous: None,
            has_ended: false,
            has_outdated: false,
        }
    }
}

impl Relay {
    /// Takes the next piece of a page, which may end anywhere.
    pub fn take(
        &mut self,
        page: &mut Incoming,
        piece: &[u8],
        pods: &dyn Pods,
    ) -> Result<(), RelayError> {
        let mut rest = piece;
        if !page.cut.is_empty() {
            let end = memchr(b'\n', piece).map_or(piece.len(), |end| end + 1);
            let (cut_off, behind) = piece.split_at_checked(end).unwrap_or((piece, &[]));
            page.cut.extend_from_slice(cut_off);
            rest = behind;
            if !cut_off.ends_with(b"\n") {
                return Ok(());
            }
            let mut line = mem::take(&mut page.cut);
            self.pass(page, &line, pods)?;
            line.clear();
            page.cut = line;
        }
        let end = memrchr(b'\n', rest).map_or(0, |end| end + 1);
        let (lines, cut) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        page.cut.extend_from_slice(cut);
        self.pass(page, lines, pods)
    }

    /// Ends a page.
    pub fn end(&mut self, mut page: Incoming, pods: &dyn Pods) -> Result<Relayed, RelayError> {
        let cut = mem::take(&mut page.cut);
        self.pass(&mut page, &cut, pods)?;
        let Incoming { out, mut counts, first_fault, has_outdated, .. } = page;
        if page.dialect == Dialect::OpenMetrics && !page.has_ended {
            return Err(RelayError::NoEof);
        }
        if let Some(fault) = first_fault
            && counts.n_samples == counts.dropped(DropReason::Malformed)
        {
            return Err(RelayError::NoMetrics(fault));
        }
        let (mut page, identities) = out.into_page();
        if self.is_unsettled {
            let had_duplicates = leave_out_duplicates(&mut page, &identities, &mut counts);
            self.is_unsettled = had_duplicates || has_outdated;
        }
        if let Some(limit) = self.settings.sample_limit
            && counts.n_kept > limit
        {
            return Err(RelayError::SampleLimit { n_samples: counts.n_kept, limit });
        }
        counts.n_evicted = self.evict(counts.n_samples);
        self.last = self.scrape;
        self.last_n_bytes = page.bytes.len();
        Ok(Relayed { page, counts, first_fault })
    }

    /// Goes through whole lines.
    fn pass(
        &mut self,
        page: &mut Incoming,
        lines: &[u8],
        pods: &dyn Pods,
    ) -> Result<(), RelayError> {
        let reader = Reader::resume(lines, page.dialect, page.place);
        let mut pass = Pass { relay: self, pods, reader, page };
        while pass.step()? {}
        pass.page.place = pass.reader.place();
        Ok(())
    }
}

impl Pass<'_> {
    /// Takes one line; says whether there was one.
    fn step(&mut self) -> Result<bool, RelayError> {
        // The series that came behind the one before, last time.
        let cache = &self.relay.cache;
        let guess =
            self.page.previous.map_or(0, |idx| cache.get(idx).map_or(0, |entry| entry.next));
        if let Some(entry) = cache.get(guess)
            && let Some(tail) = self.reader.take_sample_of(&entry.raw)
        {
            self.known(guess, tail)?;
            return Ok(true);
        }
        match self.reader.next_line() {
            None => return Ok(false),
            Some(Ok(Line::Sample { series, tail })) => self.sample(series, tail)?,
            Some(Ok(Line::Eof)) => self.page.has_ended = true,
            Some(Ok(line)) => self.metadata(&line),
            Some(Err(error)) if self.reader.is_at_metadata() => {
                self.page.first_fault.get_or_insert(error);
                self.page.counts.n_bad_metadata += 1;
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
                families.declare_type(family, *family_type, self.page.dialect)
            }
            Line::Unit { family, unit } => families.declare_unit(family, unit),
            Line::Sample { .. } | Line::Eof => Declared::Agreed,
        };
        match declared {
            Declared::Agreed => {}
            Declared::Conflict => self.page.counts.n_conflicts += 1,
            Declared::NoRoom => self.page.counts.n_bad_metadata += 1,
        }
        // The same family may have another type or help than a moment ago.
        self.page.out.forget_family();
    }

    fn bad_sample(&mut self, error: LineError) {
        self.page.first_fault.get_or_insert(error);
        self.page.counts.n_samples += 1;
        self.page.counts.drop_one(DropReason::Malformed);
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
        self.page.counts.n_uncached += 1;
        self.page.counts.n_samples += 1;
        self.page.counts.n_added += 1;
        self.page.out.sample(
            self.relay,
            series,
            &derived,
            tail,
            self.page.dialect,
            &mut self.page.counts,
        )
    }

    /// What becomes of a series; nothing if it is none.
    fn derive(&mut self, series: &[u8]) -> Result<Option<Derived>, RelayError> {
        self.page.counts.n_misses += 1;
        self.relay.is_unsettled = true;
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
                let seen = self.relay.cache.get(idx).map(|entry| entry.seen);
                self.page.has_outdated |= seen == Some(self.relay.scrape);
                self.relay.cache.replace(idx, derived);
            }
        }
        let (scrape, last) = (self.relay.scrape, self.relay.last);
        if let Some(previous) = self.page.previous.and_then(|idx| self.relay.cache.get_mut(idx)) {
            previous.next = idx;
        }
        self.page.previous = Some(idx);
        self.page.counts.n_samples += 1;
        let Some(entry) = self.relay.cache.get_mut(idx) else {
            return Ok(());
        };
        let seen = mem::replace(&mut entry.seen, scrape);
        if seen == scrape {
            self.page.counts.drop_one(DropReason::Duplicate);
            return Ok(());
        }
        let Some(entry) = self.relay.cache.get(idx) else {
            return Ok(());
        };
        let is_dropped = matches!(entry.derived.outcome, Outcome::Dropped(_));
        // It was there last time, or came with a page since then that was refused in the end.
        let was_there = last != 0 && scrape.wrapping_sub(seen) <= scrape.wrapping_sub(last);
        self.page.counts.n_added += usize::from(!is_dropped && !was_there);
        let Entry { raw, derived, .. } = entry;
        self.page.out.sample(
            self.relay,
            raw,
            derived,
            tail,
            self.page.dialect,
            &mut self.page.counts,
        )
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
        let has_idle_owners = self.owners.len() > MAX_IDLE_OWNERS
            && self.owners.len() > 2 * self.cache.n_owners() + MAX_IDLE_OWNERS;
        if has_idle_owners || self.families.is_full() {
            let n_series = self.cache.len();
            self.cache.clear();
            self.owners.clear();
            self.families.clear();
            return n_evicted + n_series;
        }
        n_evicted
    }
}

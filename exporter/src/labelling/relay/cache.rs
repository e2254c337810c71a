//! The series cache: from the bytes of a series as received to what became of it.

use std::{collections::HashSet, hash::BuildHasher as _};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{DropReason, OwnerKind, families::FamilyIdx, pods::OwnerIdx};
use crate::page::relayed::Group;

/// Most series of one target; a cadvisor page of 110 pods has some 30,000. What finds no room is made anew each time.
pub const MAX_SERIES: usize = 262_144;

/// Most bytes of series, as received and as rewritten, that are kept for one target.
pub(super) const MAX_CACHE_BYTES: usize = 64 << 20;

/// A series that was not seen for so many pages is forgotten.
const KEPT_SCRAPES: u32 = 5;

/// A series' place.
pub(super) type SeriesIdx = u32;

/// What became of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Derived {
    pub(super) outcome: Outcome,
    pub(super) family: FamilyIdx,
    /// Whose labels it has, and which version of them.
    pub(super) owner: OwnerIdx,
    pub(super) owner_version: u32,
    pub(super) owner_kind: OwnerKind,
    /// The families as they were when it was put into one.
    pub(super) generation: u32,
    /// Equal for equal series.
    pub(super) identity: Group,
    /// Equal for all series of one histogram or summary.
    pub(super) group: Group,
}

/// What is served instead of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing.
    Dropped(DropReason),
    /// A series.
    Served {
        /// These bytes, or, if there are none, the series as received with the labels of its owner behind its own.
        rewritten: Option<Box<[u8]>>,
        /// If `OpenMetrics` spells it differently.
        openmetrics: Option<Box<[u8]>>,
    },
}

/// A series in the cache.
#[derive(Debug)]
pub(super) struct Entry {
    /// As received.
    pub(super) raw: Box<[u8]>,
    pub(super) derived: Derived,
    /// What came behind it last time.
    pub(super) next: SeriesIdx,
    /// The number of the page that it was on last.
    pub(super) seen: u32,
}

/// All series of one target.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Vec<Option<Entry>>,
    free: Vec<SeriesIdx>,
    index: HashTable<SeriesIdx>,
    hasher: RandomState,
    n_bytes: usize,
    max_series: usize,
}

impl Cache {
    /// An empty one.
    pub(super) fn new(max_series: usize) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            n_bytes: 0,
            max_series,
        }
    }

    /// Forgets all series.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max_series);
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// What the series take, their own bytes only.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// The series at a place.
    pub(super) fn get(&self, idx: SeriesIdx) -> Option<&Entry> {
        self.entries.get(idx as usize)?.as_ref()
    }

    /// The series at a place, to be changed.
    pub(super) fn get_mut(&mut self, idx: SeriesIdx) -> Option<&mut Entry> {
        self.entries.get_mut(idx as usize)?.as_mut()
    }

    /// The place of a series.
    pub(super) fn find(&self, raw: &[u8]) -> Option<SeriesIdx> {
        let is_it = |idx: &SeriesIdx| self.get(*idx).is_some_and(|entry| *entry.raw == *raw);
        self.index.find(self.hasher.hash_one(raw), is_it).copied()
    }

    /// Adds a series that is not there; nothing if there is no room.
    pub(super) fn insert(&mut self, raw: &[u8], derived: Derived) -> Option<SeriesIdx> {
        let n_bytes = raw.len() + derived.outcome.n_bytes();
        if self.len() >= self.max_series || self.n_bytes + n_bytes > MAX_CACHE_BYTES {
            return None;
        }
        let entry = Entry { raw: raw.into(), derived, next: SeriesIdx::MAX, seen: 0 };
        let idx = match self.free.pop() {
            Some(idx) => idx,
            None => SeriesIdx::try_from(self.entries.len()).ok()?,
        };
        match self.entries.get_mut(idx as usize) {
            Some(slot) => *slot = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        self.n_bytes += n_bytes;
        let Self { entries, index, hasher, .. } = self;
        let rehash = |idx: &SeriesIdx| hash_of(entries, hasher, *idx);
        index.insert_unique(hasher.hash_one(raw), idx, rehash);
        Some(idx)
    }

    /// Replaces what became of a series.
    pub(super) fn replace(&mut self, idx: SeriesIdx, derived: Derived) {
        let n_new = derived.outcome.n_bytes();
        let mut n_old = 0;
        if let Some(entry) = self.get_mut(idx) {
            n_old = entry.derived.outcome.n_bytes();
            entry.derived = derived;
        }
        self.n_bytes = (self.n_bytes + n_new).saturating_sub(n_old);
    }

    /// How many owners the series have.
    pub(super) fn n_owners(&self) -> usize {
        let owners = self.entries.iter().flatten().map(|entry| entry.derived.owner);
        owners.collect::<HashSet<_>>().len()
    }

    /// Forgets series that were not on the last few pages before this one, and says how many those were.
    pub(super) fn evict(&mut self, scrape: u32) -> usize {
        let n_before = self.len();
        let Self { entries, free, index, hasher, n_bytes, .. } = self;
        for idx in 0..entries.len() {
            let slot = entries.get(idx).and_then(Option::as_ref);
            let Some(entry) = slot.filter(|entry| scrape - entry.seen > KEPT_SCRAPES) else {
                continue;
            };
            *n_bytes -= entry.raw.len() + entry.derived.outcome.n_bytes();
            let hash = hasher.hash_one(&*entry.raw);
            if let Ok(found) = index.find_entry(hash, |known| *known as usize == idx) {
                free.push(*found.get());
                found.remove();
            }
            if let Some(slot) = entries.get_mut(idx) {
                *slot = None;
            }
        }
        n_before - self.len()
    }
}

impl Outcome {
    fn n_bytes(&self) -> usize {
        match self {
            Self::Dropped(_) => 0,
            Self::Served { rewritten, openmetrics } => {
                [rewritten, openmetrics].into_iter().flatten().map(|bytes| bytes.len()).sum()
            }
        }
    }
}

fn hash_of(entries: &[Option<Entry>], hasher: &RandomState, idx: SeriesIdx) -> u64 {
    let entry = entries.get(idx as usize).and_then(Option::as_ref);
    entry.map_or(0, |entry| hasher.hash_one(&*entry.raw))
}

//! The series that are pushed: what became of each as it stands on a page, so that the next page only looks it up; which
//! ones ended; and that no two are equal. Pure.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hasher as _},
    sync::Arc,
};

use super::{
    instants::Milliseconds,
    lines::PageSample,
    status::DropReason,
    symbols::{Symbol, SymbolPairs, Symbols},
};
use crate::{
    labelling::relabel::{LabelSet, Rules, Verdict, labels::METRIC_NAME},
    page::relayed::FamilyMeta,
    source::upstream::exposition::parse_series,
};

/// Most series that are remembered, and so pushed: a full node has some forty thousand.
const MAX_SERIES: usize = 1 << 20;

/// The value that says that a series has ended.
pub(super) const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// A sample that is to be sent.
pub(super) struct Outgoing<'a> {
    /// What all samples of the series have in common, and few others.
    pub(super) identity: u128,
    /// The labels by name.
    pub(super) labels: &'a [(Symbol, Symbol)],
    pub(super) value: f64,
    pub(super) timestamp: Milliseconds,
    pub(super) family: Option<&'a Arc<FamilyMeta>>,
}

/// Where samples go that are to be sent; it gets the texts of their labels with them.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&Symbols, &Outgoing<'_>);

/// All series of one receiver.
#[derive(Debug)]
pub(super) struct SeriesCache {
    rules: Rules,
    /// What a scrape of the page would have put on series that lack it.
    target_labels: Vec<(&'static str, String)>,
    hashers: [foldhash::quality::RandomState; 2],
    symbols: Symbols,
    /// By the text that stands on the page.
    known: HashMap<u128, Entry>,
    /// By identity: who of those that are known has it.
    owners: HashMap<u128, u128>,
    rivals: Vec<Rival>,
    n_pushes: u64,
    dropped: [u64; DropReason::ALL.len()],
}

#[derive(Debug)]
struct Entry {
    /// The push that it was last seen in.
    seen: u64,
    /// None if the rules dropped it.
    series: Option<Series>,
}

#[derive(Debug)]
struct Series {
    identity: u128,
    labels: SymbolPairs,
    /// When its last sample was of.
    last: Milliseconds,
}

/// A new series with the labels of one that may have ended: a rule took off what told them apart.
#[derive(Debug)]
struct Rival {
    key: u128,
    series: Series,
    value: f64,
    family: Option<Arc<FamilyMeta>>,
}

impl SeriesCache {
    /// None yet. `instance` is what tells the series of this node from those of others where they have nothing else.
    pub(super) fn new(rules: Rules, instance: &str) -> Self {
        Self {
            rules,
            target_labels: vec![("job", "podmeter".into()), ("instance", instance.into())],
            hashers: Default::default(),
            symbols: Symbols::default(),
            known: HashMap::new(),
            owners: HashMap::new(),
            rivals: Vec::new(),
            n_pushes: 0,
            dropped: Default::default(),
        }
    }

    /// Begins the samples of another page.
    pub(super) fn begin(&mut self) {
        self.n_pushes += 1;
    }

    /// The clock was set back: what comes now is older than what was sent, and still what is true now.
    pub(super) fn forget_order(&mut self) {
        for series in self.known.values_mut().filter_map(|entry| entry.series.as_mut()) {
            series.last = Milliseconds::MIN;
        }
    }

    /// How many series are pushed.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// What was dropped since the last time, by reason.
    pub(super) fn take_dropped(&mut self) -> [u64; DropReason::ALL.len()] {
        std::mem::take(&mut self.dropped)
    }

    /// Notes lines of a page that are none.
    pub(super) fn drop_invalid(&mut self, n_lines: usize) {
        if let Some(n_dropped) = self.dropped.get_mut(DropReason::Invalid as usize) {
            *n_dropped += n_lines as u64;
        }
    }

    /// Takes a sample of the page of that instant.
    pub(super) fn sample(&mut self, sample: PageSample<'_>, instant: Milliseconds, sink: Sink<'_>) {
        let key = self.hash(&[sample.series]);
        if !self.known.contains_key(&key) && !self.admit(key, &sample, instant) {
            return;
        }
        let Some(entry) = self.known.get_mut(&key) else {
            return;
        };
        entry.seen = self.n_pushes;
        let timestamp = sample.timestamp.unwrap_or(instant);
        let dropped = match &mut entry.series {
            None => Some(DropReason::Relabel),
            // The target has nothing new since the last page.
            Some(series) if timestamp == series.last => None,
            Some(series) if timestamp < series.last => Some(DropReason::OutOfOrder),
            Some(series) => {
                series.last = timestamp;
                let Series { identity, labels, .. } = series;
                let (value, family) = (sample.value, sample.family);
                let outgoing = Outgoing { identity: *identity, labels, value, timestamp, family };
                sink(&self.symbols, &outgoing);
                None
            }
        };
        if let Some(reason) = dropped {
            self.drop_one(reason);
        }
    }

    /// Ends the samples of a page: series that were on the one before it and are not on this one end.
    pub(super) fn end(&mut self, instant: Milliseconds, sink: Sink<'_>) {
        self.settle_rivals(sink);
        let Self { known, owners, symbols, n_pushes, .. } = self;
        known.retain(|_key, entry| {
            if entry.seen == *n_pushes {
                return true;
            }
            if let Some(Series { identity, labels, last }) = entry.series.take() {
                let timestamp = instant.max(last.saturating_add(1));
                let labels = &labels;
                let stale = Outgoing { identity, labels, value: STALE, timestamp, family: None };
                sink(symbols, &stale);
                symbols.give_back(labels);
                owners.remove(&identity);
            }
            false
        });
    }

    /// Understands a series that is new, and remembers it; false if its sample is settled thereby.
    fn admit(&mut self, key: u128, sample: &PageSample<'_>, instant: Milliseconds) -> bool {
        if self.known.len() >= MAX_SERIES {
            self.drop_one(DropReason::TooManySeries);
            return false;
        }
        let seen = self.n_pushes;
        let labels = match self.relabelled(sample.series) {
            Ok(Some(labels)) => labels,
            Ok(None) => {
                self.known.insert(key, Entry { seen, series: None });
                return true;
            }
            Err(reason) => {
                self.drop_one(reason);
                return false;
            }
        };
        let texts = labels.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let identity = self.hash(&texts.collect::<Vec<_>>());
        let owner = self.owners.get(&identity).and_then(|owner| self.known.get(owner));
        match owner.map(|owner| owner.seen == seen) {
            Some(true) => {
                self.drop_one(DropReason::Duplicate);
                return false;
            }
            is_taken => {
                let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                let labels = self.symbols.take_all(pairs);
                let last = Milliseconds::MIN;
                let mut series = Series { identity, labels, last };
                if is_taken.is_none() {
                    self.owners.insert(identity, key);
                    self.known.insert(key, Entry { seen, series: Some(series) });
                    return true;
                }
                series.last = sample.timestamp.unwrap_or(instant);
                let (value, family) = (sample.value, sample.family.cloned());
                self.rivals.push(Rival { key, series, value, family });
            }
        }
        false
    }

    /// The labels of a series behind the rules; none if they drop it.
    fn relabelled(&self, series: &[u8]) -> Result<Option<Vec<(String, String)>>, DropReason> {
        let parts = parse_series(series).map_err(|_fault| DropReason::Invalid)?;
        let name = [(METRIC_NAME, parts.name.as_ref())].into_iter();
        let given = parts.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let mut labels = LabelSet::new(name.chain(given));
        for (name, value) in &self.target_labels {
            if labels.get(name).is_empty() {
                labels.set(*name, value.as_str());
            }
        }
        if let Verdict::Dropped { .. } = self.rules.apply(&mut labels) {
            return Ok(None);
        }
        if labels.get(METRIC_NAME).is_empty() {
            return Err(DropReason::Invalid);
        }
        // Labels that begin so are for the rules alone.
        let is_sent = |name: &str| name == METRIC_NAME || !name.starts_with("__");
        let sorted = labels.sorted().into_iter().filter(|(name, _)| is_sent(name));
        Ok(Some(sorted.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    /// A series takes the place of one with the same labels if that one is no more.
    fn settle_rivals(&mut self, sink: Sink<'_>) {
        for Rival { key, mut series, value, family } in std::mem::take(&mut self.rivals) {
            let owner = self.owners.get(&series.identity).copied();
            let before = owner.and_then(|owner| self.known.get(&owner));
            if before.is_some_and(|before| before.seen == self.n_pushes) {
                self.symbols.give_back(&series.labels);
                self.drop_one(DropReason::Duplicate);
                continue;
            }
            let last = before.and_then(|before| before.series.as_ref()).map(|before| before.last);
            if let Some(ended) = owner.and_then(|owner| self.known.remove(&owner))
                && let Some(ended) = ended.series
            {
                self.symbols.give_back(&ended.labels);
            }
            if last.is_none_or(|last| series.last > last) {
                let Series { identity, labels, last } = &series;
                let family = family.as_ref();
                let outgoing =
                    Outgoing { identity: *identity, labels, value, timestamp: *last, family };
                sink(&self.symbols, &outgoing);
            } else {
                series.last = last.unwrap_or(series.last);
                self.drop_one(DropReason::OutOfOrder);
            }
            self.owners.insert(series.identity, key);
            self.known.insert(key, Entry { seen: self.n_pushes, series: Some(series) });
        }
    }

    fn drop_one(&mut self, reason: DropReason) {
        if let Some(n_dropped) = self.dropped.get_mut(reason as usize) {
            *n_dropped += 1;
        }
    }

    /// A fingerprint of texts in their order. It is as good as the texts: nobody can choose two that share one, because
    /// the seeds are random, and 128 bits leave nothing to chance.
    fn hash(&self, texts: &[&[u8]]) -> u128 {
        let [high, low] = &self.hashers;
        let hash = |state: &foldhash::quality::RandomState| {
            let mut hasher = state.build_hasher();
            for text in texts {
                hasher.write(text);
                hasher.write_u8(0xff);
            }
            u128::from(hasher.finish())
        };
        (hash(high) << 64) | hash(low)
    }
}

#[cfg(test)]
mod tests;

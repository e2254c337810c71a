//! Makes requests of pages: the samples of each series go to one lane, and wait there for others until there are enough.
//! No IO; the time is given.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    buffer::Header,
    instants::Milliseconds,
    lines,
    message::Message,
    series::{Outgoing, SeriesCache},
    status::DropReason,
    symbols::Symbols,
};
use crate::{
    config::remote_write::{MessageKind, RemoteWriteConfig},
    labelling::relabel::Rules,
    page::{Page, relayed::FamilyMeta},
};

/// Makes requests for one receiver.
#[derive(Debug)]
pub(super) struct Filler {
    cache: SeriesCache,
    kind: MessageKind,
    max_samples: usize,
    deadline: Duration,
    metadata_interval: Option<Duration>,
    metadata_sent: Option<Instant>,
    last: Option<Milliseconds>,
    /// By lane.
    open: Vec<Option<Open>>,
}

/// A request that has room for more.
#[derive(Debug)]
struct Open {
    message: Message,
    n_samples: usize,
    newest: Milliseconds,
    since: Instant,
}

/// A request that is ready.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) lane: usize,
    pub(super) header: Header,
    /// The compressed message.
    pub(super) body: Bytes,
}

/// A page that is to be sent.
#[derive(Clone, Copy)]
pub(super) struct Filling<'a> {
    pub(super) page: &'a Page,
    /// When it is of.
    pub(super) instant: Milliseconds,
    /// How many lanes its series are spread over.
    pub(super) n_lanes: usize,
    /// Whether metadata goes with it if it is time.
    pub(super) metadata: Metadata,
    pub(super) now: Instant,
}

impl Filler {
    pub(super) fn new(config: &RemoteWriteConfig, rules: Rules, node_name: &str) -> Self {
        Self {
            cache: SeriesCache::new(rules, node_name),
            kind: config.message,
            max_samples: config.queue.max_samples_per_send,
            deadline: config.queue.batch_send_deadline,
            metadata_interval: config.metadata_interval,
            metadata_sent: None,
            last: None,
            open: Vec::new(),
        }
    }

    /// Takes all samples of a page, and gives the requests that are full.
    ///
    /// If there are to be other lanes than before, what is open must have been sealed.
    pub(super) fn fill(&mut self, filling: Filling<'_>) -> Vec<Sealed> {
        let Filling { page, instant, n_lanes, metadata, now } = filling;
        if self.last.is_some_and(|last| instant <= last) {
            self.cache.forget_order();
        }
        self.last = Some(instant);
        self.open.resize_with(n_lanes.max(1), || None);
        self.open.iter_mut().flatten().for_each(|open| open.message.begin_page());
        let wants_metadata = metadata == Metadata::IfDue && self.wants_metadata(now);
        let mut families: Vec<Arc<FamilyMeta>> = Vec::new();
        let mut sealed = Vec::new();
        let Self { cache, open, kind, max_samples, .. } = self;
        let mut sink = |symbols: &Symbols, sample: &Outgoing<'_>| {
            let lane = lane_of(sample.identity, open.len());
            let Some(place) = open.get_mut(lane) else { return };
            let filled = place.get_or_insert_with(|| Open::new(*kind, now));
            filled.message.push(symbols, sample);
            filled.n_samples += 1;
            filled.newest = filled.newest.max(sample.timestamp);
            if filled.n_samples >= *max_samples {
                sealed.extend(place.take().and_then(|full| full.seal(*kind, lane)));
            }
            if wants_metadata
                && let Some(family) = sample.family
                && !families.last().is_some_and(|last| Arc::ptr_eq(last, family))
            {
                families.push(Arc::clone(family));
            }
        };
        cache.begin();
        let n_bad = lines::for_each(page, |sample| cache.sample(sample, instant, &mut sink));
        cache.end(instant, &mut sink);
        cache.drop_invalid(n_bad);
        if wants_metadata {
            self.metadata_sent = Some(now);
            sealed.extend(self.metadata(&families, now));
        }
        sealed
    }

    /// What is open and has waited long enough, or all of it.
    pub(super) fn seal(&mut self, now: Instant, which: Which) -> Vec<Sealed> {
        let (deadline, kind) = (self.deadline, self.kind);
        let mut sealed = Vec::new();
        for (lane, place) in self.open.iter_mut().enumerate() {
            let is_due = |open: &mut Open| match which {
                Which::All => true,
                Which::Due => now.saturating_duration_since(open.since) >= deadline,
            };
            sealed.extend(place.take_if(is_due).and_then(|open| open.seal(kind, lane)));
        }
        sealed
    }

    /// How many series the last page had.
    pub(super) fn n_series(&self) -> usize {
        self.cache.len()
    }

    /// How many samples are in what is open.
    pub(super) fn n_open_samples(&self) -> usize {
        self.open.iter().flatten().map(|open| open.n_samples).sum()
    }

    /// What was dropped since the last time, by reason.
    pub(super) fn take_dropped(&mut self) -> [u64; DropReason::ALL.len()] {
        self.cache.take_dropped()
    }

    /// With 2.0 each series has its own.
    fn wants_metadata(&self, now: Instant) -> bool {
        let is_due = |interval| {
            self.metadata_sent.is_none_or(|sent| now.saturating_duration_since(sent) >= interval)
        };
        self.kind == MessageKind::WriteRequest && self.metadata_interval.is_some_and(is_due)
    }

    /// A request of metadata alone, as Prometheus sends it.
    fn metadata(&self, families: &[Arc<FamilyMeta>], now: Instant) -> Option<Sealed> {
        let mut open = Open::new(self.kind, now);
        for family in families {
            open.message.push_metadata(family);
        }
        if families.is_empty() { None } else { open.seal(self.kind, 0) }
    }
}

/// Whether metadata is sent, which is left out where it would only wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metadata {
    IfDue,
    LeftOut,
}

/// Which of what is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Due,
}

impl Open {
    fn new(kind: MessageKind, now: Instant) -> Self {
        Self { message: Message::new(kind), n_samples: 0, newest: 0, since: now }
    }

    /// The compressed request; none if it has four gigabytes, which its bounds rule out.
    fn seal(self, kind: MessageKind, lane: usize) -> Option<Sealed> {
        let Self { message, n_samples, newest, .. } = self;
        let body = snap::raw::Encoder::new().compress_vec(&message.finish());
        let header = Header { kind, n_samples, newest };
        Some(Sealed { lane, header, body: body.ok()?.into() })
    }
}

/// The lane of a series.
fn lane_of(identity: u128, n_lanes: usize) -> usize {
    usize::try_from(identity % n_lanes.max(1) as u128).unwrap_or_default()
}

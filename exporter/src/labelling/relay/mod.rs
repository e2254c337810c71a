//! From a target's page as it was received to its samples as they are served: the series cache. No IO, no clock.
//!
//! Nearly every line of a page is the line of the page before with a new value, so nearly none is understood: the bytes
//! of its series are compared with those that came here last time, and what became of them is copied. A series that is
//! new is read, given the labels of its pod and of its target, and relabelled; that is remembered until the labels of
//! its pod change, or until it was not seen for some pages.

mod cache;
mod derive;
pub mod explain;
mod families;
pub mod meta;
mod named;
mod output;
pub mod own;
mod pass;
pub mod pods;
mod received;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::{cache::Cache, families::Families, pods::Owners};
pub use self::{
    cache::MAX_SERIES, named::NamedPods, pass::Incoming, pods::Pods, received::HonorLabels,
};
use crate::{
    labelling::relabel::Rules,
    page::relayed::{RelayedPage, SeriesHasher},
    source::upstream::exposition::{Dialect, LineError},
};

/// Largest page that is written; a line's place must fit into 32 bits.
const MAX_PAGE_BYTES: usize = 1 << 30;

/// How a target's series are relabelled.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What every series gets: `job`, `node`; no name stands twice.
    pub labels: Vec<(String, String)>,
    /// What a series gets that has none of that name after all rules.
    pub external_labels: Vec<(String, String)>,
    /// Whether a series' own labels win over those.
    pub honor_labels: HonorLabels,
    /// Whether the target's timestamps are served.
    pub timestamps: Timestamps,
    /// The rules, in the order in which they are applied: the target's, then those of the page.
    pub rules: Vec<Arc<Rules>>,
    /// Most samples after the rules; a page with more is refused.
    pub sample_limit: Option<usize>,
    /// Most labels, and longest names and values, of a series after the rules; a page with more is refused.
    pub label_limits: LabelLimits,
    /// Most series that are remembered.
    pub max_series: usize,
}

/// What is too much of one series; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelLimits {
    /// Labels, the metric's name among them.
    pub labels: Option<usize>,
    /// Bytes of a label's name.
    pub name_bytes: Option<usize>,
    /// Bytes of a label's value.
    pub value_bytes: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            external_labels: Vec::new(),
            honor_labels: HonorLabels::default(),
            timestamps: Timestamps::default(),
            rules: Vec::new(),
            sample_limit: None,
            label_limits: LabelLimits::default(),
            max_series: MAX_SERIES,
        }
    }
}

/// What happens to the timestamps of a target's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// They are served: `honor_timestamps: true`.
    #[default]
    Honored,
    /// They are left out: `honor_timestamps: false`.
    LeftOut,
}

/// One target's relay: what it remembers from page to page.
#[derive(Debug)]
pub struct Relay {
    settings: Settings,
    hasher: SeriesHasher,
    cache: Cache,
    families: Families,
    owners: Owners,
    scrape: u32,
    /// The last page that was relayed.
    last: u32,
    /// How large its bytes became.
    last_n_bytes: usize,
    /// Whether equal series may be on the next page: there were some on the last one, or series were read since then.
    is_unsettled: bool,
}

/// What a page became.
#[derive(Clone, Debug, Default)]
pub struct Relayed {
    /// The samples.
    pub page: RelayedPage,
    /// How many of what.
    pub counts: Counts,
    /// The first line that was none.
    pub first_fault: Option<LineError>,
}

/// What was counted in one page. Samples are those that are served and those that were dropped, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines of samples that came.
    pub n_samples: usize,
    /// Samples that are served.
    pub n_kept: usize,
    /// Samples that are not, by [`DropReason`].
    pub n_dropped: [usize; DropReason::ALL.len()],
    /// Samples that are served, by [`OwnerKind`].
    pub n_by_owner: [usize; OwnerKind::ALL.len()],
    /// Series that are served and were not on the page before.
    pub n_added: usize,
    /// Series that had to be read, because they were new or their pod's labels had changed.
    pub n_misses: usize,
    /// Series that had no room in the cache.
    pub n_uncached: usize,
    /// Series that were forgotten, because they had not been seen for some pages.
    pub n_evicted: usize,
    /// Lines of metadata that were none, or for which there was no room.
    pub n_bad_metadata: usize,
    /// Families whose type or help was given twice, differently.
    pub n_conflicts: usize,
}

/// Why a sample is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The line is none.
    Malformed,
    /// A rule dropped it.
    Rule,
    /// Another sample of its page has the same name and labels.
    Duplicate,
    /// It has the name of a histogram, whose samples end in `_bucket`, `_sum` or `_count`.
    Misplaced,
    /// Its target has too many families.
    FamilyLimit,
    /// Another target is the same process, and has it, too.
    OtherTarget,
}

/// Whom a sample is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// No pod.
    Node,
    /// A pod that is not known.
    UnknownPod,
    /// A pod as a whole.
    Pod,
    /// A pod's sandbox, the pause container.
    Sandbox,
    /// A container.
    Container,
}

/// Why a page cannot be relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// Not one line was a sample.
    #[error("the page has no metrics")]
    NoMetrics(#[source] LineError),
    /// An `OpenMetrics` page that was cut off.
    #[error("the page does not end with `# EOF`")]
    NoEof,
    /// More samples than are allowed.
    #[error("the page has {n_samples} samples, sample_limit is {limit}")]
    SampleLimit {
        /// How many.
        n_samples: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A series with more, or longer, labels than are allowed.
    #[error("line {line} has more than {limit_name} allows")]
    LabelLimit {
        /// The line.
        line: usize,
        /// Which limit.
        limit_name: &'static str,
    },
    /// More than can be written.
    #[error("the page would have more than {MAX_PAGE_BYTES} bytes")]
    TooLarge,
}

impl Relay {
    /// A relay that knows nothing yet. All relays of one page must share the hasher.
    #[must_use]
    pub fn new(settings: Settings, hasher: SeriesHasher) -> Self {
        let shared = settings.labels.iter().chain(&settings.external_labels).cloned().collect();
        Self {
            cache: Cache::new(settings.max_series.min(MAX_SERIES)),
            families: Families::default(),
            owners: Owners::new(shared),
            settings,
            hasher,
            scrape: 0,
            last: 0,
            last_n_bytes: 0,
            is_unsettled: false,
        }
    }

    /// Relays one page that is there as a whole.
    ///
    /// A page is relayed or refused as a whole, but for lines that are none.
    pub fn relay(
        &mut self,
        page: &[u8],
        dialect: Dialect,
        pods: &dyn Pods,
    ) -> Result<Relayed, RelayError> {
        let mut incoming = self.begin(dialect, pods);
        self.take(&mut incoming, page, pods)?;
        self.end(incoming, pods)
    }

    /// Begins a page that comes in pieces, which [`Self::take`] takes up to [`Self::end`].
    ///
    /// One that is not ended is forgotten; the pods are those of its beginning.
    pub fn begin(&mut self, dialect: Dialect, pods: &dyn Pods) -> Incoming {
        self.scrape = self.scrape.wrapping_add(1);
        self.owners.refresh(pods);
        self.families.begin(self.scrape);
        Incoming::new(self, dialect)
    }

    /// How many series are remembered.
    #[must_use]
    pub fn n_series(&self) -> usize {
        self.cache.len()
    }

    /// What the remembered series take, in bytes, without what manages them.
    #[must_use]
    pub fn n_cache_bytes(&self) -> usize {
        self.cache.n_bytes()
    }
}

impl Counts {
    /// How many samples were dropped for that reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> usize {
        self.n_dropped.get(reason as usize).copied().unwrap_or_default()
    }

    /// How many samples that are served are about such.
    #[must_use]
    pub fn owned_by(&self, kind: OwnerKind) -> usize {
        self.n_by_owner.get(kind as usize).copied().unwrap_or_default()
    }

    /// Takes all samples that were kept as dropped for that reason.
    pub fn drop_kept(&mut self, reason: DropReason) {
        if let Some(n_dropped) = self.n_dropped.get_mut(reason as usize) {
            *n_dropped += std::mem::take(&mut self.n_kept);
        }
        self.n_by_owner = Default::default();
        self.n_added = 0;
    }

    fn drop_one(&mut self, reason: DropReason) {
        if let Some(n_dropped) = self.n_dropped.get_mut(reason as usize) {
            *n_dropped += 1;
        }
    }

    fn keep_one(&mut self, kind: OwnerKind) {
        self.n_kept += 1;
        if let Some(n_kept) = self.n_by_owner.get_mut(kind as usize) {
            *n_kept += 1;
        }
    }

    fn keep_one_less(&mut self, kind: OwnerKind) {
        self.n_kept = self.n_kept.saturating_sub(1);
        if let Some(n_kept) = self.n_by_owner.get_mut(kind as usize) {
            *n_kept = n_kept.saturating_sub(1);
        }
    }
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::Rule,
        Self::Duplicate,
        Self::Misplaced,
        Self::FamilyLimit,
        Self::OtherTarget,
    ];

    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Rule => "rule",
            Self::Duplicate => "duplicate",
            Self::Misplaced => "misplaced",
            Self::FamilyLimit => "family_limit",
            Self::OtherTarget => "other_target",
        }
    }
}

impl OwnerKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Node, Self::UnknownPod, Self::Pod, Self::Sandbox, Self::Container];

    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::UnknownPod => "unknown_pod",
            Self::Pod => "pod",
            Self::Sandbox => "sandbox",
            Self::Container => "container",
        }
    }
}

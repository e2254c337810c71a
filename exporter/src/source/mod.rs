//! Where numbers come from: kernel probes, the host's own files, and the pages of others.
//!
//! A source knows what was measured and about whom, never which labels that becomes.
//! It gives all of its families or an error, and neither its failure nor its slowness reaches another source.

pub mod gather;
pub mod host;
pub mod privileged;
pub mod probe;
pub mod upstream;

use std::{sync::Arc, time::Duration};

use self::{
    host::kept_files::ReadError,
    probe::{ProbeError, ProbeStats},
};
use crate::{cgroup::tree::CgroupTree, metric::Family, subject::Subject};

/// Something that gives families of samples when asked; it may block.
pub trait Source: Send {
    /// The value of the label `source` of the self-metrics.
    fn name(&self) -> &'static str;

    /// Measures now.
    ///
    /// `tree` has every cgroup that is alive or died lately; `freed` those whose time is up since the last call that
    /// this source answered, whose state is to be freed, in the kernel too.
    fn collect(
        &mut self,
        tree: &Arc<CgroupTree>,
        freed: &[Subject],
    ) -> Result<Collected, SourceError>;
}

/// What one collection of one source gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Collected {
    /// All of its families.
    pub families: Vec<Family>,
    /// What it says of itself, for the self-metrics.
    pub stats: SourceStats,
}

/// What a source says of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceStats {
    /// Nothing beyond duration and success, which every source has.
    Plain,
    /// Cgroups whose files could not be read or understood.
    Files {
        /// How many in this collection.
        n_failed: u64,
    },
    /// A probe's maps and programs.
    Probe(ProbeStats),
}

/// Why a source gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A map of a probe could not be read or written.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The files of no cgroup could be read.
    #[error(transparent)]
    Files(#[from] ReadError),
    /// Podmeter's own entry in procfs could not be read.
    #[error("cannot read this process' entry in procfs")]
    Process(#[from] procfs::ProcError),
    /// It did not answer in time.
    #[error("no answer within {} s", limit.as_secs_f64())]
    Timeout {
        /// How long it had.
        limit: Duration,
    },
    /// The collection before this one is still at it.
    #[error("still busy with the collection before")]
    Busy,
    /// Its code panicked; that is a bug of Podmeter.
    #[error("a bug: it panicked, see the log")]
    Panicked,
}

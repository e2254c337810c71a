//! A source that is asked on the privileged thread.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Collected, Source, SourceError};
use crate::{caps::privileged::Privileged, cgroup::tree::CgroupTree, subject::Subject};

/// The source, and the way to the thread.
///
/// Those of one thread are asked one after the other: a probe's answer takes milliseconds, as many as its maps have
/// entries, whose number is bounded.
pub struct PrivilegedSource<S> {
    name: &'static str,
    source: Arc<Mutex<S>>,
    privileged: Privileged,
}

impl<S: Source> PrivilegedSource<S> {
    /// The source on the thread.
    pub fn new(source: S, privileged: Privileged) -> Self {
        Self { name: source.name(), source: Arc::new(Mutex::new(source)), privileged }
    }
}

impl<S: Source + 'static> Source for PrivilegedSource<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn collect(
        &mut self,
        tree: &Arc<CgroupTree>,
        freed: &[Subject],
    ) -> Result<Collected, SourceError> {
        let (source, tree, freed) = (Arc::clone(&self.source), Arc::clone(tree), freed.to_vec());
        let collect = move || {
            // A source that panicked once is asked again, as everywhere.
            let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
            source.collect(&tree, &freed)
        };
        self.privileged.run(collect).unwrap_or(Err(SourceError::Panicked))
    }
}

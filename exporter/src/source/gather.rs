//! Asks all sources at once; each by itself, with a time limit, so that none empties or delays another's families.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use tokio::{task, time};

use super::{Collected, Source, SourceError};
use crate::{cgroup::tree::CgroupTree, subject::Subject};

/// How long a collection waits for a source; Prometheus' default for a whole scrape is 10 s.
pub const SOURCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Most freed cgroups that wait for a source that does not answer; a probe frees those that are dropped by itself.
const MAX_PENDING: usize = 16_384;

/// A source and what has to reach it with its next collection.
#[derive(Clone)]
pub struct SourceSlot {
    name: &'static str,
    source: Arc<Mutex<Box<dyn Source>>>,
    freed: Arc<Mutex<Vec<Subject>>>,
}

/// What became of one source in one collection.
#[derive(Debug)]
pub struct Gathered {
    /// The source.
    pub name: &'static str,
    /// How long it took.
    pub duration: Duration,
    /// What it gave.
    pub result: Result<Collected, SourceError>,
}

impl SourceSlot {
    /// A slot for the source.
    #[must_use]
    pub fn new(source: Box<dyn Source>) -> Self {
        let name = source.name();
        Self { name, source: Arc::new(Mutex::new(source)), freed: Arc::default() }
    }

    /// The source's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Keeps freed cgroups for the source's next collection.
    pub fn add_freed(&self, freed: &[Subject]) {
        let mut pending = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_PENDING.saturating_sub(pending.len());
        pending.extend(freed.iter().take(room));
    }

    fn collect(&self, tree: &Arc<CgroupTree>) -> Result<Collected, SourceError> {
        let mut source = match self.source.try_lock() {
            Ok(source) => source,
            // A source that panicked once is asked again: its state is rebuilt from the kernel's at each collection.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(SourceError::Busy),
        };
        let freed = mem::take(&mut *self.freed.lock().unwrap_or_else(PoisonError::into_inner));
        let collected = source.collect(tree, &freed);
        if collected.is_err() {
            self.add_freed(&freed);
        }
        collected
    }
}

/// Collects from each of these sources; the answers are in the order of the slots.
pub async fn gather(
    slots: &[SourceSlot],
    tree: &Arc<CgroupTree>,
    timeout: Duration,
) -> Vec<Gathered> {
    let started = Instant::now();
    let running: Vec<_> = slots
        .iter()
        .map(|slot| {
            let (slot, tree) = (slot.clone(), Arc::clone(tree));
            task::spawn_blocking(move || {
                let started = Instant::now();
                let result = slot.collect(&tree);
                (started.elapsed(), result)
            })
        })
        .collect();
    let mut gathered = Vec::with_capacity(slots.len());
    for (slot, task) in slots.iter().zip(running) {
        let left = timeout.saturating_sub(started.elapsed());
        let (duration, result) = match time::timeout(left, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => (started.elapsed(), Err(SourceError::Panicked)),
            Err(_elapsed) => (started.elapsed(), Err(SourceError::Timeout { limit: timeout })),
        };
        gathered.push(Gathered { name: slot.name, duration, result });
    }
    gathered
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        time::Duration,
    };

    use super::{SourceSlot, gather};
    use crate::{
        cgroup::tree::CgroupTree,
        source::{Collected, Source, SourceError, SourceStats},
        subject::{CgroupId, Subject},
    };

    enum Behaviour {
        Answers,
        Panics,
        WaitsFor(mpsc::Receiver<()>),
        Remembers(mpsc::Sender<Vec<Subject>>),
    }

    struct Fake(&'static str, Behaviour);

    impl Source for Fake {
        fn name(&self) -> &'static str {
            self.0
        }

        fn collect(
            &mut self,
            _tree: &Arc<CgroupTree>,
            freed: &[Subject],
        ) -> Result<Collected, SourceError> {
            match &self.1 {
                Behaviour::Answers => {}
                Behaviour::Panics => panic!("on purpose"),
                // The sender is dropped at the end of the test.
                Behaviour::WaitsFor(end) => assert!(end.recv().is_err()),
                Behaviour::Remembers(seen) => seen.send(freed.to_vec()).unwrap(),
            }
            Ok(Collected { families: Vec::new(), stats: SourceStats::Plain })
        }
    }

    fn slot(name: &'static str, behaviour: Behaviour) -> SourceSlot {
        SourceSlot::new(Box::new(Fake(name, behaviour)))
    }

    async fn outcomes(slots: &[SourceSlot]) -> Vec<String> {
        let tree = Arc::new(CgroupTree::default());
        let gathered = gather(slots, &tree, Duration::from_secs(1)).await;
        let outcome = |result: Result<_, SourceError>| match result {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        gathered.into_iter().map(|one| format!("{}: {}", one.name, outcome(one.result))).collect()
    }

    #[tokio::test]
    async fn a_source_that_hangs_or_panics_costs_only_itself() {
        let (end, wait) = mpsc::channel();
        let slots = [
            slot("hangs", Behaviour::WaitsFor(wait)),
            slot("panics", Behaviour::Panics),
            slot("answers", Behaviour::Answers),
        ];
        let first = outcomes(&slots).await;
        assert_eq!(first[0], "hangs: no answer within 1 s");
        assert_eq!(first[1], "panics: a bug: it panicked, see the log");
        assert_eq!(first[2], "answers: ok");
        let second = outcomes(&slots).await;
        assert_eq!(second[0], "hangs: still busy with the collection before");
        assert_eq!(second[2], "answers: ok");
        drop(end);
    }

    #[tokio::test]
    async fn freed_cgroups_reach_a_source_once() {
        let (sender, seen) = mpsc::channel();
        let slots = [slot("remembers", Behaviour::Remembers(sender))];
        let tree = Arc::new(CgroupTree::default());
        for freed in [&[Subject::Cgroup(CgroupId(7))][..], &[]] {
            slots[0].add_freed(freed);
            gather(&slots, &tree, Duration::from_secs(5)).await;
        }
        assert_eq!(
            seen.try_iter().collect::<Vec<_>>(),
            [vec![Subject::Cgroup(CgroupId(7))], vec![]]
        );
    }
}

//! The one thread that keeps capabilities. It loads and attaches programs, reads their maps, and looks at the network
//! namespaces of processes; it never sees a byte that came over the network.
//!
//! The others ask it by messages. A thread of its own is the only way to keep a right from the threads that parse what
//! others sent: capabilities belong to threads.

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use caps::{CapSet, Capability, CapsHashSet};
use tracing::error;

use super::{
    Machine,
    confine::{self, DropError},
};

/// Its name, as `/proc/<pid>/task/<tid>/comm` has it.
pub const THREAD_NAME: &str = "privileged";

/// Work that waits; each source waits for its own, and there are fewer than this.
const MAX_WAITING: usize = 64;

type Work = Box<dyn FnOnce() + Send>;

/// The way to the thread, which ends when nobody has one any more.
#[derive(Clone)]
pub struct Privileged {
    work: SyncSender<Work>,
    /// What the process had before.
    held: Arc<CapsHashSet>,
}

/// What the thread keeps of what it has.
#[derive(Clone, Debug)]
pub enum Keep {
    /// All of it.
    Everything,
    /// What is needed on this machine after the start.
    Needed(Machine),
}

/// Why there is no such thread.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegedError {
    /// It did not start.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),
    /// It has more rights than it should.
    #[error(transparent)]
    Drop(#[from] DropError),
    /// Its start panicked.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// The work panicked, and there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("work on the privileged thread panicked, which is a bug")]
pub struct Lost;

impl Privileged {
    /// Starts the thread, which does `first` with all that it was given, and keeps no more than that from then on.
    pub fn start(
        keep: Keep,
        first: impl FnOnce() + Send + 'static,
    ) -> Result<Self, PrivilegedError> {
        let (work, waiting) = mpsc::sync_channel::<Work>(MAX_WAITING);
        // A thread that cannot tell has none.
        let held = Arc::new(caps::read(None, CapSet::Effective).unwrap_or_default());
        let kept = match keep {
            Keep::Everything => None,
            Keep::Needed(machine) => Some(machine.kept(|capability| held.contains(&capability))),
        };
        thread::Builder::new().name(THREAD_NAME.into()).spawn(move || serve(&waiting))?;
        let privileged = Self { work, held };
        privileged.run(move || {
            first();
            kept.map_or(Ok(()), |kept| confine::keep_only(&kept))
        })??;
        Ok(privileged)
    }

    /// Whether the process had it at its start.
    #[must_use]
    pub fn had(&self, capability: Capability) -> bool {
        self.held.contains(&capability)
    }

    /// Does the work there, and waits for its answer; blocks while other work is done.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, answered) = mpsc::sync_channel(1);
        let work = Box::new(move || {
            // Nobody waits any more where this fails.
            drop(answer.send(work()));
        });
        self.work.send(work).map_err(|_ended| Lost)?;
        answered.recv().map_err(|_panicked| Lost)
    }
}

impl fmt::Debug for Privileged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Privileged").finish_non_exhaustive()
    }
}

fn serve(waiting: &Receiver<Work>) {
    while let Ok(work) = waiting.recv() {
        // One probe's bug does not end the others.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            error!(
                panic = text_of(&*panic),
                "work on the privileged thread panicked, which is a bug"
            );
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::{Keep, Machine, Privileged};

    #[test]
    fn work_that_panics_costs_only_itself() {
        let privileged = Privileged::start(Keep::Everything, || {}).unwrap();
        assert!(privileged.run(|| panic!("on purpose")).is_err());
        let name = privileged.run(|| std::thread::current().name().map(str::to_owned));
        assert_eq!(name.unwrap().as_deref(), Some("privileged"));
    }

    #[test]
    fn what_it_keeps_is_not_what_others_have() {
        let read = || caps::read(None, caps::CapSet::Effective).unwrap();
        let before = read();
        let machine = Machine { cgroups: None, counts_maps: false, restricts_events: false };
        let privileged = Privileged::start(Keep::Needed(machine), || {}).unwrap();
        let kept = machine.kept(|capability| before.contains(&capability));
        assert_eq!(privileged.run(read).unwrap(), kept.into_iter().collect());
        assert_eq!(read(), before, "capabilities are a thread's");
    }
}

//! Where log lines go: to standard error, so that the output of a command can be piped; `RUST_LOG` chooses which.
//!
//! A service hands them to a thread of its own. Whoever reads a service's log may stand still, and its pipe is full then:
//! a line that waits there would hold up whoever wrote it, and soon every page. Instead, the newest lines are dropped,
//! and counted.

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
    thread,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt::writer::BoxMakeWriter};

use crate::caps::confine::{self, DropError};

/// Lines that wait for their reader: those of a start or a bad reload, many times.
const MAX_WAITING_LINES: usize = 4096;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How long a line may hold up the thread that writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Until it is written: for commands that end.
    OfTheReader,
    /// Not at all: for services.
    OfTheWriter,
}

/// The lines that wait are written, within a second, when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    _worker: Option<WorkerGuard>,
}

/// The log could not be given a thread of its own.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("a thread for the log cannot be started")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Rights(#[from] DropError),
    #[error("a thread for the log did not start")]
    Panicked,
}

/// Starts logging for the whole process, once.
#[must_use]
pub fn start(pace: Pace) -> Waiting {
    let (writer, worker, error) = match pace {
        Pace::OfTheReader => (BoxMakeWriter::new(io::stderr), None, None),
        Pace::OfTheWriter => match in_background() {
            Ok((writer, worker)) => (BoxMakeWriter::new(writer), Some(worker), None),
            Err(error) => (BoxMakeWriter::new(io::stderr), None, Some(error)),
        },
    };
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_not_set| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer)
        // A line that cannot be written, as on a full disk, is lost. To say so would take the same way, and panic there.
        .log_internal_errors(false)
        .init();
    if let Some(error) = error {
        tracing::warn!(%error, "pages wait for whoever reads this log");
    }
    Waiting { _worker: worker }
}

/// Lines that were dropped since the start.
pub(crate) fn n_dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

/// A writer that never waits, and its thread, which has no rights: it gets those of the thread that starts it.
fn in_background() -> Result<(NonBlocking, WorkerGuard), StartError> {
    let start = || -> Result<_, DropError> {
        confine::no_new_privileges()?;
        confine::drop_all()?;
        let builder = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(MAX_WAITING_LINES)
            .thread_name("log");
        Ok(builder.finish(io::stderr()))
    };
    let started = thread::scope(|scope| {
        let starter = thread::Builder::new().spawn_scoped(scope, start);
        starter.map_err(StartError::Thread)?.join().map_err(|_panic| StartError::Panicked)
    })?;
    let (writer, worker) = started?;
    // There is one log, so that this is the first and only counter.
    DROPPED.get_or_init(|| writer.error_counter());
    Ok((writer, worker))
}

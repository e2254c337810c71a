//! What programs in the kernel say of single events, as lines of the log: `--ebpf-log` asks for it.
//!
//! The lines wait in a ring buffer until the next collection, which reads them; what finds no room there is not said,
//! but is counted all the same (`podmeter_probe_skipped_events_total`).

use aya::{Ebpf, EbpfLoader};
use aya_log::{EbpfLogger, Error};
use log::{Log, Metadata, Record};
use podmeter_common::skip::Skip;
use tracing::info;

/// The ring buffer of `aya-log-ebpf`.
const MAP: &str = "AYA_LOGS";

/// Its size where nothing is ever written into it: the smallest that there is, a page of most machines.
const UNUSED_BYTES: u32 = 4096;

/// Whether programs say what becomes of single events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EbpfLog {
    /// They only count.
    #[default]
    Off,
    /// They say each event that is not where it belongs.
    On,
}

impl EbpfLog {
    /// Tells the programs that are loaded from now on.
    pub(super) fn set(self, loader: &mut EbpfLoader<'_>) {
        let level: &'static u8 = match self {
            Self::Off => {
                loader.map_max_entries(MAP, UNUSED_BYTES);
                &0
            }
            Self::On => &(aya_log::Level::Debug as u8),
        };
        // An object whose programs never skip an event has none.
        loader.override_global(aya_log::LEVEL, level, false);
    }

    /// What reads the lines of an object, if there are any.
    pub(super) fn reader(
        self,
        probe: &'static str,
        ebpf: &mut Ebpf,
    ) -> Option<Result<Lines, Error>> {
        match self {
            Self::Off => None,
            Self::On => Some(EbpfLogger::init_with_logger(ebpf, ToTracing { probe })),
        }
    }
}

/// The lines of one object.
pub(super) type Lines = EbpfLogger<ToTracing>;

/// Turns a program's line into one of Podmeter's log.
pub(super) struct ToTracing {
    probe: &'static str,
}

impl Log for ToTracing {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let probe = self.probe;
        let line = record.args().to_string();
        if let Some((reason, owner)) = parse(&line) {
            info!(probe, reason = reason.as_str(), owner, "event skipped");
        } else {
            info!(probe, line, "a program says");
        }
    }

    fn flush(&self) {}
}

/// A reason and an owner, as `exporter-ebpf/src/diagnostic.rs` writes them.
fn parse(line: &str) -> Option<(Skip, u64)> {
    let (reason, owner) = line.split_once(' ')?;
    let reason: usize = reason.parse().ok()?;
    Some((*Skip::ALL.get(reason)?, owner.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use podmeter_common::skip::Skip;

    use super::parse;

    #[test]
    fn a_line_names_its_reason_and_owner() {
        assert_eq!(parse("0 4294967297"), Some((Skip::Folded, 4_294_967_297)));
        assert_eq!(parse("7 0"), Some((Skip::NoOwner, 0)));
        for line in ["", "1", "99 1", "x y", "1 2 3"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn reasons_stand_at_their_slots() {
        for (slot, reason) in Skip::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, slot);
        }
    }
}

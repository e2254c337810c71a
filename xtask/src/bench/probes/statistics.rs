//! The kernel's statistics of eBPF programs, switched on while this is held.

use std::fs;

use anyhow::{Context as _, Result};

use crate::console;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The switch as it was before; dropping this sets it so again.
#[derive(Debug)]
pub(super) struct Statistics {
    before: String,
}

impl Statistics {
    /// Switches them to `1` (on) or `0` (off: programs run as they do on a node).
    pub(super) fn set(value: &str) -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| {
            format!("failed to read {SWITCH}: statistics of programs are there since Linux 5.1")
        })?;
        fs::write(SWITCH, value).with_context(|| format!("failed to write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, self.before.trim()) {
            console::note(&format!("{SWITCH} is not as it was: {error}"));
        }
    }
}

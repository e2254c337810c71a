//! `cargo xtask tidy`: rules about the sources that no compiler checks.

use anyhow::Result;

/// `cargo xtask tidy`.
pub(crate) fn run() -> Result<()> {
    Ok(())
}

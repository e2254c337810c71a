//! `cargo xtask bless`: takes what the tests got as what they expect, golden pages and generated documentation alike.

use anyhow::Result;

use crate::{
    docs::{self, Mode},
    setup::{self, Purpose},
};

/// `cargo xtask bless`.
pub(crate) fn run() -> Result<()> {
    let setup = setup::ensure(Purpose::Test)?;
    for filter in ["page::", "docs::"] {
        docs::expectations(&setup, filter, Mode::Write)?;
    }
    Ok(())
}

//! `cargo xtask bless`: takes what the tests got as what they expect, golden pages and generated documentation alike.

use anyhow::Result;

use crate::{
    docs::{self, Mode},
    setup::{self, Purpose},
};

/// `cargo xtask bless`.
pub(crate) fn run() -> Result<()> {
    let setup = setup::ensure(Purpose::Test)?;
    setup::ensure(Purpose::Cluster)?;
    // The last one is what Helm makes of deploy/chart.
    for filter in ["page::", "docs::", "cluster::chart::"] {
        docs::expectations(&setup, filter, Mode::Write)?;
    }
    Ok(())
}

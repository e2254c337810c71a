//! `cargo xtask docs`: the generated pages of the documentation, which tests write and check.

use anyhow::{Result, bail};

use crate::{
    cargo::{self, Build},
    setup::{self, Purpose, Setup},
    test,
};

/// What makes the tests write what they expect.
const UPDATE: &str = "UPDATE_EXPECT";

/// Checks that the pages are as they would be written.
pub(crate) fn check() -> Result<()> {
    let setup = setup::ensure(Purpose::Test)?;
    expectations(&setup, "docs::", Mode::Check)
}

/// Writes the pages.
pub(crate) fn write() -> Result<()> {
    let setup = setup::ensure(Purpose::Test)?;
    expectations(&setup, "docs::", Mode::Write)
}

/// What becomes of a difference between what tests expect and what they got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Check,
    Write,
}

/// Runs the tests whose names contain the filter.
pub(crate) fn expectations(setup: &Setup, filter: &str, mode: Mode) -> Result<()> {
    let podmeter = cargo::build_podmeter(Build::Debug)?;
    let mut command = cargo::cargo();
    command.args(["test", "--package", "podmeter-tests", "--test", "it", "--", filter]);
    test::environment(&mut command, setup, &podmeter);
    match mode {
        Mode::Check => command.env_remove(UPDATE),
        Mode::Write => command.env(UPDATE, "1"),
    };
    let count = test::counted(&mut command)?;
    if !count.failures.is_empty() {
        bail!("{} tests of {filter} failed", count.failures.len());
    }
    if count.n_passed == 0 {
        bail!("no test's name contains {filter}");
    }
    Ok(())
}

//! `cargo xtask bench attribution`: what it costs a node to know its pods in a cluster full of other objects.
//!
//! The measurement needs a real API server, so it is a program beside the cluster tests, `tests/benches/attribution`, and
//! shares their harness. This brings what it runs, and shows its table.

use std::process::Command;

use anyhow::Result;

use crate::{
    cargo::{self, Build},
    console, machine, process,
    setup::{self, Purpose},
    test,
};

/// How long it may take.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the cluster is filled with objects.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

/// `cargo xtask bench attribution`; an error if a limit is not kept.
pub(super) fn run(options: &Options) -> Result<()> {
    let setup = setup::ensure(Purpose::Cluster)?;
    let podmeter = cargo::build_podmeter(Build::Release)?;
    let mut bench = Command::new(cargo::build_bench("attribution")?);
    // Cargo runs benches in the folder of their package.
    bench.current_dir(cargo::root().join("tests")).arg(options.seconds.to_string());
    test::environment(&mut bench, &setup, &podmeter);
    let measured = process::run(&mut bench);
    console::say(&machine::described());
    measured
}

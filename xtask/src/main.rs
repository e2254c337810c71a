//! The front door for people who build Podmeter: `cargo xtask --help`.

mod apt;
mod cache;
mod cargo;
mod console;
mod lint;
mod process;
mod setup;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Everything that is done with this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring what is missing on this machine; do nothing when all is there.
    Setup {
        /// What it is needed for.
        #[arg(long = "for", value_name = "PURPOSE", default_value = "all")]
        purpose: setup::Purpose,
    },
    /// Run the tests, or a part of them.
    Test(test::Options),
    /// Check formatting, lints, and the licences of dependencies.
    Lint,
    /// Check the rules about the sources that no compiler checks.
    Tidy,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup { purpose } => setup::run(purpose),
        Command::Test(options) => test::run(&options),
        Command::Lint => lint::run(),
        Command::Tidy => tidy::run(),
    }
}

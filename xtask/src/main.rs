//! The front door for people who build Podmeter: `cargo xtask --help`.

mod apt;
mod bench;
mod bless;
mod cache;
mod cargo;
mod console;
mod docs;
mod image;
mod lint;
mod machine;
mod process;
mod run;
mod setup;
mod test;
mod tidy;
mod vm;

use std::{ffi::OsString, process::ExitCode};

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
    /// Build the exporter for release and run it.
    Run {
        /// Passed on to `podmeter run`.
        #[arg(last = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
    /// Run the tests, or a part of them.
    Test(test::Options),
    /// Check formatting, lints, and the licences of dependencies.
    Lint,
    /// Check the rules about the sources that no compiler checks.
    Tidy,
    /// Write the generated pages of the documentation.
    Docs {
        /// Only check that they are as they would be written.
        #[arg(long)]
        check: bool,
    },
    /// Build the container image, as an OCI archive, and its bill of materials under target/image.
    Image {
        /// Build it a second time from the commit, in another folder and from nothing, and compare.
        #[arg(long)]
        check: bool,
    },
    /// Take what the tests got as what they expect; look at the difference before you commit it.
    Bless,
    /// Measure what the exporter costs on this machine, or a part of that; needs root.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Setup { purpose } => setup::run(purpose),
        Command::Run { arguments } => run::run(&arguments),
        Command::Test(options) => test::run(&options),
        Command::Lint => lint::run(),
        Command::Tidy => tidy::run(),
        Command::Docs { check: true } => docs::check(),
        Command::Docs { check: false } => docs::write(),
        Command::Image { check: false } => image::run(),
        Command::Image { check: true } => image::check(),
        Command::Bless => bless::run(),
        Command::Bench(options) => bench::run(&options),
    }
}

//! The command line: `run`, `collect`, `check` and `relabel`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};

/// An eBPF-augmented node exporter for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "podmeter", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve /metrics, /healthz, /readyz and a landing page at /
    Run(Common),
    /// Print one collection to standard output and exit: the dry run
    Collect(Common),
    /// Say what works here, what does not, why, and what to do; exit 1 if something that was asked for will not work
    Check(Common),
    /// Run a saved page through one target's labels and rules, offline, and print what would be served of it
    Relabel(RelabelArgs),
}

/// Options that every command has.
#[derive(Args, Debug)]
pub struct Common {
    /// Configuration file (YAML); without one, this machine is measured with the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// TLS and who may read the page, in the format of Prometheus' exporter-toolkit; as the key `web.config_file`
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Let the programs in the kernel say of each event that they cannot count where it belongs why, in the log
    #[arg(long)]
    pub ebpf_log: bool,
}

/// Options of `relabel`.
#[derive(Args, Debug)]
pub struct RelabelArgs {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The target, by its `job_name`
    #[arg(long, value_name = "NAME")]
    pub job: String,
    /// Pods, as `kubectl get pods,replicasets,deployments,namespaces -A -o json` writes them, or pods alone; without
    /// them no series gets a pod's labels
    #[arg(long, value_name = "FILE")]
    pub pods: Option<PathBuf>,
    /// Instead of a page, explain what becomes of this one series, as it stands on the page: name{label="value"}
    #[arg(long, value_name = "SERIES", conflicts_with = "page")]
    pub explain: Option<String>,
    /// The page, as `curl` saves it; standard input if it is not given
    pub page: Option<PathBuf>,
}

impl Cli {
    /// Parses arguments; the error is a text for the user with the exit code that it asks for.
    pub fn parse_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(args)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_slip_gets_a_suggestion() {
        let check = |args: &[&str], expected: &str| {
            let args = args.iter().map(Into::into);
            let error = Cli::parse_args(args).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&["podmeter", "runn"], "'run'");
        check(&["podmeter", "run", "--confg", "x"], "'--config'");
        check(&["podmeter", "run", "--port", "1"], "unexpected argument '--port'");
    }
}

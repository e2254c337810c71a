//! The command line: `run`, `collect`, `check`, `relabel` and `top`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

use crate::{config::units, labelling::glance::Signal};

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
    /// Show live which containers of this node wait, and which are busy, as a running Podmeter measures it
    Top(TopArgs),
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

/// Options of `top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Where Podmeter serves; without it, where a Podmeter with this configuration does on this machine
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Configuration file (YAML) of that Podmeter
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Time between two looks, such as 2s or 500ms
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = top_interval)]
    pub interval: Duration,
    /// What is on top
    #[arg(long, value_name = "SIGNAL", default_value = "throttled", value_parser = signal_parser())]
    pub sort: Signal,
    /// Print the rows once, after one interval, and exit
    #[arg(long)]
    pub once: bool,
    /// Most rows that are printed where standard output is no terminal, or with --once; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rows: usize,
    /// A file with the token that the endpoint asks for
    #[arg(long, value_name = "FILE", conflicts_with = "username")]
    pub token_file: Option<PathBuf>,
    /// The user that the endpoint asks for
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub username: Option<String>,
    /// A file with that user's password
    #[arg(long, value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
    /// A file with the authority that signed the endpoint's certificate
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// A file with the client certificate that the endpoint asks for
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// A file with that certificate's key
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
    /// Believe whoever answers, whatever the certificate
    #[arg(long)]
    pub insecure_skip_verify: bool,
}

/// The shortest interval of `top`: each look is a collection on the node.
const MIN_TOP_INTERVAL: Duration = Duration::from_millis(500);
/// The longest one.
const MAX_TOP_INTERVAL: Duration = Duration::from_hours(1);

fn top_interval(text: &str) -> Result<Duration, String> {
    let span = units::span(text).ok_or("a span is written as 2s, 500ms or 1m")?;
    if (MIN_TOP_INTERVAL..=MAX_TOP_INTERVAL).contains(&span) {
        Ok(span)
    } else {
        Err("500ms is the shortest, and 1h the longest".into())
    }
}

fn signal_parser() -> impl TypedValueParser<Value = Signal> {
    let signal = |name: String| Signal::ALL.into_iter().find(|signal| signal.as_str() == name);
    PossibleValuesParser::new(Signal::ALL.map(Signal::as_str))
        .try_map(move |name| signal(name).ok_or("no such signal"))
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
        check(&["podmeter", "top", "--sort", "send"], "'sent'");
        check(&["podmeter", "top", "--interval", "1ms"], "500ms is the shortest");
        check(&["podmeter", "top", "--username", "me"], "--password-file");
    }
}

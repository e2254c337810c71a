//! The binary: arguments, logging, exit codes. Everything else is in the library.

use std::{
    env,
    io::{self, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use podmeter::{
    agent::Agent,
    caps::{
        Machine, confine,
        privileged::{Keep, Privileged},
    },
    cgroup::hierarchy::Hierarchy,
    check,
    cli::{Cli, Command, Common},
    config::{Config, origin::Origin},
    encode::{self, Format},
    logging::{self, Pace},
    memory, relabel, serve,
    server::{self, ServerError},
    source::probe::{self, EbpfLog},
    top,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

/// Threads that wait for files and maps; there are fewer sources than this.
const MAX_BLOCKING_THREADS: usize = 16;

fn main() -> ExitCode {
    memory::use_one_arena();
    let cli = match Cli::parse_args(env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let is_service = matches!(cli.command, Command::Run(_));
    let pace = if is_service { Pace::OfTheWriter } else { Pace::OfTheReader };
    let _waiting = logging::start(pace);
    raise_file_limit();
    match execute(cli.command) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    confine::no_new_privileges()?;
    match command {
        Command::Run(common) => {
            let origin = origin(common);
            let loaded = origin.load()?;
            // The port may be one that takes a capability.
            let listener = server::listen(loaded.config.listen)?;
            let privileged = confine(&loaded.config)?;
            runtime()?.block_on(serve::run(origin, loaded, listener, privileged))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Collect(common) => {
            let config = origin(common).load()?.config;
            let privileged = confine(&config)?;
            runtime()?.block_on(collect(&config, &privileged))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(common) => {
            let config = origin(common).load()?.config;
            let listener = server::listen(config.listen);
            let privileged = confine(&config)?;
            runtime()?.block_on(report(&config, listener, &privileged))
        }
        Command::Relabel(args) => {
            confine::drop_all()?;
            let config = offline(args.config.clone())?;
            relabel::run(&config, &args, &mut io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Top(args) => {
            confine::drop_all()?;
            let config = offline(args.config.clone())?;
            runtime()?.block_on(top::run(&args, config.listen))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The configuration for a command that neither serves nor measures.
fn offline(file: Option<PathBuf>) -> anyhow::Result<Config> {
    let origin = Origin { file, web_config_file: None, ebpf_log: EbpfLog::Off };
    Ok(origin.load()?.config)
}

/// Takes all capabilities from this thread, and so from those that the runtime starts, and gives what probes need to one
/// that is for nothing else.
fn confine(config: &Config) -> anyhow::Result<Privileged> {
    let cgroups = Hierarchy::find(&config.paths).ok().map(|hierarchy| hierarchy.version);
    let keep = Keep::Needed(Machine::find(cgroups));
    let privileged = Privileged::start(keep, probe::lift_memlock_limit)?;
    confine::drop_all()?;
    Ok(privileged)
}

/// Where the configuration comes from.
fn origin(common: Common) -> Origin {
    let ebpf_log = if common.ebpf_log { EbpfLog::On } else { EbpfLog::Off };
    Origin { file: common.config, web_config_file: common.web_config_file, ebpf_log }
}

/// Two workers are plenty: a scrape is a few milliseconds of work, a few times a minute.
fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn collect(config: &Config, privileged: &Privileged) -> anyhow::Result<()> {
    let page = Agent::start(config, privileged)?.collect().await?;
    let bytes = encode::encode(&page, Format::Text004);
    io::stdout().write_all(&bytes).context("cannot write to standard output")
}

async fn report(
    config: &Config,
    listener: Result<TcpListener, ServerError>,
    privileged: &Privileged,
) -> anyhow::Result<ExitCode> {
    let findings = check::run(config, listener, privileged).await;
    let mut out = io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{finding}").context("cannot write to standard output")?;
    }
    Ok(if check::has_failed(&findings) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Lifts the soft limit of open files to the hard one: the files of cgroups are kept open, two or three for each.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        // Then fewer files are kept open, and each collection costs more.
        tracing::debug!(error = %io::Error::from(error), "cannot raise the limit of open files");
    }
}

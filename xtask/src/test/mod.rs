//! `cargo xtask test`: runs the parts of the tests, says how long each took, and counts at the end.

pub(crate) mod count;
mod fuzz;
pub(crate) mod libtest;
pub(crate) mod report;
mod soak;
mod vagrant;

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use self::count::Count;
use crate::{
    cargo::{self, Build},
    console, image, lint, process,
    setup::{self, Purpose, Setup},
    tidy,
    vm::{
        self, Results,
        matrix::{self, Guest, Variant},
    },
};

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Tests inside the crates, and documentation tests.
    Unit,
    /// Tests of whole pages and servers, without privileges.
    Page,
    /// The fuzz targets of all parsers, half a minute each.
    Fuzz,
    /// Kernel tests on this machine, as root.
    Kernel,
    /// The same kernel tests on other kernels, in virtual machines.
    Vm,
    /// Tests against a real Kubernetes on this machine, as root.
    Cluster,
    /// The whole, one part of which breaks, or several at once; as root.
    Faults,
    /// The whole for minutes, with everything around it coming and going; as root.
    Soak,
    /// The container image, run as root.
    Image,
    /// Whether Vagrant takes the Vagrantfile.
    Vagrant,
    /// Formatting, tidiness, lints, and all of the above.
    All,
}

/// What was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which part to run.
    #[arg(default_value = "all")]
    part: Part,
    /// A kernel for `vm`, as a version prefix; may be given several times.
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// How the virtual machines are set up: with cgroup v2, with v1, with v2 and a kernel locked down, or with v2 for the soak.
    #[arg(long, alias = "cgroup", value_name = "v2|v1|lockdown|soak", value_parser = matrix::variant)]
    variant: Option<&'static Variant>,
    /// Only tests whose name contains this.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Write what the virtual machines reported to docs/kernels.tsv, or what `soak` found to docs/soak.md.
    #[arg(long, conflicts_with = "filter")]
    record: bool,
    /// How long `soak` lasts.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

/// `cargo xtask test`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let guests = matrix::guests(&options.kernels, options.variant);
    let setup = prepare(options.part, &guests)?;
    let mut total = Count::default();
    let mut failed = Vec::new();
    let mut part = |name: &str, run: &mut dyn FnMut() -> Result<Count>| {
        console::say(&format!("== {name}"));
        let start = Instant::now();
        let count = run().unwrap_or_else(|error| {
            console::note(&format!("{error:#}"));
            Count::failed(name, &format!("{error:#}"))
        });
        let seconds = start.elapsed().as_secs_f64();
        console::say(&format!("== {name}: {} ({seconds:.1} s)", count.summary()));
        if !count.failures.is_empty() {
            failed.push(name.to_owned());
        }
        total.add(count);
    };
    let all = options.part == Part::All;
    let wanted = |part: Part| all || options.part == part;
    if all {
        part("fmt", &mut || lint::format().map(|()| Count::passed(1)));
        part("tidy", &mut || tidy::run().map(|()| Count::passed(1)));
        part("clippy", &mut || lint::clippy().map(|()| Count::passed(1)));
    }
    if wanted(Part::Unit) {
        part("unit", &mut || unit(options));
    }
    if wanted(Part::Page) {
        part("page", &mut || page(&setup, options));
    }
    if wanted(Part::Fuzz) {
        part("fuzz", &mut || fuzz::run(options));
    }
    if wanted(Part::Kernel) {
        part("kernel", &mut || on_this_machine(&setup, options, "kernel::"));
    }
    if wanted(Part::Cluster) {
        part("cluster", &mut || on_this_machine(&setup, options, "cluster::"));
    }
    if wanted(Part::Faults) {
        part("faults", &mut || faults(&setup, options));
    }
    if wanted(Part::Soak) {
        part("soak", &mut || soak::run(&setup, options));
    }
    if wanted(Part::Image) {
        part("image", &mut || image(&setup, options));
    }
    if wanted(Part::Vagrant) {
        part("vagrant", &mut || vagrant::validate(&setup));
    }
    if wanted(Part::Vm) {
        let filter = options.filter.as_deref().unwrap_or_default();
        let results = if options.record { Results::Record } else { Results::Print };
        part("vm", &mut || vm::run(&setup, &guests, filter, results));
    }
    console::pass_on(&total.details());
    console::say(&total.summary());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The environment in which tests find what they run and compare with.
pub(crate) fn environment(command: &mut Command, setup: &Setup, podmeter: &Path) {
    command.env("PODMETER_BIN", podmeter);
    let tools = [("PODMETER_PROMETHEUS", "prometheus"), ("PODMETER_PROMTOOL", "promtool")];
    for (variable, name) in tools {
        if let Some(path) = setup::prometheus_tool(&setup.cache, name) {
            command.env(variable, path);
        }
    }
    if let Some(path) = setup::victoria_metrics(&setup.cache) {
        command.env("PODMETER_VICTORIA_METRICS", path);
    }
    command.env("PODMETER_PYTHON_PATH", setup::python_path(&setup.cache));
    if let Some(busybox) = setup::busybox(&setup.cache) {
        command.env("PODMETER_BUSYBOX", busybox);
    }
    if let Some(chromium) = setup::packages::chromium() {
        command.env("PODMETER_CHROMIUM", chromium);
    }
    let helm = setup::helm_path(&setup.cache);
    if helm.exists() {
        command.env("PODMETER_HELM_PATH", helm);
    }
    let kubernetes = setup::kubernetes::folder(&setup.cache);
    if kubernetes.exists() {
        command.env("PODMETER_KUBERNETES", kubernetes);
    }
}

/// Brings what the part needs.
fn prepare(part: Part, guests: &[Guest]) -> Result<Setup> {
    let kernels: Vec<&str> = guests.iter().map(|guest| guest.kernel.as_str()).collect();
    match part {
        Part::Unit => setup::ensure(Purpose::Run),
        Part::Kernel => setup::ensure(Purpose::Kernel),
        Part::Page => setup::ensure(Purpose::Test),
        Part::Fuzz => setup::ensure(Purpose::Fuzz),
        Part::Cluster => setup::ensure(Purpose::Cluster),
        Part::Faults => setup::ensure(Purpose::Faults),
        Part::Soak => setup::ensure(Purpose::Soak),
        Part::Vm => setup::ensure_kernels(Purpose::Vm, &kernels),
        Part::Image => setup::ensure(Purpose::Image),
        Part::Vagrant => setup::ensure(Purpose::Vagrant),
        Part::All => setup::ensure_kernels(Purpose::All, &kernels),
    }
}

fn unit(options: &Options) -> Result<Count> {
    let mut command = cargo::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command.args(["--exclude", "podmeter-ebpf", "--exclude", "podmeter-tests"]);
    command.arg("--").args(&options.filter);
    counted(&mut command)
}

/// The modules whose tests need root.
const AS_ROOT: [&str; 5] = ["kernel::", "cluster::", "image::", "faults::", "soak::"];

fn page(setup: &Setup, options: &Options) -> Result<Count> {
    let podmeter = cargo::build_podmeter(Build::Debug)?;
    counted_twice(|again| {
        let mut command = cargo::cargo();
        command.args(["test", "--package", "podmeter-tests", "--no-fail-fast", "--"]);
        // What passes may have been skipped, and says so.
        command.arg("--show-output");
        match again {
            Some(names) => command.arg("--exact").args(names),
            None => command
                .args(AS_ROOT.iter().flat_map(|module| ["--skip", module]))
                .args(&options.filter),
        };
        environment(&mut command, setup, &podmeter);
        Ok(command)
    })
}

/// Runs the tests of one module as root, one after the other.
fn on_this_machine(setup: &Setup, options: &Options, module: &str) -> Result<Count> {
    let podmeter = cargo::build_podmeter(Build::Debug)?;
    as_root(setup, options, (module, ONE_BY_ONE), &podmeter, &[])
}

/// Most of these tests wait for something most of the time, and none disturbs another.
fn faults(setup: &Setup, options: &Options) -> Result<Count> {
    let podmeter = cargo::build_podmeter(Build::Debug)?;
    as_root(setup, options, ("faults::", N_FAULTS_AT_ONCE), &podmeter, &[])
}

const ONE_BY_ONE: &str = "--test-threads=1";
const N_FAULTS_AT_ONCE: &str = "--test-threads=4";

/// Builds the image and lets the tests run it.
fn image(setup: &Setup, options: &Options) -> Result<Count> {
    let image = image::build_once()?;
    let files = [("PODMETER_IMAGE", image.archive.into()), ("PODMETER_SBOM", image.sbom.into())];
    as_root(setup, options, ("image::", ONE_BY_ONE), &image.binary, &files)
}

fn as_root(
    setup: &Setup,
    options: &Options,
    (module, n_at_once): (&str, &str),
    podmeter: &Path,
    variables: &[(&str, OsString)],
) -> Result<Count> {
    let tests = cargo::build_tests(Build::Debug)?;
    counted_twice(|again| {
        let Some(mut command) = process::as_root(&tests) else {
            let part = module.trim_end_matches(':');
            bail!(
                "{part} tests need root, and sudo wants a password: run \
                 `sudo --preserve-env cargo xtask test {part}`"
            );
        };
        // Cargo runs tests in the folder of their package.
        command.current_dir(cargo::root().join("tests"));
        match again {
            Some(names) => command.arg("--exact").args(names),
            None => command.arg(options.filter.as_deref().unwrap_or(module)),
        };
        command.args([n_at_once, "--show-output"]);
        environment(&mut command, setup, podmeter);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Ok(command)
    })
}

/// Runs tests of a whole, on a machine that others share: the few that fail once more, alone (docs/decisions/0022). The
/// command is that for all tests, or for those with exactly these names.
fn counted_twice(command: impl Fn(Option<&[String]>) -> Result<Command>) -> Result<Count> {
    let mut count = counted(&mut command(None)?)?;
    let names = count.to_run_again();
    if !names.is_empty() {
        console::say(&format!("== again: {}", names.join(", ")));
        count.settle(&counted(&mut command(Some(&names))?)?);
    }
    Ok(count)
}

/// Runs tests on this terminal and counts their verdicts.
pub(crate) fn counted(command: &mut Command) -> Result<Count> {
    if env::var_os("RUST_BACKTRACE").is_none() {
        command.env("RUST_BACKTRACE", "1");
    }
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", process::line(command)))?;
    let stdout = child.stdout.take().context("the output of the tests is piped")?;
    let mut output = libtest::Output::default();
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    while stdout.read_until(b'\n', &mut line).context("failed to read what the tests print")? > 0 {
        let text = String::from_utf8_lossy(&line).into_owned();
        console::pass_on(&text);
        output.line(text.trim_end());
        line.clear();
    }
    let status = child.wait().context("failed to wait for the tests")?;
    if !output.reports.is_empty() {
        console::say(&format!("reports:\n{}", report::table(&output.reports).trim_end()));
    }
    let mut count = Count::of(&output);
    if !status.success() && count.failures.is_empty() {
        let said = format!("{} ended with {status}", process::line(command));
        console::note(&said);
        count.fail("a binary of tests", &said);
    }
    Ok(count)
}

//! Kernel tests on other kernels: each is booted in qemu with the static test binary, which gives one verdict per test.

pub(crate) mod cpio;
pub(crate) mod initramfs;
pub(crate) mod kernel;
mod modules;
mod qemu;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use self::{
    initramfs::{Cgroup, Contents, Program},
    kernel::Kernel,
    qemu::{Accelerator, End, Files},
};
use crate::{
    cargo::{self, Build},
    console, process,
    setup::{self, Setup, packages},
    test::{
        Count,
        libtest::{self, Verdict},
    },
};

/// How much of a guest's console is shown when it did not reach the end of the tests.
const SHOWN_CONSOLE_LINES: usize = 20;

/// What all guests of one run share.
struct Bench {
    busybox: PathBuf,
    tests: PathBuf,
    podmeter: PathBuf,
    programs: Vec<Program>,
    expected: BTreeSet<String>,
    accelerator: Accelerator,
    cgroup: Cgroup,
    filter: String,
    logs: PathBuf,
}

/// Runs the kernel tests on each kernel, one after another.
pub(crate) fn run(setup: &Setup, kernels: &[&str], cgroup: Cgroup, filter: &str) -> Result<Count> {
    if !cfg!(target_arch = "x86_64") {
        bail!("guest kernels are taken for x86_64 machines only");
    }
    let podmeter = cargo::build_podmeter(Build::Static)?;
    let tests = cargo::build_tests(Build::Static)?;
    let expected = expected(&tests, filter)?;
    let logs = cargo::target_dir().join("vm");
    fs::create_dir_all(&logs).with_context(|| format!("failed to create {}", logs.display()))?;
    let busybox = setup::busybox(&setup.cache).context("there is no static busybox")?;
    let programs = programs(setup)?;
    let accelerator = qemu::accelerator();
    let filter = filter.to_owned();
    let bench =
        Bench { busybox, tests, podmeter, programs, expected, accelerator, cgroup, filter, logs };
    let mut total = Count::default();
    let mut reports = Vec::new();
    for prefix in kernels {
        let kernel = kernel::cached(&setup.cache, prefix)
            .with_context(|| format!("kernel {prefix} is not in the cache"))?;
        let output = guest(&bench, &kernel, &mut total)
            .with_context(|| format!("the guest with {} did not run", kernel.release))?;
        reports.push((kernel.release, output.reports));
    }
    for (release, reports) in reports.iter().filter(|(_, reports)| !reports.is_empty()) {
        console::say(&format!("reports of {release}:\n{}", libtest::table(reports).trim_end()));
    }
    Ok(total)
}

/// The programs of the host that the tests run. One that is missing is an error here: busybox has applets of some of
/// these names, which do less. Its shell would also take an applet where a program is, so the shell is the host's.
fn programs(setup: &Setup) -> Result<Vec<Program>> {
    let prometheus = setup::prometheus_tool(&setup.cache, "prometheus");
    let shell = process::find("sh").context("sh is on no PATH")?;
    let mut paths = vec![shell, prometheus.context("there is no prometheus")?];
    for package in [packages::IPROUTE, packages::ETHTOOL, packages::E2FSPROGS] {
        paths.extend(package.paths()?);
    }
    paths.into_iter().map(Program::new).collect()
}

/// The names of the tests that every guest must give a verdict on.
fn expected(tests: &Path, filter: &str) -> Result<BTreeSet<String>> {
    let listed = process::output(Command::new(tests).args(["--list", filter]))?;
    let names: BTreeSet<String> =
        listed.lines().filter_map(|line| line.strip_suffix(": test")).map(Into::into).collect();
    if names.is_empty() {
        bail!("no test's name contains {filter}");
    }
    Ok(names)
}

/// Boots one guest, prints its verdicts, and counts them.
fn guest(bench: &Bench, kernel: &Kernel, total: &mut Count) -> Result<libtest::Output> {
    let start = Instant::now();
    let release = &kernel.release;
    let files = Files {
        initramfs: bench.logs.join("initramfs.cpio"),
        disk: bench.logs.join("disk.img"),
        console: bench.logs.join(format!("{release}.console.log")),
    };
    let log_path = bench.logs.join(format!("{release}.log"));
    let modules = modules::load_order(&kernel.modules)?;
    let contents = Contents {
        busybox: &bench.busybox,
        tests: &bench.tests,
        podmeter: &bench.podmeter,
        programs: &bench.programs,
        modules: &modules,
        cgroup: bench.cgroup,
        filter: &bench.filter,
    };
    fs::write(&files.initramfs, initramfs::build(&contents)?)
        .context("failed to write the initramfs")?;
    let mut log = fs::File::create(&log_path)
        .with_context(|| format!("failed to create {}", log_path.display()))?;
    let mut output = libtest::Output::default();
    let mut log_error = None;
    let end = qemu::boot(kernel, &files, bench.accelerator, |line| {
        log_error = log_error.take().or(writeln!(log, "{line}").err());
        if let Some((name, verdict)) = output.line(line) {
            console::say(&format!("{release}  {name}  {}", verdict.as_str()));
        }
    })?;
    if let Some(error) = log_error {
        return Err(error).with_context(|| format!("failed to write {}", log_path.display()));
    }
    let count = judge(bench, release, &output, &end);
    if end == End::Early || matches!(end, End::Killed(_)) {
        show_console(&files.console);
    }
    if count.n_failed > 0 {
        console::say(&format!(
            "{release}: logs: {} and {}",
            log_path.display(),
            files.console.display()
        ));
    }
    console::say(&format!(
        "{release}: {} passed, {} failed ({}, {:.1} s)",
        count.n_passed,
        count.n_failed,
        if bench.accelerator == Accelerator::Kvm { "KVM" } else { "no KVM" },
        start.elapsed().as_secs_f64()
    ));
    total.add(count);
    Ok(output)
}

/// Counts the verdicts and says what is missing or failed. A test without a verdict has failed.
fn judge(bench: &Bench, release: &str, output: &libtest::Output, end: &End) -> Count {
    let mut count = Count::default();
    for name in &bench.expected {
        match output.verdicts.get(name) {
            Some(Verdict::Passed) => count.n_passed += 1,
            Some(Verdict::Ignored) => {}
            Some(Verdict::Failed) => {
                count.n_failed += 1;
                let captured = output.captured.get(name).map_or("(no output)", String::as_str);
                console::say(&format!("---- {release}  {name}\n{}", captured.trim_end()));
            }
            None => {
                count.n_failed += 1;
                let running = output.running.as_ref() == Some(name);
                let what = if running {
                    "was running when the guest ended"
                } else {
                    "was not seen to end"
                };
                console::say(&format!("{release}  {name}  NO VERDICT: it {what}"));
            }
        }
    }
    match end {
        End::Finished { exit_status } if *exit_status != 0 && count.n_failed == 0 => {
            count.n_failed += 1;
            console::say(&format!("{release}: the test binary ended with {exit_status}"));
        }
        End::Finished { .. } => {}
        End::Early => console::say(&format!("{release}: the guest ended before the tests did")),
        End::Killed(reason) => console::say(&format!("{release}: the guest was killed: {reason}")),
    }
    count
}

fn show_console(console_log: &Path) {
    let text = fs::read(console_log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let shown = lines.get(lines.len().saturating_sub(SHOWN_CONSOLE_LINES)..).unwrap_or_default();
    console::say(&format!("end of the console:\n{}", shown.join("\n")));
}

//! Kernel tests on other kernels: each is booted in qemu with the static test binary, which gives one verdict per test.

mod cpio;
mod guest;
mod initramfs;
pub(crate) mod kernel;
pub(crate) mod matrix;
mod modules;
mod qemu;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};

use self::{
    guest::{Bench, Planned, Ran},
    initramfs::Program,
    matrix::Guest,
};
use crate::{
    cargo::{self, Build},
    console, process,
    setup::{self, Setup, packages},
    test::{count::Count, report},
};

/// How many guests run at a time. Two of them took 78 and 89 s at once and 140 and 142 s one after the other, with 2 cores
/// and without KVM (6.1 and 6.18, 2026-11-24): a guest often waits for its own clock.
const N_AT_ONCE: usize = 2;

/// What becomes of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Results {
    /// They are printed.
    Print,
    /// They are written to docs/kernels.tsv as well.
    Record,
}

/// Runs the kernel tests whose names contain the filter on each guest.
pub(crate) fn run(
    setup: &Setup,
    guests: &[Guest],
    filter: &str,
    results: Results,
) -> Result<Count> {
    if !cfg!(target_arch = "x86_64") {
        bail!("guest kernels are taken for x86_64 machines only");
    }
    let podmeter = cargo::build_podmeter(Build::Static)?;
    let tests = cargo::build_tests(Build::Static)?;
    let planned = plan(setup, guests, &names(&tests)?, filter)?;
    let logs = cargo::target_dir().join("vm");
    fs::create_dir_all(&logs).with_context(|| format!("failed to create {}", logs.display()))?;
    let busybox = setup::busybox(&setup.cache).context("there is no static busybox")?;
    let programs = programs(setup)?;
    let newest = planned.last().context("there is a guest")?;
    let accelerator = qemu::accelerator(&newest.kernel);
    let bench = Bench { busybox, tests, podmeter, programs, accelerator, logs };
    let ran = run_all(&bench, planned)?;
    say_reports(&ran);
    if results == Results::Record {
        record::record(&ran)?;
    }
    let mut total = Count::default();
    for ran in ran {
        total.add(ran.count);
    }
    Ok(total)
}

/// The programs of the host that the tests run. One that is missing is an error here: busybox has applets of some of
/// these names, which do less. Its shell would also take an applet where a program is, so the shell is the host's.
fn programs(setup: &Setup) -> Result<Vec<Program>> {
    let prometheus = setup::prometheus_tool(&setup.cache, "prometheus");
    let shell = process::find("sh").context("sh is on no PATH")?;
    let mut paths = vec![shell, prometheus.context("there is no prometheus")?];
    let packages =
        [packages::IPROUTE, packages::UTIL_LINUX, packages::ETHTOOL, packages::E2FSPROGS];
    for package in packages {
        paths.extend(package.paths()?);
    }
    paths.into_iter().map(Program::new).collect()
}

/// The names of all tests.
fn names(tests: &Path) -> Result<Vec<String>> {
    let listed = process::output(Command::new(tests).arg("--list"))?;
    Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(Into::into).collect())
}

/// Finds the kernel and the tests of each guest; one that has no test is not booted.
fn plan(setup: &Setup, guests: &[Guest], names: &[String], filter: &str) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    for guest in guests {
        let variant = guest.variant;
        let is_wanted = |name: &&String| name.contains(variant.filter) && name.contains(filter);
        let tests: BTreeSet<String> = names.iter().filter(is_wanted).cloned().collect();
        if tests.is_empty() {
            let wanted = [variant.filter, filter].join(" ");
            console::say(&format!(
                "{} {}: not booted, no test has in its name: {}",
                guest.kernel,
                variant.name,
                wanted.trim()
            ));
            continue;
        }
        let kernel = kernel::cached(&setup.cache, &guest.kernel)
            .with_context(|| format!("kernel {} is not in the cache", guest.kernel))?;
        planned.push(Planned { guest: guest.clone(), kernel, tests });
    }
    if planned.is_empty() {
        bail!("no guest has a test");
    }
    Ok(planned)
}

/// Runs all guests, some at a time, and gives what they said in the order in which they were planned.
///
/// They begin from the end: the newest kernel takes twice as long as the oldest, and nothing would run beside it if it
/// came last.
fn run_all(bench: &Bench, planned: Vec<Planned>) -> Result<Vec<Ran>> {
    let queue = Mutex::new(planned.into_iter().enumerate().rev());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || -> Result<Vec<(usize, Ran)>> {
        let mut ran = Vec::new();
        while let Some((idx, planned)) = next() {
            let release = planned.kernel.release.clone();
            let guest = guest::run(bench, planned);
            ran.push((
                idx,
                guest.with_context(|| format!("the guest with {release} did not run"))?,
            ));
        }
        Ok(ran)
    };
    let mut all = BTreeMap::new();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..N_AT_ONCE).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            all.extend(worker.join().map_err(|_panic| anyhow!("a worker panicked"))??);
        }
        Ok(())
    })?;
    Ok(all.into_values().collect())
}

/// Prints what the guests reported: free lines for each, then one table of each kind over all.
fn say_reports(ran: &[Ran]) {
    let kinds = [("hook", report::HOOK_COLUMNS), ("truth", report::TRUTH_COLUMNS)];
    for Ran { release, guest, reports, .. } in ran {
        let is_free = |report: &&String| {
            kinds.iter().all(|(kind, _)| report::of_kind(kind, report).is_none())
        };
        let free: Vec<String> = reports.iter().filter(is_free).cloned().collect();
        if !free.is_empty() {
            let table = report::table(&free);
            let name = guest.variant.name;
            console::say(&format!("reports of {release} {name}:\n{}", table.trim_end()));
        }
    }
    for (kind, columns) in kinds {
        let head = ["kernel", "guest"].iter().chain(columns);
        let mut rows: Vec<Vec<String>> = vec![head.map(|&cell| cell.into()).collect()];
        for Ran { release, guest, reports, .. } in ran {
            for cells in reports.iter().filter_map(|report| report::of_kind(kind, report)) {
                let mut row = vec![kernel::short(release).into(), guest.variant.name.into()];
                row.extend(cells);
                // A probe that several tests start says the same each time.
                if !rows.contains(&row) {
                    rows.push(row);
                }
            }
        }
        if rows.len() > 1 {
            let table = report::aligned(&rows);
            console::say(&format!("{kind}, over all guests:\n{}", table.trim_end()));
        }
    }
}

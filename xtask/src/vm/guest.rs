//! One guest: its boot, the verdicts that it gives, and those that it owes.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    initramfs::{self, Contents, Program},
    kernel::Kernel,
    matrix::Guest,
    modules,
    qemu::{self, Accelerator, End, Files},
};
use crate::{
    console,
    test::{
        count::{Count, last_lines},
        libtest::{self, Verdict},
    },
};

/// How much of a guest's console is shown when it did not reach the end of the tests.
const SHOWN_CONSOLE_LINES: usize = 20;

/// What all guests of one run share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) busybox: PathBuf,
    pub(crate) tests: PathBuf,
    pub(crate) podmeter: PathBuf,
    pub(crate) programs: Vec<Program>,
    pub(crate) accelerator: Accelerator,
    pub(crate) logs: PathBuf,
}

/// A guest that is to be booted.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) guest: Guest,
    pub(crate) kernel: Kernel,
    /// The tests that it runs, and must give a verdict on.
    pub(crate) tests: BTreeSet<String>,
}

/// A guest that was booted, and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) release: String,
    pub(crate) guest: Guest,
    pub(crate) count: Count,
    pub(crate) reports: Vec<String>,
}

/// Boots a guest and counts its verdicts; the few tests that fail run once more, alone, in a guest of their own
/// (docs/decisions/0022).
pub(crate) fn run(bench: &Bench, planned: Planned) -> Result<Ran> {
    let name = format!("{} {}", planned.kernel.release, planned.guest.variant.name);
    let (mut count, output) = boot(bench, &planned, &planned.tests, &name)?;
    let again: BTreeSet<String> = count.to_run_again().into_iter().collect();
    let mut reports = output.reports;
    if !again.is_empty() {
        let (second, output_again) = boot(bench, &planned, &again, &format!("{name} again"))?;
        count.settle(&second);
        // A test that failed may have reported what its second run contradicts.
        let of_failed: Vec<&str> = again
            .iter()
            .filter_map(|test| output.captured.get(test))
            .flat_map(|said| said.lines().filter_map(libtest::report))
            .collect();
        reports.retain(|report| !of_failed.contains(&report.as_str()));
        reports.extend(output_again.reports);
    }
    let failed = count.failures.iter_mut().chain(&mut count.flaky).map(|test| &mut test.name);
    for test in failed.chain(count.skipped.iter_mut().map(|test| &mut test.name)) {
        *test = format!("{name} {test}");
    }
    let Planned { guest, kernel: Kernel { release, .. }, .. } = planned;
    Ok(Ran { release, guest, count, reports })
}

/// Boots a guest with these tests and prints its verdicts.
fn boot(
    bench: &Bench,
    planned: &Planned,
    tests: &BTreeSet<String>,
    name: &str,
) -> Result<(Count, libtest::Output)> {
    let start = Instant::now();
    let file = |suffix: &str| bench.logs.join(format!("{}.{suffix}", name.replace(' ', ".")));
    let files = Files {
        initramfs: file("initramfs.cpio"),
        disk: file("disk.img"),
        console: file("console.log"),
    };
    let log_path = file("log");
    let modules = modules::load_order(&planned.kernel.modules)?;
    let contents = Contents {
        busybox: &bench.busybox,
        tests: &bench.tests,
        podmeter: &bench.podmeter,
        programs: &bench.programs,
        modules: &modules,
        variant: planned.guest.variant,
        names: tests,
    };
    fs::write(&files.initramfs, initramfs::build(&contents)?)
        .context("failed to write the initramfs")?;
    let mut log = fs::File::create(&log_path)
        .with_context(|| format!("failed to create {}", log_path.display()))?;
    let mut output = libtest::Output::default();
    let mut log_error = None;
    let mut clock = Clock { started: Instant::now(), booted: None, last: Instant::now() };
    let parameters = planned.guest.variant.parameters;
    let end = qemu::boot(&planned.kernel, parameters, &files, bench.accelerator, |line| {
        log_error = log_error.take().or(writeln!(log, "{line}").err());
        clock.begin();
        if let Some((test, verdict)) = output.line(line) {
            let seconds = clock.lap();
            console::say(&format!("{name}  {test}  {} ({seconds:.1} s)", verdict.as_str()));
        }
    })?;
    if let Some(error) = log_error {
        return Err(error).with_context(|| format!("failed to write {}", log_path.display()));
    }
    // Some hundred megabytes each; they are made anew for the next boot.
    for file in [&files.initramfs, &files.disk] {
        fs::remove_file(file).with_context(|| format!("failed to remove {}", file.display()))?;
    }
    let count = judge(tests, name, &output, &end);
    if end == End::Early || matches!(end, End::Killed(_)) {
        show_console(&files.console);
    }
    if !count.failures.is_empty() {
        let (log, console_log) = (log_path.display(), files.console.display());
        console::say(&format!("{name}: logs: {log} and {console_log}"));
    }
    console::say(&format!(
        "{name}: {} ({}, {:.1} s, of which the boot took {:.1} s)",
        count.summary(),
        if bench.accelerator == Accelerator::Kvm { "KVM" } else { "no KVM" },
        start.elapsed().as_secs_f64(),
        clock.booted.unwrap_or_default().as_secs_f64()
    ));
    Ok((count, output))
}

/// Where the time of a guest goes.
#[derive(Debug)]
struct Clock {
    started: Instant,
    /// How long it took until the tests said something.
    booted: Option<Duration>,
    last: Instant,
}

impl Clock {
    /// Takes the first line of the tests for the end of the boot.
    fn begin(&mut self) {
        if self.booted.is_none() {
            self.booted = Some(self.started.elapsed());
            self.last = Instant::now();
        }
    }

    /// The seconds since the last verdict.
    fn lap(&mut self) -> f64 {
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        seconds
    }
}

/// Counts the verdicts and says what is missing or failed. A test without a verdict has failed.
fn judge(tests: &BTreeSet<String>, guest: &str, output: &libtest::Output, end: &End) -> Count {
    let mut count = Count::default();
    let skipped = output.skipped();
    let why = |test: &str| skipped.iter().find(|(name, _)| *name == test).map(|(_, why)| why);
    for name in tests {
        match output.verdicts.get(name) {
            Some(Verdict::Passed) => match why(name) {
                Some(why) => count.skip(name, why),
                None => count.n_passed += 1,
            },
            Some(Verdict::Ignored) => {}
            Some(Verdict::Failed) => {
                let captured = output.captured.get(name).map_or("(no output)", String::as_str);
                console::say(&format!("---- {guest}  {name}\n{}", captured.trim_end()));
                count.fail(name, captured);
            }
            None => {
                let running = output.running.as_ref() == Some(name);
                let what = if running {
                    "was running when the guest ended"
                } else {
                    "was not seen to end"
                };
                console::say(&format!("{guest}  {name}  NO VERDICT: it {what}"));
                count.fail(name, &format!("no verdict: it {what}"));
            }
        }
    }
    match end {
        End::Finished { exit_status } if *exit_status != 0 && count.failures.is_empty() => {
            let said = format!("the test binary ended with {exit_status}");
            console::say(&format!("{guest}: {said}"));
            count.fail("the test binary", &said);
        }
        End::Finished { .. } => {}
        End::Early => console::say(&format!("{guest}: the guest ended before the tests did")),
        End::Killed(reason) => console::say(&format!("{guest}: the guest was killed: {reason}")),
    }
    count
}

fn show_console(console_log: &Path) {
    let text = fs::read(console_log).unwrap_or_default();
    let shown = last_lines(&String::from_utf8_lossy(&text), SHOWN_CONSOLE_LINES);
    console::say(&format!("end of the console:\n{}", shown.trim_end()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{End, judge, libtest::Output};

    #[test]
    fn who_is_skipped_has_not_passed_and_who_has_no_verdict_has_failed() {
        let text = "test kernel::a ... ok\ntest kernel::b ... ok\ntest kernel::c ...\n\
            ---- kernel::b stdout ----\nreport: skipped | there is no ip\n\nsuccesses:\n";
        let mut output = Output::default();
        for line in text.lines() {
            output.line(line);
        }
        let tests: BTreeSet<String> =
            ["kernel::a", "kernel::b", "kernel::c"].map(String::from).into();
        let count = judge(&tests, "6.12 v2", &output, &End::Early);
        assert_eq!(count.summary(), "1 passed, 1 failed, 1 skipped");
        let details = "---- skipped: kernel::b there is no ip\n\
            ---- FAILED: kernel::c\nno verdict: it was running when the guest ended\n";
        assert_eq!(count.details(), details);
    }
}

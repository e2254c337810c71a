//! `cargo xtask test fuzz`: lets libFuzzer look for inputs that a parser cannot take, half a minute for each target, two at
//! a time on two cores.
//!
//! What is found on the way stays under `target/fuzz/<target>`, so that the next run begins where this one ended; what
//! breaks a target is written there, too, and goes into `tests/fuzz/corpus/<target>` with the repair.

use std::{
    fs::{self, File},
    num::NonZero,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Options, Part,
    count::{Count, last_lines},
};
use crate::{cargo, console};

/// As `tests/fuzz/main.rs` has them.
const TARGETS: &[&str] = &[
    "exposition",
    "regex",
    "cgroup_path",
    "config",
    "web_config",
    "api_objects",
    "http",
    "headers",
    "btf",
    "host_files",
    "buffer",
];

/// For each.
const SECONDS: u32 = 30;
/// For one input.
const MAX_SECONDS_PER_INPUT: u32 = 10;
const MAX_INPUT_BYTES: u32 = 4096;
const MAX_MEMORY_MB: u32 = 1024;

/// What mutations begin from when all tests run, which judge a change and not the luck of a run; nought is another one
/// each time.
const SEED_OF_ALL: u32 = 1;

/// How much of a failed target's output is shown.
const N_SHOWN_LINES: usize = 60;

/// Runs all targets, as many at once as the machine has cores.
pub(super) fn run(options: &Options) -> Result<Count> {
    let program = cargo::build_fuzz()?;
    let dir = cargo::target_dir().join("fuzz");
    let wanted =
        |target: &&&str| options.filter.as_deref().is_none_or(|filter| target.contains(filter));
    let seed = if options.part == Part::All { SEED_OF_ALL } else { 0 };
    let waiting = Mutex::new(TARGETS.iter().filter(wanted));
    let count = Mutex::new(Count::default());
    // The lock is held no longer than this.
    let next = || lock(&waiting).next();
    let work = || {
        while let Some(target) = next() {
            let outcome = one(&program, target, &dir, seed);
            said(target, outcome, &mut lock(&count));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    Ok(count.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Says and counts how a target ended.
fn said(target: &str, outcome: Result<String>, count: &mut Count) {
    match outcome {
        Ok(said) => {
            console::say(&format!("test fuzz::{target} ... ok ({said})"));
            count.n_passed += 1;
        }
        Err(error) => {
            console::say(&format!("test fuzz::{target} ... FAILED"));
            console::note(&format!("{error:#}"));
            count.fail(&format!("fuzz::{target}"), &format!("{error:#}"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one, and gives what libFuzzer says at the end.
fn one(program: &Path, target: &str, dir: &Path, seed: u32) -> Result<String> {
    let found = dir.join(target);
    fs::create_dir_all(&found).with_context(|| format!("failed to create {}", found.display()))?;
    let log = dir.join(format!("{target}.log"));
    let file = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
    let status = Command::new(program)
        .env("PODMETER_FUZZ_TARGET", target)
        .args([
            format!("-max_total_time={SECONDS}"),
            format!("-seed={seed}"),
            format!("-timeout={MAX_SECONDS_PER_INPUT}"),
            format!("-max_len={MAX_INPUT_BYTES}"),
            format!("-rss_limit_mb={MAX_MEMORY_MB}"),
            format!("-artifact_prefix={}/{target}-", dir.display()),
        ])
        .args([found, cargo::root().join("tests/fuzz/corpus").join(target)])
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("failed to start {}", program.display()))?;
    let said = fs::read(&log).with_context(|| format!("failed to read {}", log.display()))?;
    let said = String::from_utf8_lossy(&said);
    if !status.success() {
        bail!(
            "{target} ended with {status}; the end of {}:\n{}",
            log.display(),
            last_lines(&said, N_SHOWN_LINES)
        );
    }
    summary(&said).with_context(|| format!("{} does not say how it ended", log.display()))
}

/// `N inputs, …` from the line that libFuzzer ends with: `#5842 DONE   cov: 4298 ft: 20962 corp: 526/1244Kb …`.
fn summary(said: &str) -> Option<String> {
    let line = said.lines().rev().find(|line| line.starts_with('#') && line.contains("DONE"))?;
    let (n_inputs, rest) = line.strip_prefix('#')?.split_once(char::is_whitespace)?;
    let mut words = rest.split_whitespace();
    let n_branches = words.by_ref().find(|word| *word == "cov:").and_then(|_| words.next())?;
    Some(format!("{n_inputs} inputs, {n_branches} branches"))
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn the_last_line_of_all_says_how_much_was_tried() {
        let said = "#2\tINITED cov: 3 ft: 4\n#5842\tDONE   cov: 4298 ft: 20962 corp: 526/1244Kb lim: 9\nDone 5842 runs\n";
        assert_eq!(summary(said).as_deref(), Some("5842 inputs, 4298 branches"));
        assert_eq!(summary("#2\tINITED cov: 3\n"), None);
    }
}

//! What a measured number is worth nothing without: the machine, its kernel, and the date.

use std::{fs, process::Command, thread};

use crate::process;

/// One line about the machine and the day.
pub(crate) fn described() -> String {
    let n_cores = thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{n_cores} cores, {model}, Linux {}, {}", kernel.trim(), date())
}

/// The day, in UTC.
pub(crate) fn date() -> String {
    let date = process::output(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default();
    date.trim().into()
}

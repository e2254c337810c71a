//! For the fuzz targets: what parses files that only a reader asks for.

use std::time::Duration;

use super::{cgroup_pressure, cpu_files::ParseError, kept_files};

/// The totals of a pressure file: of `some`, and of `full` where the kernel gives it.
pub fn pressure(text: &str) -> Result<(Duration, Option<Duration>), ParseError> {
    let pressure = cgroup_pressure::parse_pressure(text)?;
    Ok((pressure.some, pressure.full))
}

/// How many files may be kept open, by the text of `/proc/self/limits`.
#[must_use]
pub fn kept_files(limits: &str) -> usize {
    kept_files::max_kept_files(limits)
}

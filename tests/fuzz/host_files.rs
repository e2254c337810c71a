//! Files of the kernel: `cpu.stat`, `cpu.max` and those of v1, pressure, limits, mounts.

use std::{path::Path, time::Duration};

use podmeter::{
    cgroup::hierarchy::{self, Version},
    source::host::{
        cpu_files::{CpuStat, parse_cpu_max, parse_cpu_stat, parse_period_us, parse_quota_us},
        fuzzing,
    },
};

/// As `source::host::kept_files` has it.
const MAX_KEPT_FILES: usize = 2048;

/// Every reader gets every input: that costs little, and what is none of its files it must refuse.
pub(crate) fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    check_cpu_stat(text);
    check_limits(text);
    check_pressure(text);
    check_mounts(text);
    assert!(fuzzing::kept_files(text) <= MAX_KEPT_FILES);
}

/// What was read is read again from what the kernel would have written.
fn check_cpu_stat(text: &str) {
    let Ok(stat) = parse_cpu_stat(text) else { return };
    let CpuStat { n_periods, n_throttled, throttled } = stat;
    let written = format!(
        "usage_usec 1\nnr_periods {n_periods}\nnr_throttled {n_throttled}\nthrottled_usec {}\n",
        throttled.as_micros()
    );
    let micros = Duration::from_micros(u64::try_from(throttled.as_micros()).expect("it was read"));
    assert_eq!(parse_cpu_stat(&written).ok(), Some(CpuStat { throttled: micros, ..stat }));
    // A line that is not known takes nothing away.
    let more = format!("new_in_linux 7\n{text}");
    assert_eq!(parse_cpu_stat(&more).ok(), Some(stat), "{}", text.escape_debug());
}

fn check_limits(text: &str) {
    if let Ok(Some(cores)) = parse_cpu_max(text) {
        assert!(cores.is_finite() && cores >= 0.0, "{cores}");
    }
    if let Ok(quota) = parse_quota_us(text) {
        let written = quota.map_or("-1".into(), |quota| quota.to_string());
        assert_eq!(parse_quota_us(&written).ok(), Some(quota));
        // Both versions say the same with other words.
        let of_v2 = format!("{} 100000\n", quota.map_or("max".into(), |quota| quota.to_string()));
        let cores = parse_cpu_max(&of_v2).expect("it is as v2 writes it");
        assert_eq!(cores.is_none(), quota.is_none());
    }
    if let Ok(period) = parse_period_us(text) {
        assert!(period > 0);
        assert_eq!(parse_period_us(&format!("{period}\n")).ok(), Some(period));
    }
}

fn check_pressure(text: &str) {
    let Ok((some, full)) = fuzzing::pressure(text) else { return };
    let line = |word: &str, total: Duration| {
        format!("{word} avg10=0.00 avg60=0.00 avg300=0.00 total={}\n", total.as_micros())
    };
    let written = line("some", some) + &full.map_or(String::new(), |full| line("full", full));
    assert_eq!(fuzzing::pressure(&written).ok(), Some((some, full)));
}

/// The hierarchy is one of the mounts, also where only one place is looked at.
fn check_mounts(text: &str) {
    const BELOW: &str = "/host";
    if let Ok(below) = hierarchy::parse(text, Some(Path::new(BELOW))) {
        assert!(below.mount_point.starts_with(BELOW), "{below:?}");
        assert!(hierarchy::parse(text, None).is_ok(), "there is one, below {BELOW}");
    }
    let Ok(found) = hierarchy::parse(text, None) else { return };
    assert!(found.version == Version::V1 || text.contains("cgroup2"), "{found:?}");
    // What the kernel escapes comes back.
    let escaped = |field: &str| {
        let escape = |char: char| match char {
            ' ' | '\t' | '\n' | '\r' | '\\' => format!("\\{:03o}", u32::from(char)),
            char => char.to_string(),
        };
        field.chars().map(escape).collect::<String>()
    };
    let (fs_type, options) = match found.version {
        Version::V1 => ("cgroup", "rw,cpu"),
        Version::V2 => ("cgroup2", "rw"),
    };
    let point = found.mount_point.to_str().expect("it was text");
    if found.mount_root.is_empty() || point.is_empty() {
        return;
    }
    let written = format!(
        "30 24 0:26 {} {} rw shared:4 - {fs_type} cgroup {options}\n",
        escaped(&found.mount_root),
        escaped(point)
    );
    assert_eq!(hierarchy::parse(&written, None).ok(), Some(found), "{written:?}");
}

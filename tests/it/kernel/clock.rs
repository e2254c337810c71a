//! The wall clock is set by an hour while cgroups are throttled: what is measured is measured by another clock, so no
//! counter falls, no duration is an hour, and the page stays one.

use std::time::{Duration, Instant};

use podmeter_tests::{
    cgroup::wait_for,
    exporter::Exporter,
    exposition::{Exposition, torn_families},
    http::get,
    machine::is_test_vm,
    skip::left_out,
    tools::podmeter,
};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use super::{cpu_throttle::settled, hierarchy};

const HOUR_SECONDS: i64 = 3600;

/// Forward and back, back and forward: the sum is nought.
const STEPS: [i64; 4] = [HOUR_SECONDS, -HOUR_SECONDS, -HOUR_SECONDS, HOUR_SECONDS];

/// Throttled periods between two steps.
const N_PERIODS: u64 = 10;

/// As in `cpu_throttle`: what is rounded to microseconds may differ.
const TOLERANCE_PERCENT: f64 = 0.1;

const DURATIONS: &str = "podmeter_cpu_throttle_duration_seconds";

#[test]
fn a_clock_that_is_set_touches_no_count_and_no_duration() {
    if !is_test_vm() {
        return left_out("sets the clock of the whole machine");
    }
    let (Some(hierarchy), Some(binary)) = (hierarchy(), podmeter()) else { return };
    let exporter = Exporter::start(&binary, "");
    let mut limited = hierarchy.create("stepped");
    limited.set_quota(10_000);
    limited.burn(2);
    let mut last = page(&exporter);
    let started = number(&last, "process_start_time_seconds");
    let taken = number(&last, "podmeter_config_last_reload_success_timestamp_seconds");
    let _clock = Clock::now();
    for step in STEPS {
        set_by(step);
        let n_throttled = limited.cpu_stat().n_throttled;
        wait_for("it is throttled", || limited.cpu_stat().n_throttled > n_throttled + N_PERIODS);
        let page = page(&exporter);
        assert_eq!(page.fallen_since(&last), <[String; 0]>::default(), "after {step} s");
        let ages = page.values("podmeter_source_duration_seconds", &[]);
        let longest = ages.fold(0.0, f64::max);
        assert!(longest < 60.0, "no source took {longest} s");
        // What happened before is of the clock that there was then.
        let still = number(&page, "podmeter_config_last_reload_success_timestamp_seconds");
        assert!((still - taken).abs() < 1.0, "{still}, and {taken} before");
        let still = number(&page, "process_start_time_seconds");
        assert!((still - started).abs() < 2.0, "{still}, and {started} before");
        last = page;
    }
    limited.stop();
    let kernel = Duration::from_nanos(settled(&limited).throttled_ns).as_secs_f64();
    let path = limited.relative_path();
    let page = page(&exporter);
    assert_eq!(page.fallen_since(&last), <[String; 0]>::default());
    let of_cgroup = |suffix: &str, labels: &[(&str, &str)]| {
        let labels: Vec<_> = [("cgroup", path.as_str())].iter().chain(labels).copied().collect();
        page.sum(&format!("{DURATIONS}{suffix}"), &labels).expect("it was throttled")
    };
    let ours = of_cgroup("_sum", &[]);
    let percent = (ours / kernel - 1.0) * 100.0;
    println!(
        "report: truth | {DURATIONS} | the clock was set by an hour four times | ours {ours:.3} s | kernel {kernel:.3} s | {percent:+.2} %"
    );
    assert!(percent.abs() < TOLERANCE_PERCENT, "{ours} s, kernel {kernel} s");
    assert!(kernel < 3600.0, "the kernel's own account is of another clock, too: {kernel} s");
}

/// A page as it must be: each line one, no series twice, no family apart, and no time beside a value.
fn page(exporter: &Exporter) -> Exposition {
    let answer = get(&exporter.url("/metrics"), &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(torn_families(answer.text()).is_empty(), "{:?}", torn_families(answer.text()));
    for line in answer.text().lines().filter(|line| !line.starts_with('#')) {
        let (_, rest) = line.rsplit_once('}').or(line.split_once(' ')).expect("a value follows");
        assert_eq!(rest.split_whitespace().count(), 1, "Podmeter's own have no time: {line}");
    }
    Exposition::parse(answer.text())
}

fn number(page: &Exposition, name: &str) -> f64 {
    page.sum(name, &[]).expect("it is on every page")
}

/// The wall clock as it was; it goes on from there in the end.
struct Clock {
    seconds: i64,
    since: Instant,
}

impl Clock {
    fn now() -> Self {
        Self { seconds: clock_gettime(ClockId::Realtime).tv_sec, since: Instant::now() }
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.since.elapsed().as_secs()).expect("it is no eternity")
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        set(self.seconds + self.elapsed(), 0);
    }
}

/// Sets it forward or back from what it is.
fn set_by(seconds: i64) {
    let now = clock_gettime(ClockId::Realtime);
    set(now.tv_sec + seconds, now.tv_nsec);
    let by = clock_gettime(ClockId::Realtime).tv_sec - now.tv_sec;
    assert!((by - seconds).abs() < 60, "the clock is set by {by} s");
}

fn set(seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    clock_settime(ClockId::Realtime, time).expect("root may set it");
}

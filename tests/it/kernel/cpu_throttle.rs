//! The durations of throttles agree with the kernel's own `cpu.stat`, and belong to the owner of the quota.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use podmeter::{
    metric::Histogram,
    source::probe::HookKind,
    subject::{CgroupId, Subject},
};
use podmeter_tests::{
    cgroup::{CpuStat, TestCgroup, wait_for},
    probe::{Reading, TestProbe},
};

use super::hierarchy;

/// How long the load runs: a hundred periods.
const LOAD: Duration = Duration::from_secs(10);

/// Largest difference between the sum of the durations and `cpu.stat`, in per cent.
///
/// The issue asks for 2, and for 1 up to 6.12; both are the same clock and the same subtraction, so only what is
/// rounded to microseconds may differ.
const TOLERANCE_PERCENT: f64 = 0.1;

#[test]
fn by_fentry_durations_sum_up_to_what_cpu_stat_says() {
    check_sums(HookKind::Fentry);
}

#[test]
fn by_kprobe_durations_sum_up_to_what_cpu_stat_says() {
    check_sums(HookKind::Kprobe);
}

fn check_sums(hook: HookKind) {
    let (Some(hierarchy), Some(mut probe)) = (hierarchy(), start(&[hook])) else { return };
    let mut limited = hierarchy.create("limited");
    limited.set_quota(10_000);
    let parent = hierarchy.create("parent");
    parent.set_quota(20_000);
    let mut child = parent.create_child("child");
    let mut free = hierarchy.create("free");

    burn_for(LOAD, &mut [&mut limited, &mut child, &mut free]);
    // A throttle may outlast the processes that it was for: the probe is read once the last one has ended.
    let owners = [("cpu.max 10000 100000", &limited), ("parent's 20000 100000", &parent)];
    let owners = owners.map(|(name, cgroup)| (name, cgroup, settled(cgroup)));
    let reading = probe.read();
    for (name, cgroup, stat) in owners {
        let histogram = histogram(&reading, cgroup.id()).expect("it was throttled");
        report(hook, name, Some(&histogram), stat);
        assert!(stat.n_throttled > 10, "the load was throttled: {stat:?}");
        // No less can be said of their number: where the period's timer comes late, as in a guest that has to wait for a
        // CPU, the kernel adds the periods that it missed, too (`nr_throttled += overrun`, do_sched_cfs_period_timer).
        assert!(histogram.count() > 10, "{} throttles", histogram.count());
        assert!(difference_percent(&histogram, stat).abs() < TOLERANCE_PERCENT);
    }
    assert_eq!(histogram(&reading, child.id()), None, "events belong to the quota's owner");
    assert_eq!(histogram(&reading, free.id()), None, "without a quota there is no throttle");
    for (name, cgroup) in [("child of the parent", &child), ("no quota", &free)] {
        report(hook, name, None, cgroup.cpu_stat());
    }
    assert_eq!(reading.n_lost(NO_LOSS), 0, "{:?}", reading.stats());
}

/// Attaching in the middle of throttles adds exactly those that end afterwards, each with its whole length.
#[test]
fn throttles_that_began_before_the_probe_have_their_true_length() {
    let Some(hierarchy) = hierarchy() else { return };
    let mut limited = hierarchy.create("early");
    limited.set_quota(10_000);
    limited.burn(2);
    wait_for("it is throttled", || limited.cpu_stat().n_throttled > 2);
    let before = limited.cpu_stat();
    let Some(mut probe) = start(HOOKS) else { return };
    let after = limited.cpu_stat();
    wait_for("it is throttled again", || limited.cpu_stat().n_throttled > after.n_throttled + 5);
    limited.stop();
    let end = settled(&limited);
    let reading = probe.read();
    let sum = histogram(&reading, limited.id()).expect("it was throttled").sum;
    let since = |stat: CpuStat| seconds(end) - seconds(stat);
    println!("report: early | sum {sum:.3} s | from {:.3} to {:.3} s", since(after), since(before));
    assert!(sum >= since(after) - 1e-3 && sum <= since(before) + 1e-3);
}

#[test]
fn entries_of_freed_cgroups_leave_the_kernel() {
    let (Some(hierarchy), Some(mut probe)) = (hierarchy(), start(HOOKS)) else { return };
    let mut limited = hierarchy.create("freed");
    limited.set_quota(10_000);
    burn_for(Duration::from_secs(1), &mut [&mut limited]);
    settled(&limited);
    let id = limited.id();
    assert!(histogram(&probe.read(), id).is_some());
    drop(limited);
    // As long as the cgroup is remembered, its last values are, too.
    assert!(histogram(&probe.read(), id).is_some());
    assert_eq!(histogram(&probe.read_and_free(&[Subject::Cgroup(id)]), id), None);
}

/// While `kernel.bpf_stats_enabled` is 1, the runs of both programs are counted; what they cost is printed beside the
/// cost of reading one `cpu.stat` on the same machine, because virtual machines have no time of their own.
#[test]
fn runs_are_counted_while_the_kernel_keeps_statistics() {
    for hook in HOOKS {
        let (Some(hierarchy), Some(mut probe)) = (hierarchy(), start(&[*hook])) else { return };
        let mut limited = hierarchy.create("stats");
        limited.set_quota(10_000);
        let _on = BpfStats::on();
        burn_for(Duration::from_secs(3), &mut [&mut limited]);
        let stat = settled(&limited);
        let reading = probe.read();
        let n_throttles = histogram(&reading, limited.id()).expect("it was throttled").count();
        let mut seconds_per_event = 0.0;
        for runs in &reading.stats().runs {
            assert!(runs.n_runs >= n_throttles, "{runs:?}, {n_throttles} throttles");
            seconds_per_event += runs.seconds / runs.n_runs as f64;
        }
        let began = Instant::now();
        let n_reads = 1000;
        for _ in 0..n_reads {
            assert_eq!(limited.cpu_stat().n_throttled, stat.n_throttled);
        }
        let seconds_per_read = began.elapsed().as_secs_f64() / f64::from(n_reads);
        println!(
            "report: cost | {} | {:.0} ns per event | {:.0} ns per cpu.stat read | ratio {:.3}",
            hook.as_str(),
            seconds_per_event * 1e9,
            seconds_per_read * 1e9,
            seconds_per_event / seconds_per_read,
        );
    }
}

/// The kernel's statistics of programs, on for as long as this lives.
struct BpfStats {
    before: String,
}

const BPF_STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl BpfStats {
    fn on() -> Self {
        let before = fs::read_to_string(BPF_STATS).expect("it can be read");
        fs::write(BPF_STATS, "1").expect("root may switch them on");
        Self { before }
    }
}

impl Drop for BpfStats {
    fn drop(&mut self) {
        if let Err(error) = fs::write(BPF_STATS, &self.before) {
            println!("report: left behind | {BPF_STATS} is 1 | {error}");
        }
    }
}

const FAMILY: &str = "podmeter_cpu_throttle_duration_seconds";

/// Reasons that are no loss: such a call ended no throttle, or one that the kernel gives no duration either.
const NO_LOSS: &[&str] = &["no_duration", "returned_early"];

/// The hooks of this probe.
const HOOKS: &[HookKind] = &[HookKind::Fentry, HookKind::Kprobe];

fn start(hooks: &[HookKind]) -> Option<TestProbe> {
    TestProbe::start("cpu_throttle", hooks)
}

fn burn_for(duration: Duration, cgroups: &mut [&mut TestCgroup]) {
    for cgroup in &mut *cgroups {
        cgroup.burn(2);
    }
    // The load is the point here: there is no condition to wait for but its end.
    thread::sleep(duration);
    for cgroup in cgroups {
        cgroup.stop();
    }
}

/// What the kernel counted, once the last throttle has ended and nothing grows any more.
pub(super) fn settled(cgroup: &TestCgroup) -> CpuStat {
    /// Ten periods.
    const QUIET: Duration = Duration::from_secs(1);

    let mut last = (cgroup.cpu_stat(), Instant::now());
    wait_for("no throttle is under way", || {
        let now = cgroup.cpu_stat();
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > QUIET
    });
    last.0
}

fn histogram(reading: &Reading, cgroup: CgroupId) -> Option<Histogram> {
    reading.histogram(FAMILY, Subject::Cgroup(cgroup), &[])
}

fn seconds(stat: CpuStat) -> f64 {
    Duration::from_nanos(stat.throttled_ns).as_secs_f64()
}

fn difference_percent(histogram: &Histogram, stat: CpuStat) -> f64 {
    (histogram.sum / seconds(stat) - 1.0) * 100.0
}

fn report(hook: HookKind, name: &str, histogram: Option<&Histogram>, stat: CpuStat) {
    let (hook, kernel) = (hook.as_str(), seconds(stat));
    let (ours, n_events) = histogram.map_or((0.0, 0), |found| (found.sum, found.count()));
    // Where nothing was throttled, there is nothing to be a part of.
    let percent = if kernel > 0.0 { (ours / kernel - 1.0) * 100.0 } else { 0.0 };
    println!(
        "report: truth | podmeter_cpu_throttle_duration_seconds | {hook}, {name} | ours {ours:.3} s | kernel {kernel:.3} s | {percent:+.2} %"
    );
    let n_throttled = stat.n_throttled;
    println!("report: cfs | {hook} | {name} | events {n_events} | nr_throttled {n_throttled}");
}

//! Killed processes are counted as the kernel counts them, for the victim and for the owner of the limit.

use std::fs;

use podmeter::{
    paths::HostPaths,
    source::probe::{HookKind, ProbeHost},
    subject::{CgroupId, Subject},
};
use podmeter_tests::{
    cgroup::Hierarchy,
    machine::is_test_vm,
    memory::{Memory, SparedByOom, let_go, wait_until_killed},
    probe::{Reading, TestProbe},
    skip::left_out,
};

use super::hierarchy;

const KILLED: &str = "podmeter_oom_kills_total";
const CAUSED: &str = "podmeter_oom_limit_kills_total";

const LIMIT_BYTES: u64 = 16 << 20;

#[test]
fn by_fentry_kills_are_those_of_memory_events() {
    check(HookKind::Fentry, TestProbe::start("oom", &[HookKind::Fentry]), &["own", "above"]);
}

#[test]
fn by_kprobe_kills_are_those_of_memory_events() {
    check(HookKind::Kprobe, TestProbe::start("oom", &[HookKind::Kprobe]), &["own", "above"]);
}

/// Where nothing better is to be had, victims are counted without the limit; kernels before 6.9 have not even that.
#[test]
fn by_raw_tracepoint_victims_are_those_of_memory_events() {
    let hook = HookKind::RawTracepoint;
    let host = ProbeHost::find(&HostPaths::default());
    let probe = TestProbe::start_where_types_fit(&host, "oom", &[hook]);
    check(hook, probe, &["unknown", "unknown"]);
}

/// Runs into the cgroup's own limit and into that of the one above, and compares.
fn check(hook: HookKind, probe: Option<TestProbe>, [own, above]: &[&str; 2]) {
    let (Some(hierarchy), Some(mut probe)) = (with_memory(), probe) else { return };
    let limited = hierarchy.create("limited");
    let limited_memory = Memory::of(&hierarchy, &limited);
    limited_memory.set_limit(LIMIT_BYTES);
    run_into_limit(&limited_memory);

    let parent = hierarchy.create("limited-parent");
    let parent_memory = Memory::of(&hierarchy, &parent);
    parent_memory.set_limit(LIMIT_BYTES);
    let child = parent.create_child("child");
    let child_memory = Memory::of(&hierarchy, &child);
    run_into_limit(&child_memory);
    run_into_limit(&child_memory);

    let reading = probe.read();
    let cases = [
        ("own limit", &limited, &limited_memory, *own, 1),
        ("parent's limit", &child, &child_memory, *above, 2),
        ("the parent itself", &parent, &parent_memory, *own, 0),
    ];
    for (case, cgroup, memory, limit, expected) in cases {
        let kernel = memory.n_killed();
        let ours = killed(&reading, cgroup.id(), limit);
        report(hook, case, ours, kernel);
        assert_eq!((ours, kernel), (expected, expected), "{case}");
    }
    assert_eq!(reading.n_lost(&[]), 0, "{:?}", reading.stats());
    if knows_limits(hook, &hierarchy) {
        assert_eq!(caused(&reading, limited.id()), Some(1.0));
        assert_eq!(caused(&reading, parent.id()), Some(2.0));
        assert_eq!(caused(&reading, child.id()), None);
    } else {
        assert_eq!(caused(&reading, limited.id()), None);
    }
}

/// Ids of limits are of the memory controller's hierarchy, which is another one on cgroup v1.
fn knows_limits(hook: HookKind, hierarchy: &Hierarchy) -> bool {
    hook != HookKind::RawTracepoint && hierarchy.is_v2()
}

#[test]
fn processes_that_are_killed_together_are_all_counted() {
    let hooks = [HookKind::Fentry, HookKind::Kprobe];
    let (Some(hierarchy), Some(mut probe)) = (with_memory(), TestProbe::start("oom", &hooks))
    else {
        return;
    };
    if !hierarchy.is_v2() {
        return left_out("cgroup v1 has no memory.oom.group");
    }
    let group = hierarchy.create("group");
    let memory = Memory::of(&hierarchy, &group);
    memory.set_limit(LIMIT_BYTES);
    memory.set_oom_group();
    let (bystander, mut glutton) = (memory.sleeper(), memory.glutton());
    let_go(&mut glutton);
    wait_until_killed(glutton);
    wait_until_killed(bystander);
    let (ours, kernel) = (killed(&probe.read(), group.id(), "own"), memory.n_killed());
    report(HookKind::Fentry, "group of two", ours, kernel);
    // The one that was chosen first is counted again with the group, if it has not ended by then.
    assert_eq!(ours, kernel);
    assert!(kernel >= 2);
}

/// A machine without memory: only a virtual one may be brought to kill as if it were.
#[test]
fn a_kill_for_the_whole_node_is_nobodys_limit() {
    if !is_test_vm() {
        return left_out("kills a process as if the whole machine were out of memory");
    }
    let hooks = [HookKind::Fentry, HookKind::Kprobe];
    let (Some(hierarchy), Some(mut probe)) = (with_memory(), TestProbe::start("oom", &hooks))
    else {
        return;
    };
    let cgroup = hierarchy.create("node");
    let memory = Memory::of(&hierarchy, &cgroup);
    let _spared = SparedByOom::this_process();
    let victim = memory.sleeper();
    fs::write("/proc/sysrq-trigger", "f").expect("root may ask for it");
    wait_until_killed(victim);
    let reading = probe.read();
    let (ours, kernel) = (killed(&reading, cgroup.id(), "node"), memory.n_killed());
    report(HookKind::Fentry, "the node's memory", ours, kernel);
    assert_eq!((ours, kernel), (1, 1));
    assert_eq!(caused(&reading, cgroup.id()), None);
}

/// The hierarchy, where memory can be limited beside it.
fn with_memory() -> Option<Hierarchy> {
    let hierarchy = hierarchy()?;
    if !Memory::is_there(&hierarchy) {
        left_out("this kernel has no memory controller in cgroup v1");
        return None;
    }
    Some(hierarchy)
}

fn run_into_limit(memory: &Memory) {
    let mut glutton = memory.glutton();
    let_go(&mut glutton);
    wait_until_killed(glutton);
}

fn killed(reading: &Reading, cgroup: CgroupId, limit: &str) -> u32 {
    let killed = reading.number(KILLED, Subject::Cgroup(cgroup), &[("limit", limit)]);
    killed.unwrap_or(0.0).to_string().parse().expect("a whole number")
}

fn caused(reading: &Reading, cgroup: CgroupId) -> Option<f64> {
    reading.number(CAUSED, Subject::Cgroup(cgroup), &[])
}

fn report(hook: HookKind, case: &str, ours: u32, kernel: u32) {
    let hook = hook.as_str();
    println!(
        "report: truth | {KILLED} | {hook}, {case} | ours {ours} | kernel {kernel} | {:+}",
        i64::from(ours) - i64::from(kernel)
    );
}

//! Cgroups by the thousand come and go under load: every event is counted once, nothing falls, and nothing is left.

use std::{
    collections::{BTreeMap, VecDeque},
    env, fs,
};

use podmeter::{cgroup::watch::DEAD_GRACE, config::Config};
use podmeter_tests::{
    cgroup::{Hierarchy, TestCgroup},
    heap::live_bytes,
    machine::is_test_vm,
    page::{TestAgent, TestPage},
    skip,
    task::TestTask,
};

use super::hierarchy;

const FAMILY: &str = "podmeter_cpu_run_queue_latency_seconds";
const REST: &str = "(unresolved)";

/// Cgroups that are alive at once.
const N_ALIVE: usize = 200;

/// Names among which those that live for a while are given in turn: each comes back with another cgroup.
const N_NAMES: usize = 450;

/// One in so many is removed at once, so that nobody looks at it while it is there.
const SHORT_LIVED: usize = 4;

/// Pages while they come and go.
const N_PAGES: usize = 40;

/// Collections after which the kernel's entries of cgroups that nobody has seen are freed, and some.
const N_QUIET: usize = 50;

/// How often they come and go, each time a part of them, before what is left is looked at.
const N_ROUNDS: usize = 4;

/// What the heap may grow by in every round but the first: a few tables that others fill, too.
const MAX_GROWTH_BYTES: usize = 64 << 10;

/// Entries of a map that others may have come to have.
const MOST_NEW_ENTRIES: f64 = 100.0;

/// Cgroups of others that may have died within the grace period, of which the test makes a thousand times as many.
const MOST_OF_OTHERS: f64 = 10.0;

#[test]
fn thousands_of_cgroups_come_and_go_and_leave_nothing_behind() {
    let (Some(hierarchy), Some(agent)) = (hierarchy(), agent("")) else { return };
    let n_cgroups = if is_for_all_cgroups() { 10_000 } else { 1_000 };
    let home = hierarchy.create("home");
    let mut task = TestTask::asleep(&home);
    let n_entries_before = entries(&agent.collect());
    // The first round takes what the process keeps for later ones; the others may not take more.
    let mut ends = Vec::new();
    for _ in 0..N_ROUNDS {
        come_and_go(&hierarchy, &agent, (&home, &mut task), n_cgroups / N_ROUNDS);
        let mut after = agent.collect_after(2 * DEAD_GRACE);
        for _ in 0..N_QUIET {
            after = agent.collect_after(2 * DEAD_GRACE);
        }
        let n_dead = after.number("podmeter_cgroups", &[("state", "dead")]);
        // Those of others die, too, on a machine that is not the test's alone.
        let most = if is_test_vm() { 0.0 } else { MOST_OF_OTHERS };
        assert!(n_dead.is_some_and(|n_dead| n_dead <= most), "{n_dead:?}");
        // Other cgroups of the machine may come meanwhile, but not by the thousand.
        for (map, n_entries) in &entries(&after) {
            let n_before = n_entries_before.get(map).copied().unwrap_or_default();
            assert!(*n_entries <= n_before + MOST_NEW_ENTRIES, "{map}: {n_before}, {n_entries}");
        }
        let n_entries: f64 = entries(&after).values().sum();
        drop(after);
        ends.push((n_entries, live_bytes()));
    }
    println!(
        "report: lifecycle | cgroups {n_cgroups} | entries {} before | entries and bytes on the heap after each round {ends:?}",
        n_entries_before.values().sum::<f64>()
    );
    // A leak grows with every round, and by as much in each.
    let growths = ends.windows(2).skip(1).map(|pair| pair[1].1.saturating_sub(pair[0].1));
    let least = growths.min().expect("there are rounds");
    assert!(least <= MAX_GROWTH_BYTES, "{ends:?}");
}

/// Moves the task through so many new cgroups, wakes it in each, and checks that it was counted each time.
fn come_and_go(
    hierarchy: &Hierarchy,
    agent: &TestAgent,
    (home, task): (&TestCgroup, &mut TestTask),
    n_cgroups: usize,
) {
    let mut last = agent.collect();
    let counted_before = counted(&last);
    let waits_before = task.n_waits();
    let mut alive = VecDeque::new();
    for idx in 0..n_cgroups {
        let is_short_lived = idx % SHORT_LIVED == 0;
        let kind = if is_short_lived { "short" } else { "long" };
        let cgroup = hierarchy.create(&format!("{kind}-{}", idx % N_NAMES));
        task.move_to(&cgroup);
        task.wake();
        if is_short_lived {
            task.move_to(home);
        } else {
            alive.push_back(cgroup);
        }
        if alive.len() > N_ALIVE {
            alive.pop_front();
        }
        if idx % (n_cgroups / N_PAGES) == 0 {
            let page = agent.collect();
            check_rises(&last, &page);
            last = page;
        }
    }
    task.move_to(home);
    drop(alive);
    let n_waits = task.n_waits() - waits_before;
    let page = agent.collect();
    check_rises(&last, &page);
    let n_counted = counted(&page) - counted_before;
    println!("report: lifecycle | waits {n_waits} | counted {n_counted}");
    assert_eq!(page.number("podmeter_page_settled_series_total", &[]), Some(0.0));
    assert_eq!(["lost", "no_owner"].map(|reason| skipped(&page, reason)), [0; 2]);
    check_once(n_counted, n_waits);
}

/// Every wait is counted once.
///
/// On a machine that is not the test's alone, cgroups of others that come and go are in the remainder, too, and an event
/// may not come, so that the last wait is counted with the next one only.
fn check_once(n_counted: u64, n_waits: u64) {
    let is_once = if is_test_vm() { n_counted == n_waits } else { n_counted + 1 >= n_waits };
    assert!(is_once, "{n_counted} of {n_waits}");
}

/// With room for few cgroups, what is measured of the others is in one remainder.
#[test]
fn cgroups_beyond_the_cap_are_counted_in_one_remainder() {
    const N_CGROUPS: usize = 60;
    const ROOM: usize = 20;

    let (Some(hierarchy), Some(probe)) = (hierarchy(), agent("")) else { return };
    let known = probe.collect();
    let n_known =
        ["live", "dead"].map(|state| known.count("podmeter_cgroups", &[("state", state)]));
    let n_known: u64 = n_known.into_iter().flatten().sum();
    drop(probe);
    let home = hierarchy.create("capped-home");
    let mut task = TestTask::asleep(&home);
    // The home is one of those that are known from the start.
    let max = usize::try_from(n_known).expect("it is small") + 1 + ROOM;
    let Some(agent) = agent(&format!("cgroups: {{ max_tracked: {max} }}\n")) else { return };
    let before = agent.collect();
    let waits_before = task.n_waits();
    let mut cgroups = Vec::new();
    for idx in 0..N_CGROUPS {
        let cgroup = hierarchy.create(&format!("capped-{idx}"));
        task.move_to(&cgroup);
        task.wake();
        cgroups.push(cgroup);
    }
    task.move_to(&home);
    let n_waits = task.n_waits() - waits_before;
    let page = agent.collect();
    let n_own = page
        .histograms(FAMILY, "cgroup")
        .iter()
        .filter(|(path, _)| path.contains("-capped-") && !path.ends_with("-home"))
        .count();
    let n_left_out = page.number("podmeter_cgroups_left_out_total", &[]).expect("it is counted");
    let n_counted = counted(&page) - counted(&before);
    println!(
        "report: cap | own series {n_own} | left out {n_left_out} | waits {n_waits} | counted {n_counted}"
    );
    assert!(n_left_out >= (N_CGROUPS - ROOM) as f64);
    // Some of the room may be another's by now.
    assert!(n_own <= ROOM, "{n_own} series");
    check_once(n_counted, n_waits);
    // They go on counting there.
    for _ in 0..N_QUIET {
        task.move_to(cgroups.last().expect("there are some"));
        task.wake();
        check_rises(&page, &agent.collect());
    }
    task.move_to(&home);
    let n_waits = task.n_waits() - waits_before;
    let page = agent.collect();
    let n_counted = counted(&page) - counted(&before);
    check_once(n_counted, n_waits);
}

/// An agent with this configuration and the probe that counts what the test does, or nothing where it cannot attach.
fn agent(config: &str) -> Option<TestAgent> {
    let text = format!("probes: {{ run_queue: {{ enabled: true }} }}\n{config}");
    let config = Config::parse(&text, "test.yaml", &|_| None).expect("it is valid");
    let agent = TestAgent::start(&config);
    let attached = agent.collect().number("podmeter_probe_attached", &[("probe", "run_queue")]);
    if attached != Some(1.0) {
        skip::skipped("run_queue cannot attach");
        return None;
    }
    Some(agent)
}

/// The task's waits: those of the test's cgroups, and of all that are not known.
fn counted(page: &TestPage) -> u64 {
    let prefix = format!("/podmeter-{}-", std::process::id());
    let histograms = page.histograms(FAMILY, "cgroup");
    let ours = histograms.iter().filter(|(path, _)| path.starts_with(&prefix) || path == REST);
    ours.map(|(_, histogram)| histogram.count()).sum()
}

/// Events of the whole machine that are in no histogram, or in the remainder, for a reason.
fn skipped(page: &TestPage, reason: &str) -> u64 {
    let labels = [("probe", "run_queue"), ("reason", reason)];
    page.count("podmeter_probe_skipped_events_total", &labels).expect("it is counted")
}

/// How full the maps of all probes are.
fn entries(page: &TestPage) -> BTreeMap<String, f64> {
    let entries = page.numbers("podmeter_probe_map_entries");
    assert!(entries.keys().any(|map| map.contains("WAITS")), "{entries:?}");
    entries
}

/// All of them take minutes on an emulated machine, so that of the virtual machines one does it.
fn is_for_all_cgroups() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel says it");
    let variant = env::var("PODMETER_VM_VARIANT").unwrap_or_default();
    !is_test_vm() || (release.starts_with("6.12.") && variant == "v2")
}

fn check_rises(before: &TestPage, after: &TestPage) {
    assert_eq!(after.fallen_since(before), <[String; 0]>::default());
}

//! What the page says of pressure is what the kernel's own files say, of a cgroup and of the one above it.

use std::{fs, time::Duration};

use podmeter::config::Config;
use podmeter_tests::{
    cgroup::{TestCgroup, wait_for},
    page::TestAgent,
};

use super::hierarchy;

const FAMILY: &str = "podmeter_pressure_seconds_total";

#[test]
fn the_page_has_what_the_pressure_files_have() {
    let Some(hierarchy) = hierarchy() else { return };
    let agent = TestAgent::start(&Config::default());
    let parent = hierarchy.create("pressed");
    let mut limited = parent.create_child("child");
    let idle = parent.create_child("idle");
    if !hierarchy.is_v2() {
        let path = limited.relative_path();
        assert_eq!(agent.collect().value(FAMILY, &[("cgroup", &path)]), None, "v1 has no files");
        println!("report: pressure | absent on cgroup v1");
        return;
    }
    limited.set_quota(10_000);
    limited.burn(2);
    // Its tasks wait while it is throttled.
    wait_for("it waits for CPU", || totals(&limited, "cpu").some() > Duration::from_millis(300));
    limited.stop();
    for cgroup in [&parent, &limited, &idle] {
        for resource in ["cpu", "memory", "io"] {
            compare(&agent, cgroup, resource);
        }
    }
}

/// Compares all lines of one file with the page.
fn compare(agent: &TestAgent, cgroup: &TestCgroup, resource: &str) {
    let before = totals(cgroup, resource);
    let page = agent.collect();
    let after = totals(cgroup, resource);
    let path = cgroup.relative_path();
    for kind in ["some", "full"] {
        let labels = [("cgroup", path.as_str()), ("resource", resource), ("kind", kind)];
        let ours = page.number(FAMILY, &labels);
        let (Some(low), Some(high)) = (before.get(kind), after.get(kind)) else {
            assert_eq!(ours, None, "{resource} {kind} is not in the file");
            println!("report: pressure | {resource}.pressure has no line {kind}");
            continue;
        };
        let ours = ours.unwrap_or_else(|| panic!("{resource} {kind} is in the file"));
        let (low, high) = (low.as_secs_f64(), high.as_secs_f64());
        assert!(low <= ours && ours <= high, "{resource} {kind}: {low} <= {ours} <= {high}");
        if resource == "cpu" && low > 0.0 {
            println!(
                "report: truth | {FAMILY} | {resource} {kind}, {} | ours {ours:.6} s | kernel {high:.6} s | {:+.2} %",
                if path.ends_with("child") { "throttled" } else { "its parent" },
                (ours / high - 1.0) * 100.0
            );
        }
    }
}

/// The totals of one file by kind.
struct Totals(Vec<(String, Duration)>);

impl Totals {
    fn get(&self, kind: &str) -> Option<Duration> {
        self.0.iter().find(|(known, _)| known == kind).map(|(_, total)| *total)
    }

    fn some(&self) -> Duration {
        self.get("some").expect("every kernel has it")
    }
}

fn totals(cgroup: &TestCgroup, resource: &str) -> Totals {
    let path = cgroup.path().join(format!("{resource}.pressure"));
    let text = fs::read_to_string(&path).expect("cgroup v2 has pressure files");
    let line = |line: &str| {
        let kind = line.split(' ').next().expect("a word").to_owned();
        let (_, total) = line.split_once("total=").expect("a total");
        (kind, Duration::from_micros(total.parse().expect("microseconds")))
    };
    Totals(text.lines().map(line).collect())
}

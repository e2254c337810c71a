//! The unit for plain hosts: systemd takes it, and it grants what the chart's profile `capabilities` grants.

use std::{collections::BTreeSet, process::Command};

use podmeter_tests::{
    skip::skipped,
    tools::{podmeter, write},
};
use serde_json::Value;

const UNIT: &str = include_str!("../../../deploy/systemd/podmeter.service");
const DAEMON_SET: &str = include_str!("../../../deploy/kustomize/capabilities/daemonset.yaml");
const INSTALLED: &str = "/usr/local/bin/podmeter";
/// Least exposure that systemd calls medium, in tenths.
const MEDIUM: u32 = 50;
/// The first systemd that judges a unit which is not loaded.
const OFFLINE_SINCE: u32 = 250;

/// The release of systemd, from `systemd 252 (…)`; 0 where there is none.
fn version() -> u32 {
    let Ok(output) = Command::new("systemd-analyze").arg("--version").output() else { return 0 };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[test]
fn it_grants_the_capabilities_of_the_chart() {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let granted: BTreeSet<&str> = line.expect("it has a bounding set").split(' ').collect();
    let daemon_set: Value = serde_saphyr::from_str(DAEMON_SET).expect("it is YAML");
    let added = daemon_set
        .pointer("/spec/template/spec/containers/0/securityContext/capabilities/add")
        .and_then(Value::as_array)
        .expect("the profile adds capabilities");
    let added: Vec<String> =
        added.iter().map(|name| format!("CAP_{}", name.as_str().expect("a name"))).collect();
    assert_eq!(granted, added.iter().map(String::as_str).collect());
}

#[test]
fn systemd_takes_it_and_finds_little_exposed() {
    let Some(binary) = podmeter() else { return };
    if version() < OFFLINE_SINCE {
        return skipped(format_args!("there is no systemd-analyze {OFFLINE_SINCE} or later here"));
    }
    assert!(UNIT.contains(INSTALLED));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let unit = UNIT.replace(INSTALLED, &binary.display().to_string());
    let unit = write(dir.path(), "podmeter.service", &unit);
    let analyze = |words: &[&str]| {
        let output = Command::new("systemd-analyze").args(words).arg(&unit).output();
        let output = output.expect("systemd-analyze starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (is_taken, said) = analyze(&["verify"]);
    assert!(is_taken, "{said}");
    // It warns of a key that it does not know, and goes on.
    assert!(!said.contains("Unknown"), "{said}");
    let threshold = format!("--threshold={MEDIUM}");
    let (is_little, said) = analyze(&["security", "--offline=true", &threshold]);
    assert!(is_little, "{said}");
    let verdict = said.lines().find(|line| line.contains("exposure")).unwrap_or_default();
    println!("report: systemd | {}", verdict.trim());
}

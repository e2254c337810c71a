//! Bad input on the command line, in the configuration and on the machine: one clear line, and the rest goes on.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
};

use podmeter_tests::{
    skip::skipped,
    tools::{podmeter, write},
};

/// A user without any privilege.
const NOBODY: u32 = 65_534;

fn run(binary: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    outcome(&Command::new(binary).args(args).output().unwrap())
}

fn outcome(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn slips_are_named_with_what_was_probably_meant() {
    let Some(binary) = podmeter() else { return };
    let check = |args: &[&str], code: i32, expected: &str| {
        let (status, _, stderr) = run(&binary, args);
        assert_eq!(status, Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    };
    check(&["run", "--confg", "x"], 2, "--config");
    check(&["runn"], 2, "'run'");
    check(&["collect", "--config", "/nonexistent.yaml"], 1, "/nonexistent.yaml");
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "p.yaml", "# first line\nlisten_address: 0.0.0.0:1\n");
    let config = config.to_str().unwrap();
    check(&["collect", "--config", config], 1, "p.yaml:2:1: unknown key `listen_address`");
}

#[test]
fn a_port_in_use_is_named_with_the_remedy() {
    let Some(binary) = podmeter() else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "p.yaml", &format!("listen: {address}\n"));
    for command in ["run", "check"] {
        let (status, stdout, stderr) =
            run(&binary, &[command, "--config", config.to_str().unwrap()]);
        let said = stdout + &stderr;
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&address.to_string()) && said.contains("set `listen:`"), "{said}");
    }
}

#[test]
fn without_root_it_says_so_and_measures_what_it_can() {
    let Some(binary) = podmeter() else { return };
    // The build's folder may be closed to others.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("podmeter");
    fs::copy(&binary, &copy).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |command: &str| {
        outcome(&Command::new(&copy).arg(command).uid(NOBODY).gid(NOBODY).output().unwrap())
    };
    if Command::new("true").uid(NOBODY).status().is_err() {
        return skipped("only root can become another user");
    }
    let (status, stdout, stderr) = as_nobody("collect");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("CAP_BPF") && stderr.contains("privileged container"), "{stderr}");
    assert!(
        stdout.contains("podmeter_probe_attached{probe=\"cpu_throttle\",reason=\"not_allowed\"} 0")
    );
    assert!(stdout.contains("podmeter_source_success{source=\"cgroup_cpu\"} 1"), "{stdout}");
    let (status, stdout, _) = as_nobody("check");
    assert_eq!(status, Some(1));
    assert!(stdout.contains("FAIL  capabilities"), "{stdout}");
}

#[test]
fn what_the_machine_lacks_costs_only_what_needs_it() {
    let Some(binary) = podmeter() else { return };
    let empty = tempfile::tempdir().unwrap();
    let check = |key: &str, log: &str, page: &str| {
        let config = format!("paths: {{ {key}: {} }}\n", empty.path().display());
        let dir = tempfile::tempdir().unwrap();
        let config = write(dir.path(), "p.yaml", &config);
        let args = ["collect", "--config", config.to_str().unwrap()];
        let (status, stdout, stderr) = run(&binary, &args);
        assert_eq!(status, Some(0), "{stderr}");
        assert!(stderr.contains(log), "{key}: {stderr}");
        assert!(stdout.contains(page), "{key}: {stdout}");
        assert!(stdout.contains("podmeter_build_info"), "{stdout}");
    };
    let off = "podmeter_probe_attached{probe=\"cpu_throttle\",reason=";
    check("sysfs", "kernel/btf/vmlinux", off);
    check("cgroupfs", "no cgroup hierarchy", "podmeter_cgroups{state=\"live\"} 0");
}

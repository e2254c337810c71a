//! What goes wrong most often is said in the words that docs/troubleshooting.md explains; a forbidden call to the API is
//! in `cluster::attribution`.

use std::{path::Path, process::Command};

use podmeter_tests::{
    tools::{podmeter, write},
    troubleshooting::assert_explained,
};

/// What a command says of `podmeter.yaml` in its own folder, to whom it may concern, and whether it succeeds.
fn said(command: &mut Command, config: &str) -> (bool, String) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(write(dir.path(), "podmeter.yaml", config));
    let output = command.current_dir(dir.path()).output().expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("it is text"))
}

fn check_refused(binary: &Path, config: &str, message: &str) {
    for command in ["run", "check", "collect"] {
        let mut podmeter = Command::new(binary);
        let (is_well, said) = said(podmeter.args([command, "--config", "podmeter.yaml"]), config);
        assert!(!is_well, "{command}: {said}");
        assert_explained(&said, message);
    }
}

#[test]
fn a_wrong_key_is_explained() {
    let Some(binary) = podmeter() else { return };
    let config = "listen: 0.0.0.0:9643\nscrape_config: []\n";
    check_refused(&binary, config, "podmeter.yaml:2:1: unknown key");
}

#[test]
fn a_bad_regular_expression_is_explained() {
    let Some(binary) = podmeter() else { return };
    let config = "scrape_configs:
  - job_name: cadvisor
    url: https://127.0.0.1:10250/metrics/cadvisor
    metric_relabel_configs:
      - { source_labels: [__name__], regex: 'container_(cpu|memory', action: keep }
";
    check_refused(&binary, config, "podmeter.yaml:2:5: `metric_relabel_configs`");
}

#[test]
fn a_missing_capability_is_explained() {
    let Some(binary) = podmeter() else { return };
    let mut without = Command::new("setpriv");
    // For root, no capability is in sight; who is not root had none before.
    without.args(["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]);
    if !rustix::process::geteuid().is_root() {
        without = Command::new("env");
    }
    without.arg(binary).args(["check", "--config", "podmeter.yaml"]);
    let (is_well, said) = said(&mut without, "listen: 127.0.0.1:0\n");
    assert!(!is_well, "{said}");
    assert_explained(&said, "FAIL  capabilities ");
    assert_explained(&said, "FAIL  probe network ");
}

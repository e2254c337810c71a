//! `podmeter relabel` on recorded pages and pods, against pages and explanations that were looked at once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use expect_test::{ExpectFile, expect_file};
use podmeter_tests::tools::{podmeter, run_with_input};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn fixture(version: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version).join(name)
}

fn relabel(binary: &Path, version: &str) -> Command {
    let mut command = Command::new(binary);
    command.arg("relabel").arg("--config").arg(golden("relabel.yaml"));
    command.args(["--job", "cadvisor", "--pods"]).arg(fixture(version, "pods-on-node.json"));
    command
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_recorded_page_gets_its_labels_and_rules() {
    let Some(binary) = podmeter() else { return };
    let check = |version: &str, said: &str, expected: ExpectFile| {
        let page = fixture(version, "pages/kubelet-metrics-cadvisor.txt");
        let (code, page_out, log) =
            texts(&relabel(&binary, version).arg(&page).output().expect("it runs"));
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains(said), "{log}");
        expected.assert_eq(&page_out);
        let from_pipe = run_with_input(
            &mut relabel(&binary, version),
            &fs::read(&page).expect("the page is there"),
        );
        assert_eq!(texts(&from_pipe).1, page_out, "the same from standard input");
    };
    check(
        "v1.20.2",
        "cadvisor: 1328 samples, 15 served, 1313 dropped (rule)",
        expect_file!["../../golden/relabel-v1.20.2.prom"],
    );
    check(
        "v1.34.9",
        "cadvisor: 1727 samples, 14 served, 1713 dropped (rule)",
        expect_file!["../../golden/relabel-v1.34.9.prom"],
    );
}

#[test]
fn a_series_is_explained_rule_by_rule() {
    let Some(binary) = podmeter() else { return };
    let check = |series: &str, expected: ExpectFile| {
        let mut command = relabel(&binary, "v1.34.9");
        let (code, explanation, log) =
            texts(&command.args(["--explain", series]).output().expect("it runs"));
        assert_eq!(code, Some(0), "{log}");
        expected.assert_eq(&explanation);
        explanation
    };
    let page = fs::read_to_string(fixture("v1.34.9", "pages/kubelet-metrics-cadvisor.txt"));
    let page = page.expect("the page is there");
    let line = page.lines().find(|line| {
        line.starts_with("container_cpu_cfs_throttled_periods_total{container=\"webapi\"")
    });
    let line = line.expect("the Deployment's container is on the page");
    let kept = check(line, expect_file!["../../golden/relabel-kept.txt"]);
    check(
        "container_tasks_state{id=\"/kubepods\",state=\"running\"}",
        expect_file!["../../golden/relabel-dropped.txt"],
    );
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/relay.md");
    let docs = fs::read_to_string(docs).expect("the documentation is there");
    let config = fs::read_to_string(golden("relabel.yaml")).expect("the configuration is there");
    for part in [kept, config] {
        assert!(docs.contains(&part), "docs/relay.md shows another example:\n{part}");
    }
}

#[test]
fn what_cannot_be_done_is_named() {
    let Some(binary) = podmeter() else { return };
    let check = |args: &[&str], code: i32, expected: &str| {
        let output = Command::new(&binary).arg("relabel").args(args).output().expect("it runs");
        let (status, out, log) = texts(&output);
        assert_eq!((status, out.as_str()), (Some(code), ""), "{args:?}: {log}");
        assert!(log.contains(expected), "{args:?}: {log}");
    };
    let config = golden("relabel.yaml");
    let config = config.to_str().expect("a path in UTF-8");
    let forbidden = fixture("v1.34.9", "api-forbidden.json");
    let forbidden = forbidden.to_str().expect("a path in UTF-8");
    let job = ["--config", config, "--job", "cadvisor"];
    check(&["--config", config], 2, "--job <NAME>");
    check(&["--config", config, "--job", "x"], 1, "scrape_configs has cadvisor");
    check(&[job.as_slice(), &["/none"]].concat(), 1, "cannot read /none");
    check(&[job.as_slice(), &["--pods", forbidden]].concat(), 1, "it has no pods");
    check(&[job.as_slice(), &["--pods", config]].concat(), 1, "no JSON of the Kubernetes API");
    check(&[job.as_slice(), &["--explain", "a{"]].concat(), 1, "`a{` is no series: column 3");
    check(&[job.as_slice(), &["--explain", "a", "page"]].concat(), 2, "cannot be used with");
    check(&[job.as_slice(), &[config]].concat(), 1, "the page has no metrics: line 1");
}

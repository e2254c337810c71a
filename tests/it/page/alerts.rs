//! deploy/alerts: promtool takes the rules and their tests, each alert is tested both ways and has a section in
//! docs/troubleshooting.md, and no rule asks for a name that no page has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use podmeter_tests::{prometheus::Prometheus, tools::tool};
use serde_json::Value;

use super::queries::Vocabulary;

const RULES: &str = include_str!("../../../deploy/alerts/rules.yaml");
const TROUBLESHOOTING: &str = include_str!("../../../docs/troubleshooting.md");

#[test]
fn promtool_takes_the_rules_and_their_tests() {
    let Some(promtool) = tool("PODMETER_PROMTOOL") else { return };
    let check = |arguments: &[&str], files: &[PathBuf]| {
        let output = Command::new(&promtool).args(arguments).args(files).output();
        let output = output.expect("promtool runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    };
    check(&["check", "rules", "--lint=all", "--lint-fatal"], &[folder().join("rules.yaml")]);
    check(&["test", "rules"], &test_files());
}

#[test]
fn each_alert_is_tested_firing_and_quiet() {
    // By alert: whether a test expects it to fire, and whether one expects it not to.
    let mut tested: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    for file in test_files() {
        let text = fs::read_to_string(&file).expect("the file is there");
        let tests: Value = serde_saphyr::from_str(&text).expect("it is YAML");
        let cases = list(&tests, "tests").iter().flat_map(|test| list(test, "alert_rule_test"));
        for case in cases {
            let fires = !list(case, "exp_alerts").is_empty();
            tested.entry(text_of(case, "alertname")).or_default()[usize::from(fires)] = true;
        }
    }
    let expected = alerts().iter().map(|alert| (text_of(alert, "alert"), [true; 2])).collect();
    assert_eq!(tested, expected);
}

#[test]
fn each_alert_says_what_to_do() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = text_of(&alert, "alert");
        let annotations = alert.get("annotations").expect("it has annotations");
        assert!(text_of(annotations, "summary").ends_with('.'), "{name}");
        assert!(text_of(annotations, "description").ends_with('.'), "{name}");
        let anchor = name.to_lowercase();
        let runbook = format!("docs/troubleshooting.md#{anchor}");
        assert_eq!(text_of(annotations, "runbook_url"), runbook);
        let severity = text_of(alert.get("labels").expect("it has labels"), "severity");
        assert!(["critical", "warning", "info"].contains(&severity.as_str()), "{name}");
        assert!(names.insert(name.clone()), "there are two of {name}");
    }
    let (_, alerts) = TROUBLESHOOTING.split_once("\n## Alerts\n").expect("a chapter of its own");
    let alerts = alerts.split("\n## ").next().expect("there is text in it");
    let sections = alerts.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: BTreeSet<String> = sections.map(str::to_owned).collect();
    assert_eq!(sections, names);
}

#[test]
fn rules_ask_for_what_there_is() {
    let Some(prometheus) = tool("PODMETER_PROMETHEUS") else { return };
    let prometheus = Prometheus::with_config(&prometheus, "global: {}\n");
    let mut vocabulary = Vocabulary::read();
    for rule in rules() {
        let query = text_of(&rule, "expr");
        match rule.get("record").and_then(Value::as_str) {
            Some(name) => vocabulary.record(&prometheus, name, &query),
            None => vocabulary.check_query(&prometheus, &query),
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts")
}

fn test_files() -> Vec<PathBuf> {
    let files = fs::read_dir(folder().join("tests")).expect("the folder is there");
    files.map(|file| file.expect("its files are there").path()).collect()
}

fn rules() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(RULES).expect("it is YAML");
    list(&rules, "groups").iter().flat_map(|group| list(group, "rules")).cloned().collect()
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule.get("alert").is_some()).collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).unwrap_or_else(|| panic!("no list {key}: {value}"))
}

fn text_of(value: &Value, key: &str) -> String {
    let text = value.get(key).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no text {key}: {value}")).to_owned()
}

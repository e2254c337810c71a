//! Strict readers of the pages: promtool's linter and the OpenMetrics parser of Python's client library.

use std::process::Command;

use podmeter_tests::{
    exporter::Exporter,
    http::get,
    tools::{podmeter, python, run_with_input, tool},
};

/// Parses OpenMetrics on standard input and prints the number of families.
const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
assert any(family.name == 'podmeter_build' or family.name == 'podmeter_build_info' for family in families), families
print(len(families))
";

#[test]
fn promtool_has_no_complaint() {
    let (Some(binary), Some(promtool)) = (podmeter(), tool("PODMETER_PROMTOOL")) else { return };
    let exporter = Exporter::start(&binary, "");
    // The second page has what the first one changed: requests, series, durations.
    for _ in 0..2 {
        let page = get(&exporter.url("/metrics"), &[]);
        let mut command = Command::new(&promtool);
        let output = run_with_input(command.args(["check", "metrics"]), &page.body);
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    }
}

#[test]
fn the_strict_openmetrics_parser_takes_the_page() {
    let (Some(binary), Some(mut python)) = (podmeter(), python()) else { return };
    let exporter = Exporter::start(&binary, "");
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0")];
    let page = get(&exporter.url("/metrics"), &accept);
    let output = run_with_input(python.args(["-c", PARSE]), &page.body);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("report: openmetrics | families {}", String::from_utf8_lossy(&output.stdout).trim());
}

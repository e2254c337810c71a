//! The real process relays recorded pages of a kubelet and a kube-proxy, beside a target that is not there.

use std::{fmt::Write as _, process::Command};

use podmeter_tests::{
    exporter::Exporter,
    http::get,
    target::{Target, recorded},
    tools::{podmeter, python, run_with_input, tool},
};

const PAGES: &[&str] = &[
    "kubelet-metrics",
    "kubelet-metrics-cadvisor",
    "kubelet-metrics-probes",
    "kubelet-metrics-resource",
    "kube-proxy-metrics",
];

const OPENMETRICS: (&str, &str) = ("Accept", "application/openmetrics-text;version=1.0.0");

/// Parses OpenMetrics on standard input and prints the number of samples with a job.
const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = text_string_to_metric_families(sys.stdin.read())
print(sum('job' in sample.labels for family in families for sample in family.samples))
";

fn config(target: Target, timestamps: bool) -> String {
    let mut config = String::from("external_labels: { cluster: c1 }\nscrape_configs:\n");
    for page in PAGES {
        let url = target.url(page);
        writeln!(config, "- {{ job_name: {page}, url: '{url}', honor_timestamps: {timestamps} }}")
            .expect("a string takes all");
    }
    // Port 9 is nobody's.
    config.push_str("- { job_name: gone, url: 'http://127.0.0.1:9/metrics' }\n");
    config
}

fn n_samples(page: &str) -> usize {
    page.lines().filter(|line| !line.starts_with('#')).count()
}

/// The value of the one line that begins so.
fn number(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(series) && line.contains("} "));
    let line = line.unwrap_or_else(|| panic!("{series} is not there"));
    let value = line.rsplit_once("} ").expect("it has a value").1;
    value.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn every_sample_is_on_the_page_and_strict_readers_take_it() {
    let (Some(binary), Some(promtool), Some(_)) = (podmeter(), tool("PODMETER_PROMTOOL"), python())
    else {
        return;
    };
    for version in ["v1.20.2", "v1.34.9"] {
        for timestamps in [true, false] {
            let exporter = Exporter::start(&binary, &config(Target::start(version), timestamps));
            let first = get(&exporter.url("/metrics"), &[]);
            let mut n_relayed = 0;
            for job in PAGES {
                let n_given = n_samples(&recorded(version, job));
                let label = format!("job=\"{job}\"");
                let of_job = first.text().lines().filter(|line| line.contains(&label));
                let is_relayed = |line: &&str| {
                    let own = [
                        "podmeter_target_",
                        "scrape_samples_",
                        "scrape_series_",
                        "scrape_body_",
                        "scrape_duration_",
                        "up{",
                    ];
                    !own.iter().any(|prefix| line.starts_with(prefix))
                };
                assert_eq!(of_job.filter(is_relayed).count(), n_given, "{version} {job}");
                let scraped = format!("scrape_samples_scraped{{cluster=\"c1\",{label}");
                assert!((number(first.text(), &scraped) - n_given as f64).abs() < 0.5);
                n_relayed += n_given;
            }
            check_promtool(&promtool, &first.body);
            let second = get(&exporter.url("/metrics"), &[OPENMETRICS]);
            check_openmetrics(&second.body, n_relayed);
            let page = second.text();
            assert!(number(page, "up{cluster=\"c1\",job=\"gone\"").abs() < 0.5);
            let failures =
                "podmeter_target_failures_total{cluster=\"c1\",job=\"gone\",reason=\"connect\"}";
            assert!(number(page, failures) > 0.5);
            let misses = "podmeter_target_cache_misses_total{cluster=\"c1\",job=\"kubelet-metrics-cadvisor\"}";
            let n_cadvisor = n_samples(&recorded(version, "kubelet-metrics-cadvisor"));
            assert!((number(page, misses) - n_cadvisor as f64).abs() < 0.5, "none was read twice");
            let landing = get(&exporter.url("/"), &[]);
            assert!(landing.text().contains("cannot connect"), "{}", landing.text());
        }
    }
}

#[test]
fn the_pages_rules_act_on_own_and_relayed_series_alike() {
    let (Some(binary), Some(promtool), Some(_)) = (podmeter(), tool("PODMETER_PROMTOOL"), python())
    else {
        return;
    };
    let mut config = config(Target::start("v1.34.9"), true);
    config.push_str(
        "relabel_configs:
- { source_labels: [__name__], regex: 'process_.*|container_fs_.*', action: drop }
- { source_labels: [cluster], regex: '', target_label: site, replacement: beijing }
- { source_labels: [__name__], regex: 'up', target_label: __name__, replacement: target_up }
- { regex: 'handler|operation_type', action: labeldrop }
",
    );
    let exporter = Exporter::start(&binary, &config);
    let before = get(&exporter.url("/metrics"), &[]);
    check_promtool(&promtool, &before.body);
    let page = get(&exporter.url("/metrics"), &[]);
    let page = page.text();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.contains("cluster=\"c1\"") && line.contains("site=\"beijing\""), "{line}");
        let is_gone =
            ["process_", "container_fs_", "up{"].iter().any(|name| line.starts_with(name));
        assert!(!is_gone && !line.contains("handler="), "{line}");
    }
    let up = page.lines().filter(|line| line.starts_with("target_up{"));
    assert_eq!(up.count(), PAGES.len() + 1);
    assert!(page.contains("podmeter_build_info{cluster="), "{page}");
    assert!(
        number(page, "podmeter_page_dropped_samples_total{cluster=\"c1\",reason=\"rule\"") > 0.5
    );
    let openmetrics = get(&exporter.url("/metrics"), &[OPENMETRICS]);
    check_openmetrics(&openmetrics.body, 1_000);
}

/// The kubelet's own names do not please the linter, which says so with the status 3.
fn check_promtool(promtool: &std::path::Path, page: &[u8]) {
    let output = run_with_input(Command::new(promtool).args(["check", "metrics"]), page);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    assert!(!said.contains("podmeter_"), "{said}");
}

fn check_openmetrics(page: &[u8], n_relayed: usize) {
    let mut python = python().expect("it was there a moment ago");
    let output = run_with_input(python.args(["-c", PARSE]), page);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let n_samples: usize =
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of samples");
    assert!(n_samples >= n_relayed, "{n_samples} of {n_relayed}");
    println!("report: relay | samples {n_samples}");
}

//! Targets, good and bad.

use std::time::Duration;

use expect_test::{Expect, expect};

use super::{OnConflict, ScrapeConfig, ScrapeLimits, Timestamps};
use crate::{
    config::Config,
    error_chain::one_line,
    source::upstream::client::config::{Compression, Credentials, Secret, Verification},
};

fn parse(text: &str) -> Result<Vec<ScrapeConfig>, String> {
    let variable = |name: &str| (name == "NODE_IP").then(|| "10.0.0.7".to_owned());
    let config = Config::parse(text, "podmeter.yaml", &variable);
    config.map(|config| config.scrape_configs).map_err(|error| one_line(&error))
}

fn check_error(text: &str, expected: Expect) {
    expected.assert_eq(&parse(text).unwrap_err());
}

#[test]
fn a_target_needs_little() {
    let target = parse(
        "scrape_configs: [{ job_name: kube-proxy, url: 'http://127.0.0.1:10249/metrics' }]\n",
    );
    let target = target.unwrap().remove(0);
    assert_eq!(target.job_name, "kube-proxy");
    assert_eq!(target.client.url, "http://127.0.0.1:10249/metrics");
    assert_eq!(target.client.credentials, None);
    assert_eq!(target.client.compression, Compression::Refused);
    assert_eq!(target.client.max_body_bytes, 64 << 20);
    assert_eq!(target.timeout, Duration::from_secs(10));
    assert_eq!((target.on_conflict, target.timestamps), (OnConflict::Rename, Timestamps::Honored));
    assert_eq!((target.limits, target.rules), (ScrapeLimits::default(), Vec::new()));
}

#[test]
fn every_key_is_taken() {
    let target = parse(
        "scrape_configs:
  - job_name: cadvisor
    url: https://${NODE_IP}:10250/metrics/cadvisor
    params: { 'collect[]': [cpu, a b] }
    authorization: { credentials_file: /token }
    tls_config:
      { ca_file: /ca, cert_file: /cert, key_file: /key, server_name: node-1, insecure_skip_verify: true }
    enable_compression: true
    scrape_timeout: 1m30s
    honor_labels: true
    honor_timestamps: false
    body_size_limit: 16MB
    sample_limit: 200000
    label_limit: 30
    label_name_length_limit: 200
    label_value_length_limit: 300
    metric_relabel_configs:
      - { source_labels: [id], regex: '/a(.*)', replacement: '${1}', target_label: a }
",
    );
    let target = target.unwrap().remove(0);
    let url = "https://10.0.0.7:10250/metrics/cadvisor?collect%5B%5D=cpu&collect%5B%5D=a%20b";
    assert_eq!(target.client.url, url);
    let token = Secret::File("/token".into());
    assert_eq!(
        target.client.credentials,
        Some(Credentials::Token { scheme: "Bearer".into(), token })
    );
    let tls = &target.client.tls;
    assert_eq!(tls.ca_file.as_deref().and_then(|path| path.to_str()), Some("/ca"));
    assert!(tls.client.is_some() && tls.verification == Verification::Skipped);
    assert_eq!(tls.server_name.as_deref(), Some("node-1"));
    assert_eq!(target.client.compression, Compression::Accepted);
    assert_eq!(target.client.max_body_bytes, 16 << 20);
    assert_eq!(target.timeout, Duration::from_secs(90));
    assert_eq!(
        (target.on_conflict, target.timestamps),
        (OnConflict::HonorTarget, Timestamps::Dropped)
    );
    let limits = ScrapeLimits {
        samples: Some(200_000),
        labels: Some(30),
        label_name_bytes: Some(200),
        label_value_bytes: Some(300),
    };
    assert_eq!(target.limits, limits);
    // A group, not a variable.
    assert_eq!(target.rules[0].replacement.as_deref(), Some("${1}"));
}

fn target(rest: &str) -> String {
    format!("scrape_configs:\n  - job_name: a\n    {rest}\n")
}

fn with_url(rest: &str) -> String {
    target(&format!("url: http://h/\n    {rest}"))
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    check_error(
        "scrape_configs:\n  - url: http://h/\n",
        expect!["podmeter.yaml:2:5: the key `job_name` is missing"],
    );
    check_error(&target(""), expect!["podmeter.yaml:2:5: the key `url` is missing"]);
    check_error(
        &target("url: 127.0.0.1:10249"),
        expect![
            "podmeter.yaml:2:5: `url` is `127.0.0.1:10249`, but it takes http:// or https://, a host and a path, such as https://127.0.0.1:10250/metrics"
        ],
    );
    for url in ["http://me:secret@h/", "me:secret@h:1"] {
        check_error(
            &target(&format!("url: {url}")),
            expect![
                "podmeter.yaml:2:5: `url` has a user or a password in it, and URLs are shown: use `basic_auth`"
            ],
        );
    }
    check_error(
        &target("url: http://${NOBODY}/"),
        expect![
            "podmeter.yaml: `url`: the environment variable NOBODY is not set (`$${` stands for a literal `${`)"
        ],
    );
    check_error(
        &with_url("authorization: {}"),
        expect!["podmeter.yaml:2:5: the key `authorization.credentials_file` is missing"],
    );
    check_error(
        &with_url("authorization: { type: Basic, credentials: x }"),
        expect![
            "podmeter.yaml:2:5: `authorization.type` is `Basic`, but a user and a password go into `basic_auth`"
        ],
    );
    check_error(
        &with_url("basic_auth: { username: a, password: b, password_file: c }"),
        expect![
            "podmeter.yaml:2:5: `basic_auth.password` and `basic_auth.password_file` stand together, but only one of them can hold"
        ],
    );
    check_error(
        &with_url("tls_config: { cert_file: a }"),
        expect!["podmeter.yaml:2:5: `cert_file` stands here without `key_file`"],
    );
    check_error(
        &with_url("tls_config: { server_name: 'a b' }"),
        expect![
            "podmeter.yaml:2:5: `tls_config.server_name` is `a b`, but it takes a DNS name or an IP address"
        ],
    );
}

#[test]
fn what_is_wrong_with_limits_and_rules_is_said_with_its_place() {
    check_error(
        &with_url("scrape_timeout: 10"),
        expect![
            "podmeter.yaml:2:5: `scrape_timeout` is `10`, but it takes a span such as 10s or 1m30s"
        ],
    );
    check_error(
        &with_url("body_size_limit: 10"),
        expect![
            "podmeter.yaml:2:5: `body_size_limit` is `10`, but it takes a number of bytes with its unit, such as 64MB; 0 is the most, 1GB"
        ],
    );
    check_error(
        &with_url(
            "metric_relabel_configs:\n      - { action: keep }\n      - { regex: 'a(', action: keep }",
        ),
        expect![
            "podmeter.yaml:2:5: `metric_relabel_configs`: rule 2: `regex` is `a(`: the regular expression does not compile: unclosed group"
        ],
    );
    check_error(
        &with_url("metric_relabel_config: []"),
        expect![
            "podmeter.yaml:4:5: unknown key `metric_relabel_config`, did you mean `metric_relabel_configs`?"
        ],
    );
    check_error(
        "scrape_configs:\n  - { job_name: a, url: http://h/ }\n  - { job_name: a, url: http://i/ }\n",
        expect![
            "podmeter.yaml:3:5: the job_name `a` stands here for the second time; series of two targets would be the same"
        ],
    );
    check_error(
        "relabel_configs:\n  - { action: replace }\n",
        expect![
            "podmeter.yaml: `relabel_configs`: rule 1: relabel configuration for replace action requires 'target_label' value"
        ],
    );
}

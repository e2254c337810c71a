//! The configuration file, with variables of the environment.

use std::collections::BTreeSet;

use podmeter::{
    config::{Config, ConfigError},
    error_chain::one_line,
    labelling::{relabel::Rules, reserved},
};

use crate::place::check_place;

/// As `config` and `config::scrape` have them.
const MAX_CGROUPS: usize = 1 << 20;
const MAX_BODY_BYTES: usize = 1 << 30;
const MAX_TARGETS: usize = 100;

/// The name of the file, which is no part of any input.
const FILE: &str = "/fuzz/podmeter.yaml";

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let parsed = parse(text);
    match &parsed {
        Ok(config) => check_bounds(config),
        Err(error) => check_error(error, text),
    }
    check_comment(text, parsed);
    check_expansion(text);
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, FILE, &variable)
}

fn variable(name: &str) -> Option<String> {
    match name {
        "NODE" => Some("node-1".into()),
        "EMPTY" => Some(String::new()),
        "ODD" => Some("${NODE} \"'\n\u{e9}".into()),
        _ => None,
    }
}

/// What is accepted can be used.
fn check_bounds(config: &Config) {
    assert!((1..=MAX_CGROUPS).contains(&config.max_cgroups), "{}", config.max_cgroups);
    assert!(config.node_name.as_ref().is_none_or(|name| !name.is_empty()));
    assert!(config.external_labels.keys().all(|name| reserved::check(name).is_ok()));
    assert!(!config.kubernetes.metadata_refresh.is_zero());
    assert!(config.scrape_configs.len() <= MAX_TARGETS);
    let mut jobs = BTreeSet::new();
    for target in &config.scrape_configs {
        assert!(!target.job_name.is_empty() && jobs.insert(&target.job_name), "{target:?}");
        let url = &target.client.url;
        assert!(url.host().is_some_and(|host| !host.is_empty()), "{url}");
        assert!(matches!(url.scheme_str(), Some("http" | "https")), "{url}");
        assert!(
            !url.authority().is_some_and(|authority| authority.as_str().contains('@')),
            "{url}"
        );
        assert!(!target.timeout.is_zero());
        assert!((1..=MAX_BODY_BYTES).contains(&target.client.max_body_bytes), "{target:?}");
        assert!(Rules::new(&target.rules).is_ok());
    }
    assert!(Rules::new(&config.relabel_configs).is_ok());
}

/// An error names the file, and a line that is there.
fn check_error(error: &ConfigError, text: &str) {
    let line = one_line(error);
    assert!(!line.contains('\n'), "{line:?}");
    check_place(&line, FILE, text);
}

/// A comment in front changes nothing but the lines of errors, which are one further.
fn check_comment(text: &str, parsed: Result<Config, ConfigError>) {
    // A directive, or a byte order mark, is one only at the beginning.
    if text.starts_with(['%', '\u{feff}']) {
        return;
    }
    let commented = parse(&format!("# A comment.\n{text}"));
    match (parsed, commented) {
        (Ok(without), Ok(with)) => assert_eq!(without, with),
        (Err(without), Err(with)) => {
            let lines = [&without, &with].map(|error| check_place(&one_line(error), FILE, text));
            if let [Some(without), Some(with)] = lines {
                assert_eq!(without + 1, with, "{}", text.escape_debug());
            }
        }
        (without, with) => panic!("{without:?}, with a comment {with:?}"),
    }
}

/// A value without `${` is what it is; one with `$${` for each is what it was.
fn check_expansion(text: &str) {
    let is_plain = text.chars().all(|char| !char.is_control() && char != '\u{feff}');
    if !is_plain {
        return;
    }
    let quoted = |value: &str| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("external_labels: {{fuzz: \"{value}\"}}")
    };
    // A dollar in front would make an escape of what is one already.
    let literal = text.replace("$${", "${");
    let escaped = literal.replace("${", "$${");
    if literal.contains("$${") || escaped.contains("$$${") {
        return;
    }
    match parse(&quoted(&escaped)) {
        Ok(config) => assert_eq!(config.external_labels.get("fuzz"), Some(&literal)),
        Err(error) => panic!("{}: {}", escaped.escape_debug(), one_line(&error)),
    }
}

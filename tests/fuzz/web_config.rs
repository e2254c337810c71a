//! The web configuration file.

use std::path::Path;

use podmeter::{
    config::web::{ClientAuth, ServerTls, WebConfig, WebConfigError},
    error_chain::one_line,
};

use crate::place::check_place;

const FILE: &str = "/fuzz/web.yaml";
const FOLDER: &str = "/fuzz";

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match parse(text) {
        Ok(config) => check_usable(&config),
        Err(error) => {
            check_place(&one_line(&error), FILE, text);
        }
    }
    check_secret(text);
}

fn parse(text: &str) -> Result<WebConfig, WebConfigError> {
    WebConfig::parse(text, FILE, Path::new(FOLDER))
}

fn check_usable(config: &WebConfig) {
    for (name, value) in &config.headers {
        assert!(!value.is_empty() && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        assert!(name.starts_with("X-") || name.ends_with("-Policy") || name.ends_with("-Security"));
    }
    for file in config.files() {
        let is_folder = file.as_os_str() == "/fuzz/";
        assert!(file.is_absolute() && !is_folder, "a file without a name in {config:?}");
    }
    if let Some(tls) = &config.tls {
        check_tls(tls);
    }
}

fn check_tls(tls: &ServerTls) {
    assert!(!tls.versions.is_empty() && tls.versions.len() <= 2);
    let needs_authority = tls.client_auth.is_verified();
    assert_eq!(needs_authority, tls.client_ca_file.is_some(), "{tls:?}");
    assert!(
        tls.client_allowed_sans.is_empty()
            || tls.client_auth == ClientAuth::RequireAndVerifyClientCert
    );
}

/// A password that stands where a hash should is an error that does not show it.
fn check_secret(text: &str) {
    /// Shorter ones may be a part of any message.
    const MIN_BYTES: usize = 12;
    if text.chars().any(char::is_control) || text.len() < MIN_BYTES || text.contains(FILE) {
        return;
    }
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    match parse(&format!("basic_auth_users: {{alice: \"{quoted}\"}}")) {
        Ok(config) => {
            assert!(text.starts_with("$2"), "{text:?} is no hash");
            assert!(!format!("{config:?}").contains(text), "the hash is shown");
        }
        Err(error) => {
            let message = one_line(&error);
            let known =
                one_line(&parse("basic_auth_users: {alice: \"secret\"}").expect_err("no hash"));
            assert!(!message.contains(text) || known.contains(text), "{message:?} shows {text:?}");
        }
    }
}

//! Web configuration files, good and bad.

use std::path::Path;

use expect_test::{Expect, expect};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

use super::{ClientAuth, Preference, WebConfig};
use crate::error_chain::one_line;

const TLS: &str = "tls_server_config:\n  cert_file: a.crt\n  key_file: /b.key\n";

fn parse(text: &str) -> WebConfig {
    WebConfig::parse(text, "web.yml", Path::new("/etc/podmeter")).unwrap_or_else(|error| {
        panic!("{text}: {error}");
    })
}

#[test]
fn an_empty_file_asks_for_nothing() {
    for text in ["", "# nothing\n\n", "{}", "tls_server_config:\n", "http_server_config: {}"] {
        assert_eq!(parse(text), WebConfig::default(), "{text}");
    }
}

#[test]
fn every_key_of_tls_is_understood() {
    let config = parse(&format!("{TLS}  min_version: TLS12\n"));
    let tls = config.tls.as_ref().unwrap();
    assert_eq!(tls.cert_file, Path::new("/etc/podmeter/a.crt"), "from the folder of the file");
    assert_eq!(tls.key_file, Path::new("/b.key"));
    assert_eq!(tls.client_auth, ClientAuth::NoClientCert);
    assert_eq!((tls.versions.len(), tls.preference), (2, Preference::Server));
    assert!(tls.cipher_suites.is_empty() && tls.curves.is_empty());
    assert_eq!(config.files().count(), 2);

    let config = parse(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus, 10.0.0.7]
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP256, X25519]
http_server_config:
  http2: false
  headers: {{ X-Frame-Options: deny, Content-Security-Policy: \"default-src 'none'\", X-XSS-Protection: '' }}
"
    ));
    assert_eq!(config.files().count(), 3);
    let frame = ("X-Frame-Options".to_owned(), "deny".to_owned());
    let policy = ("Content-Security-Policy".to_owned(), "default-src 'none'".to_owned());
    assert_eq!(config.headers, [policy, frame]);
    let tls = config.tls.unwrap();
    assert_eq!(tls.client_auth, ClientAuth::RequireAndVerifyClientCert);
    assert_eq!(tls.client_ca_file.as_deref(), Some(Path::new("/etc/podmeter/ca.crt")));
    assert_eq!(tls.client_allowed_sans, ["prometheus", "10.0.0.7"]);
    let versions: Vec<_> = tls.versions.iter().map(|version| version.version).collect();
    assert_eq!(versions, [ProtocolVersion::TLSv1_3]);
    let suites =
        [CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, CipherSuite::TLS13_AES_128_GCM_SHA256];
    assert_eq!(tls.cipher_suites, suites);
    assert_eq!(tls.curves, [NamedGroup::secp256r1, NamedGroup::X25519]);
    assert_eq!(tls.preference, Preference::Client);
}

#[test]
fn a_file_without_a_name_is_none() {
    for auth in ["VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] {
        check(
            &with(&format!("client_auth_type: {auth}\n  client_ca_file: ''")),
            expect!["web.yml:4:21: the key `client_ca_file` is missing"],
        );
    }
    let config = parse(&with("client_ca_file: ''"));
    assert_eq!(config.tls.unwrap().client_ca_file, None);
}

fn check(text: &str, expected: Expect) {
    let error = WebConfig::parse(text, "web.yml", Path::new("/")).expect_err(text);
    expected.assert_eq(&one_line(&error));
}

fn with(more: &str) -> String {
    format!("{TLS}  {more}\n")
}

#[test]
fn what_is_wrong_with_tls_is_named_with_its_place_and_what_to_do() {
    check(
        "tls_config: {}",
        expect!["web.yml:1:1: unknown key `tls_config`, did you mean `tls_server_config`?"],
    );
    check(
        &with("client_auth: x"),
        expect!["web.yml:4:3: unknown key `client_auth`, did you mean `client_auth_type`?"],
    );
    check(
        "tls_server_config: { key_file: a }",
        expect!["web.yml:1:20: the key `cert_file` is missing"],
    );
    check(
        &with("cert: PEM"),
        expect![
            "web.yml:4:9: `cert` is not supported here: put the certificate into a file, and name it by `cert_file`"
        ],
    );
    check(
        &with("key: PEM"),
        expect![
            "web.yml:4:8: `key` is not supported here: put the key into a file, and name it by `key_file`"
        ],
    );
    check(
        &with("client_ca: PEM"),
        expect![
            "web.yml:4:14: `client_ca` is not supported here: put it into a file, and name it by `client_ca_file`"
        ],
    );
    check(
        &with("min_version: TLS10"),
        expect!["web.yml:4:16: `min_version` is `TLS10`, but what there is are TLS12, TLS13"],
    );
    check(
        &with("min_version: TLS13\n  max_version: TLS12"),
        expect!["web.yml:5:16: `max_version` is `TLS12`, but `min_version` is higher"],
    );
    check(
        &with("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"),
        expect![
            "web.yml:4:19: `cipher_suites` is `TLS_RSA_WITH_AES_128_CBC_SHA`, but what there is are TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_…"
        ],
    );
    check(
        &with("curve_preferences: [CurveP521]"),
        expect![
            "web.yml:4:23: `curve_preferences` is `CurveP521`, but what there is are X25519, CurveP256, CurveP384"
        ],
    );
}

#[test]
fn what_is_wrong_with_clients_is_named_with_its_place_and_what_to_do() {
    check(
        &with("client_auth_type: Require"),
        expect![
            "web.yml:4:21: `client_auth_type` is `Require`, but what there is are NoClientCert, RequestClientCert, RequireClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert"
        ],
    );
    check(
        &with("client_auth_type: RequireAndVerifyClientCert"),
        expect!["web.yml:4:21: the key `client_ca_file` is missing"],
    );
    check(
        &with("client_ca_file: ca.crt"),
        expect![
            "web.yml:4:19: `client_ca_file` is not supported here: set client_auth_type to RequireAndVerifyClientCert, or no certificate is checked by it"
        ],
    );
    check(
        &with("client_allowed_sans: [a]"),
        expect![
            "web.yml:4:24: `client_allowed_sans` is not supported here: set client_auth_type to RequireAndVerifyClientCert: a name that nobody has vouched for says nothing"
        ],
    );
}

#[test]
fn what_is_wrong_with_the_rest_is_named_with_its_place_and_what_to_do() {
    check(
        "http_server_config: { http2: true }",
        expect![
            "web.yml:1:30: `http2: true` is not supported here: set it to false, or remove it: the endpoint speaks HTTP/1.1"
        ],
    );
    check(
        "http_server_config: { headers: { X-Other: a } }",
        expect![
            "web.yml:1:43: `X-Other` is not supported here: the headers that can be set are Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection"
        ],
    );
    check(
        "http_server_config: { headers: { X-Frame-Options: maybe } }",
        expect!["web.yml:1:51: `X-Frame-Options` is `maybe`, but it takes deny or sameorigin"],
    );
    check(
        "basic_auth_users:\n  alice: swordfish\n",
        expect![[
            r#"web.yml:2:10: the password of `alice` in `basic_auth_users`: it is no bcrypt hash, which begins with $2a$, $2b$ or $2y$: make one by `htpasswd -nBC 10 "" | tr -d ':\n'`"#
        ]],
    );
    check("basic_auth_users: { alice: [a] }", expect!["web.yml:1:28: expected string scalar"]);
    check(
        "rate_limit: { interval: 1s, burst: 20 }",
        expect![
            "web.yml:1:13: `rate_limit` is not supported here: remove it: the endpoint has limits of its own"
        ],
    );
}

#[test]
fn users_have_hashes_that_are_never_shown() {
    let hash = "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze";
    let config = parse(&format!("basic_auth_users:\n  alice: {hash}\n  'b ob': {hash}\n"));
    assert_eq!(config.users.keys().collect::<Vec<_>>(), ["alice", "b ob"]);
    assert!(!format!("{config:?}").contains("lAisC"));
    assert!(parse("basic_auth_users:\n").users.is_empty());
}

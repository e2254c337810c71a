//! Targets with TLS, with certificates of an authority that lives as long as the test.

use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use super::{Behaviour, PAGE, PATIENT, Target, config, outcome};
use crate::source::upstream::client::{
    Client,
    config::{ClientCertificate, ClientConfig, TlsConfig, Verification},
};

/// An authority, and certificates of it.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key in PEM.
    fn sign(&self, name: &str, last_year: i32) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn acceptor(&self, (cert, key): &(String, String), is_mutual: bool) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if is_mutual {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let provider = Arc::new(default_provider());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![cert], key).unwrap()))
    }
}

/// A certificate that nobody vouches for but itself, and its key.
fn self_signed(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn tls(folder: &Path) -> TlsConfig {
    TlsConfig { ca_file: Some(folder.join("ca.pem")), ..TlsConfig::default() }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_valid_and_for_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    fs::write(folder.path().join("ca.pem"), authority.0.pem()).unwrap();
    fs::write(folder.path().join("other.pem"), Authority::new().0.pem()).unwrap();
    fs::write(folder.path().join("empty.pem"), "").unwrap();
    let other =
        TlsConfig { ca_file: Some(folder.path().join("other.pem")), ..TlsConfig::default() };
    let skip = TlsConfig { verification: Verification::Skipped, ..TlsConfig::default() };
    let named = TlsConfig { server_name: Some("node-1".into()), ..tls(folder.path()) };
    let missing = TlsConfig { ca_file: Some(folder.path().join("no.pem")), ..TlsConfig::default() };
    let empty =
        TlsConfig { ca_file: Some(folder.path().join("empty.pem")), ..TlsConfig::default() };
    let cases = [
        ("127.0.0.1", 2100, tls(folder.path()), None),
        ("127.0.0.1", 2100, other, Some(("tls", "set tls_config.ca_file"))),
        ("127.0.0.1", 2020, tls(folder.path()), Some(("tls", "not valid at this time"))),
        ("node-1", 2100, tls(folder.path()), Some(("tls", "set tls_config.server_name"))),
        ("node-1", 2100, named, None),
        ("node-1", 2020, skip, None),
        ("127.0.0.1", 2100, missing, Some(("tls_files", "no.pem"))),
        ("127.0.0.1", 2100, empty, Some(("tls_files", "no certificate in PEM"))),
    ];
    for (name, last_year, tls, expected) in cases {
        let acceptor = authority.acceptor(&authority.sign(name, last_year), false);
        let target = Target::start(Behaviour::Answers(PAGE), Some(acceptor)).await;
        let url = format!("https://{}/metrics", target.address);
        let case = format!("{name} until {last_year} with {tls:?}");
        let mut client = Client::new(ClientConfig { tls, ..config(&url) });
        match (outcome(&mut client, PATIENT).await, expected) {
            (Ok(fetched), None) => assert_eq!(fetched.body, b"a 1\n"),
            (Err((reason, text)), Some((expected, part))) => {
                assert_eq!(reason, expected, "{case}: {text}");
                assert!(text.contains(part), "{case}: {text}");
            }
            (outcome, expected) => panic!("{case}: {outcome:?}, not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_of_the_targets_own_is_trusted_where_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), Authority::new().0.pem()).unwrap();
    let own = self_signed("127.0.0.1");
    fs::write(folder.path().join("own.pem"), &own.0).unwrap();
    let pinned = TlsConfig { ca_file: Some(folder.path().join("own.pem")), ..TlsConfig::default() };
    let skip = TlsConfig { verification: Verification::Skipped, ..TlsConfig::default() };
    let acceptor = Authority::new().acceptor(&own, false);
    let target = Target::start(Behaviour::Answers(PAGE), Some(acceptor)).await;
    let url = format!("https://{}/metrics", target.address);
    for (tls, expected) in [(tls(folder.path()), Err("tls")), (skip, Ok(())), (pinned, Ok(()))] {
        let case = format!("{tls:?}");
        let mut client = Client::new(ClientConfig { tls, ..config(&url) });
        let outcome = outcome(&mut client, PATIENT).await;
        if let Err((_, text)) = &outcome {
            assert!(text.contains("insecure_skip_verify: true"), "{text}");
        }
        assert_eq!(outcome.map(drop).map_err(|(reason, _)| reason), expected, "{case}");
    }
}

#[tokio::test]
async fn changed_files_of_tls_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (authority, stranger) = (Authority::new(), Authority::new());
    fs::write(path("ca.pem"), authority.0.pem()).unwrap();
    let acceptor = authority.acceptor(&authority.sign("127.0.0.1", 2100), true);
    let target = Target::start(Behaviour::Closes(PAGE), Some(acceptor)).await;
    let client = ClientCertificate { cert_file: path("cert.pem"), key_file: path("key.pem") };
    let tls = TlsConfig { client: Some(client), ..tls(folder.path()) };
    let url = format!("https://{}/metrics", target.address);
    let mut client = Client::new(ClientConfig { tls, ..config(&url) });
    let write = |(cert, key): (String, String)| {
        // Of another length, should the clock of the file system be coarse.
        fs::write(path("cert.pem"), cert + "\n").unwrap();
        fs::write(path("key.pem"), key).unwrap();
    };

    write(stranger.sign("podmeter", 2100));
    let (reason, text) = outcome(&mut client, PATIENT).await.unwrap_err();
    // Whether the refusal or the end of the connection is seen first is a race that TLS 1.3 has.
    assert!(["tls", "broken"].contains(&reason), "{text}");
    write(authority.sign("podmeter-with-a-longer-name", 2100));
    assert_eq!(outcome(&mut client, PATIENT).await.unwrap().body, b"a 1\n");
    fs::write(path("key.pem"), "no key").unwrap();
    let (reason, text) = outcome(&mut client, PATIENT).await.unwrap_err();
    assert_eq!(reason, "tls_files", "{text}");
    assert!(text.contains("no private key in PEM"), "{text}");
}

//! TLS and client certificates over real sockets, with certificates of an authority that lives as long as the test.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    version,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::harness::{Behaviour, Event, Harness, in_time};
use crate::server::{
    app::{Handler, TlsFailure},
    limits::{Limit, Limits},
    web::Web,
};

/// An authority, and certificates of it.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key in PEM.
type Identity = (String, String);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, names: Vec<SanType>, last_year: i32) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    pub(super) fn of_server(&self) -> Identity {
        self.sign(vec![SanType::IpAddress([127, 0, 0, 1].into())], 2100)
    }

    pub(super) fn of_client(&self, name: &str) -> Identity {
        self.sign(vec![SanType::DnsName(name.try_into().unwrap())], 2100)
    }
}

/// A folder with a web configuration and what it names.
pub(super) struct Files {
    folder: TempDir,
    pub(super) authority: Authority,
}

impl Files {
    pub(super) fn new(more: &str) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new() };
        files.write("ca.crt", &files.authority.0.pem());
        files.identify(&files.authority.of_server());
        files.configure(more);
        files
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another file in the place of the old one, as a mounted Secret does.
    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path("next"), text).unwrap();
        fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    fn identify(&self, (certificate, key): &Identity) {
        self.write("tls.crt", certificate);
        self.write("tls.key", key);
    }

    pub(super) fn configure(&self, more: &str) {
        let tls = "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n";
        self.write("web.yml", &format!("{tls}{more}"));
    }

    pub(super) fn web(&self) -> Web {
        Web::load(&self.path("web.yml")).unwrap()
    }

    async fn start(&self, limits: Limits) -> Harness {
        Harness::start_with(Behaviour::default(), limits, self.web()).await
    }

    pub(super) fn client(&self, identity: Option<&Identity>) -> ClientConfig {
        client(&self.authority, identity, rustls::DEFAULT_VERSIONS)
    }
}

fn client(
    authority: &Authority,
    identity: Option<&Identity>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let Some((certificate, key)) = identity else { return builder.with_no_client_auth() };
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    builder.with_client_auth_cert(vec![certificate], key).unwrap()
}

async fn connect(harness: &Harness, client: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = in_time(TcpStream::connect(harness.address)).await?;
    let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
    in_time(TlsConnector::from(Arc::new(client)).connect(name, stream)).await
}

/// Status and text of one answer on a connection of its own; an error where the server closes instead.
pub(super) async fn ask(
    harness: &Harness,
    client: ClientConfig,
    head: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = connect(harness, client).await?;
    let request = format!("{head}\r\nHost: test\r\nConnection: close\r\n\r\n");
    in_time(stream.write_all(request.as_bytes())).await?;
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.expect("a status"), answer))
}

const METRICS: &str = "GET /metrics HTTP/1.1";
const HEALTHZ: &str = "GET /healthz HTTP/1.1";

#[tokio::test]
async fn the_page_comes_by_tls_of_both_versions() {
    let files = Files::new("http_server_config: { headers: { X-Frame-Options: deny } }");
    let harness = files.start(Limits::default()).await;
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        let config = client(&files.authority, None, versions);
        let (status, answer) = ask(&harness, config, METRICS).await.unwrap();
        assert_eq!(status, 200);
        assert!(answer.contains("x-frame-options: deny\r\n"), "{answer}");
        assert!(answer.contains("podmeter_test_total"), "{answer}");
    }
    let stranger = client(&Authority::new(), None, rustls::DEFAULT_VERSIONS);
    ask(&harness, stranger, METRICS).await.expect_err("another authority");
}

#[tokio::test]
async fn versions_and_suites_are_those_that_were_chosen() {
    let files = Files::new("  max_version: TLS12\n");
    let harness = files.start(Limits::default()).await;
    let stream = connect(&harness, files.client(None)).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));

    let files =
        Files::new("  min_version: TLS13\n  cipher_suites: [TLS_CHACHA20_POLY1305_SHA256]\n");
    let mut harness = files.start(Limits::default()).await;
    let stream = connect(&harness, files.client(None)).await.unwrap();
    let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    let old = client(&files.authority, None, &[&version::TLS12]);
    ask(&harness, old, METRICS).await.expect_err("only TLS 1.2");
    harness.wait_for(Event::TlsFailed(TlsFailure::Incompatible)).await;

    let files = Files::new(
        "  min_version: TLS13\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n",
    );
    assert!(Web::load(&files.path("web.yml")).is_ok(), "a list of TLS 1.2 leaves TLS 1.3 alone");
}

#[tokio::test]
async fn a_client_needs_a_certificate_of_the_authority_with_a_name_of_the_list() {
    let files = Files::new(
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  \
         client_allowed_sans: [prometheus, 10.0.0.7, 'spiffe://a/b', sre@example.com]\n",
    );
    let mut harness = files.start(Limits::default()).await;
    let names = |name: SanType| files.authority.sign(vec![name], 2100);
    for good in [
        files.authority.of_client("prometheus"),
        names(SanType::IpAddress([10, 0, 0, 7].into())),
        names(SanType::URI("spiffe://a/b".try_into().unwrap())),
        names(SanType::Rfc822Name("sre@example.com".try_into().unwrap())),
    ] {
        for path in [METRICS, "GET / HTTP/1.1"] {
            let (status, _) = ask(&harness, files.client(Some(&good)), path).await.unwrap();
            assert_eq!(status, 200);
        }
    }
    let expired = vec![SanType::DnsName("prometheus".try_into().unwrap())];
    for bad in [
        files.authority.of_client("prometheus.example"),
        names(SanType::IpAddress([10, 0, 0, 8].into())),
        files.authority.sign(Vec::new(), 2100),
        files.authority.sign(expired, 2020),
        Authority::new().of_client("prometheus"),
    ] {
        let refused = ask(&harness, files.client(Some(&bad)), HEALTHZ).await;
        refused.expect_err("the handshake fails");
        harness.wait_for(Event::TlsFailed(TlsFailure::ClientCertificate)).await;
    }
}

#[tokio::test]
async fn without_a_certificate_only_the_probes_of_the_kubelet_are_answered() {
    let files =
        Files::new("  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n");
    let mut harness = files.start(Limits::default()).await;
    for (path, expected) in
        [("/metrics", 403), ("/", 403), ("/nowhere", 403), ("/healthz", 200), ("/readyz", 200)]
    {
        let head = format!("GET {path} HTTP/1.1");
        let (status, answer) = ask(&harness, files.client(None), &head).await.unwrap();
        assert_eq!(status, expected, "{path}");
        assert_eq!(answer.contains("tls_config.cert_file"), status == 403, "{answer}");
    }
    harness.wait_for(Event::Observed(Handler::Readyz, 200)).await;
    // Who has shown nothing does not keep a connection.
    let mut stream = connect(&harness, files.client(None)).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn the_other_policies_are_gos() {
    let of = |policy: &str| {
        let ca = if policy.starts_with("Verify") { "  client_ca_file: ca.crt\n" } else { "" };
        Files::new(&format!("  client_auth_type: {policy}\n{ca}"))
    };
    // Without a certificate, with a stranger's, with one of the authority.
    for (policy, expected) in [
        ("NoClientCert", [Some(200), Some(200), Some(200)]),
        ("RequestClientCert", [Some(200), Some(200), Some(200)]),
        ("RequireAnyClientCert", [Some(403), Some(200), Some(200)]),
        ("VerifyClientCertIfGiven", [Some(200), None, Some(200)]),
    ] {
        let files = of(policy);
        let harness = files.start(Limits::default()).await;
        let strange = Authority::new().of_client("a");
        let own = files.authority.of_client("a");
        for (identity, expected) in [None, Some(&strange), Some(&own)].into_iter().zip(expected) {
            let got = ask(&harness, files.client(identity), METRICS).await;
            assert_eq!(got.ok().map(|(status, _)| status), expected, "{policy}");
        }
    }
}

/// Asks until it is as expected, which new files are within a second or two.
async fn ask_until(harness: &Harness, client: &ClientConfig, expected: Option<u16>) {
    in_time(async {
        while ask(harness, client.clone(), METRICS).await.ok().map(|(status, _)| status) != expected
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn certificates_that_change_on_disk_are_taken_and_bad_ones_are_not() {
    let files = Files::new("");
    let mut harness = files.start(Limits::default()).await;
    let old = files.client(None);
    let mut kept = connect(&harness, old.clone()).await.unwrap();
    let successor = Authority::new();
    let new = client(&successor, None, rustls::DEFAULT_VERSIONS);
    // A key that is not the certificate's: the old ones stay.
    files.write("tls.key", &successor.of_server().1);
    in_time(async {
        while harness.landing(&old).await.is_none_or(|text| !text.contains("belong together")) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    harness.wait_for(Event::WebConfigRead { is_good: false }).await;
    files.identify(&successor.of_server());
    ask_until(&harness, &new, Some(200)).await;
    harness.wait_for(Event::WebConfigRead { is_good: true }).await;
    ask(&harness, old, METRICS).await.expect_err("the old authority");
    // The connection from before has its answer, and is closed.
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    in_time(kept.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("200 OK") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_changed_file_takes_hold_but_never_opens_what_was_guarded() {
    let files = Files::new("");
    let mut harness = files.start(Limits::default()).await;
    let client = files.client(None);
    assert_eq!(ask(&harness, client.clone(), METRICS).await.unwrap().0, 200);
    let guarded = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    files.configure(guarded);
    ask_until(&harness, &client, Some(403)).await;
    harness.wait_for(Event::WebConfigRead { is_good: true }).await;
    let own = files.authority.of_client("a");
    for (text, says) in [
        ("", "no tls_server_config any more"),
        ("tls_server_config: { cert_file: tls.crt, key_file: tls.key }", "any more"),
        ("tls_server_config: { cert_file: no.crt, key_file: tls.key }", "no.crt"),
        ("tls_server_confg: {}", "did you mean `tls_server_config`?"),
    ] {
        files.write("web.yml", text);
        let own = files.client(Some(&own));
        in_time(async {
            while harness.landing(&own).await.is_none_or(|page| !page.contains(says)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert_eq!(ask(&harness, client.clone(), METRICS).await.unwrap().0, 403, "{text}");
    }
    fs::remove_file(files.path("web.yml")).unwrap();
    harness.wait_for(Event::WebConfigRead { is_good: false }).await;
    assert_eq!(ask(&harness, client.clone(), METRICS).await.unwrap().0, 403);
}

impl Harness {
    /// The landing page, if it is given.
    async fn landing(&self, client: &ClientConfig) -> Option<String> {
        Some(ask(self, client.clone(), "GET / HTTP/1.1").await.ok()?.1)
    }
}

#[tokio::test]
async fn who_speaks_http_is_told_to_speak_tls() {
    let files = Files::new("");
    let mut harness = files.start(Limits::default()).await;
    let reply = harness.ask("GET /metrics HTTP/1.1").await;
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("https://"), "{}", reply.text());
    harness.wait_for(Event::TlsFailed(TlsFailure::NoTls)).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let handshake_time = Duration::from_millis(500);
    for sent in ["", "\u{16}\u{3}\u{1}"] {
        let files = Files::new("");
        let mut harness = files.start(Limits { handshake_time, ..Limits::default() }).await;
        let mut client = harness.connect().await;
        client.send(sent).await;
        harness.wait_for(Event::Hit(Limit::HandshakeTime)).await;
        assert_eq!(client.rest().await.expect("the connection is closed"), b"");
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_handshakes() {
    let files = Files::new("");
    let mut harness = files.start(Limits::default()).await;
    let mut client = harness.connect().await;
    assert_eq!(ask(&harness, files.client(None), HEALTHZ).await.unwrap().0, 200);
    harness.stop();
    assert_eq!(client.rest().await.expect("the connection is closed"), b"");
    harness.stopped().await;
}

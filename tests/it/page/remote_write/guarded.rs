//! Receivers that let in only some: a real Prometheus by TLS, with a client certificate and a password, and a bearer token;
//! each of which is renewed while Podmeter runs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use podmeter_tests::{
    authority::Authority,
    cgroup::wait_for,
    exporter::Exporter,
    http::Client,
    post_server::{Answer, TAKEN, serve},
    receiver::{Guard, Receiver},
    tools::{podmeter, tool, write},
};
use tempfile::TempDir;

use super::{
    assert_all_arrived, config_of, item, landing, number, number_of, own_page, source::Source,
    wait_for_pages,
};

/// base64 of `reader:read`, by which the tests look.
const READER: &str = "Basic cmVhZGVyOnJlYWQ=";

const DROPPED: &str = "podmeter_remote_write_dropped_samples_total";
const NEWEST: &str = "podmeter_remote_write_highest_timestamp_seconds";

/// A Prometheus that wants TLS, a certificate and a password.
struct Guarded {
    dir: TempDir,
    binary: PathBuf,
    receiver: Receiver,
}

impl Guarded {
    fn start(password: &str) -> Option<Self> {
        let (binary, prometheus) = (podmeter()?, tool("PODMETER_PROMETHEUS")?);
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        authority.sign("server", "127.0.0.1");
        authority.sign("client", "podmeter");
        let web_config = web_config(dir.path(), password);
        let path = |name: &str| dir.path().join(name);
        let client = Client::new(&authority.file(), &path("client.crt"), &path("client.key"));
        let guard = Guard { web_config, client, authorization: READER.into() };
        let receiver = Receiver::start_guarded(&prometheus, guard);
        Some(Self { dir, binary, receiver })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Its item of `remote_write`, with the password in a file.
    fn item(&self, name: &str, tls: &str) -> String {
        let more = format!(
            ", name: {name}, tls_config: {{ {tls} }}, basic_auth: {{ username: podmeter, password_file: {} }}",
            self.path("password")
        );
        item(&self.receiver.write_url(), &more)
    }

    /// What Podmeter shows of itself.
    fn own(&self) -> String {
        format!("cert_file: {}, key_file: {}", self.path("client.crt"), self.path("client.key"))
    }
}

/// Writes the web configuration of a Prometheus that lets in `podmeter` by this password, at the lowest cost.
fn web_config(folder: &Path, password: &str) -> PathBuf {
    let hash = |password: &str| bcrypt::hash(password, 4).expect("a hash can be made");
    let text = format!(
        "tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
basic_auth_users:
  podmeter: {}
  reader: {}
",
        hash(password),
        hash("read")
    );
    write(folder, "web.yml", &text)
}

#[test]
fn who_has_certificate_and_password_gets_in_and_others_are_told() {
    let Some(guarded) = Guarded::start("first") else { return };
    drop(write(guarded.dir.path(), "password", "first\n"));
    let (ca, own) = (format!("ca_file: {}", guarded.path("ca.crt")), guarded.own());
    let source = Source::start();
    let items = [
        guarded.item("good", &format!("{ca}, {own}")),
        guarded.item("nobody", &ca),
        guarded.item("other-name", &format!("{ca}, {own}, server_name: elsewhere.example")),
    ];
    let exporter = Exporter::start(&guarded.binary, &config_of(&source, &items));
    wait_for_pages(&source, 3);
    wait_for("what TLS refuses is tried again and shown", || {
        let page = own_page(&exporter);
        let retries = |name| {
            number_of(&page, "podmeter_remote_write_retries_total", &[("remote_name", name)])
        };
        let landing = landing(&exporter);
        retries("nobody") > 0.0
            && retries("other-name") > 0.0
            && landing.contains("certificate not valid for name")
            && landing.contains("CertificateRequired")
    });
    assert!(number(&own_page(&exporter), DROPPED) < 0.5, "nothing is lost of it");

    // Another password there, then here.
    drop(web_config(guarded.dir.path(), "second"));
    let good = [("remote_name", "good")];
    wait_for("it is refused", || {
        let refused = [good[0], ("reason", "unauthorized")];
        number_of(&own_page(&exporter), DROPPED, &refused) > 0.0
    });
    let row = landing(&exporter);
    assert!(row.contains("the receiver answered 401 Unauthorized"), "{row}");
    drop(write(guarded.dir.path(), "password", "second\n"));
    let newest = || number_of(&own_page(&exporter), NEWEST, &good);
    let before = newest();
    wait_for("it gets in again", || newest() > before);
}

#[test]
fn a_receiver_of_another_authority_gets_nothing_until_it_is_trusted() {
    let Some(guarded) = Guarded::start("first") else { return };
    drop(write(guarded.dir.path(), "password", "first"));
    let other = tempfile::tempdir().unwrap();
    let ca = other.path().join("ca.crt");
    let _authority = Authority::new(other.path());
    let source = Source::start();
    let tls = format!("ca_file: {}, {}", ca.display(), guarded.own());
    let exporter =
        Exporter::start(&guarded.binary, &config_of(&source, &[guarded.item("r", &tls)]));
    wait_for_pages(&source, 2);
    wait_for("it is shown and counted", || {
        number(&own_page(&exporter), "podmeter_remote_write_retries_total") > 0.0
            && landing(&exporter).contains("TLS with the receiver failed: look at tls_config")
            && landing(&exporter).contains("invalid peer certificate")
    });
    assert!(number(&own_page(&exporter), "podmeter_remote_write_pending_samples") > 0.0);
    assert!(number(&own_page(&exporter), DROPPED) < 0.5);
    assert_eq!(guarded.receiver.samples("{__name__!=\"\"}").len(), 0);
    // As the swap of a mounted Secret puts it there.
    fs::copy(guarded.dir.path().join("ca.crt"), other.path().join("next.crt")).unwrap();
    fs::rename(other.path().join("next.crt"), &ca).unwrap();
    wait_for("it takes what waited", || number(&own_page(&exporter), NEWEST) > 0.0);
    wait_for_pages(&source, 2);
    let (_, log) = source.terminate(exporter);
    assert!(log.contains("all samples were sent"), "{log}");
    assert_all_arrived("Prometheus, by TLS", &source, &guarded.receiver);
}

#[test]
fn a_bearer_token_is_read_again_for_each_request() {
    let Some(binary) = podmeter() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "token", "one");
    let taken = Arc::new(Mutex::new("one"));
    let wanted = Arc::clone(&taken);
    let address = serve(move |head| {
        let wanted = format!("authorization: bearer {}\r\n", wanted.lock().unwrap());
        if head.contains(&wanted) { TAKEN } else { Answer::Status("401 Unauthorized") }
    });
    let source = Source::start();
    let more = format!(
        ", queue_config: {{ batch_send_deadline: 100ms }}, authorization: {{ credentials_file: {} }}",
        file.display()
    );
    let item = item(&format!("http://{address}/w"), &more);
    let exporter = Exporter::start(&binary, &config_of(&source, &[item]));
    let newest = || number(&own_page(&exporter), NEWEST);
    wait_for("the first one is good", || newest() > 0.0);
    *taken.lock().unwrap() = "two";
    wait_for("it is refused", || {
        number_of(&own_page(&exporter), DROPPED, &[("reason", "unauthorized")]) > 0.0
    });
    drop(write(dir.path(), "token", "two"));
    let before = newest();
    wait_for("the second one is good", || newest() > before);
    // Without a file nothing goes out, and nothing is lost.
    fs::remove_file(&file).unwrap();
    wait_for("it is said", || landing(&exporter).contains("cannot read the credentials in"));
    drop(write(dir.path(), "token", "two"));
    wait_for("what waited is sent", || {
        number(&own_page(&exporter), "podmeter_remote_write_pending_samples") < 0.5
    });
    let refused = [("reason", "unauthorized")];
    let page = own_page(&exporter);
    assert!((number(&page, DROPPED) - number_of(&page, DROPPED, &refused)).abs() < 0.5, "{page}");
}

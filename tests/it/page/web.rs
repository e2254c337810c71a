//! The guarded endpoint of the real process: a real Prometheus with TLS, a client certificate and a password, and pages
//! for people that show no secret.

use std::{path::Path, process::Command};

use podmeter_tests::{
    authority::Authority,
    cgroup::wait_for,
    exporter::Exporter,
    http::{Client, Trust, get, try_get_https},
    prometheus::Prometheus,
    tools::{podmeter, tool, write},
};

/// `swordfish` and `sw0rdfish`, at the lowest cost.
fn users() -> String {
    let hash = |password: &str| bcrypt::hash(password, 4).expect("a hash can be made");
    format!(
        "basic_auth_users:\n  prometheus: {}\n  sre: {}\n",
        hash("swordfish"),
        hash("sw0rdfish")
    )
}

/// A folder with an authority, certificates of the endpoint and of a client, and `web.yml`.
pub(super) fn guarded(folder: &Path) -> Authority {
    let authority = Authority::new(folder);
    authority.sign("server", "127.0.0.1");
    authority.sign("client", "prometheus");
    let tls = "tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus]
";
    drop(write(folder, "web.yml", &format!("{tls}{}", users())));
    authority
}

#[test]
fn prometheus_scrapes_by_tls_with_a_certificate_and_a_password() {
    let (Some(binary), Some(prometheus)) = (podmeter(), tool("PODMETER_PROMETHEUS")) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = guarded(folder.path());
    let web = folder.path().join("web.yml");
    let config = format!("web: {{ config_file: {} }}\n", web.display());
    let exporter = Exporter::start(&binary, &config);
    assert!(exporter.url("/").starts_with("https://"), "{}", exporter.url("/"));
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ca, certificate, key) = (path("ca.crt"), path("client.crt"), path("client.key"));
    let scrape = |password: &str, own: &str| {
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: podmeter
    scheme: https
    tls_config: {{ ca_file: {ca}{own} }}
    basic_auth: {{ username: prometheus, password: {password} }}
    static_configs: [ {{ targets: [ '{}' ] }} ]
",
            exporter.address()
        );
        Prometheus::with_config(&prometheus, &config)
    };
    let own = format!(", cert_file: {certificate}, key_file: {key}");
    let good = scrape("swordfish", &own);
    wait_for("Prometheus has scraped", || {
        let Some((health, error)) = good.target() else { return false };
        assert_eq!(error, "");
        health == "up"
    });
    wait_for("it has the series", || {
        good.query("count(podmeter_build_info)").is_some_and(|values| values == [1.0])
    });
    for (password, own, says) in [("sword", own.as_str(), "401"), ("swordfish", "", "403")] {
        let refused = scrape(password, own);
        wait_for(says, || {
            refused.target().is_some_and(|(health, error)| health == "down" && error.contains(says))
        });
    }
    // The kubelet probes without a certificate, and trusts every one.
    for path in ["/healthz", "/readyz"] {
        let answer = try_get_https(&exporter.url(path), Trust::Anybody, &[]);
        assert_eq!(answer.expect("it answers").status, 200, "{path}");
    }
    // A new certificate of another authority, while it runs.
    let other = tempfile::tempdir().expect("a temporary folder");
    let successor = Authority::new(other.path());
    successor.sign("server", "127.0.0.1");
    for name in ["server.crt", "server.key"] {
        std::fs::rename(other.path().join(name), folder.path().join(name)).expect("same disk");
    }
    let url = exporter.url("/healthz");
    wait_for("the new certificate is shown", || {
        try_get_https(&url, Trust::Authority(&successor.file()), &[]).is_ok()
    });
    assert!(try_get_https(&url, Trust::Authority(&authority.file()), &[]).is_err());
}

/// Texts that are secrets in the configuration below.
const SECRETS: &[&str] =
    &["t0ken-s3cret", "passw0rd-s3cret", "url-s3cret", "param-s3cret", "$2b$04$"];

#[test]
fn no_page_and_no_log_shows_a_secret() {
    let Some(binary) = podmeter() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = guarded(folder.path());
    // Nobody listens there, so that each target has an error to show.
    let config = format!(
        "web: {{ config_file: {} }}
scrape_configs:
  - job_name: token
    url: http://127.0.0.1:1/metrics
    authorization: {{ credentials: t0ken-s3cret }}
  - job_name: password
    url: http://127.0.0.1:1/metrics
    basic_auth: {{ username: u, password: passw0rd-s3cret }}
  - job_name: params
    url: http://127.0.0.1:1/metrics?key=url-s3cret
    params: {{ key: [param-s3cret] }}
",
        folder.path().join("web.yml").display()
    );
    let exporter = Exporter::start(&binary, &config);
    let path = |name: &str| folder.path().join(name);
    let client = Client::new(&authority.file(), &path("client.crt"), &path("client.key"));
    // base64 of prometheus:swordfish.
    let login = [("Authorization", "Basic cHJvbWV0aGV1czpzd29yZGZpc2g=")];
    let mut seen = String::new();
    for url in ["/metrics", "/", "/nowhere", "/readyz"] {
        let answer = client.get_with(&exporter.url(url), &login);
        assert!([200, 404].contains(&answer.status), "{url}: {}", answer.text());
        seen.push_str(answer.text());
    }
    assert!(seen.contains("of one of 2 users"), "/ was among them");
    assert!(seen.contains("podmeter_target_failures_total"), "/metrics was among them");
    // A file that cannot be used shows what it has least of all.
    drop(write(folder.path(), "web.yml", "basic_auth_users: { sre: passw0rd-s3cret }"));
    wait_for("the bad file is refused", || {
        let page = client.get_with(&exporter.url("/"), &login);
        seen.push_str(page.text());
        page.text().contains("it is no bcrypt hash")
    });
    let (_, log) = exporter.terminate();
    assert!(log.contains("the changed web configuration is refused"), "{log}");
    seen.push_str(&log);
    for secret in SECRETS {
        assert!(!seen.contains(secret), "{secret} is shown");
    }
}

#[test]
fn a_url_with_a_password_is_refused_without_it() {
    let Some(binary) = podmeter() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = "scrape_configs: [ { job_name: a, url: 'http://user:url-s3cret@127.0.0.1:1/' } ]";
    let config = write(folder.path(), "podmeter.yaml", text);
    let output = Command::new(&binary).args(["collect", "--config"]).arg(config).output();
    let output = output.expect("podmeter runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!said.contains("url-s3cret"), "{said}");
    assert!(said.contains("use `basic_auth`"), "{said}");
}

#[test]
fn a_bad_web_configuration_is_said_at_the_start_and_by_check() {
    let Some(binary) = podmeter() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(guarded(folder.path()));
    let bad = write(folder.path(), "bad.yml", "tls_server_config: { cert_fil: server.crt }");
    let good = folder.path().join("web.yml");
    let run = |command: &str, web: &Path| {
        let mut podmeter = Command::new(&binary);
        podmeter.arg(command).arg("--web.config.file").arg(web);
        let output = podmeter.output().expect("podmeter runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (success, said) = run("run", &bad);
    assert!(!success && said.contains("bad.yml:1:"), "{said}");
    assert!(said.contains("unknown key `cert_fil`, did you mean `cert_file`?"), "{said}");
    let (success, said) = run("check", &bad);
    assert!(!success && said.contains("FAIL  web configuration"), "{said}");
    let (_, said) = run("check", &good);
    let found = "TLS: yes, client certificate: needed and checked, password: of one of 2 users";
    assert!(said.contains(found), "{said}");
}

#[test]
fn the_address_may_be_the_loopback_or_the_nodes_own() {
    let Some(binary) = podmeter() else { return };
    let exporter = Exporter::start(&binary, "");
    assert!(exporter.address().starts_with("127.0.0.1:"));
    let (_, port) = exporter.address().rsplit_once(':').expect("a port");
    assert_eq!(get(&exporter.url("/healthz"), &[]).status, 200);
    // All of 127.0.0.0/8 is this machine, and only the one address is served.
    let elsewhere = format!("http://127.0.0.2:{port}/healthz");
    assert!(podmeter_tests::http::try_get(&elsewhere, &[]).is_err());
}

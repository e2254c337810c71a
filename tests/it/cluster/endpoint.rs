//! Who may read the page by the word of a real API server: a real Prometheus with a token of a ServiceAccount that may
//! `GET /metrics`, one that may not, and what happens when the server is away.

use std::path::Path;

use podmeter_tests::{
    authority::Authority,
    cluster::{Cluster, service_account::ServiceAccount, wait_until},
    exporter::Exporter,
    http::{Trust, try_get_https},
    prometheus::Prometheus,
    tools::{podmeter, tool, write},
};

use super::deploy_guarded;

/// Two accounts, of which one is bound to the chart's reader.
const SCRAPERS: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: monitoring }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: prometheus, namespace: monitoring }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: stranger, namespace: monitoring }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: podmeter-reader-of-the-test }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: podmeter-reader }
subjects: [ { kind: ServiceAccount, name: prometheus, namespace: monitoring } ]
";

/// An endpoint with TLS that asks the API server as that account.
struct Endpoint {
    exporter: Exporter,
    authority: Authority,
}

impl Endpoint {
    fn start(binary: &Path, folder: &Path, podmeter: &ServiceAccount) -> Self {
        let authority = Authority::new(folder);
        authority.sign("server", "127.0.0.1");
        let web = "tls_server_config: { cert_file: server.crt, key_file: server.key }";
        let web = write(folder, "web.yml", web);
        let config = format!(
            "web: {{ config_file: {}, kubernetes_auth: true }}
kubernetes: {{ enabled: false, kubeconfig: {} }}
",
            web.display(),
            podmeter.kubectl().kubeconfig().display()
        );
        Self { exporter: Exporter::start(binary, &config), authority }
    }

    /// Status and text for a token, or without one.
    fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let header = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> =
            header.iter().map(|header| ("Authorization", header.as_str())).collect();
        let url = self.exporter.url(path);
        let answer = try_get_https(&url, Trust::Authority(&self.authority.file()), &headers);
        let answer = answer.expect("it answers");
        (answer.status, answer.text().to_owned())
    }
}

#[test]
fn the_api_server_says_who_may_read_the_page() {
    let Some(binary) = podmeter() else { return };
    let Some(mut cluster) = Cluster::start() else { return };
    let podmeter = deploy_guarded(&cluster);
    cluster.kubectl().apply(SCRAPERS);
    let scraper = cluster.service_account("monitoring", "prometheus");
    let stranger = cluster.service_account("monitoring", "stranger");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let endpoint = Endpoint::start(&binary, folder.path(), &podmeter);

    let (status, page) = endpoint.get("/metrics", Some(&scraper.token()));
    assert_eq!(status, 200, "{page}");
    let (status, text) = endpoint.get("/metrics", Some(&stranger.token()));
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("system:serviceaccount:monitoring:stranger"), "{text}");
    assert_eq!(endpoint.get("/", Some(&stranger.token())).0, 403);
    assert_eq!(endpoint.get("/metrics", Some("no-token")).0, 401);
    assert_eq!(endpoint.get("/metrics", None).0, 401);
    assert_eq!(endpoint.get("/healthz", None).0, 200);
    let (_, page) = endpoint.get("/metrics", Some(&scraper.token()));
    for (result, n_expected) in [("allowed", 1), ("forbidden", 1), ("unknown", 1)] {
        let line =
            format!("podmeter_http_token_reviews_total{{result=\"{result}\"}} {n_expected}\n");
        assert!(page.contains(&line), "{line} is not on the page: answers are remembered");
    }
    if let Some(prometheus) = tool("PODMETER_PROMETHEUS") {
        scrape(&prometheus, &endpoint, &scraper, &stranger);
    }

    // Frozen or dead: who was let in still is, by what is remembered; others are not, and it is said why.
    cluster.kill_api_server();
    assert_eq!(endpoint.get("/metrics", Some(&scraper.token())).0, 200);
    let (status, text) = endpoint.get("/metrics", Some("another-token"));
    assert_eq!(status, 503, "{text}");
    cluster.restart_api_server();
    wait_until("the API server is asked again", || {
        (endpoint.get("/metrics", Some("a-third-token")).0 == 401).then_some(())
    });
    cluster.freeze_api_server();
    assert_eq!(endpoint.get("/metrics", Some(&scraper.token())).0, 200);
    assert_eq!(endpoint.get("/metrics", Some("a-fourth-token")).0, 503);
    assert_eq!(endpoint.get("/readyz", None).0, 200);
    cluster.thaw_api_server();
    let (_, log) = endpoint.exporter.terminate();
    assert!(log.contains("a scraper's token could not be reviewed"), "{log}");
    assert!(!log.contains("token-") && !log.contains(&scraper.token()), "no token is in the log");
}

/// A real Prometheus with the token's file, as in a pod.
fn scrape(prometheus: &Path, endpoint: &Endpoint, good: &ServiceAccount, bad: &ServiceAccount) {
    let start = |account: &ServiceAccount| {
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: podmeter
    scheme: https
    tls_config: {{ ca_file: {} }}
    authorization: {{ credentials_file: {} }}
    static_configs: [ {{ targets: [ '{}' ] }} ]
",
            endpoint.authority.file().display(),
            account.token_file().display(),
            endpoint.exporter.address()
        );
        Prometheus::with_config(prometheus, &config)
    };
    let scrapes = start(good);
    wait_until("Prometheus has scraped", || {
        let (health, error) = scrapes.target()?;
        assert_eq!(error, "");
        (health == "up").then_some(())
    });
    let refused = start(bad);
    wait_until("the stranger's Prometheus is refused", || {
        let (health, error) = refused.target()?;
        (health == "down" && error.contains("403")).then_some(())
    });
}

#[test]
fn without_the_right_to_ask_nobody_is_let_in_and_it_is_said() {
    let Some(binary) = podmeter() else { return };
    let Some(cluster) = Cluster::start() else { return };
    // The role without what the reviews need.
    let podmeter = super::deploy(&cluster);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let endpoint = Endpoint::start(&binary, folder.path(), &podmeter);
    assert_eq!(endpoint.get("/metrics", Some(&podmeter.token())).0, 503);
    let (_, log) = endpoint.exporter.terminate();
    assert!(log.contains("create on tokenreviews.authentication.k8s.io"), "{log}");
}

/// What the file says of the API is followed by the reviews and by the watch of the pods alike.
#[test]
fn a_reload_takes_another_way_to_the_api() {
    let Some(binary) = podmeter() else { return };
    let Some(cluster) = Cluster::start() else { return };
    let podmeter = deploy_guarded(&cluster);
    cluster.kubectl().apply(SCRAPERS);
    let scraper = cluster.service_account("monitoring", "prometheus");
    let stranger = cluster.service_account("monitoring", "stranger");
    let folder = tempfile::tempdir().expect("a temporary folder");
    // An account that may ask nothing.
    let endpoint = Endpoint::start(&binary, folder.path(), &stranger);
    assert_eq!(endpoint.get("/metrics", Some(&scraper.token())).0, 503);

    let web = format!(
        "web: {{ config_file: {}, kubernetes_auth: true }}\n",
        folder.path().join("web.yml").display()
    );
    endpoint.exporter.configure(&format!("{web}{}", super::config(&podmeter, "1m")));
    let page = wait_until("tokens are reviewed by the account of the new file", || {
        let (status, page) = endpoint.get("/metrics", Some(&scraper.token()));
        (status == 200).then_some(page)
    });
    assert!(page.contains("podmeter_config_last_reload_successful 1\n"), "{page}");
    assert!(page.contains("podmeter_kubernetes_state{state=\"watching\"} 1\n"), "{page}");
    assert!(page.contains("podmeter_kubernetes_synced 1\n"), "{page}");

    // Who was let in is remembered; of another nobody says anything now.
    let nowhere = "kubernetes: { enabled: false, kubeconfig: /nonexistent }\n";
    endpoint.exporter.configure(&format!("{web}{nowhere}"));
    wait_until("no pods are followed", || {
        let (status, page) = endpoint.get("/metrics", Some(&scraper.token()));
        assert_eq!(status, 200, "{page}");
        (!page.contains("podmeter_kubernetes_state")).then_some(())
    });
    assert_eq!(endpoint.get("/metrics", Some("another-token")).0, 503);
}

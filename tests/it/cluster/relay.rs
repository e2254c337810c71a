//! Podmeter relays a real kubelet and kube-proxy with the labels of a real Deployment, and Prometheus answers by them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    process::{Command, Stdio},
    time::Instant,
};

use podmeter_tests::{
    cluster::{
        node::{IMAGE, Node, Serving},
        service_account::ServiceAccount,
        wait_until,
        workload::busy_container,
    },
    exporter::Exporter,
    http,
    prometheus::{Labelled, Prometheus},
    tools::{podmeter, tool, write},
};

use super::{config, deploy, page::Page};

/// How many pods the Deployment has.
const N_PODS: usize = 2;

/// Between two scrapes.
const SCRAPE_SECONDS: u32 = 2;

/// A Deployment whose pods are throttled, write, and are asked over the network by the kubelet once a second; `region`
/// and `dept` are labels of the Deployment alone.
fn workload() -> String {
    let worker = busy_container();
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{ name: n9e, labels: {{ team: sre }} }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: n9e-webapi, namespace: n9e, labels: {{ region: beijing, dept: cloud }} }}
spec:
  replicas: {N_PODS}
  selector: {{ matchLabels: {{ app: n9e-webapi }} }}
  template:
    metadata: {{ labels: {{ app: n9e-webapi }} }}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: webapi
          image: {IMAGE}
          command: [sh, -c, "echo well > /data/index.html; httpd -f -p 8080 -h /data"]
          readinessProbe: {{ periodSeconds: 1, httpGet: {{ path: /index.html, port: 8080 }} }}
{worker}
---
apiVersion: v1
kind: Service
metadata: {{ name: n9e-webapi, namespace: n9e }}
spec: {{ selector: {{ app: n9e-webapi }}, ports: [ {{ port: 80, targetPort: 8080 }} ] }}
"#
    )
}

/// The kubelet's pages, by job, with further keys.
const KUBELET: &[(&str, &str, &str)] = &[
    ("kubelet", "/metrics", ""),
    ("cadvisor", "/metrics/cadvisor", ", honor_timestamps: false"),
    ("probes", "/metrics/probes", ""),
    ("resource", "/metrics/resource", ""),
];

/// Targets as on any node: with what is mounted into Podmeter's own pod.
fn targets(node: &Node, account: &ServiceAccount) -> String {
    let (url, token) = (node.kubelet_url(), account.token_file());
    let (token, ca_file) = (token.display(), account.dir().join("ca.crt"));
    let ca_file = ca_file.display();
    let mut text = String::from("scrape_configs:\n");
    for (job, path, options) in KUBELET {
        writeln!(
            text,
            "  - {{ job_name: {job}, url: '{url}{path}', tls_config: {{ ca_file: {ca_file} }}, \
             authorization: {{ credentials_file: {token} }}{options} }}"
        )
        .expect("a string takes everything");
    }
    let url = node.kube_proxy_url();
    writeln!(text, "  - {{ job_name: kube-proxy, url: '{url}/metrics' }}")
        .expect("a string takes everything");
    text
}

/// What a query is about, the query, where `BY` stands for the Deployment's labels and `OF` for a selector of its series
/// in cAdvisor's page, and the largest plausible answer.
const OF_DEPLOYMENT: &[(&str, &str, f64)] = &[
    (
        "CPU against quota",
        "sum BY (rate(container_cpu_usage_seconds_total{OF, container=\"worker\"}[1m]))
         / sum BY (container_spec_cpu_quota{OF} / container_spec_cpu_period{OF})",
        2.0,
    ),
    (
        "throttled share",
        "sum BY (rate(container_cpu_cfs_throttled_periods_total{OF, container=\"worker\"}[1m]))
         / sum BY (rate(container_cpu_cfs_periods_total{OF, container=\"worker\"}[1m]))",
        // Both are extrapolated, each by itself.
        1.1,
    ),
    (
        "memory against limit",
        "sum BY (container_memory_working_set_bytes{OF, container=\"worker\"})
         / sum BY (container_spec_memory_limit_bytes{OF, container=\"worker\"})",
        1.0,
    ),
    ("received", "sum BY (rate(container_network_receive_bytes_total{OF}[1m]))", 1e9),
    ("sent", "sum BY (rate(container_network_transmit_bytes_total{OF}[1m]))", 1e9),
    (
        "written",
        "sum BY (rate(container_fs_writes_bytes_total{OF, container=\"worker\"}[1m]))",
        1e12,
    ),
    ("probes", "sum BY (rate(prober_probe_total{job=\"probes\", region=\"beijing\"}[1m]))", 100.0),
    (
        "CPU by /metrics/resource",
        "sum BY (rate(container_cpu_usage_seconds_total{job=\"resource\", region=\"beijing\"}[1m]))",
        2.0,
    ),
];

/// The same for the node's own components; the last is the label that the answers are told apart by, and one of its
/// values.
const OF_NODE: &[(&str, &str, (&str, &str))] = &[
    (
        "kubelet operations",
        "sum by (operation_type) (rate(kubelet_runtime_operations_total{job=\"kubelet\"}[1m]))",
        ("operation_type", "list_containers"),
    ),
    (
        "duration of kubelet operations",
        "sum by (operation_type) (rate(kubelet_runtime_operations_duration_seconds_sum{job=\"kubelet\"}[1m]))
         / sum by (operation_type) (rate(kubelet_runtime_operations_duration_seconds_count{job=\"kubelet\"}[1m]))",
        ("operation_type", "list_containers"),
    ),
    (
        "kube-proxy syncs",
        "sum by (job) (rate(kubeproxy_sync_proxy_rules_duration_seconds_count{job=\"kube-proxy\"}[2m]))",
        ("job", "kube-proxy"),
    ),
    (
        "duration of kube-proxy syncs",
        "histogram_quantile(0.99, sum by (job, le) (
             rate(kubeproxy_sync_proxy_rules_duration_seconds_bucket{job=\"kube-proxy\"}[2m])))",
        ("job", "kube-proxy"),
    ),
];

#[test]
fn the_tutorials_queries_are_answered_by_the_deployments_labels() {
    let start = Instant::now();
    let (Some(binary), Some(prometheus)) = (podmeter(), tool("PODMETER_PROMETHEUS")) else {
        return;
    };
    let Some(node) = Node::start() else { return };
    let account = deploy(node.cluster());
    node.cluster().kubectl().apply(&workload());
    node.wait_for_pods("n9e", N_PODS);
    println!("report: relay | pods run | {:.0} s", start.elapsed().as_secs_f64());
    let exporter = Exporter::start(&binary, &(config(&account, "5m") + &targets(&node, &account)));
    wait_until("the Deployment's labels are known", || {
        let labels = [("region", "beijing"), ("dept", "cloud"), ("container", "worker")];
        let page = Page::of(&exporter);
        (page.lines("container_cpu_usage_seconds_total", &labels).len() >= N_PODS).then_some(())
    });
    let address = exporter.address();
    let prometheus = Prometheus::with_config(
        &prometheus,
        &format!(
            "global: {{ scrape_interval: {SCRAPE_SECONDS}s, scrape_timeout: {SCRAPE_SECONDS}s }}
scrape_configs:
  - job_name: podmeter
    honor_labels: true
    static_configs: [ {{ targets: [ '{address}' ] }} ]
"
        ),
    );
    for (what, query, most) in OF_DEPLOYMENT {
        let query = query
            .replace("BY", "by (namespace, deployment, region, dept)")
            .replace("OF", "job=\"cadvisor\", region=\"beijing\", dept=\"cloud\"");
        check_of_deployment(&prometheus, what, &query, *most);
    }
    // kube-proxy writes its rules when something changes.
    let patch = r#"{"spec":{"sessionAffinity":"ClientIP"}}"#;
    node.cluster().kubectl().run(&[
        "patch",
        "--namespace=n9e",
        "service/n9e-webapi",
        "--patch",
        patch,
    ]);
    for (what, query, (label, value)) in OF_NODE {
        let found = wait_until(what, || {
            let found = prometheus.query_series(query)?;
            let is_it = |(labels, number): &Labelled| {
                labels.get(*label).map(String::as_str) == Some(*value) && *number > 0.0
            };
            found.into_iter().find(is_it)
        });
        println!("report: relay | {what} | {:.6}", found.1);
    }
    check_targets(&exporter, &prometheus);
    println!("report: relay | all is answered | {:.0} s", start.elapsed().as_secs_f64());
}

/// Waits for the one answer, with the Deployment's labels and a number above zero.
fn check_of_deployment(prometheus: &Prometheus, what: &str, query: &str, most: f64) {
    let labels = [
        ("namespace", "n9e"),
        ("deployment", "n9e-webapi"),
        ("region", "beijing"),
        ("dept", "cloud"),
    ];
    let expected: BTreeMap<String, String> =
        labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let number = wait_until(&format!("{what}: {query}"), || {
        let found = prometheus.query_series(query)?;
        let [(labels, number)] = &*found else {
            assert!(found.is_empty(), "{what} has one answer: {found:?}");
            return None;
        };
        assert_eq!(*labels, expected, "{what}");
        (*number > 0.0).then_some(*number)
    });
    assert!(number <= most, "{what} is {number}, and at most {most} is plausible");
    println!("report: relay | {what} | {number:.6}");
}

/// All targets are up, each sample of theirs is served, and Prometheus took all of them.
fn check_targets(exporter: &Exporter, prometheus: &Prometheus) {
    let jobs = KUBELET.iter().map(|(job, ..)| *job).chain(["kube-proxy"]);
    for job in jobs {
        let of_job = |family: &str| {
            let query = format!("{family}{{job=\"{job}\", node=\"node-1\"}}");
            prometheus.query(&query).expect("Prometheus answers")
        };
        assert_eq!(of_job("up"), [1.0], "{job}");
        let n_served = of_job("scrape_samples_post_metric_relabeling");
        assert!(matches!(*n_served, [n_samples] if n_samples > 0.0), "{job}: {n_served:?}");
        assert_eq!(of_job("scrape_samples_scraped"), n_served, "{job} loses none");
        let n_served = n_served.iter().sum::<f64>();
        println!("report: relay | samples of {job} | {n_served}");
    }
    let dropped = prometheus.query("sum(podmeter_target_dropped_samples_total)");
    assert_eq!(dropped, Some(vec![0.0]));
    assert_eq!(prometheus.target(), Some(("up".into(), String::new())));
    let scraped = "scrape_samples_scraped{job=\"podmeter\"}
        - scrape_samples_post_metric_relabeling{job=\"podmeter\"}";
    assert_eq!(prometheus.query(scraped), Some(vec![0.0]));
    let thrown_away = prometheus.thrown_away();
    assert!(thrown_away.values().all(|n_samples| *n_samples == 0.0), "{thrown_away:?}");
    let page = Page::of(exporter);
    let of_containers =
        page.number("podmeter_target_samples", &[("job", "cadvisor"), ("owner", "container")]);
    assert!(of_containers.is_some_and(|n_samples| n_samples > 0.0), "{of_containers:?}");
}

#[test]
fn a_kubelet_that_nobody_vouches_for_is_the_operators_choice() {
    let Some(binary) = podmeter() else { return };
    let Some(node) = Node::start_with(Serving::Itself) else { return };
    let account = deploy(node.cluster());
    let authority = account.dir().join("ca.crt");
    let (authority, own) = (authority.display(), node.kubelet_certificate());
    let own = own.display();
    let choices = [
        ("verified", format!("ca_file: {authority}")),
        ("by_address", format!("ca_file: {own}")),
        ("by_name", format!("ca_file: {own}, server_name: node-1")),
        ("believed", "insecure_skip_verify: true".to_owned()),
    ];
    let mut text = String::from("kubernetes: { enabled: false }\nscrape_configs:\n");
    let (url, token) = (node.kubelet_url(), account.token_file());
    let token = token.display();
    for (job, choice) in &choices {
        writeln!(
            text,
            "  - {{ job_name: {job}, url: '{url}/metrics', tls_config: {{ {choice} }}, \
             authorization: {{ credentials_file: {token} }} }}"
        )
        .expect("a string takes everything");
    }
    let exporter = Exporter::start(&binary, &text);
    let page = Page::of(&exporter);
    for (job, is_up, failures) in [
        ("verified", 0.0, Some(1.0)),
        ("by_address", 0.0, Some(1.0)),
        ("by_name", 1.0, None),
        ("believed", 1.0, None),
    ] {
        assert_eq!(page.number("up", &[("job", job)]), Some(is_up), "{job}:\n{}", page.0);
        let reason = [("job", job), ("reason", "tls")];
        assert_eq!(page.number("podmeter_target_failures_total", &reason), failures, "{job}");
        let n_running = page.lines("kubelet_running_pods", &[("job", job)]).len();
        assert_eq!(n_running > 0, failures.is_none(), "{job}");
    }
    let said = http::get(&exporter.url("/"), &[]);
    for hint in [
        "signed by nobody that is trusted: set tls_config.ca_file to its authority, or insecure_skip_verify",
        "for another name: set tls_config.server_name",
    ] {
        assert!(said.text().contains(hint), "{hint}: {}", said.text());
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = write(dir.path(), "podmeter.yaml", &text);
    let mut check = Command::new(&binary);
    let check = check.arg("check").arg("--config").arg(file).stderr(Stdio::inherit()).output();
    let check = check.expect("podmeter runs");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success(), "{said}");
    assert!(said.contains("signed by nobody that is trusted"), "{said}");
}

//! Podmeter relays a real kubelet and kube-proxy with the labels of a real Deployment, and Prometheus answers by them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use podmeter_tests::{
    cluster::{node::Node, service_account::ServiceAccount, wait_until},
    exporter::Exporter,
    http,
    prometheus::{Labelled, Prometheus},
    tools::write,
    troubleshooting::assert_explained,
};

use super::{page::Page, pod::Pod, workload};

const DEPLOYING: &str = include_str!("../../../docs/deploying.md");

/// Between two scrapes.
const SCRAPE_SECONDS: u32 = 2;

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
    (
        "probes",
        "sum BY (rate(prober_probe_total{job=\"kubelet-probes\", region=\"beijing\"}[1m]))",
        100.0,
    ),
    (
        "CPU by /metrics/resource",
        "sum BY (rate(container_cpu_usage_seconds_total{job=\"kubelet-resource\", region=\"beijing\"}[1m]))",
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

/// The job of docs/deploying.md, which finds Podmeter's pods by their annotations.
fn scrape_config(kubeconfig: &Path) -> String {
    let (_, job) = DEPLOYING.split_once("```yaml\n- job_name: podmeter\n").expect("there is one");
    let job = job.split("```").next().expect("a split has a first part");
    let role = "{ role: pod,";
    let known = format!("{role} kubeconfig_file: {},", kubeconfig.display());
    assert_eq!(job.matches(role).count(), 1, "{job}");
    let job = job.replace(role, &known);
    let lines = job.lines().map(|line| format!("  {line}\n"));
    format!("scrape_configs:\n  - job_name: podmeter\n{}", lines.collect::<String>())
}

/// A Prometheus that finds and scrapes Podmeter as docs/deploying.md says, without the operator.
pub(super) fn prometheus(binary: &Path, node: &Node) -> Prometheus {
    let kubeconfig = node.cluster().kubectl().kubeconfig();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts/rules.yaml");
    let interval = format!("{SCRAPE_SECONDS}s");
    let global = format!(
        "global: {{ scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval} }}
rule_files: [ {} ]
",
        rules.display()
    );
    Prometheus::with_config(binary, &(global + &scrape_config(kubeconfig)))
}

/// Asks what the tutorial asks, of the Deployment `n9e-webapi` and of the node's own components.
pub(super) fn check_queries(node: &Node, prometheus: &Prometheus, pod: &Pod) {
    for (what, query, most) in OF_DEPLOYMENT {
        let query = query
            .replace("BY", "by (namespace, deployment, region, dept)")
            .replace("OF", "job=\"cadvisor\", region=\"beijing\", dept=\"cloud\"");
        check_of_deployment(prometheus, what, &query, *most);
    }
    let mut n_changes = 0;
    for (what, query, (label, value)) in OF_NODE {
        let found = wait_until(what, || {
            if *value == "kube-proxy" {
                workload::change_service(node, &mut n_changes);
            }
            let found = prometheus.query_series(query)?;
            let is_it = |(labels, number): &Labelled| {
                labels.get(*label).map(String::as_str) == Some(*value) && *number > 0.0
            };
            found.into_iter().find(is_it)
        });
        println!("report: relay | {what} | {:.6}", found.1);
    }
    check_targets(&pod.page(), prometheus);
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
fn check_targets(page: &Page, prometheus: &Prometheus) {
    for job in ["kubelet", "cadvisor", "kubelet-probes", "kubelet-resource", "kube-proxy"] {
        let of_job = format!("{{job=\"{job}\", node=\"node-1\"}}");
        let served = format!("scrape_samples_post_metric_relabeling{of_job}");
        // On a busy machine a target may be late once, and has no samples then.
        let n_served = wait_until(&format!("{job} is up"), || {
            let found = prometheus.query(&format!("{served} > 0 and up{of_job} == 1"))?;
            found.first().copied()
        });
        let lost = prometheus.query(&format!("scrape_samples_scraped{of_job} - {served}"));
        assert_eq!(lost, Some(vec![0.0]), "{job} loses none");
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
    let of_containers =
        page.number("podmeter_target_samples", &[("job", "cadvisor"), ("owner", "container")]);
    assert!(of_containers.is_some_and(|n_samples| n_samples > 0.0), "{of_containers:?}");
}

/// A kubelet that nobody vouches for is believed as the operator chooses.
pub(super) fn check_choices(binary: &Path, node: &Node, account: &ServiceAccount) {
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
    let exporter = Exporter::start(binary, &text);
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
    let mut check = Command::new(binary);
    let check = check.arg("check").arg("--config").arg(file).stderr(Stdio::inherit()).output();
    let check = check.expect("podmeter runs");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success(), "{said}");
    assert_explained(&said, "the target's certificate is signed by nobody");
    assert_explained(&said, "the target's certificate is for another name");
}

//! A real kubelet, cAdvisor and kube-proxy say of real containers what they are to be asked for.

use std::time::Instant;

use podmeter_tests::{
    cluster::{
        node::{IMAGE, Node},
        service_account::ServiceAccount,
        wait_until,
        workload::busy_container,
    },
    http::{Trust, get, try_get_https},
};

use super::deploy;

/// A container that is throttled and writes, behind a Service.
fn workload() -> String {
    let worker = busy_container();
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{ name: shop }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, namespace: shop, labels: {{ dept: cloud }} }}
spec:
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web, region: beijing }} }}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: web
          image: {IMAGE}
          command: [httpd, -f, -p, "8080"]
{worker}
---
apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: shop }}
spec: {{ selector: {{ app: web }}, ports: [ {{ port: 80, targetPort: 8080 }} ] }}
"#
    )
}

/// Pages of the kubelet, and what each must have of the container `worker`, or of the node.
const KUBELET: &[(&str, &[&str])] = &[
    ("/metrics", &["kubelet_running_pods 1", "kubelet_runtime_operations_total{"]),
    ("/metrics/resource", &["container_cpu_usage_seconds_total{container=\"worker\""]),
    ("/metrics/probes", &[]),
];

/// Families of cAdvisor that must have a series with a value above zero of the container or, the last two, of the pod.
const CADVISOR: &[(&str, &str)] = &[
    ("container_cpu_usage_seconds_total", "container=\"worker\""),
    ("container_cpu_cfs_throttled_periods_total", "container=\"worker\""),
    ("container_spec_cpu_quota", "container=\"worker\""),
    ("container_memory_working_set_bytes", "container=\"worker\""),
    ("container_spec_memory_limit_bytes", "container=\"worker\""),
    ("container_fs_writes_bytes_total", "container=\"worker\""),
    ("container_network_receive_bytes_total", "interface=\"eth0\""),
    ("container_network_transmit_bytes_total", "interface=\"eth0\""),
];

#[test]
fn real_pages_are_served_to_the_role() {
    let start = Instant::now();
    let Some(node) = Node::start() else { return };
    println!("report: node | ready | {:.0} s", start.elapsed().as_secs_f64());
    let podmeter = deploy(node.cluster());
    node.cluster().kubectl().apply(&workload());
    node.wait_for_pods("shop", 1);
    println!("report: node | pod runs | {:.0} s", start.elapsed().as_secs_f64());

    for (page, expected) in KUBELET {
        wait_until(page, || {
            let text = scrape(&node, page, &podmeter);
            expected.iter().all(|line| text.contains(line)).then_some(())
        });
    }
    for (family, label) in CADVISOR {
        wait_until(&format!("{family} of {label} counts"), || {
            let page = scrape(&node, "/metrics/cadvisor", &podmeter);
            page.lines().any(|line| counts(line, family, label)).then_some(())
        });
    }
    assert_eq!(status(&node, "/pods", Some(&podmeter)), 403);
    assert_eq!(status(&node, "/metrics", None), 401);

    wait_until("kube-proxy has written its rules", || {
        let page = get(&format!("{}/metrics", node.kube_proxy_url()), &[]);
        let family = "kubeproxy_sync_proxy_rules_duration_seconds_count";
        page.text().lines().any(|line| counts(line, family, "")).then_some(())
    });
    println!("report: node | all pages seen | {:.0} s", start.elapsed().as_secs_f64());
}

/// A page of the kubelet, as the ServiceAccount gets it.
fn scrape(node: &Node, page: &str, account: &ServiceAccount) -> String {
    let answer = ask(node, page, Some(account));
    assert_eq!(answer.status, 200, "{page}: {}", answer.text());
    answer.text().to_owned()
}

fn status(node: &Node, page: &str, account: Option<&ServiceAccount>) -> u16 {
    ask(node, page, account).status
}

fn ask(node: &Node, page: &str, account: Option<&ServiceAccount>) -> podmeter_tests::http::Answer {
    let url = format!("{}{page}", node.kubelet_url());
    let authorization = account.map(|account| format!("Bearer {}", account.token()));
    let headers: Vec<(&str, &str)> =
        authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
    let answer = try_get_https(&url, Trust::Authority(node.cluster().ca_file()), &headers);
    answer.unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

/// Whether a line is a sample of the family with this label and a value above zero.
fn counts(line: &str, family: &str, label: &str) -> bool {
    let Some(rest) = line.strip_prefix(family) else { return false };
    let (labels, value) = rest.rsplit_once("} ").unwrap_or(("", rest));
    let value = value.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
    labels.contains(label) && value.is_some_and(|value| value > 0.0)
}

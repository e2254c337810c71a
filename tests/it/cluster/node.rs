//! A real kubelet, cAdvisor and kube-proxy say of real containers what they are to be asked for.

use podmeter_tests::{
    cluster::{node::Node, service_account::ServiceAccount, wait_until},
    http::{Trust, get, try_get_https},
};

/// Pages of the kubelet, and what each must have of the container `worker`, or of the node.
const KUBELET: &[(&str, &[&str])] = &[
    ("/metrics", &["kubelet_running_pods 3", "kubelet_runtime_operations_total{"]),
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

/// What the role is to read is there, and what it is not to read is refused.
pub(super) fn check_pages(node: &Node, podmeter: &ServiceAccount) {
    for (page, expected) in KUBELET {
        wait_until(page, || {
            let text = scrape(node, page, podmeter);
            expected.iter().all(|line| text.contains(line)).then_some(())
        });
    }
    for (family, label) in CADVISOR {
        wait_until(&format!("{family} of {label} counts"), || {
            let page = scrape(node, "/metrics/cadvisor", podmeter);
            page.lines().any(|line| counts(line, family, label)).then_some(())
        });
    }
    assert_eq!(status(node, "/pods", Some(podmeter)), 403);
    assert_eq!(status(node, "/metrics", None), 401);

    wait_until("kube-proxy has written its rules", || {
        let page = get(&format!("{}/metrics", node.kube_proxy_url()), &[]);
        let family = "kubeproxy_sync_proxy_rules_duration_seconds_count";
        page.text().lines().any(|line| counts(line, family, "")).then_some(())
    });
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

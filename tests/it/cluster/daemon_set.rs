//! The chart on a real node, in both profiles: the kubelet starts what Helm installed, and everything works.

use std::fs;

use podmeter_tests::{
    authority::Authority,
    cluster::{
        helm::Helm,
        node::{ADDRESS, Node, Serving},
        wait_until,
    },
    http::{self, Trust, try_get_https},
    tools::{podmeter, tool},
};
use serde_json::{Value, json};

use super::{
    chart, dashboards, node,
    pod::Pod,
    privileges::{attached, probes},
    relay, workload,
};

/// Jobs of the kubelet that are there without a word in the configuration.
const KUBELET: &[&str] = &["kubelet", "cadvisor", "kubelet-probes", "kubelet-resource"];

/// The labels that the Deployment's pods get, from wherever they are.
const OF_DEPLOYMENT: &[(&str, &str)] = &[
    ("namespace", "n9e"),
    ("deployment", "n9e-webapi"),
    ("workload", "n9e-webapi"),
    ("workload_type", "deployment"),
    ("region", "beijing"),
    ("dept", "cloud"),
    ("team", "sre"),
    ("cluster", "beijing01"),
];

/// Families that must have a series with a value above zero of the container `worker`.
const OF_WORKER: &[&str] = &[
    // Of cgroup files, of probes and of the kubelet.
    "podmeter_cpu_quota_cores",
    "podmeter_cpu_cfs_throttled_periods_total",
    "podmeter_io_bytes_total",
    "podmeter_cpu_run_queue_latency_seconds_count",
    "container_cpu_usage_seconds_total",
    "container_fs_writes_bytes_total",
];

/// The same of the container's pod, which on cgroup v1 is what a socket belongs to.
const OF_POD: &[&str] = &["podmeter_network_bytes_total", "podmeter_tcp_connections_total"];

#[test]
fn everything_works_in_the_profile_privileged() {
    let (Some(binary), Some(prometheus)) = (podmeter(), tool("PODMETER_PROMETHEUS")) else {
        return;
    };
    let Some(node) = Node::start() else { return };
    let Some(helm) = Helm::find(node.cluster()) else { return };
    node.import_program(&binary, IMAGE);
    let pod = install(&node, &helm, "privileged", &json!({}));
    pod.check_rights(&node);
    assert_eq!(probes(&pod.page()), attached(&binary, None));
    check_up(&pod, 1.0);
    let prometheus = relay::prometheus(&prometheus, &node);
    wait_until("Prometheus has the pod's page", || {
        (prometheus.query("up{job=\"kubelet\"}")? == [1.0]).then_some(())
    });

    workload::run(&node);
    let account = node.cluster().service_account("podmeter", "podmeter");
    node::check_pages(&node, &account);
    check_containers(&pod);
    for family in OF_POD {
        expect(&pod, family, OF_DEPLOYMENT);
    }
    relay::check_queries(&node, &prometheus, &pod);
    dashboards::check(&node, &prometheus);
    dashboards::check_rules(&prometheus);
}

#[test]
fn everything_works_in_the_profile_capabilities() {
    let Some(binary) = podmeter() else { return };
    let Some(node) = Node::start_with(Serving::Itself) else { return };
    let Some(helm) = Helm::find(node.cluster()) else { return };
    node.import_program(&binary, IMAGE);
    workload::run(&node);

    // As it comes, Podmeter does not give its token to a kubelet that nobody vouches for.
    let pod = install(&node, &helm, "capabilities", &json!({}));
    pod.check_rights(&node);
    assert_eq!(probes(&pod.page()), attached(&binary, None));
    check_up(&pod, 0.0);
    let landing = pod.landing();
    assert!(landing.contains("signed by nobody that is trusted"), "{landing}");
    let account = node.cluster().service_account("podmeter", "podmeter");
    relay::check_choices(&binary, &node, &account);
    helm.uninstall();

    let trusted = json!({ "caHostPath": node.kubelet_certificate(), "serverName": "${NODE_NAME}" });
    let pod = install(&node, &helm, "capabilities", &json!({ "kubelet": trusted }));
    pod.check_rights(&node);
    check_up(&pod, 1.0);
    check_containers(&pod);
    helm.uninstall();
    check_tls(&node, &helm);
    helm.uninstall();
    check_buffer(&node, &helm);
}

/// A pod with a certificate gets ready by probes that come by HTTPS, and gives its page in no other way.
fn check_tls(node: &Node, helm: &Helm<'_>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new(folder.path());
    authority.sign("tls", ADDRESS);
    let text = |file: &str| fs::read_to_string(folder.path().join(file)).expect("it is there");
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "of-an-issuer", "namespace": "podmeter" },
        "stringData": { "tls.crt": text("tls.crt"), "tls.key": text("tls.key") },
    });
    node.cluster().kubectl().apply(&secret.to_string());
    let files = json!({ "cert_file": "tls.crt", "key_file": "tls.key" });
    let web = json!({ "config": { "tls_server_config": files }, "secrets": ["of-an-issuer"] });
    let pod = install(node, helm, "capabilities", &json!({ "web": web }));
    pod.check_rights(node);
    let url = format!("https://{}/metrics", pod.address());
    let page = try_get_https(&url, Trust::Authority(&authority.file()), &[]);
    let page = page.expect("it answers by TLS");
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("\npodmeter_build_info{"), "{}", page.text());
    assert_ne!(http::get(&format!("http://{}/metrics", pod.address()), &[]).status, 200);
    println!("report: DaemonSet | with a certificate | ready by the kubelet's probes over HTTPS");
}

/// What waits for a receiver that is away lies on the node, in the one folder that the pod may write to.
fn check_buffer(node: &Node, helm: &Helm<'_>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let of_node = folder.path().join("made/by/need");
    let receiver = json!({
        // Nobody listens there.
        "url": "http://127.0.0.1:1/api/v1/write",
        "buffer": { "directory": "/var/lib/podmeter/remote-write/main", "size_limit": "64MB" },
    });
    let values = json!({
        "config": { "remote_write_interval": "1s", "remote_write": [receiver] },
        "remoteWrite": { "buffer": { "enabled": true, "hostPath": of_node } },
    });
    let pod = install(node, helm, "capabilities", &values);
    pod.check_rights(node);
    wait_until("what waits lies on the node", || {
        let files = fs::read_dir(of_node.join("main")).ok()?.flatten();
        let mut names = files.map(|file| file.file_name());
        names.any(|name| name.to_string_lossy().starts_with("segment-")).then_some(())
    });
    let landing = pod.landing();
    assert!(landing.contains("cannot connect: is the receiver running"), "{landing}");
    assert!(!landing.contains("the buffer does not work"), "{landing}");
    helm.uninstall();
    println!(
        "report: DaemonSet | with a buffer | what waits lies on the node, the root is read-only"
    );
}

/// The name of Podmeter's image on the node.
const IMAGE: &str = "localhost/podmeter:1";

/// Has Helm install the chart, with some values more, and waits for the pod.
fn install(node: &Node, helm: &Helm<'_>, profile: &str, more: &Value) -> Pod {
    let (repository, tag) = IMAGE.rsplit_once(':').expect("the image has a tag");
    let labels = json!([
        { "from": "pod.label.region", "or": "deployment.label.region", "to": "region" },
        { "from": "deployment.label.dept", "to": "dept" },
        { "from": "namespace.label.team", "to": "team" },
    ]);
    let mut values = json!({
        "image": { "repository": repository, "tag": tag, "pullPolicy": "Never" },
        "profile": profile,
        "config": {
            "external_labels": { "cluster": "beijing01" },
            "probes": { "run_queue": { "enabled": true } },
            "kubernetes": { "labels": labels },
        },
    });
    let fields = values.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    let rendered = helm.install(&chart::chart(), &values);
    let rendered = rendered.unwrap_or_else(|error| panic!("{values}: {error}"));
    let daemon_set = rendered.get("daemonset.yaml").expect("there is one");
    Pod::wait_for(node, daemon_set)
}

/// All targets are there without a word in the configuration; the kubelet's have this `up`, and kube-proxy is up.
fn check_up(pod: &Pod, kubelet: f64) {
    let of_kubelet = KUBELET.iter().map(|job| (*job, kubelet));
    for (job, up) in of_kubelet.chain([("kube-proxy", 1.0)]) {
        // On a busy machine a target may be late once.
        wait_until(&format!("up of {job} is {up}"), || {
            let labels = [("job", job), ("node", "node-1")];
            (pod.page().number("up", &labels) == Some(up)).then_some(())
        });
    }
}

/// The container's series are there, measured and relayed, with all labels.
fn check_containers(pod: &Pod) {
    for family in OF_WORKER {
        expect(pod, family, &[&[("container", "worker")], OF_DEPLOYMENT].concat());
    }
    println!("report: DaemonSet | container=\"worker\" has | {}", OF_WORKER.join(", "));
}

/// Waits for a series with these labels and a value above zero.
fn expect(pod: &Pod, family: &str, labels: &[(&str, &str)]) {
    wait_until(&format!("{family} has a series with {labels:?}"), || {
        let page = pod.page();
        let lines = page.lines(family, labels).into_iter();
        let mut values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.any(|value| value > 0.0).then_some(())
    });
}

//! deploy/chart by Helm itself: what it makes is what deploy/kustomize has, the API server takes it, and Podmeter
//! takes its configuration.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use expect_test::expect_file;
use podmeter::config::{Config, web::WebConfig};
use podmeter_tests::cluster::{Cluster, helm::Helm};
use serde_json::{Value, json};

/// What stands on the first lines of the rendered files.
const HEAD: &str =
    "# Rendered from deploy/chart by Helm; `cargo xtask bless` does it again. Do not edit.\n";

/// The resources of the Prometheus operator that the chart has objects of.
const OPERATOR: &str = include_str!("../../fixtures/operator/crds.yaml");

#[test]
fn the_chart_makes_what_kustomize_has() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(helm) = Helm::find(&cluster) else { return };
    let lint = helm.lint(&chart()).expect("the linter runs");
    let messages = lint.get("Messages").and_then(Value::as_array).expect("a list");
    // 1 is information: that there is no icon.
    let grave = messages.iter().filter(|one| one.get("Severity") != Some(&json!(1)));
    assert_eq!(grave.count(), 0, "{lint}");

    cluster.kubectl().apply(OPERATOR);
    let operator = json!({ "podMonitor": { "enabled": true }, "prometheusRule": { "enabled": true },
        "networkPolicy": { "enabled": true } });
    let privileged = render(&helm, &operator);
    let capabilities = render(&helm, &json!({ "profile": "capabilities" }));
    for name in ["serviceaccount", "clusterrole", "clusterrolebinding", "configmap"] {
        let file = format!("{name}.yaml");
        assert_eq!(privileged[&file], capabilities[&file]);
        check(&format!("base/{file}"), &privileged[&file]);
    }
    check("privileged/daemonset.yaml", &privileged["daemonset.yaml"]);
    check("capabilities/daemonset.yaml", &capabilities["daemonset.yaml"]);
    check("operator/podmonitor.yaml", &privileged["podmonitor.yaml"]);
    check("operator/prometheusrule.yaml", &privileged["prometheusrule.yaml"]);
    check("network-policy/networkpolicy.yaml", &privileged["networkpolicy.yaml"]);
    let tls = json!({ "cert_file": "tls.crt", "key_file": "tls.key" });
    let guarded = render(
        &helm,
        &json!({ "web": { "config": { "tls_server_config": tls }, "secrets": ["podmeter-tls"],
            "kubernetesAuth": true } }),
    );
    for name in ["clusterrole", "configmap", "daemonset", "web", "reader"] {
        let file = format!("{name}.yaml");
        check(&format!("guarded/{file}"), &guarded[&file]);
    }
    assert_eq!(guarded.len(), 7);
    check_config(&guarded["configmap.yaml"]);
    check_web(&guarded["web.yaml"]);
    assert_eq!((privileged.len(), capabilities.len()), (8, 5));
    check_config(&privileged["configmap.yaml"]);

    for overlay in ["", "capabilities", "operator", "network-policy", "guarded"] {
        let folder = kustomize().join(overlay);
        cluster.kubectl().run(&["apply", "--kustomize", &folder.to_string_lossy()]);
    }
    // The API server's schemas are really asked.
    for (file, field, misspelt) in [
        ("daemonset.yaml", "hostNetwork:", "hostNetwrok:"),
        ("podmonitor.yaml", "honorLabels:", "honourLabels:"),
        ("prometheusrule.yaml", "annotations:", "anotations:"),
    ] {
        let wrong = privileged[file].replace(field, misspelt);
        let error = cluster.kubectl().try_run(&["apply", "-f", "-"], &wrong).expect_err(misspelt);
        assert!(error.contains(misspelt.trim_end_matches(':')), "{error}");
    }
}

#[test]
fn all_values_render_and_wrong_ones_are_refused() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(helm) = Helm::find(&cluster) else { return };
    expect_refused(&helm);
    cluster.kubectl().apply(OPERATOR);
    let mut rendered = render(
        &helm,
        &json!({
            "image": { "repository": "registry.example/podmeter", "tag": "1.2.3" },
            "imagePullSecrets": [{ "name": "pull" }],
            "profile": "capabilities",
            "extraCapabilities": ["SYS_PTRACE"],
            "hostPID": true,
            "kubelet": { "caConfigMap": "kubelet-ca", "serverName": "${NODE_NAME}", "insecureSkipVerify": true },
            "port": 9999,
            "config": {
                "listen": "127.0.0.1:9999",
                "external_labels": { "cluster": "beijing01" },
                "remote_write": pushing("/var/lib/podmeter/remote-write/main")["remote_write"],
            },
            "remoteWrite": { "buffer": { "enabled": true } },
            "affinity": { "nodeAffinity": {} },
            "podLabels": { "team": "sre" },
            "podAnnotations": { "example.com/note": "a" },
            "scrapeAnnotations": false,
            "web": {
                "config": {
                    "tls_server_config": { "cert_file": "tls.crt", "key_file": "tls.key",
                        "client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.crt" },
                    "basic_auth_users": {
                        "prometheus": "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze" },
                },
                "secrets": ["podmeter-tls", "scrapers"],
                "kubernetesAuth": true,
                "readers": [{ "namespace": "monitoring", "name": "prometheus" }],
            },
            "podMonitor": {
                "enabled": true,
                "tlsConfig": { "ca": { "secret": { "name": "podmeter-ca", "key": "ca.crt" } }, "serverName": "podmeter" },
                "authorization": { "credentials": { "name": "scraper", "key": "token" } },
            },
            "networkPolicy": { "enabled": true, "from": [{ "namespaceSelector": {} }] },
        }),
    );
    check_web(&rendered["web.yaml"]);
    check_config(&rendered["configmap.yaml"]);
    rendered.retain(|name, _| {
        !["serviceaccount.yaml", "clusterrole.yaml", "clusterrolebinding.yaml"]
            .contains(&name.as_str())
    });
    let rendered: Vec<String> = rendered.into_values().collect();
    expect_file!["../../golden/chart.yaml"].assert_eq(&rendered.join("---\n"));
}

/// Each wrong value is refused by an error that names it.
fn expect_refused(helm: &Helm<'_>) {
    for (values, named) in [
        (json!({ "profile": "privilged" }), "profile"),
        (json!({ "hostPid": true }), "hostPid"),
        (json!({ "extraCapabilities": ["CAP_SYS_PTRACE"] }), "extraCapabilities"),
        (json!({ "port": 0 }), "port"),
        (json!({ "kubelet": { "caHostPath": "kubelet.crt" } }), "caHostPath"),
        (
            json!({ "kubelet": { "caHostPath": "/kubelet.crt", "caConfigMap": "kubelet" } }),
            "only one",
        ),
        (json!({ "podMonitor": { "interval": "soon" } }), "interval"),
        (json!({ "remoteWrite": { "buffer": { "hostPath": "buffer" } } }), "hostPath"),
        (json!({ "remoteWrite": { "buffer": { "sizeLimit": "1 GB" } } }), "sizeLimit"),
        (
            json!({ "config": pushing("/var/lib/podmeter/remote-write/main") }),
            "remoteWrite.buffer.enabled",
        ),
        (
            json!({ "config": pushing("/var/lib/podmeter"), "remoteWrite": { "buffer": { "enabled": true } } }),
            "buffer.directory outside of /var/lib/podmeter/remote-write",
        ),
        (json!({ "web": { "config": { "tls_config": {} } } }), "tls_config"),
        (json!({ "web": { "readers": [{ "name": "a" }] } }), "namespace"),
    ] {
        let error = helm.install(&chart(), &values).expect_err("a wrong value");
        assert!(error.contains(named), "{named}: {error}");
    }
}

/// A configuration that pushes, with a buffer in that folder.
fn pushing(directory: &str) -> Value {
    json!({ "remote_write": [
        { "url": "https://metrics.example/api/v1/write",
          "buffer": { "directory": directory, "size_limit": "512MB" } },
    ] })
}

/// Where the buffers lie by these values: the mount of the container, and the volume.
fn buffer_mount(helm: &Helm<'_>, buffer: &Value) -> [Value; 2] {
    let rendered = render(helm, &json!({ "remoteWrite": { "buffer": buffer } }));
    let daemon_set = rendered.get("daemonset.yaml").expect("there is one");
    let daemon_set: Value = serde_saphyr::from_str(daemon_set).expect("it is YAML");
    ["containers/0/volumeMounts", "volumes"].map(|list| {
        let list = daemon_set.pointer(&format!("/spec/template/spec/{list}"));
        let mut items = list.and_then(Value::as_array).expect("a list").iter();
        let item = items.find(|item| item.get("name") == Some(&json!("remote-write")));
        item.cloned().unwrap_or_default()
    })
}

#[test]
fn the_folder_of_buffers_is_one_of_the_node_or_goes_with_the_pod() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(helm) = Helm::find(&cluster) else { return };
    assert_eq!(buffer_mount(&helm, &json!({})), [Value::Null, Value::Null]);
    let path = "/var/lib/podmeter/remote-write";
    let mount = json!({ "name": "remote-write", "mountPath": path, "readOnly": false });
    for (buffer, volume) in [
        (json!({}), json!({ "hostPath": { "path": path, "type": "DirectoryOrCreate" } })),
        (
            json!({ "hostPath": "/data/podmeter" }),
            json!({ "hostPath": { "path": "/data/podmeter", "type": "DirectoryOrCreate" } }),
        ),
        (json!({ "hostPath": "" }), json!({ "emptyDir": {} })),
        (
            json!({ "hostPath": "", "sizeLimit": "1Gi" }),
            json!({ "emptyDir": { "sizeLimit": "1Gi" } }),
        ),
    ] {
        let [mut enabled, mut expected] = [buffer, volume];
        enabled["enabled"] = json!(true);
        expected["name"] = json!("remote-write");
        assert_eq!(buffer_mount(&helm, &enabled), [mount.clone(), expected]);
    }
}

/// What Helm makes of the values, as `deploy/kustomize` has it; the API server has taken it.
fn render(helm: &Helm<'_>, values: &Value) -> BTreeMap<String, String> {
    let files = helm.install(&chart(), values).unwrap_or_else(|error| panic!("{values}: {error}"));
    helm.uninstall();
    let own = |text: &str| {
        let lines = text.split_inclusive('\n');
        lines.filter(|line| !line.contains("app.kubernetes.io/managed-by:")).collect()
    };
    files.into_iter().map(|(name, text)| (name, own(&text))).collect()
}

fn check(file: &str, rendered: &str) {
    let path = kustomize().join(file);
    expect_file![path].assert_eq(&format!("{HEAD}{rendered}"));
}

/// Podmeter takes the configuration of the `ConfigMap`.
fn check_config(config_map: &str) {
    let config_map: Value = serde_saphyr::from_str(config_map).expect("it is YAML");
    let text = config_map.pointer("/data/podmeter.yaml").and_then(Value::as_str);
    let text = text.expect("the ConfigMap has the file");
    let variables = |name: &str| match name {
        "NODE_NAME" => Some("node-1".to_owned()),
        "NODE_IP" => Some("198.18.77.1".to_owned()),
        _ => None,
    };
    Config::parse(text, "podmeter.yaml", &variables)
        .unwrap_or_else(|error| panic!("{error}:\n{text}"));
}

/// Podmeter takes the web configuration of the Secret.
fn check_web(secret: &str) {
    let secret: Value = serde_saphyr::from_str(secret).expect("it is YAML");
    let text = secret.pointer("/stringData/web.yml").and_then(Value::as_str);
    let text = text.expect("the Secret has the file");
    WebConfig::parse(text, "web.yml", Path::new("/etc/podmeter-web"))
        .unwrap_or_else(|error| panic!("{error}:\n{text}"));
}

/// Where the chart is.
pub(super) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart")
}

fn kustomize() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize")
}

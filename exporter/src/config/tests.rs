//! Configuration files, good and bad, and what becomes of them.

use expect_test::{Expect, expect};

use super::{Config, Enabled};
use crate::{error_chain::one_line, source::probe::PROBES};

fn parse(text: &str) -> Result<Config, String> {
    let variable = |name: &str| (name == "NODE_IP").then(|| "10.0.0.7".to_owned());
    Config::parse(text, "podmeter.yaml", &variable).map_err(|error| one_line(&error))
}

fn check_error(text: &str, expected: Expect) {
    expected.assert_eq(&parse(text).unwrap_err());
}

#[test]
fn nothing_is_the_defaults() {
    for text in ["", "\n", "# only a comment\n", "probes: {}\n"] {
        assert_eq!(parse(text), Ok(Config::default()), "{text:?}");
    }
    assert_eq!(Config::default().listen.to_string(), "0.0.0.0:9643");
}

#[test]
fn every_key_is_taken() {
    let config = parse(
        "listen: ${NODE_IP}:9999
node_name: node-${NODE_IP}
external_labels: { cluster: beijing01 }
kubernetes:
  enabled: true
  kubeconfig: /etc/podmeter/${NODE_IP}.conf
  metadata_refresh: 90s
  pod_state: { enabled: false }
  labels:
    - { from: pod.label.region, or: deployment.label.region, to: region }
    - { from: pod.annotation.a/b, or: [namespace.label.dept, node.label.dept], to: dept }
    - { from: pod.label.app.kubernetes.io/* }
probes:
  cpu_throttle: { enabled: false }
paths: { procfs: /host/proc, sysfs: /host/sys, cgroupfs: /host/cgroup }
",
    )
    .unwrap();
    assert_eq!(config.listen.to_string(), "10.0.0.7:9999");
    assert_eq!(config.external_labels["cluster"], "beijing01");
    assert_eq!(config.node_name.as_deref(), Some("node-10.0.0.7"));
    let kubernetes = &config.kubernetes;
    assert_eq!(kubernetes.enabled, Enabled::Always);
    assert_eq!(
        kubernetes.kubeconfig.as_ref().unwrap().to_str(),
        Some("/etc/podmeter/10.0.0.7.conf")
    );
    assert_eq!(kubernetes.metadata_refresh.as_secs(), 90);
    assert!(!kubernetes.pod_state);
    let wanted = kubernetes.labels.wanted(false);
    assert!(!wanted.node.is_empty() && wanted.workload.is_empty());
    assert!(!config.probes.enabled(&PROBES[0]));
    assert_eq!(config.paths.proc.to_str(), Some("/host/proc"));
    assert_eq!(config.paths.sys.to_str(), Some("/host/sys"));
    assert_eq!(config.paths.cgroup.unwrap().to_str(), Some("/host/cgroup"));
}

#[test]
fn unknown_keys_are_named_with_their_line_and_the_nearest_known_one() {
    check_error(
        "listn: 1.2.3.4:5\n",
        expect!["podmeter.yaml:1:1: unknown key `listn`, did you mean `listen`?"],
    );
    check_error(
        "# c\nprobes:\n  cpu_throtle: { enabled: true }\n",
        expect!["podmeter.yaml:3:3: unknown key `cpu_throtle`, did you mean `cpu_throttle`?"],
    );
    check_error(
        "probes:\n  cpu_throttle: { enable: true }\n",
        expect!["podmeter.yaml:2:19: unknown key `enable`, did you mean `enabled`?"],
    );
    check_error("xyzzy: 1\n", expect!["podmeter.yaml:1:1: unknown key `xyzzy`"]);
}

#[test]
fn wrong_values_say_what_is_wanted() {
    check_error(
        "listen: 9643\n",
        expect![
            "podmeter.yaml: `listen` is `9643`, but it takes an IP address and a port, such as 0.0.0.0:9643 or [::1]:9643"
        ],
    );
    check_error(
        "listen: localhost:9643\n",
        expect![
            "podmeter.yaml: `listen` is `localhost:9643`, but it takes an IP address and a port, such as 0.0.0.0:9643 or [::1]:9643"
        ],
    );
    check_error(
        "listen: ${HOME_IP}:1\n",
        expect![
            "podmeter.yaml: `listen`: the environment variable HOME_IP is not set (`$${` stands for a literal `${`)"
        ],
    );
    check_error(
        "external_labels: { 9a: x }\n",
        expect![
            "podmeter.yaml: `external_labels` is `9a`, but a label name has letters, digits and underscores, and begins with neither a digit nor two underscores"
        ],
    );
    check_error(
        "external_labels: { pod: x }\n",
        expect![
            "podmeter.yaml: `external_labels` is `pod`, but that label is Podmeter's own; choose another name"
        ],
    );
    let wanted = "it takes a number from 1 to 1048576";
    for max in ["0", "1048577"] {
        let text = format!("cgroups: {{ max_tracked: {max} }}\n");
        let error = Config::parse(&text, "podmeter.yaml", &|_| None).unwrap_err().to_string();
        let place = "podmeter.yaml: `cgroups.max_tracked`";
        assert_eq!(error, format!("{place} is `{max}`, but {wanted}"));
    }
    check_error("probes: 7\n", expect!["podmeter.yaml:1:9: expected mapping start"]);
    check_error(
        "probes:\n  cpu_throttle: { enabled: maybe }\n",
        expect!["podmeter.yaml:2:28: invalid boolean"],
    );
    check_error("listen: [\n", expect!["podmeter.yaml:1:9: expected string scalar"]);
    check_error(
        "listen: 1.2.3.4:5\nlisten: 1.2.3.4:6\n",
        expect!["podmeter.yaml:2:1: the key `listen` stands here for the second time"],
    );
}

#[test]
fn kubernetes_is_asked_when_it_can_be_unless_told_otherwise() {
    let check = |text: &str, expected| {
        let config = parse(&format!("kubernetes: {text}\n")).unwrap();
        assert_eq!(config.kubernetes.enabled, expected, "{text}");
    };
    check("{}", Enabled::Auto);
    check("{ enabled: auto }", Enabled::Auto);
    check("{ enabled: true }", Enabled::Always);
    check("{ enabled: false }", Enabled::Never);
    check_error(
        "kubernetes: { enabled: perhaps }\n",
        expect![[
            r#"podmeter.yaml:1:15: invalid value: string "perhaps", expected auto, true or false"#
        ]],
    );
    check_error(
        "kubernetes: { enabeld: true }\n",
        expect!["podmeter.yaml:1:15: unknown key `enabeld`, did you mean `enabled`?"],
    );
    check_error(
        "kubernetes: { metadata_refresh: 0s }\n",
        expect![
            "podmeter.yaml: `kubernetes.metadata_refresh` is `0s`, but it takes a number with s, m or h, such as 30s or 5m, and no less than 1s"
        ],
    );
}

#[test]
fn labels_that_would_collide_are_refused_with_their_place() {
    check_error(
        "kubernetes:\n  labels:\n    - { from: pod.label.a, to: a }\n    - { from: pod.label.b, to: le }\n",
        expect![
            "podmeter.yaml:4:7: `kubernetes.labels[1]`: `to` is `le`, but that label is Podmeter's own; choose another name"
        ],
    );
    check_error(
        "kubernetes:\n  labels:\n    - { from: pod.label.a, to: a }\n    - from: pod.label.b\n      to: a\n",
        expect![
            "podmeter.yaml:4:7: `kubernetes.labels[1]`: `to` is `a`, which another rule or external_labels gives already"
        ],
    );
    check_error(
        "external_labels: { cluster: x }\nkubernetes:\n  labels:\n    - { from: node.label.cluster, to: cluster }\n",
        expect![
            "podmeter.yaml:4:7: `kubernetes.labels[0]`: `to` is `cluster`, which another rule or external_labels gives already"
        ],
    );
    check_error(
        "kubernetes:\n  labels:\n    - { from: pod.lable.a, to: a }\n",
        expect![
            "podmeter.yaml:3:7: `kubernetes.labels[0]`: `pod.lable.a` names no label or annotation; it takes pod, namespace, node, deployment or workload, then label or annotation, then the key, such as pod.label.region"
        ],
    );
    check_error(
        "kubernetes:\n  labels:\n    - { form: pod.label.a, to: a }\n",
        expect!["podmeter.yaml:3:9: unknown key `form`, did you mean `from`?"],
    );
}

//! Configuration files, good and bad, and what becomes of them.

use expect_test::{Expect, expect};

use super::Config;
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
external_labels: { cluster: beijing01 }
probes:
  cpu_throttle: { enabled: false }
paths: { procfs: /host/proc, sysfs: /host/sys, cgroupfs: /host/cgroup }
",
    )
    .unwrap();
    assert_eq!(config.listen.to_string(), "10.0.0.7:9999");
    assert_eq!(config.external_labels["cluster"], "beijing01");
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

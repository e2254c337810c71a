//! The capabilities of deploy/kustomize/capabilities are enough for every probe that this kernel can run at all, and
//! `podmeter` attaches them by the same hooks as with all rights.

use std::{collections::BTreeMap, path::Path, process::Command};

use podmeter_tests::tools::{podmeter, write};
use serde_json::Value;

use super::page::Page;

const DAEMON_SET: &str = include_str!("../../../deploy/kustomize/capabilities/daemonset.yaml");

const CONFIG: &str = "probes: { run_queue: { enabled: true } }\nkubernetes: { enabled: false }\n";

#[test]
fn the_capabilities_are_enough_and_needed() {
    let Some(binary) = podmeter() else { return };
    let granted = granted();
    let check = |missing: &str| {
        let kept: Vec<&str> =
            granted.iter().map(String::as_str).filter(|one| *one != missing).collect();
        attached(&binary, Some(&kept))
    };
    let with_all = attached(&binary, None);
    assert!(with_all.contains_key("network"), "{with_all:?}");
    assert_eq!(check("none"), with_all);
    assert_eq!(check("BPF"), BTreeMap::new());
    assert_eq!(check("PERFMON"), BTreeMap::new());
    let mut without_network = with_all.clone();
    without_network.remove("network");
    assert_eq!(check("NET_ADMIN"), without_network);
    // Only kernels before 5.11 count maps against a limit that it raises.
    assert_eq!(check("SYS_RESOURCE"), with_all);
    println!("report: capabilities | {} | attach {with_all:?}", granted.join(" "));
}

/// The hook of each probe that attaches in a process whose capabilities are these, or all.
pub(super) fn attached(binary: &Path, capabilities: Option<&[&str]>) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = write(dir.path(), "podmeter.yaml", CONFIG);
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all"]);
    if let Some(capabilities) = capabilities {
        let names = ["-all".to_owned()].into_iter();
        let names =
            names.chain(capabilities.iter().map(|name| format!("+{}", name.to_lowercase())));
        let names: Vec<String> = names.collect();
        command.arg(format!("--bounding-set={}", names.join(",")));
    }
    command.arg(binary).args(["collect", "--config"]).arg(config);
    let output = command.output().expect("setpriv starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    probes(&Page(String::from_utf8(output.stdout).expect("a page is UTF-8")))
}

/// The hook of each probe that is attached.
pub(super) fn probes(page: &Page) -> BTreeMap<String, String> {
    let attached = page.lines("podmeter_probe_attached", &[]);
    let attached = attached.into_iter().filter(|line| line.ends_with("} 1"));
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).expect("it has the label");
        rest.split('"').next().expect("a split has a first part").to_owned()
    };
    attached.map(|line| (label(line, "probe"), label(line, "hook"))).collect()
}

/// What the `DaemonSet` of the profile adds to none.
fn granted() -> Vec<String> {
    let daemon_set: Value = serde_saphyr::from_str(DAEMON_SET).expect("it is YAML");
    let capabilities = "/spec/template/spec/containers/0/securityContext/capabilities";
    let capabilities = daemon_set.pointer(capabilities).expect("the profile names them");
    assert_eq!(capabilities.get("drop"), Some(&serde_json::json!(["ALL"])));
    let added = capabilities.get("add").and_then(Value::as_array).expect("a list");
    added.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

//! The pod of the `DaemonSet`, as the kubelet started it: its page, and its process as this machine sees it.

use std::{fs, path::PathBuf};

use podmeter_tests::{
    cluster::{
        node::{ADDRESS, Node},
        wait_until,
    },
    http,
};
use rustix::thread::CapabilitySet;
use serde_json::Value;

use super::page::Page;

const CONTAINER: &str = "/spec/template/spec/containers/0";

/// A pod that runs and is ready.
pub(super) struct Pod {
    url: String,
    process: PathBuf,
    /// The rendered `DaemonSet` that it comes from.
    manifest: Value,
}

impl Pod {
    /// Waits until the kubelet says that the pod of this manifest is ready.
    pub(super) fn wait_for(node: &Node, daemon_set: &str) -> Self {
        let manifest: Value = serde_saphyr::from_str(daemon_set).expect("it is YAML");
        let pod = wait_until("the pod of the DaemonSet is ready", || {
            let pods = node.cluster().kubectl().get_raw("/api/v1/namespaces/podmeter/pods");
            let mut pods = pods.get("items")?.as_array()?.clone();
            pods.retain(|pod| pod.pointer("/metadata/deletionTimestamp").is_none());
            pods.pop().filter(is_ready)
        });
        let text = |pointer| pod.pointer(pointer).and_then(Value::as_str).expect("it is there");
        assert_eq!(text("/status/podIP"), ADDRESS, "it is in the node's network");
        let image = manifest.pointer(&format!("{CONTAINER}/image"));
        assert_eq!(pod.pointer("/spec/containers/0/image"), image);
        let port = manifest.pointer(&format!("{CONTAINER}/ports/0/containerPort"));
        let port = port.and_then(Value::as_u64).expect("the container has a port");
        let url = format!("http://{ADDRESS}:{port}");
        Self { url, process: process(text("/metadata/uid")), manifest }
    }

    /// Its page.
    pub(super) fn page(&self) -> Page {
        Page::at(&self.url("/metrics"))
    }

    /// What `/` says.
    pub(super) fn landing(&self) -> String {
        http::get(&self.url("/"), &[]).text().to_owned()
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        self.url.split_once("://").expect("a URL has a scheme").1
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A value of the manifest's container.
    fn wanted(&self, pointer: &str) -> Option<&Value> {
        self.manifest.pointer(&format!("{CONTAINER}{pointer}"))
    }

    fn read(&self, file: &str) -> String {
        let path = self.process.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A line of the kernel's `status` of the process.
    fn status(&self, key: &str) -> String {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
        line.unwrap_or_else(|| panic!("there is no {key}: {status}")).trim().to_owned()
    }

    /// The process has what the manifest gives it, and nothing more.
    pub(super) fn check_rights(&self, node: &Node) {
        let arguments = self.wanted("/args").and_then(Value::as_array).expect("a list");
        let arguments: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
        let line = self.read("cmdline");
        let given: Vec<&str> = line.trim_end_matches('\0').split('\0').skip(1).collect();
        assert_eq!(given, arguments);

        let user = self.wanted("/securityContext/runAsUser").and_then(Value::as_u64);
        let user = user.expect("a number").to_string();
        assert!(self.status("Uid").split_whitespace().all(|id| id == user));

        let is = |pointer| self.manifest.pointer(pointer).and_then(Value::as_bool);
        let in_pod = fs::read_link(self.process.join("ns/pid")).expect("it has one");
        let sees_node = in_pod == node.process_namespace();
        assert_eq!(Some(sees_node), is("/spec/template/spec/hostPID"));

        self.check_mounts();
        if self.wanted("/securityContext/privileged") == Some(&Value::Bool(true)) {
            assert_eq!(self.status("Seccomp"), "0", "no filter of system calls");
        } else {
            self.check_capabilities();
            assert_eq!(self.status("NoNewPrivs"), "1");
            assert_eq!(self.status("Seccomp"), "2", "system calls go through a filter");
        }
    }

    /// No set of the process has a capability that the manifest does not add.
    fn check_capabilities(&self) {
        let added = self.wanted("/securityContext/capabilities/add").and_then(Value::as_array);
        let added = added.expect("a list").iter().map(|name| {
            let name = name.as_str().expect("a name");
            CapabilitySet::from_name(name).unwrap_or_else(|| panic!("no capability {name}"))
        });
        let added: CapabilitySet = added.collect();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let text = self.status(set);
            let bits = u64::from_str_radix(&text, 16).expect("the kernel writes hexadecimal");
            let surplus = CapabilitySet::from_bits_retain(bits) - added;
            assert!(surplus.is_empty(), "{set}: {surplus:?}");
        }
    }

    /// The root, and what the manifest mounts read-only, is so.
    fn check_mounts(&self) {
        let root = self.wanted("/securityContext/readOnlyRootFilesystem");
        assert_eq!(root, Some(&Value::Bool(true)));
        let mounts = self.read("mountinfo");
        let is_read_only = |at: &str| {
            // Identity, parent, device, root, where it is mounted, and how.
            let mut fields = mounts.lines().map(|line| line.split(' ').skip(4));
            let options =
                fields.find_map(|mut fields| (fields.next()? == at).then(|| fields.next()));
            let options = options.flatten().unwrap_or_else(|| panic!("no mount {at}:\n{mounts}"));
            options.split(',').any(|option| option == "ro")
        };
        assert!(is_read_only("/"), "{mounts}");
        for mount in self.wanted("/volumeMounts").and_then(Value::as_array).expect("a list") {
            let at = mount.get("mountPath").and_then(Value::as_str).expect("a path");
            let read_only = mount.get("readOnly").and_then(Value::as_bool);
            assert_eq!(Some(is_read_only(at)), read_only, "{at}:\n{mounts}");
        }
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| {
        let is = |key: &str, value: &str| one.get(key).and_then(Value::as_str) == Some(value);
        is("type", "Ready") && is("status", "True")
    })
}

/// The folder in `/proc` of the one Podmeter in the pod's cgroups.
fn process(uid: &str) -> PathBuf {
    let processes = fs::read_dir("/proc").expect("proc is mounted");
    let processes = processes.map(|process| process.expect("an entry").path());
    let mut of_pod = processes.filter(|process| {
        // Some are no processes, and some have ended.
        let read = |file| fs::read_to_string(process.join(file)).unwrap_or_default();
        read("comm").trim_end() == "podmeter" && read("cgroup").contains(&format!("/pod{uid}/"))
    });
    of_pod.next().expect("the pod has a process")
}

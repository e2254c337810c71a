//! The files that containerd, the kubelet and kube-proxy are configured with.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};

use super::{image::IMAGE, sandbox::ADDRESS};
use crate::{cluster::certificates::Pair, tools::write};

/// The pods' network, within the sandbox.
const POD_NETWORK: &str = "10.244.0.0/24";

/// containerd's. cAdvisor looks for its socket in one place.
pub(super) fn containerd(dir: &Path, debian: &Path) -> PathBuf {
    let networks = dir.join("networks");
    std::fs::create_dir(&networks).expect("a folder can be made");
    let addresses = dir.join("addresses");
    let bridge = format!(
        r#"{{ "cniVersion": "0.4.0", "name": "pods", "plugins": [ {{
  "type": "bridge", "bridge": "pods0", "isGateway": true, "ipam": {{
    "type": "host-local", "dataDir": "{}", "ranges": [ [ {{ "subnet": "{POD_NETWORK}" }} ] ],
    "routes": [ {{ "dst": "0.0.0.0/0" }} ]
}} }} ] }}"#,
        addresses.display()
    );
    drop(write(&networks, "10-pods.conflist", &bridge));
    let (root, networks) = (dir.join("containerd"), networks.display());
    let (root, plugins) = (root.display(), debian.join("usr/lib/cni"));
    let (plugins, runc) = (plugins.display(), runc(dir, &debian.join("usr/sbin/runc")));
    let runc = runc.display();
    let text = format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
disable_apparmor = true
# Root in a container of a build farm may have no CAP_SYS_RESOURCE.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
"#
    );
    write(dir, "containerd.toml", &text)
}

/// runc, which fails if it is to give a capability that root here does not have itself, as in a container of a build
/// farm; so it is not asked for that one.
fn runc(dir: &Path, runc: &Path) -> PathBuf {
    if has_sys_resource() {
        return runc.into();
    }
    println!("report: node | containers get no CAP_SYS_RESOURCE: this machine's root has none");
    let text = format!(
        r#"#!/bin/sh
for argument; do
    if [ "$before" = --bundle ]; then
        sed -i -e 's/"CAP_SYS_RESOURCE",//g' -e 's/,\?"CAP_SYS_RESOURCE"//g' "$argument/config.json"
    fi
    before=$argument
done
exec {} "$@"
"#,
        runc.display()
    );
    let script = write(dir, "runc", &text);
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("it is this test's own");
    script
}

/// Whether `CAP_SYS_RESOURCE` is in this thread's bounding set.
fn has_sys_resource() -> bool {
    capability_is_in_bounding_set(CapabilitySet::SYS_RESOURCE).expect("the kernel knows it")
}

/// The kubelet's: it asks the API server who may read its pages. Without a certificate it makes one.
pub(super) fn kubelet(dir: &Path, ca_file: &Path, serving: Option<&Pair>) -> PathBuf {
    let resolv_conf = write(dir, "resolv.conf", "");
    let (ca_file, resolv_conf) = (ca_file.display(), resolv_conf.display());
    let serving = serving.map_or_else(String::new, |Pair { certificate, key }| {
        let (certificate, key) = (certificate.display(), key.display());
        format!("tlsCertFile: {certificate}\ntlsPrivateKeyFile: {key}\n")
    });
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {ADDRESS}
authentication:
  anonymous: {{ enabled: false }}
  webhook: {{ enabled: true }}
  x509: {{ clientCAFile: {ca_file} }}
authorization: {{ mode: Webhook }}
{serving}cgroupDriver: cgroupfs
failSwapOn: false
resolvConf: {resolv_conf}
# The machine's disk may be nearly full with what is no matter of these pods.
evictionHard: {{ memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1% }}
imageGCHighThresholdPercent: 100
"
    );
    write(dir, "kubelet.yaml", &text)
}

/// kube-proxy's.
pub(super) fn kube_proxy(dir: &Path, node: &str, kubeconfig: &Path) -> PathBuf {
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
clientConnection: {{ kubeconfig: {} }}
clusterCIDR: {POD_NETWORK}
hostnameOverride: {node}
# Its own default is 127.0.0.1; a test on the machine is to see it, too.
metricsBindAddress: 0.0.0.0:10249
mode: iptables
# Limits of connection tracking are the whole machine's.
conntrack: {{ maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }}
",
        kubeconfig.display()
    );
    write(dir, "kube-proxy.yaml", &text)
}

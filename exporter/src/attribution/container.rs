//! Recognises pods and containers in cgroup paths, for every runtime and cgroup driver that Kubernetes nodes have.
//!
//! Pure: no IO, no clock, and a table of formats, no regular expressions. A path that no row fits is an other cgroup.

use std::sync::Arc;

use crate::{
    attribution::Identity,
    subject::{ContainerId, PodUid},
};

/// What a path component with a runtime's prefix is.
#[derive(Clone, Copy)]
enum Role {
    /// A container.
    Container,
    /// The runtime's own process beside a container.
    Monitor,
}

/// How runtimes name the cgroup of a container: a prefix, the id, and with the systemd driver `.scope`.
struct Format {
    prefix: &'static str,
    role: Role,
    id: IdShape,
}

/// What can stand where the id is.
#[derive(Clone, Copy)]
enum IdShape {
    /// 64 lower-case hexadecimal digits.
    Hex64,
    /// Whatever a person called it.
    Name,
}

/// The formats; at most one fits a component, because no id begins with another one's prefix.
const RUNTIMES: &[Format] = &[
    Format { prefix: "", role: Role::Container, id: IdShape::Hex64 },
    Format { prefix: "cri-containerd-", role: Role::Container, id: IdShape::Hex64 },
    Format { prefix: "crio-", role: Role::Container, id: IdShape::Hex64 },
    Format { prefix: "docker-", role: Role::Container, id: IdShape::Hex64 },
    Format { prefix: "libpod-", role: Role::Container, id: IdShape::Hex64 },
    Format { prefix: "libpod-payload-", role: Role::Container, id: IdShape::Hex64 },
    // Kata counts the whole sandbox here; the id is the sandbox's.
    Format { prefix: "kata_", role: Role::Container, id: IdShape::Hex64 },
    Format { prefix: "lxc.payload.", role: Role::Container, id: IdShape::Name },
    Format { prefix: "crio-conmon-", role: Role::Monitor, id: IdShape::Hex64 },
    Format { prefix: "libpod-conmon-", role: Role::Monitor, id: IdShape::Hex64 },
    Format { prefix: "lxc.monitor.", role: Role::Monitor, id: IdShape::Name },
];

/// Whose cgroup a path is.
///
/// The deepest pod wins, because a node can itself be a container (kind, minikube): then the inner pod and container
/// are meant. Outside of pods the deepest container wins. Inside a pod's container it stays that container, whatever
/// it starts itself: the API knows no other, and the containers of a Docker in a pod belong to that pod's container.
#[must_use]
pub fn identify(path: &Arc<str>) -> Identity {
    let mut found = Found::Other;
    let mut parent = "";
    for component in path.split('/') {
        found = found.below(component, parent);
        parent = component;
    }
    match found {
        Found::Other => Identity::Other { path: Arc::clone(path) },
        Found::Monitor => Identity::Monitor,
        Found::Pod { uid, nested } => Identity::Pod { pod_uid: pod_uid(uid), nested },
        Found::Container { uid, id, nested } => Identity::Container {
            pod_uid: uid.map(pod_uid),
            container_id: ContainerId::new(id),
            nested,
        },
    }
}

/// What is known after some components of a path.
#[derive(Clone, Copy)]
enum Found<'a> {
    Other,
    Monitor,
    Pod { uid: &'a str, nested: bool },
    Container { uid: Option<&'a str>, id: &'a str, nested: bool },
}

impl<'a> Found<'a> {
    fn below(self, component: &'a str, parent: &str) -> Self {
        if let Some(uid) = pod(component) {
            return Self::Pod { uid, nested: false };
        }
        if let Some((slice, id)) = misplaced(component)
            && let Some(uid) = pod(slice)
        {
            return Self::Container { uid: Some(uid), id, nested: false };
        }
        if is_kubepods_root(component) {
            return Self::Other;
        }
        match (self, runtime(component, parent)) {
            // Inside a pod's container nothing but another pod counts.
            (Self::Container { uid: uid @ Some(_), id, .. }, _)
            | (Self::Container { uid, id, .. }, None) => Self::Container { uid, id, nested: true },
            (Self::Monitor, _) | (_, Some((Role::Monitor, _))) => Self::Monitor,
            // Podman's scope and its payload are one container.
            (Self::Container { id: outer, .. }, Some((Role::Container, id))) => {
                Self::Container { uid: None, id, nested: id == outer }
            }
            (Self::Pod { uid, .. }, Some((Role::Container, id))) => {
                Self::Container { uid: Some(uid), id, nested: false }
            }
            (Self::Pod { uid, .. }, None) => Self::Pod { uid, nested: true },
            (Self::Other, Some((Role::Container, id))) => {
                Self::Container { uid: None, id, nested: false }
            }
            (Self::Other, None) => Self::Other,
        }
    }
}

/// `<slice>:<runtime>:<id>`: what a systemd-style name becomes where the runtime uses the cgroupfs driver.
fn misplaced(component: &str) -> Option<(&str, &str)> {
    let (slice, rest) = component.split_once(':')?;
    let (_, id) = rest.split_once(':')?;
    is_hex(id, 64).then_some((slice, id))
}

/// The UID in `pod<uid>` (cgroupfs driver) or `<...kubepods...>-pod<uid>.slice` (systemd driver).
fn pod(component: &str) -> Option<&str> {
    let uid = match component.strip_suffix(".slice") {
        None => component.strip_prefix("pod")?,
        Some(slice) => {
            let (qos, uid) = slice.rsplit_once("-pod")?;
            qos.split('-').any(|part| part == "kubepods").then_some(uid)?
        }
    };
    is_pod_uid(uid).then_some(uid)
}

/// Dashes where the driver is cgroupfs, underscores where it is systemd, neither for a static pod.
fn is_pod_uid(uid: &str) -> bool {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let mut groups = uid.split(['-', '_']);
    is_hex_any_case(uid, 32)
        || (GROUPS
            .iter()
            .all(|&length| groups.next().is_some_and(|group| is_hex_any_case(group, length)))
            && groups.next().is_none())
}

fn pod_uid(uid: &str) -> PodUid {
    PodUid::new(uid.replace('_', "-").to_ascii_lowercase())
}

/// `kubepods` (cgroupfs driver) or `[<root>-]kubepods.slice` (systemd driver): what is below is not the business of the
/// container that the node may be.
fn is_kubepods_root(component: &str) -> bool {
    component == "kubepods"
        || component
            .strip_suffix("kubepods.slice")
            .is_some_and(|root| root.is_empty() || root.ends_with('-'))
}

/// What the table says about a component, with the id in it.
fn runtime<'a>(component: &'a str, parent: &str) -> Option<(Role, &'a str)> {
    // Podman keeps all monitors of its cgroupfs driver in one cgroup.
    if component == "conmon" {
        return Some((Role::Monitor, component));
    }
    // LXC before version 4: the name is all there is.
    if parent == "lxc" && !component.is_empty() {
        return Some((Role::Container, component));
    }
    if let Some((_, id)) = misplaced(component) {
        return Some((Role::Container, id));
    }
    let name = component.strip_suffix(".scope").unwrap_or(component);
    RUNTIMES.iter().find_map(|format| {
        let id = name.strip_prefix(format.prefix)?;
        let fits = match format.id {
            IdShape::Hex64 => is_hex(id, 64),
            IdShape::Name => !id.is_empty(),
        };
        fits.then_some((format.role, id))
    })
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_hex_any_case(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::identify;
    use crate::attribution::Identity;

    const A: &str = "0a2e309d1da55c741068db3a2bce1ceac4c93cbffe201e7ae3b86e26a12dfc35";
    const B: &str = "29b53e1ea263256bd966d553ec4438c02f0fe94552217dda71e1cb4476cfb8d6";
    const U: &str = "39ce9bbc-6da2-4a5a-9143-d95138dfd72e";
    const V: &str = "05f0f56e-fd25-4033-8369-d91ae2554cf8";
    /// A static pod's config hash.
    const S: &str = "d4ba6ab1f9a4c0b1b3f0e8f9f5c2a7e6";

    /// `{A}` and `{B}` stand for container ids, `{U}` and `{V}` for UIDs, `{u}` and `{v}` for the same with
    /// underscores.
    fn fill(template: &str) -> String {
        template
            .replace("{A}", A)
            .replace("{B}", B)
            .replace("{U}", U)
            .replace("{V}", V)
            .replace("{S}", S)
            .replace("{u}", &U.replace('-', "_"))
            .replace("{v}", &V.replace('-', "_"))
    }

    fn describe(path: &str) -> String {
        let path: Arc<str> = Arc::from(path);
        let nested = |nested: bool| if nested { " nested" } else { "" };
        match identify(&path) {
            Identity::Container { pod_uid, container_id, nested: is_nested } => format!(
                "container {} of {}{}",
                container_id.as_str(),
                pod_uid.as_ref().map_or("none", |uid| uid.as_str()),
                nested(is_nested)
            ),
            Identity::Pod { pod_uid, nested: is_nested } => {
                format!("pod {}{}", pod_uid.as_str(), nested(is_nested))
            }
            Identity::Monitor => "monitor".to_owned(),
            Identity::Other { path: kept } => {
                assert!(Arc::ptr_eq(&kept, &path));
                "other".to_owned()
            }
        }
    }

    fn check(cases: &[(&str, &str)]) {
        for (path, expected) in cases {
            assert_eq!(describe(&fill(path)), fill(expected), "{path}");
        }
    }

    /// The numbers are those of the format list that this table was made from: what kubelets, runtimes and their tests
    /// are known to write.
    #[test]
    fn knows_the_formats_of_pods() {
        check(&[
            // 1: cgroupfs driver
            ("/kubepods", "other"),
            ("/kubepods/besteffort", "other"),
            ("/kubepods/burstable", "other"),
            ("/kubepods/besteffort/pod{U}", "pod {U}"),
            ("/kubepods/besteffort/pod{U}/{A}", "container {A} of {U}"),
            ("/kubepods/burstable/pod{U}/{A}", "container {A} of {U}"),
            // 2: guaranteed
            ("/kubepods/pod{U}", "pod {U}"),
            ("/kubepods/pod{U}/{A}", "container {A} of {U}"),
            // 3: static pod
            ("/kubepods/burstable/pod{S}", "pod {S}"),
            ("/kubepods/burstable/pod{S}/{A}", "container {A} of {S}"),
            // 4: CRI-O with cgroupfs
            ("/kubepods/pod{U}/crio-{A}", "container {A} of {U}"),
            // 5: a process in a cgroup of its own
            ("/kubepods/burstable/pod{U}/{A}/kube-proxy", "container {A} of {U} nested"),
        ]);
    }

    #[test]
    fn knows_the_formats_of_the_systemd_driver() {
        check(&[
            // 6: containerd
            ("/kubepods.slice", "other"),
            ("/kubepods.slice/kubepods-burstable.slice", "other"),
            ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice", "pod {U}"),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice/cri-containerd-{A}.scope",
                "container {A} of {U}",
            ),
            // 7: without .scope
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{u}.slice/cri-containerd-{A}",
                "container {A} of {U}",
            ),
            // 8: CRI-O, and with its cgroup namespace
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice/crio-{A}.scope",
                "container {A} of {U}",
            ),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice/crio-{A}.scope/container",
                "container {A} of {U} nested",
            ),
            // 9: CRI-O's monitor
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice/crio-conmon-{A}.scope",
                "monitor",
            ),
            ("/kubepods/pod{U}/crio-conmon-{A}", "monitor"),
            ("/kubepods/pod{U}/crio-conmon-{A}/sub", "monitor"),
            // 10: cri-dockerd
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice/docker-{A}.scope",
                "container {A} of {U}",
            ),
            // 11: guaranteed, systemd driver
            ("/kubepods.slice/kubepods-pod{u}.slice", "pod {U}"),
            (
                "/kubepods.slice/kubepods-pod{u}.slice/cri-containerd-{A}.scope",
                "container {A} of {U}",
            ),
            // 12: static pod, systemd driver
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{S}.slice/cri-containerd-{A}.scope",
                "container {A} of {S}",
            ),
            ("/kubepods.slice/kubepods-pod{S}.slice/crio-{A}.scope", "container {A} of {S}"),
            // 13: systemd-style name, cgroupfs runtime
            (
                "/system.slice/containerd.service/kubepods-burstable-pod{u}.slice:cri-containerd:{A}",
                "container {A} of {U}",
            ),
            (
                "/system.slice/containerd.service/kubepods-pod{u}.slice:cri-containerd:{A}/sub",
                "container {A} of {U} nested",
            ),
            ("/system.slice:docker:{A}", "container {A} of none"),
            // 14: the same elsewhere
            (
                "/podruntime.slice/containerd.service/kubepods-besteffort-pod{u}.slice:cri-containerd:{A}",
                "container {A} of {U}",
            ),
        ]);
    }

    #[test]
    fn knows_nodes_that_are_containers() {
        check(&[
            // 15: kind, from inside
            ("/kubelet.slice", "other"),
            ("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice", "other"),
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{u}.slice/cri-containerd-{A}.scope",
                "container {A} of {U}",
            ),
            // 16: kind, from the host
            (
                "/docker/{B}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{u}.slice/cri-containerd-{A}.scope",
                "container {A} of {U}",
            ),
            (
                "/system.slice/docker-{B}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{u}.slice",
                "pod {U}",
            ),
            ("/system.slice/docker-{B}.scope/kubelet.slice", "container {B} of none nested"),
            ("/docker/{B}/kubelet.slice/kubelet-kubepods.slice", "other"),
            ("/docker/{B}/system.slice/containerd.service", "container {B} of none nested"),
            // 17: minikube with the docker driver
            (
                "/system.slice/docker-{B}.scope/kubepods/besteffort/pod{U}/{A}",
                "container {A} of {U}",
            ),
            (
                "/system.slice/docker-{B}.scope/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice/docker-{A}.scope",
                "container {A} of {U}",
            ),
            // 18: kind with cgroupRoot /kubelet
            (
                "/system.slice/docker-{B}.scope/kubelet/kubepods/burstable/pod{U}/{A}",
                "container {A} of {U}",
            ),
            ("/docker/{B}/kubelet/kubepods/pod{U}/{A}", "container {A} of {U}"),
            ("/kubelet/kubepods/besteffort/pod{U}/{A}", "container {A} of {U}"),
            // A cluster in a pod: the inner pod and container.
            ("/kubepods/pod{U}/{A}/kubepods/burstable/pod{V}", "pod {V}"),
            (
                "/kubepods.slice/kubepods-pod{u}.slice/cri-containerd-{A}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{v}.slice/cri-containerd-{B}.scope",
                "container {B} of {V}",
            ),
            // A Docker in a pod: the API knows only the pod's own container.
            ("/kubepods/pod{U}/{A}/docker/{B}", "container {A} of {U} nested"),
            ("/kubepods/pod{U}/{A}/system.slice:docker:{B}", "container {A} of {U} nested"),
        ]);
    }

    #[test]
    fn knows_what_is_in_no_pod() {
        check(&[
            // 19: containerd's namespace
            ("/k8s.io", "other"),
            ("/k8s.io/{A}", "container {A} of none"),
            // 20: relative to the reader's cgroup namespace
            ("/../../pod{U}/{A}", "container {A} of {U}"),
            ("/../cri-containerd-{A}.scope", "container {A} of none"),
            ("/../{A}", "container {A} of none"),
            ("/../../../../system.slice/docker-{A}.scope", "container {A} of none"),
            // 21: the host's own
            ("/system.slice/cri-containerd-{A}.scope", "container {A} of none"),
            ("/docker", "other"),
            ("/docker/{A}", "container {A} of none"),
            ("/system.slice/docker-{A}.scope", "container {A} of none"),
            ("/system.slice/docker-{A}.scope/init.scope", "container {A} of none nested"),
            ("/docker/{A}/docker/{B}", "container {B} of none"),
            // 22: Podman
            ("/libpod_parent", "other"),
            ("/libpod_parent/libpod-{A}", "container {A} of none"),
            ("/libpod_parent/conmon", "monitor"),
            ("/machine.slice/libpod-{A}.scope", "container {A} of none"),
            ("/machine.slice/libpod-{A}.scope/container", "container {A} of none nested"),
            ("/machine.slice/libpod-conmon-{A}.scope", "monitor"),
            ("/machine.slice/machine-libpod_pod_{B}.slice", "other"),
            (
                "/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope",
                "container {A} of none",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope",
                "container {A} of none",
            ),
            ("/user.slice/user-1000.slice/libpod-payload-{A}", "container {A} of none"),
            ("/machine.slice/libpod-{A}.scope/libpod-payload-{A}", "container {A} of none nested"),
            // 23: others
            ("/actions_job/{A}", "container {A} of none"),
            ("/ecs/{S}/{A}", "container {A} of none"),
            ("/docker/{A}/syscont-cgroup-root/init.scope", "container {A} of none nested"),
            ("/lxc", "other"),
            ("/lxc/web-1", "container web-1 of none"),
            ("/lxc/web-1/system.slice/ssh.service", "container web-1 of none nested"),
            ("/lxc.payload.web-1", "container web-1 of none"),
            ("/lxc.payload.web-1/init.scope", "container web-1 of none nested"),
            ("/lxc.monitor.web-1", "monitor"),
            ("/lxc.pivot", "other"),
            ("/lxc/node-1/kubepods/burstable/pod{U}/{A}", "container {A} of {U}"),
            // 24: services of nodes
            ("/", "other"),
            ("/podruntime/runtime", "other"),
            ("/podruntime/kubelet", "other"),
            ("/system/dashboard", "other"),
            ("/init", "other"),
            ("/talos/etcd", "other"),
            ("/system.slice/containerd.service", "other"),
            ("/runtime.slice/crio.service", "other"),
            ("/reserved.slice", "other"),
            ("/kube.slice/kubelet.service", "other"),
            ("/azure.slice/walinuxagent.service", "other"),
            ("/podruntime.slice/containerd.service", "other"),
            // 25: Kata
            ("/vc/kata_{A}", "container {A} of none"),
            ("/kubepods/burstable/pod{U}/kata_{A}", "container {A} of {U}"),
            ("/kata_overhead/{A}", "container {A} of none"),
        ]);
    }

    #[test]
    fn is_not_taken_in_by_likenesses() {
        check(&[
            ("", "other"),
            ("//", "other"),
            ("/kubepods/podium", "other"),
            ("/kubepods/pod39ce9bbc-6da2-4a5a-9143", "other"),
            ("/kubepods/pod{U}-0", "other"),
            ("/kubepods/pod{U}é", "other"),
            ("/system.slice/system-pod{u}.slice", "other"),
            ("/docker/{A}0", "other"),
            ("/docker/{S}", "other"),
            ("/system.slice/docker-{S}.scope", "other"),
            ("/system.slice/docker.service", "other"),
            ("/system.slice:docker:", "other"),
            ("/lxc.payload.", "other"),
            ("/mykubepods.slice", "other"),
            // Below a pod, but nobody's container.
            ("/kubepods/pod{U}/whatever", "pod {U} nested"),
            // Some kubelets keep the case in which the UID was given.
            ("/kubepods/pod39CE9BBC-6DA2-4A5A-9143-D95138DFD72E", "pod {U}"),
        ]);
    }

    /// Two real clusters with the cgroupfs driver; their paths have the pod and the container at fixed places.
    #[test]
    fn knows_every_cgroup_of_the_recorded_clusters() {
        let v1_34 = include_str!("../../../tests/fixtures/v1.34.9/cgroup/tree.txt");
        let v1_20 = include_str!("../../../tests/fixtures/v1.20.2/cgroup/tree.txt");
        for text in [v1_34, v1_20] {
            let mut n_containers = 0;
            for path in text.lines() {
                let mut rest = path.split('/').skip_while(|name| !name.starts_with("pod"));
                let pod = rest.next().and_then(|name| name.strip_prefix("pod"));
                let expected = match (pod, rest.next()) {
                    (None, _) => "other".to_owned(),
                    (Some(uid), None) => format!("pod {uid}"),
                    (Some(uid), Some(id)) => format!("container {id} of {uid}"),
                };
                n_containers += usize::from(expected.starts_with("container"));
                assert_eq!(describe(&format!("/{path}")), expected);
            }
            assert_eq!(n_containers, 19);
        }
    }
}

//! From a cgroup's identity to its names in the API. Pure; never a wrong name, rather none.

use std::{collections::HashMap, sync::Arc};

use super::{
    Identity,
    kubernetes::{view::PodView, workload::AttributedPod},
};
use crate::subject::{CgroupId, ContainerId, PodUid};

/// What a cgroup is called in the API.
#[derive(Clone, Debug)]
pub struct Names {
    /// Its pod.
    pub pod: Arc<AttributedPod>,
    /// Which part of the pod it is.
    pub part: Part,
}

/// Which part of a pod a cgroup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Around the containers.
    Whole,
    /// A container.
    Container(Arc<str>),
    /// The container that holds the pod's namespaces (pause), which no status lists.
    Sandbox,
    /// A container whose name the API does not tell, or not yet.
    Unnamed(ContainerId),
}

/// What is known of the cgroups of each pod together, by which its sandbox is told from a container that is not listed
/// yet.
pub(super) struct Neighbours<'a>(HashMap<&'a PodUid, PodCgroups>);

#[derive(Clone, Copy)]
struct PodCgroups {
    /// The first of the cgroups of containers that is live.
    first: Option<CgroupId>,
    /// The first of those whose containers are listed.
    first_listed: Option<CgroupId>,
}

impl<'a> Neighbours<'a> {
    pub(super) fn of(
        cgroups: impl Iterator<Item = (CgroupId, &'a Identity)>,
        pods: &PodView,
        is_live: impl Fn(CgroupId) -> bool,
    ) -> Self {
        let mut by_pod: HashMap<&PodUid, PodCgroups> = HashMap::new();
        for (id, identity) in cgroups {
            let Identity::Container { pod_uid: Some(uid), container_id, nested: false } = identity
            else {
                continue;
            };
            let cgroups =
                by_pod.entry(uid).or_insert(PodCgroups { first: None, first_listed: None });
            if cgroups.first.is_none_or(|first| id < first) && is_live(id) {
                cgroups.first = Some(id);
            }
            let is_listed = pods.pod(uid).is_some_and(|pod| pod.container(container_id).is_some());
            if is_listed && cgroups.first_listed.is_none_or(|first| id < first) {
                cgroups.first_listed = Some(id);
            }
        }
        Self(by_pod)
    }

    /// Whether a cgroup of a pod that no status lists is its sandbox's.
    ///
    /// The kernel numbers cgroups in the order of their making, the sandbox is made first, lives as long as the pod, and
    /// the kubelet lists containers in the order of their making. So it is the one that is live and older than every
    /// other, once a younger one is listed. A container that is about to be listed is younger than its sandbox.
    fn is_sandbox(&self, uid: &PodUid, id: CgroupId) -> bool {
        self.0.get(uid).is_some_and(|cgroups| {
            cgroups.first == Some(id) && cgroups.first_listed.is_some_and(|listed| id < listed)
        })
    }
}

/// Names cgroups by pods.
pub(super) struct Namer<'a> {
    pub(super) pods: &'a PodView,
    pub(super) neighbours: &'a Neighbours<'a>,
}

impl Namer<'_> {
    /// The names of a cgroup, given those that it had.
    pub(super) fn name(
        &self,
        id: CgroupId,
        identity: &Identity,
        before: Option<Names>,
    ) -> Option<Names> {
        match identity {
            Identity::Pod { pod_uid, .. } => self.pod(pod_uid),
            Identity::Container { pod_uid: None, container_id, .. } => self.by_id(container_id),
            Identity::Container { pod_uid: Some(uid), container_id, nested } => {
                let pod = Arc::clone(self.pods.pod(uid)?);
                let part = match pod.container(container_id) {
                    Some(container) => Part::Container(Arc::clone(&container.name)),
                    None => self.unlisted(id, uid, container_id, *nested, before),
                };
                Some(Names { pod, part })
            }
            Identity::Monitor | Identity::Other { .. } => None,
        }
    }

    /// The names of the owner of a network namespace: a pod as a whole, or a container that is told by its id alone.
    pub(super) fn name_whole(&self, identity: &Identity) -> Option<Names> {
        match identity {
            Identity::Pod { pod_uid, .. } => self.pod(pod_uid),
            Identity::Container { pod_uid: None, container_id, .. } => self.by_id(container_id),
            Identity::Container { .. } | Identity::Monitor | Identity::Other { .. } => None,
        }
    }

    fn pod(&self, uid: &PodUid) -> Option<Names> {
        Some(Names { pod: Arc::clone(self.pods.pod(uid)?), part: Part::Whole })
    }

    fn by_id(&self, id: &ContainerId) -> Option<Names> {
        let pod = Arc::clone(self.pods.pod_of_container(id)?);
        let part = Part::Container(Arc::clone(&pod.container(id)?.name));
        Some(Names { pod, part })
    }

    fn unlisted(
        &self,
        id: CgroupId,
        uid: &PodUid,
        container_id: &ContainerId,
        nested: bool,
        before: Option<Names>,
    ) -> Part {
        match before.map(|names| names.part) {
            // What was once known stays: an id that was pushed out of its container's list, or a sandbox whose pod ended.
            Some(known @ (Part::Container(_) | Part::Sandbox)) => known,
            _ if !nested && self.neighbours.is_sandbox(uid, id) => Part::Sandbox,
            _ => Part::Unnamed(container_id.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use expect_test::expect;

    use super::Part;
    use crate::{
        attribution::{
            Snapshot,
            kubernetes::{
                pod::Pod,
                testing::{pod, recorded, view},
            },
        },
        cgroup::tree::{CgroupEntry, CgroupTree, State},
        subject::{CgroupId, PodUid},
    };

    const UID: &str = "39ce9bbc-6da2-4a5a-9143-d95138dfd72e";
    const HASH: &str = "d4ba6ab1f9a4c0b1b3f0e8f9f5c2a7e6";

    /// A container's id that ends with the letter.
    fn id(letter: char) -> String {
        format!("{}{letter}", "0".repeat(63))
    }

    fn tree<'a>(paths: impl IntoIterator<Item = &'a str>) -> CgroupTree {
        let entry = |(id, path): (u64, &str)| CgroupEntry {
            id: CgroupId(id),
            path: Arc::from(path),
            state: State::Live,
        };
        (1..).zip(paths).map(entry).collect()
    }

    fn named(tree: &CgroupTree, pods: Vec<Pod>) -> Snapshot {
        let mut snapshot = Snapshot::of(tree);
        snapshot.name(view(pods), tree);
        snapshot
    }

    fn describe(snapshot: &Snapshot, id: u64) -> String {
        snapshot.names(CgroupId(id)).map_or("nobody".into(), |names| {
            let part = match &names.part {
                Part::Whole => "all",
                Part::Container(name) => name,
                Part::Sandbox => "sandbox",
                Part::Unnamed(_) => "unnamed",
            };
            format!("{} of {}", part, names.pod.pod.name)
        })
    }

    /// Cgroups in the order of their making, and what each is called.
    fn check(cgroups: &[(&str, &str)], pods: Vec<Pod>) {
        let paths: Vec<String> = cgroups
            .iter()
            .map(|(path, _)| path.replace("{A}", &id('a')).replace("{B}", &id('b')))
            .collect();
        let tree = tree(paths.iter().map(String::as_str));
        let snapshot = named(&tree, pods);
        for (at, (path, expected)) in (1..).zip(cgroups) {
            assert_eq!(describe(&snapshot, at), *expected, "{path}");
        }
        let is_sandbox = |(_, expected): &&(&str, &str)| expected.starts_with("sandbox ");
        assert_eq!(snapshot.sandboxes().len(), cgroups.iter().filter(is_sandbox).count());
    }

    #[test]
    fn a_pod_is_known_under_each_driver_and_by_what_runs_in_it() {
        let slice = format!("/kubepods.slice/kubepods-pod{}.slice", UID.replace('-', "_"));
        for parent in [slice, format!("/kubepods/pod{UID}")] {
            let scope = format!("{parent}/cri-containerd-{{A}}.scope");
            check(
                &[
                    (&parent, "all of web"),
                    (&scope, "main of web"),
                    (&format!("{scope}/init.scope"), "main of web"),
                    ("/system.slice/cri-containerd-{A}.scope", "main of web"),
                    ("/system.slice/cron.service", "nobody"),
                    ("/kubepods/pod00000000-0000-0000-0000-000000000000", "nobody"),
                ],
                vec![pod(UID, "web", &[("main", &[&id('a')])])],
            );
        }
    }

    #[test]
    fn a_static_pod_is_known_by_the_hash_of_its_configuration() {
        let mut mirror = pod(UID, "etcd-node-1", &[("etcd", &[&id('a')])]);
        mirror.static_uid = Some(PodUid::new(HASH));
        let parent = format!("/kubepods/burstable/pod{HASH}");
        check(
            &[(&parent, "all of etcd-node-1"), (&format!("{parent}/{{A}}"), "etcd of etcd-node-1")],
            vec![mirror],
        );
    }

    #[test]
    fn the_hash_that_a_pod_claims_takes_no_other_pods_names() {
        let mut liar = pod("11111111-1111-1111-1111-111111111111", "liar", &[]);
        liar.static_uid = Some(PodUid::new(UID));
        let parent = format!("/kubepods/pod{UID}");
        check(&[(&parent, "all of web")], vec![pod(UID, "web", &[]), liar]);
    }

    #[test]
    fn what_is_not_listed_is_the_sandbox_or_not_named_yet() {
        let parent = format!("/kubepods/pod{UID}");
        let (a, b) = (format!("{parent}/{{A}}"), format!("{parent}/{{B}}"));
        // Nothing is listed: it may be either.
        check(&[(&parent, "all of web"), (&a, "unnamed of web")], vec![pod(UID, "web", &[])]);
        let web = || vec![pod(UID, "web", &[("main", &[&id('b')])])];
        check(&[(&a, "sandbox of web"), (&b, "main of web")], web());
        // Younger than what is listed: about to be listed.
        check(&[(&b, "main of web"), (&a, "unnamed of web")], web());
    }

    #[test]
    fn an_id_that_two_pods_claim_is_nobodys() {
        let two = ["web", "db"].map(|name| pod(name, name, &[("main", &[&id('a')])]));
        check(&[("/system.slice/cri-containerd-{A}.scope", "nobody")], two.into());
    }

    /// The cgroups were recorded some minutes after the pods, of which half had been replaced by then; one that
    /// stayed is the crash loop, of which only one cgroup was there: nothing tells a sandbox alone from a container.
    #[test]
    fn a_recorded_cluster_is_named_as_far_as_its_pods_were_listed() {
        let text = include_str!("../../../tests/fixtures/v1.34.9/cgroup/tree.txt");
        let pods = recorded(include_str!("../../../tests/fixtures/v1.34.9/pods-on-node.json"));
        let is_listed = |path: &&str| {
            pods.iter()
                .flat_map(|pod| &pod.containers)
                .flat_map(|container| &container.ids)
                .any(|id| path.ends_with(id.as_str()))
        };
        let paths: Vec<String> = text.lines().map(|path| format!("/{path}")).collect();
        // A listing has no order of making; runtimes make sandboxes first.
        let mut ordered: Vec<&str> = paths.iter().map(String::as_str).collect();
        ordered.sort_by_key(is_listed);
        let tree = tree(ordered.iter().copied());
        let snapshot = named(&tree, pods);
        let mut counts = BTreeMap::new();
        for entry in tree.iter() {
            let kind = match snapshot.names(entry.id).map(|names| &names.part) {
                None => "nobody",
                Some(Part::Whole) => "whole",
                Some(Part::Container(_)) => "container",
                Some(Part::Sandbox) => "sandbox",
                Some(Part::Unnamed(_)) => "unnamed",
            };
            if entry.path.contains("/pod") {
                *counts.entry(kind).or_insert(0) += 1;
            }
        }
        expect![[r#"
            {
                "container": 5,
                "nobody": 11,
                "sandbox": 5,
                "unnamed": 1,
                "whole": 6,
            }
        "#]]
        .assert_debug_eq(&counts);
    }
}

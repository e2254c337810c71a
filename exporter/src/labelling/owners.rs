//! Whether there still is somebody whom the labels of a series name. Pure.

use std::{borrow::Cow, cell::OnceCell, collections::HashSet, sync::Arc};

use super::{Labeller, Whose};
use crate::{
    attribution::{Identity, Snapshot},
    metric::Desc,
    page::Labels,
    subject::Subject,
};

/// Those of one collection whom labels can name.
pub(super) struct Owners<'a> {
    labeller: &'a Labeller,
    snapshot: &'a Snapshot,
    /// What a series about each of them has beside its own labels; made when the first series asks.
    labels: OnceCell<HashSet<Labels>>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(labeller: &'a Labeller, snapshot: &'a Snapshot) -> Self {
        Self { labeller, snapshot, labels: OnceCell::new() }
    }

    /// Whether a subject that gives nothing now may go on with the value that it had.
    ///
    /// A network namespace may not: what the kernel counted of it is freed when it ends, and its number is the next one's.
    pub(super) fn know(&self, subject: Subject) -> bool {
        !matches!(subject, Subject::NetworkNamespace(_))
            && !matches!(Whose::of(subject, self.snapshot), Whose::Unresolved)
    }

    /// Whether a cgroup or a network namespace is there that a series of this family would have these labels for now:
    /// those of a pod change.
    pub(super) fn have(&self, desc: &Desc, labels: &Labels) -> bool {
        let of_subject = labels.iter().filter(|(name, _)| !desc.labels.contains(name));
        let of_subject =
            of_subject.map(|(name, value)| (Cow::Owned(name.to_owned()), Arc::from(value)));
        self.labels.get_or_init(|| self.all_labels()).contains(&Labels::first_wins(of_subject))
    }

    fn all_labels(&self) -> HashSet<Labels> {
        let served = self.snapshot.owners().filter(|(identity, _)| **identity != Identity::Monitor);
        let whose = served.map(|(identity, names)| Whose::known(Some(identity), names));
        whose.map(|whose| Labels::first_wins(self.labeller.subject_labels(whose))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};

    use crate::{
        attribution::Snapshot,
        cgroup::{
            namespaces::NetworkNamespaces,
            tree::{CgroupEntry, CgroupTree, State},
        },
        labelling::{
            Labeller,
            testing::{bring_up, cgroup, container_path, counter, lines, pod, pod_path, rules},
        },
        subject::{CgroupId, NetworkNamespaceId, Subject},
    };

    struct Node {
        labeller: Labeller,
        snapshot: Snapshot,
    }

    impl Node {
        fn start() -> Self {
            let rules = rules("pod.label.region", "region");
            let labeller = Labeller::new([("cluster".into(), "one".into())], rules);
            Self { labeller, snapshot: Snapshot::default() }
        }

        /// The cgroups that are there, the pod's label if the API is known, who has had how many events, and the page.
        fn check(
            &mut self,
            cgroups: &[(u64, &str)],
            region: Option<&str>,
            values: &[(u64, f64)],
            expected: Expect,
        ) {
            let pod = region.map(|region| pod(&[("region", region)]));
            bring_up(&mut self.snapshot, cgroups, pod);
            let values = values.iter().map(|(id, value)| (cgroup(*id), *value));
            let families = vec![counter(values, Some("rare"))];
            let lines = lines(self.labeller.label(families, &self.snapshot));
            let lines = lines.replace("cluster=one ", "").replace("namespace=n9e pod=web-0 ", "");
            expected.assert_eq(&lines.replace(" workload=web-0 workload_type=barepod", ""));
        }
    }

    #[test]
    fn a_container_keeps_its_series_though_only_an_earlier_incarnation_had_the_event() {
        let mut node = Node::start();
        let [first, second] = [0, 1].map(container_path);
        let region = Some("beijing");
        node.check(
            &[(1, &first)],
            region,
            &[(1, 7.0)],
            expect!["container=web reason=rare region=beijing Number(7.0)"],
        );
        node.check(
            &[(1, &first), (2, &second)],
            region,
            &[(1, 7.0)],
            expect!["container=web reason=rare region=beijing Number(7.0)"],
        );
        node.check(
            &[(2, &second)],
            region,
            &[],
            expect!["container=web reason=rare region=beijing Number(7.0)"],
        );
        node.check(
            &[(2, &second)],
            region,
            &[(2, 1.0)],
            expect!["container=web reason=rare region=beijing Number(8.0)"],
        );
        node.check(&[], region, &[], expect![[""]]);
    }

    #[test]
    fn a_label_that_changes_ends_what_nobody_gives() {
        let mut node = Node::start();
        let [first, second] = [0, 1].map(container_path);
        node.check(
            &[(1, &first)],
            Some("beijing"),
            &[(1, 7.0)],
            expect!["container=web reason=rare region=beijing Number(7.0)"],
        );
        node.check(
            &[(2, &second)],
            Some("beijing"),
            &[],
            expect!["container=web reason=rare region=beijing Number(7.0)"],
        );
        node.check(&[(2, &second)], Some("shanghai"), &[], expect![[""]]);
    }

    /// No name in the API: a container's series is its own, a pod's and a service's has a successor.
    #[test]
    fn what_a_path_names_goes_on_in_the_next_cgroup_of_that_path() {
        let mut node = Node::start();
        let [first, second] = [0, 1].map(container_path);
        let (pod, service) = (pod_path(), "/system.slice/cron.service");
        let nested = format!("{pod}/nested");
        node.check(
            &[(1, &first), (3, &pod), (4, service), (5, &nested)],
            None,
            &[(1, 7.0), (4, 2.0), (5, 3.0)],
            expect![[r#"
                cgroup=/system.slice/cron.service reason=rare Number(2.0)
                container_id=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef pod_uid=0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10 reason=rare Number(7.0)
                pod_uid=0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10 reason=rare Number(3.0)"#]],
        );
        node.check(
            &[(2, &second), (3, &pod), (6, service)],
            None,
            &[],
            expect![[r#"
            cgroup=/system.slice/cron.service reason=rare Number(2.0)
            pod_uid=0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10 reason=rare Number(3.0)"#]],
        );
        node.check(
            &[(3, &pod)],
            None,
            &[],
            expect!["pod_uid=0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10 reason=rare Number(3.0)"],
        );
    }

    #[test]
    fn a_namespace_of_a_pod_begins_anew_under_the_number_of_the_one_before() {
        let (host, of_pod) = (NetworkNamespaceId(101), NetworkNamespaceId(102));
        let entry = CgroupEntry { id: CgroupId(1), path: pod_path().into(), state: State::Live };
        let mut tree: CgroupTree = [entry].into_iter().collect();
        tree.set_namespaces(Arc::new(NetworkNamespaces::of(host, [(CgroupId(1), of_pod)])));
        let snapshot = Snapshot::of(&tree);
        let mut labeller = Labeller::default();
        let mut given = |value: Option<f64>| {
            let values = value.map(|value| (Subject::NetworkNamespace(of_pod), value));
            lines(labeller.label(vec![counter(values, None)], &snapshot))
        };
        let series =
            |value| format!("pod_uid=0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10 Number({value})");
        assert_eq!(given(Some(7.0)), series("7.0"));
        assert_eq!(given(None), series("7.0"));
        assert_eq!(given(Some(1.0)), series("8.0"));
    }
}

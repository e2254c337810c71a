//! From whom a sample is about to the labels that it is served with. No IO, no clock.
//!
//! This is the only place that knows the names of a subject's labels.
//! A name that a sample's own labels have wins over the subject's, and that over `external_labels`; no name stands
//! twice. Whoever the API knows is called as it is there; whoever it does not, by what its cgroup's path says.

mod accumulate;
mod exact;
mod owners;
mod pod_labels;
mod reconfigure;
#[cfg(test)]
mod testing;

pub mod glance;
pub mod pod_state;
pub mod relabel;
pub mod relay;
pub mod reserved;
pub mod rules;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use self::{
    accumulate::{Accumulator, Contribution, Lifetime},
    owners::Owners,
    pod_labels::PodLabels,
    relay::NamedPods,
    rules::LabelRules,
};
use crate::{
    attribution::{
        Identity, Names, Snapshot,
        kubernetes::{view::PodView, workload::AttributedPod},
        namespace::NamespaceOwner,
    },
    metric::{Family, Kind, Sample},
    page::{Labels, PageFamily, Series},
    subject::{ContainerId, Subject},
};

/// The value of the label `cgroup` on the remainder of all cgroups that are not known; no real path begins so.
pub const UNRESOLVED: &str = "(unresolved)";

/// Gives series their labels, and remembers what restarted cgroups had.
#[derive(Debug, Default)]
pub struct Labeller {
    external: Vec<Label>,
    pods: PodLabels,
    accumulators: HashMap<&'static str, Accumulator>,
    relay_pods: Arc<NamedPods>,
}

/// What one collection became.
#[derive(Debug)]
pub struct Labelled {
    /// The families with their final labels.
    pub families: Vec<PageFamily>,
    /// Cgroups and network namespaces with measurements whose id is not known.
    pub n_unresolved: usize,
}

type Label = (Cow<'static, str>, Arc<str>);

fn labels_of(external: impl IntoIterator<Item = (String, String)>) -> Vec<Label> {
    external.into_iter().map(|(name, value)| (Cow::Owned(name), value.into())).collect()
}

impl Labeller {
    /// A labeller that puts these labels on every series, and what the rules give on those about a pod.
    pub fn new(external: impl IntoIterator<Item = (String, String)>, rules: LabelRules) -> Self {
        Self { external: labels_of(external), pods: PodLabels::new(rules), ..Self::default() }
    }

    /// The pods of a snapshot, with the labels that series of the relay get.
    pub fn relay_pods(&mut self, snapshot: &Snapshot) -> Arc<NamedPods> {
        self.relay_pods_of(snapshot.shared_pods(), snapshot.sandboxes())
    }

    /// The same of the pods alone, and those of their containers that are sandboxes.
    pub fn relay_pods_of(
        &mut self,
        view: &Arc<PodView>,
        sandboxes: HashSet<ContainerId>,
    ) -> Arc<NamedPods> {
        if !self.relay_pods.is_of(view, &sandboxes) {
            self.pods.follow(view);
            let version = self.relay_pods.number().wrapping_add(1);
            let labels = |pod: &AttributedPod| self.pods.relay_labels(pod);
            self.relay_pods = Arc::new(NamedPods::new(version, view, sandboxes, labels));
        }
        Arc::clone(&self.relay_pods)
    }

    /// Labels the families of one collection.
    ///
    /// A family that is missing, because its source failed, keeps what it has for the next collection.
    pub fn label(&mut self, families: Vec<Family>, snapshot: &Snapshot) -> Labelled {
        self.pods.follow(snapshot.pods());
        let unresolved: HashSet<Subject> = families
            .iter()
            .flat_map(|family| &family.samples)
            .map(|sample| sample.subject)
            .filter(|subject| !subject.is_remainder())
            .filter(|subject| matches!(Whose::of(*subject, snapshot), Whose::Unresolved))
            .map(|subject| match subject {
                Subject::Subtree(id) => Subject::Cgroup(id),
                Subject::IoCgroup(id) if !snapshot.has_own_io() => Subject::Cgroup(id),
                subject => subject,
            })
            .collect();
        let mut accumulators = mem::take(&mut self.accumulators);
        let owners = Owners::new(self, snapshot);
        let families = families
            .into_iter()
            .map(|family| {
                let accumulator = accumulators.entry(family.desc.name).or_default();
                self.label_family(family, snapshot, &owners, accumulator)
            })
            .collect();
        self.accumulators = accumulators;
        Labelled { families, n_unresolved: unresolved.len() }
    }

    fn label_family(
        &self,
        family: Family,
        snapshot: &Snapshot,
        owners: &Owners<'_>,
        accumulator: &mut Accumulator,
    ) -> PageFamily {
        let desc = family.desc;
        let mut series = Vec::with_capacity(family.samples.len());
        let mut contributions = Vec::new();
        for sample in family.samples {
            let whose = Whose::of(sample.subject, snapshot);
            if !whose.is_served(desc.kind, sample.subject) {
                continue;
            }
            let labels = self.labels(&sample, whose);
            let Sample { subject, value, .. } = sample;
            let lifetime = match whose {
                Whose::Unresolved => Lifetime::Process,
                Whose::Node | Whose::Known(_) | Whose::Named(..) => Lifetime::Subjects,
            };
            if desc.kind == Kind::Gauge || subject == Subject::Node {
                series.push(Series { labels, value });
            } else {
                contributions.push(Contribution { labels, subject, lifetime, value });
            }
        }
        series.extend(accumulator.update(
            contributions,
            |subject| owners.know(subject),
            |labels| owners.have(desc, labels),
        ));
        PageFamily { desc, series }
    }

    fn labels(&self, sample: &Sample, whose: Whose<'_>) -> Labels {
        let own = sample
            .labels
            .iter()
            .map(|(name, value)| (Cow::Borrowed(*name), Arc::from(value.as_ref())));
        Labels::first_wins(own.chain(self.subject_labels(whose)))
    }

    /// What each sample about it has beside its own labels.
    fn subject_labels(&self, whose: Whose<'_>) -> impl Iterator<Item = Label> {
        let subject = match whose {
            Whose::Named(_, names) => self.pods.labels(names),
            _ => whose.labels(),
        };
        subject.into_iter().chain(self.external.iter().cloned())
    }

    /// How many labels of pods were left out, and how many values were cut, since the start.
    #[must_use]
    pub fn label_losses(&self) -> (u64, u64) {
        self.pods.losses()
    }
}

/// Whom a sample is about, as far as it is known.
#[derive(Clone, Copy)]
enum Whose<'a> {
    Node,
    /// By its path alone.
    Known(&'a Identity),
    /// By the API as well.
    Named(&'a Identity, &'a Names),
    /// Of a cgroup or a network namespace that the snapshot does not have.
    Unresolved,
}

impl<'a> Whose<'a> {
    fn of(subject: Subject, snapshot: &'a Snapshot) -> Self {
        match subject {
            Subject::Node => Self::Node,
            Subject::Cgroup(id) | Subject::Subtree(id) => {
                Self::known(snapshot.identity(id), snapshot.names(id))
            }
            Subject::IoCgroup(id) => Self::known(snapshot.io_identity(id), snapshot.io_names(id)),
            Subject::NetworkNamespace(id) => match snapshot.namespace_owner(id) {
                Some(NamespaceOwner::Host) => Self::Node,
                Some(NamespaceOwner::Identity(identity)) => {
                    Self::known(Some(identity), snapshot.namespace_names(id))
                }
                None => Self::Unresolved,
            },
        }
    }

    fn known(identity: Option<&'a Identity>, names: Option<&'a Names>) -> Self {
        match (identity, names) {
            (None, _) => Self::Unresolved,
            (Some(identity), None) => Self::Known(identity),
            (Some(identity), Some(names)) => Self::Named(identity, names),
        }
    }

    /// Whether a measurement of this kind becomes a series.
    ///
    /// What is no sum of parts cannot be added to a remainder, nor to what the container's own cgroup has; and what
    /// that has with all below it has the nested cgroup's part already.
    fn is_served(self, kind: Kind, subject: Subject) -> bool {
        match self {
            Self::Known(Identity::Monitor) => false,
            Self::Unresolved
            | Self::Known(
                Identity::Container { nested: true, .. } | Identity::Pod { nested: true, .. },
            )
            | Self::Named(
                Identity::Container { nested: true, .. } | Identity::Pod { nested: true, .. },
                _,
            ) => kind != Kind::Gauge && !matches!(subject, Subject::Subtree(_)),
            Self::Node | Self::Known(_) | Self::Named(..) => true,
        }
    }

    fn labels(self) -> Vec<Label> {
        let label = |name: &'static str, value: &str| (Cow::Borrowed(name), Arc::from(value));
        match self {
            Self::Node | Self::Known(Identity::Monitor) | Self::Named(..) => Vec::new(),
            Self::Unresolved => vec![label("cgroup", UNRESOLVED)],
            Self::Known(Identity::Other { path }) => {
                vec![(Cow::Borrowed("cgroup"), Arc::clone(path))]
            }
            Self::Known(Identity::Pod { pod_uid, .. }) => vec![label("pod_uid", pod_uid.as_str())],
            Self::Known(Identity::Container { pod_uid, container_id, .. }) => pod_uid
                .iter()
                .map(|uid| label("pod_uid", uid.as_str()))
                .chain([label("container_id", container_id.as_str())])
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};

    use super::{LabelRules, Labeller};
    use crate::{
        attribution::Snapshot,
        cgroup::{
            namespaces::NetworkNamespaces,
            tree::{CgroupEntry, CgroupTree, State},
        },
        encode::{Format, encode},
        metric::{Desc, Family, Kind, Sample, Value},
        page::Page,
        subject::{CgroupId, NetworkNamespaceId, Subject},
    };

    const POD: &str = "/kubepods/pod0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10";
    const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    static COUNTER: Desc = desc("c_total", Kind::Counter);
    static GAUGE: Desc = desc("g", Kind::Gauge);

    const fn desc(name: &'static str, kind: Kind) -> Desc {
        Desc { name, help: "H.", kind, unit: "", labels: &["own"], origin: "" }
    }

    fn tree(paths: &[&str]) -> CgroupTree {
        let entry = |(id, path): (u64, &&str)| CgroupEntry {
            id: CgroupId(id),
            path: (*path).into(),
            state: State::Live,
        };
        (1..).zip(paths).map(entry).collect()
    }

    /// One counter and one gauge about each subject, with the id as value.
    fn check(paths: &[&str], subjects: &[Subject], expected: Expect) {
        check_tree(&tree(paths), subjects, expected);
    }

    fn check_tree(tree: &CgroupTree, subjects: &[Subject], expected: Expect) {
        let sample = |subject: &Subject| Sample {
            subject: *subject,
            labels: vec![("own", "o".into())],
            value: Value::Number(match subject {
                Subject::Node => 0.0,
                Subject::Cgroup(id) | Subject::Subtree(id) | Subject::IoCgroup(id) => {
                    f64::from(u32::try_from(id.0).unwrap())
                }
                Subject::NetworkNamespace(id) => f64::from(u32::try_from(id.0).unwrap()),
            }),
        };
        let samples: Vec<_> = subjects.iter().map(sample).collect();
        let families = [&COUNTER, &GAUGE].map(|desc| Family { desc, samples: samples.clone() });
        let mut labeller = Labeller::new([("cluster".into(), "x".into())], LabelRules::default());
        let labelled = labeller.label(families.into(), &Snapshot::of(tree));
        let text = encode(&Page::new(labelled.families), Format::Text004);
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        expected.assert_eq(&format!("{}\nunresolved {}", lines.join("\n"), labelled.n_unresolved));
    }

    #[test]
    fn a_subject_becomes_its_labels() {
        let container = format!("{POD}/{CONTAINER}");
        let ids = [1, 2, 3].map(|id| Subject::Cgroup(CgroupId(id)));
        check(
            &[POD, &container, "/system.slice/cron.service"],
            &ids,
            expect![[r#"
            c_total{cgroup="/system.slice/cron.service",cluster="x",own="o"} 3
            c_total{cluster="x",container_id="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 2
            c_total{cluster="x",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 1
            g{cgroup="/system.slice/cron.service",cluster="x",own="o"} 3
            g{cluster="x",container_id="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 2
            g{cluster="x",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 1
            unresolved 0"#]],
        );
        check(
            &[],
            &[Subject::Node],
            expect![[r#"
            c_total{cluster="x",own="o"} 0
            g{cluster="x",own="o"} 0
            unresolved 0"#]],
        );
    }

    #[test]
    fn a_nested_cgroup_adds_to_its_container_but_has_no_gauge() {
        let container = format!("{POD}/{CONTAINER}");
        let nested = format!("{container}/init.scope");
        let ids = [1, 2].map(|id| Subject::Cgroup(CgroupId(id)));
        check(
            &[&container, &nested],
            &ids,
            expect![[r#"
            c_total{cluster="x",container_id="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 3
            g{cluster="x",container_id="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 1
            unresolved 0"#]],
        );
    }

    #[test]
    fn a_number_that_has_the_nested_ones_in_it_is_served_once() {
        let container = format!("{POD}/{CONTAINER}");
        let nested = format!("{container}/init.scope");
        let ids = [1, 2, 9].map(|id| Subject::Subtree(CgroupId(id)));
        check(
            &[&container, &nested],
            &ids,
            expect![[r#"
                c_total{cluster="x",container_id="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 1
                g{cluster="x",container_id="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 1
                unresolved 1"#]],
        );
    }

    #[test]
    fn a_container_has_the_same_labels_in_both_hierarchies() {
        let io = |paths: &[&str]| {
            let container = format!("{POD}/{CONTAINER}");
            let container_id = format!("container_id=\"{CONTAINER}\"");
            let cpu = tree(&["/", &container]);
            let snapshot = match paths {
                [] => Snapshot::of(&cpu),
                paths => Snapshot::of(&cpu.with_io(Arc::new(tree(paths)))),
            };
            let samples = [Subject::Cgroup(CgroupId(2)), Subject::IoCgroup(CgroupId(2))]
                .map(|subject| Sample { subject, labels: vec![], value: Value::Number(1.0) });
            let family = Family { desc: &COUNTER, samples: samples.into() };
            let labelled = Labeller::default().label(vec![family], &snapshot);
            let text = encode(&Page::new(labelled.families), Format::Text004);
            let text = String::from_utf8(text).unwrap();
            let n_of_container = text.lines().filter(|line| line.contains(&container_id)).count();
            let total = text.lines().find(|line| line.contains(&container_id)).unwrap();
            (n_of_container, total.ends_with(" 2"), labelled.n_unresolved)
        };
        let container = format!("{POD}/{CONTAINER}");
        assert_eq!(io(&[]), (1, true, 0), "one hierarchy");
        assert_eq!(io(&["/a", &container]), (1, true, 0), "two, the same container");
        assert_eq!(io(&[&container, "/a"]), (1, false, 0), "two, another cgroup of that number");
        assert_eq!(io(&["/a"]), (1, false, 1), "two, and unknown in one");
    }

    #[test]
    fn a_network_namespace_is_its_pods_the_nodes_or_nobodys() {
        let [host, pods, nobodys] = [101, 102, 103].map(NetworkNamespaceId);
        let mut tree = tree(&[&format!("{POD}/{CONTAINER}")]);
        let namespaces = NetworkNamespaces::of(host, [(CgroupId(1), pods)]);
        tree.set_namespaces(Arc::new(namespaces));
        check_tree(
            &tree,
            &[host, pods, nobodys].map(Subject::NetworkNamespace),
            expect![[r#"
                c_total{cgroup="(unresolved)",cluster="x",own="o"} 103
                c_total{cluster="x",own="o"} 101
                c_total{cluster="x",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 102
                g{cluster="x",own="o"} 101
                g{cluster="x",own="o",pod_uid="0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 102
                unresolved 1"#]],
        );
    }

    #[test]
    fn unknown_cgroups_become_one_remainder() {
        let ids = [7, 8].map(|id| Subject::Cgroup(CgroupId(id)));
        check(
            &["/"],
            &ids,
            expect![[r#"
            c_total{cgroup="(unresolved)",cluster="x",own="o"} 15
            unresolved 2"#]],
        );
    }

    #[test]
    fn what_is_nobodys_is_no_unknown_cgroup() {
        check(
            &["/"],
            &[Subject::IoCgroup(CgroupId(0))],
            expect![[r#"
            c_total{cgroup="(unresolved)",cluster="x",own="o"} 0
            unresolved 0"#]],
        );
    }

    #[test]
    fn the_watchers_of_containers_have_no_series() {
        let conmon = format!("/machine.slice/libpod-conmon-{CONTAINER}.scope");
        check(
            &[&conmon],
            &[Subject::Cgroup(CgroupId(1))],
            expect![[r#"

            unresolved 0"#]],
        );
    }
}

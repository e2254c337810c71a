//! Other external labels and other rules for those of pods, in the middle of a life. Pure.
//!
//! A series whose labels change by that ends, and the one that it is called by from then on goes on with its value: what
//! cgroups had that are gone is not in the kernel any more.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use super::{Label, Labeller, labels_of, relay::NamedPods, rules::LabelRules};
use crate::{attribution::kubernetes::view::PodView, page::Labels};

/// What gives labels beside the subject itself.
struct Given<'a> {
    external: &'a [Label],
    rules: &'a LabelRules,
}

impl Labeller {
    /// Takes other labels and rules; `pods` are those that the series have their labels by.
    pub fn reconfigure(
        &mut self,
        external: Vec<(String, String)>,
        rules: LabelRules,
        pods: &PodView,
    ) {
        let external = labels_of(external);
        if external == self.external && rules == *self.pods.rules() {
            return;
        }
        let before = Given { external: &self.external, rules: self.pods.rules() };
        let after = Given { external: &external, rules: &rules };
        for accumulator in self.accumulators.values_mut() {
            accumulator.rename(|labels| renamed(labels, &before, &after, pods));
        }
        self.external = external;
        self.pods.set_rules(rules);
        // Of no view: the next question makes them anew, as a later change than any that the relay has seen.
        let version = self.relay_pods.number();
        self.relay_pods =
            Arc::new(NamedPods::new(version, &Arc::default(), HashSet::new(), |_| Vec::new()));
    }

    /// Forgets families that nobody gives any more; if one comes back, its values begin anew.
    pub fn forget(&mut self, families: impl IntoIterator<Item = &'static str>) {
        for family in families {
            self.accumulators.remove(family);
        }
    }
}

/// The labels of a series without what `before` gave it, and with what `after` gives it.
fn renamed(labels: &Labels, before: &Given<'_>, after: &Given<'_>, pods: &PodView) -> Labels {
    let owner = labels.get("namespace").zip(labels.get("pod"));
    let pod = owner.and_then(|(namespace, name)| pods.pod_named(namespace, name));
    let of_rules = |rules: &LabelRules| pod.map_or_else(Vec::new, |pod| rules.apply(pod).labels);
    let given: HashSet<Cow<'static, str>> = of_rules(before.rules)
        .into_iter()
        .chain(before.external.iter().cloned())
        .map(|(name, _)| name)
        .collect();
    let own = labels.iter().filter(|(name, _)| !given.contains(*name));
    let own = own.map(|(name, value)| (Cow::Owned(name.to_owned()), Arc::from(value)));
    Labels::first_wins(own.chain(of_rules(after.rules)).chain(after.external.iter().cloned()))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{
        attribution::Snapshot,
        labelling::{
            Labeller,
            testing::{bring_up, cgroup, container_path, counter, lines, pod, rules},
        },
    };

    fn external(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    /// The pod's container as its `nth` cgroup, which has counted so many, and a cgroup that nobody knows.
    fn check(labeller: &mut Labeller, snapshot: &mut Snapshot, nth: usize, expected: Expect) {
        let id = u64::try_from(nth).unwrap() + 1;
        let labels = [("region", "beijing"), ("dept", "cloud")];
        bring_up(snapshot, &[(id, &container_path(nth))], Some(pod(&labels)));
        let family = counter([(cgroup(id), 10.0), (cgroup(90 + id), 3.0)], None);
        expected.assert_eq(&lines(labeller.label(vec![family], snapshot)));
    }

    /// The second cgroup of the container begins at 10, and what the first had is not lost with the labels.
    #[test]
    fn a_series_goes_on_with_its_value_under_other_labels() {
        let mut snapshot = Snapshot::default();
        let mut labeller =
            Labeller::new(external("cluster", "one"), rules("pod.label.region", "region"));
        check(
            &mut labeller,
            &mut snapshot,
            0,
            expect![[r#"
                cgroup=(unresolved) cluster=one Number(3.0)
                cluster=one container=web namespace=n9e pod=web-0 region=beijing workload=web-0 workload_type=barepod Number(10.0)"#]],
        );
        check(
            &mut labeller,
            &mut snapshot,
            1,
            expect![[r#"
                cgroup=(unresolved) cluster=one Number(6.0)
                cluster=one container=web namespace=n9e pod=web-0 region=beijing workload=web-0 workload_type=barepod Number(20.0)"#]],
        );
        let pods = std::sync::Arc::clone(snapshot.shared_pods());
        labeller.reconfigure(external("zone", "z"), rules("pod.label.dept", "dept"), &pods);
        check(
            &mut labeller,
            &mut snapshot,
            1,
            expect![[r#"
                cgroup=(unresolved) zone=z Number(6.0)
                container=web dept=cloud namespace=n9e pod=web-0 workload=web-0 workload_type=barepod zone=z Number(20.0)"#]],
        );
        labeller.forget(["c_total"]);
        check(
            &mut labeller,
            &mut snapshot,
            1,
            expect![[r#"
                cgroup=(unresolved) zone=z Number(3.0)
                container=web dept=cloud namespace=n9e pod=web-0 workload=web-0 workload_type=barepod zone=z Number(10.0)"#]],
        );
    }
}

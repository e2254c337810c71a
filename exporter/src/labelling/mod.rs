//! From whom a sample is about to the labels that it is served with. No IO, no clock.
//!
//! This is the only place that knows the names of a subject's labels.
//! A name that a sample's own labels have wins over the subject's, and that over `external_labels`; no name stands
//! twice.

mod accumulate;

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use self::accumulate::{Accumulator, Contribution, Lifetime};
use crate::{
    attribution::{Identity, Snapshot},
    metric::{Family, Kind, Sample},
    page::{Labels, PageFamily, Series},
    subject::{CgroupId, Subject},
};

/// The value of the label `cgroup` on the remainder of all cgroups that are not known; no real path begins so.
pub const UNRESOLVED: &str = "(unresolved)";

/// Gives series their labels, and remembers what restarted cgroups had.
#[derive(Debug, Default)]
pub struct Labeller {
    external: Vec<Label>,
    accumulators: HashMap<&'static str, Accumulator>,
}

/// What one collection became.
#[derive(Debug)]
pub struct Labelled {
    /// The families with their final labels.
    pub families: Vec<PageFamily>,
    /// Cgroups with measurements whose id is not known.
    pub n_unresolved: usize,
}

type Label = (Cow<'static, str>, Arc<str>);

impl Labeller {
    /// A labeller that puts these labels on every series.
    pub fn new(external: impl IntoIterator<Item = (String, String)>) -> Self {
        let external = external
            .into_iter()
            .map(|(name, value)| (Cow::Owned(name), Arc::from(value)))
            .collect();
        Self {
            external,
            accumulators: HashMap::new(),
        }
    }

    /// Labels the families of one collection.
    ///
    /// A family that is missing, because its source failed, keeps what it has for the next collection.
    pub fn label(&mut self, families: Vec<Family>, snapshot: &Snapshot) -> Labelled {
        let mut unresolved: Vec<CgroupId> = families
            .iter()
            .flat_map(|family| &family.samples)
            .filter_map(|sample| match sample.subject {
                Subject::Cgroup(id) if snapshot.identity(id).is_none() => Some(id),
                _ => None,
            })
            .collect();
        unresolved.sort_unstable();
        unresolved.dedup();
        let families = families
            .into_iter()
            .map(|family| self.label_family(family, snapshot))
            .collect();
        Labelled {
            families,
            n_unresolved: unresolved.len(),
        }
    }

    fn label_family(&mut self, family: Family, snapshot: &Snapshot) -> PageFamily {
        let desc = family.desc;
        let mut series = Vec::with_capacity(family.samples.len());
        let mut contributions = Vec::new();
        for sample in family.samples {
            let identity = match sample.subject {
                Subject::Node => None,
                Subject::Cgroup(id) => Some(snapshot.identity(id)),
            };
            if !is_served(desc.kind, identity) {
                continue;
            }
            let labels = self.labels(&sample, identity);
            let Sample { subject, value, .. } = sample;
            let lifetime = match identity {
                Some(None) => Lifetime::Process,
                Some(Some(_)) | None => Lifetime::Subjects,
            };
            if desc.kind == Kind::Gauge || subject == Subject::Node {
                series.push(Series { labels, value });
            } else {
                contributions.push(Contribution {
                    labels,
                    subject,
                    lifetime,
                    value,
                });
            }
        }
        let accumulator = self.accumulators.entry(desc.name).or_default();
        series.extend(accumulator.update(contributions));
        PageFamily { desc, series }
    }

    fn labels(&self, sample: &Sample, identity: Option<Option<&Identity>>) -> Labels {
        let own = sample
            .labels
            .iter()
            .map(|(name, value)| (Cow::Borrowed(*name), Arc::from(value.as_ref())));
        let external = self.external.iter().cloned();
        let subject = identity.map(subject_labels).unwrap_or_default();
        Labels::first_wins(own.chain(subject).chain(external))
    }
}

/// Whether a measurement about a cgroup becomes a series.
///
/// `None` is the node, `Some(None)` a cgroup that nobody knows: what is no sum of parts cannot be added to a remainder,
/// and the same holds for what a nested cgroup has beside its container's own.
fn is_served(kind: Kind, identity: Option<Option<&Identity>>) -> bool {
    match identity {
        Some(Some(Identity::Monitor)) => false,
        Some(
            None
            | Some(Identity::Container { nested: true, .. } | Identity::Pod { nested: true, .. }),
        ) => kind != Kind::Gauge,
        _ => true,
    }
}

/// The labels of whom a measurement is about; of a cgroup that nobody knows, those of the remainder.
fn subject_labels(identity: Option<&Identity>) -> Vec<Label> {
    let label = |name: &'static str, value: &str| (Cow::Borrowed(name), Arc::from(value));
    match identity {
        None => vec![label("cgroup", UNRESOLVED)],
        Some(Identity::Monitor) => Vec::new(),
        Some(Identity::Other { path }) => vec![(Cow::Borrowed("cgroup"), Arc::clone(path))],
        Some(Identity::Pod { pod_uid, .. }) => vec![label("pod_uid", pod_uid.as_str())],
        Some(Identity::Container {
            pod_uid,
            container_id,
            ..
        }) => pod_uid
            .iter()
            .map(|uid| label("pod_uid", uid.as_str()))
            .chain([label("container_id", container_id.as_str())])
            .collect(),
    }
}

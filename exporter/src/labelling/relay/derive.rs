//! What becomes of a series that is new: understood, attributed, relabelled, and written anew.

use super::{
    DropReason, LabelLimits, OwnerKind, Settings,
    cache::{Derived, Outcome},
    explain::LabelList,
    families::{Families, FamilyIdx},
    pods::{CgroupOwner, NO_OWNER, OwnerIdx, OwnerKey, Owners, Pods},
    received::Received,
    write,
};
use crate::{
    labelling::{
        pod_labels::SANDBOX,
        relabel::{LabelSet, Step, Verdict, labels::METRIC_NAME},
    },
    metric::FamilyType,
    page::relayed::{FamilyMeta, Group, SeriesHasher},
    source::upstream::exposition::{Fault, parse_series},
};

/// What a series is derived with.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) families: &'a mut Families,
    pub(super) owners: &'a mut Owners,
    pub(super) pods: &'a dyn Pods,
    pub(super) hasher: &'a SeriesHasher,
}

/// Why a series is not derived.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// It is none; the column counts from its beginning.
    Malformed { column: usize, fault: Fault },
    /// It is too much, and so is its page.
    LabelLimit { limit_name: &'static str },
}

/// What is known of a series' owner.
struct Owned {
    idx: OwnerIdx,
    version: u32,
    kind: OwnerKind,
    owner: CgroupOwner,
    /// Whether its name has to be added, because the series has it only as a cgroup's path.
    by: NamedBy,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NamedBy {
    Labels,
    Path,
}

/// What becomes of the labels of a series on its way.
pub(super) struct Steps {
    pub(super) received: LabelList,
    pub(super) attributed: LabelList,
    pub(super) rules: Vec<Vec<Step>>,
    pub(super) served: LabelList,
}

impl Context<'_> {
    /// Derives a series.
    pub(super) fn derive(&mut self, raw: &[u8]) -> Result<Derived, Refusal> {
        let malformed = |(column, fault)| Refusal::Malformed { column, fault };
        let mut received = received(raw).map_err(malformed)?;
        let original = received.name().to_owned();
        let owned = self.owner(&received);
        owned.add_labels(&mut received, self.settings);
        let relabelled = relabel(self.settings, &received);
        let mut derived = Derived {
            outcome: Outcome::Dropped(DropReason::Rule),
            family: 0,
            owner: owned.idx,
            owner_version: owned.version,
            owner_kind: owned.kind,
            generation: self.families.generation(),
            identity: Group::default(),
            group: Group::default(),
        };
        let Some((labels, is_unchanged)) = relabelled else {
            return Ok(derived);
        };
        if let Some(limit_name) = self.settings.label_limits.broken_by(&labels) {
            return Err(Refusal::LabelLimit { limit_name });
        }
        let name = labels.get(METRIC_NAME);
        let Some(family) = self.family(&original, name) else {
            derived.outcome = Outcome::Dropped(DropReason::FamilyLimit);
            return Ok(derived);
        };
        derived.family = family;
        let Some(meta) = self.families.meta(family) else {
            return Ok(derived);
        };
        if meta.family_type == FamilyType::Histogram && *meta.name == *name {
            derived.outcome = Outcome::Dropped(DropReason::Misplaced);
            return Ok(derived);
        }
        (derived.identity, derived.group) = self.fingerprints(&labels, meta);
        let is_as_it_came = is_unchanged && received.is_as_it_came() && owned.has_suffix();
        // As it came, the order of the labels stays; otherwise it is that of their names.
        let labels: Vec<_> = if is_as_it_came {
            received.labels_as_they_stand().chain(external_labels(self.settings)).collect()
        } else {
            labels.sorted().into_iter().filter(|(name, _)| *name != METRIC_NAME).collect()
        };
        let bound_label = bound_label(meta.family_type);
        derived.outcome = spelled(name, &labels, bound_label, is_as_it_came);
        Ok(derived)
    }

    /// The same way, with what each rule does to the labels.
    pub(super) fn steps(&mut self, raw: &[u8]) -> Result<Steps, (usize, Fault)> {
        let mut series = received(raw)?;
        let received = list(&series.to_label_set());
        let owned = self.owner(&series);
        owned.add_labels(&mut series, self.settings);
        let mut labels = series.to_label_set();
        let attributed = list(&labels);
        let mut rules = Vec::new();
        for list in &self.settings.rules {
            let steps = list.explain(&mut labels);
            let is_kept = steps.last().is_none_or(|step| step.is_kept);
            rules.push(steps);
            if !is_kept {
                break;
            }
        }
        for (name, value) in external_labels(self.settings) {
            if labels.get(name).is_empty() {
                labels.set(name, value);
            }
        }
        Ok(Steps { received, attributed, rules, served: list(&labels) })
    }

    /// The family of a series whose name was `original` before the rules.
    fn family(&mut self, original: &str, name: &str) -> Option<FamilyIdx> {
        let family = self.families.of_sample(original)?;
        if name == original {
            Some(family)
        } else {
            self.families.of_renamed(family, original, name)
        }
    }

    /// Whose the series is: a pod's by its labels, or by the path of its cgroup, which cadvisor calls `id`.
    fn owner(&mut self, series: &Received<'_>) -> Owned {
        let (namespace, pod) = (series.get("namespace"), series.get("pod"));
        let path = series.get("id");
        let (key, by) = if !namespace.is_empty() && !pod.is_empty() {
            (OwnerKey::Name { namespace, pod }, NamedBy::Labels)
        } else if path.starts_with('/') && series.name().starts_with("container_") {
            (OwnerKey::Cgroup(path), NamedBy::Path)
        } else {
            let (idx, kind, owner) = (NO_OWNER, OwnerKind::Node, CgroupOwner::Node);
            return Owned { idx, version: 0, kind, owner, by: NamedBy::Labels };
        };
        let row = self.owners.find(key, self.pods);
        let row = row.and_then(|idx| Some((idx, self.owners.get(idx)?)));
        let (idx, version, owner) = match row {
            Some((idx, row)) => (idx, row.version, row.owner.clone()),
            // Without a row nothing says when it is void.
            None => (OwnerIdx::MAX, 0, super::pods::ask(self.pods, key)),
        };
        let kind = match (&owner, by) {
            (CgroupOwner::Node, _) => OwnerKind::Node,
            (CgroupOwner::UnknownPod, _) => OwnerKind::UnknownPod,
            (_, NamedBy::Labels) => named_kind(series),
            (CgroupOwner::Pod(_), NamedBy::Path) => OwnerKind::Pod,
            (CgroupOwner::Sandbox(_), NamedBy::Path) => OwnerKind::Sandbox,
            (CgroupOwner::Container(..) | CgroupOwner::Unnamed(..), NamedBy::Path) => {
                OwnerKind::Container
            }
        };
        Owned { idx, version, kind, owner, by }
    }

    /// What is equal for equal series, and what is equal for all of one histogram.
    ///
    /// Bounds are equal as numbers: `OpenMetrics` has but one spelling of `1` and `1.0`, and so has Prometheus from
    /// version 3 on, in both formats.
    fn fingerprints(&self, labels: &LabelSet<'_>, meta: &FamilyMeta) -> (Group, Group) {
        let own = |(name, _): &(&str, &str)| *name != METRIC_NAME;
        let name = labels.get(METRIC_NAME);
        let bound_label = bound_label(meta.family_type);
        if bound_label.is_empty() {
            let identity = self.hasher.group(name, labels.iter().filter(own));
            return (identity, identity);
        }
        let others = || labels.iter().filter(own).filter(|(name, _)| *name != bound_label);
        let bound = write::bound_as_number(labels.get(bound_label));
        let identity = self.hasher.group(name, others().chain([(bound_label, &*bound)]));
        (identity, self.hasher.group(&meta.name, others()))
    }
}

/// A series before anything is done to it.
fn received(raw: &[u8]) -> Result<Received<'_>, (usize, Fault)> {
    Received::new(parse_series(raw)?).map_err(|fault| (1, fault))
}

fn list(labels: &LabelSet<'_>) -> LabelList {
    let sorted = labels.sorted().into_iter();
    sorted.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl LabelLimits {
    /// The limit that a series does not keep to, by its key in the configuration.
    fn broken_by(&self, labels: &LabelSet<'_>) -> Option<&'static str> {
        let exceeds = |n: usize, limit: Option<usize>| limit.is_some_and(|limit| n > limit);
        if exceeds(labels.iter().count(), self.labels) {
            Some("label_limit")
        } else if labels.iter().any(|(name, _)| exceeds(name.len(), self.name_bytes)) {
            Some("label_name_length_limit")
        } else if labels.iter().any(|(_, value)| exceeds(value.len(), self.value_bytes)) {
            Some("label_value_length_limit")
        } else {
            None
        }
    }
}

/// The labels after the rules, unless one drops the series, and whether they are those from before, with the external
/// ones behind them.
fn relabel<'a>(settings: &'a Settings, received: &'a Received<'_>) -> Option<(LabelSet<'a>, bool)> {
    let mut labels = received.to_label_set();
    let mut is_unchanged = true;
    if settings.rules.iter().any(|rules| !rules.is_empty()) {
        let before = labels.clone();
        let is_kept = settings.rules.iter().all(|rules| rules.apply(&mut labels) == Verdict::Kept);
        if !is_kept || labels.get(METRIC_NAME).is_empty() {
            return None;
        }
        is_unchanged = labels.sorted() == before.sorted();
    }
    for (name, value) in external_labels(settings) {
        is_unchanged &= labels.get(name).is_empty() && !received.has_empty(name);
        if labels.get(name).is_empty() {
            labels.set(name, value);
        }
    }
    Some((labels, is_unchanged))
}

impl Owned {
    /// Whether what is put behind the labels of a series is the same for all series of this owner.
    fn has_suffix(&self) -> bool {
        self.idx != OwnerIdx::MAX && self.names().is_empty()
    }

    /// Adds the labels of the pod and of the target.
    fn add_labels<'a>(&'a self, received: &mut Received<'a>, settings: &'a Settings) {
        let of_pod = self.owner.pod().into_iter().flat_map(|pod| &pod.labels);
        let added = of_pod.chain(&settings.labels);
        let added = added.map(|(name, value)| (name.as_str(), value.as_str()));
        received.add(self.names().into_iter().chain(added), settings.honor_labels);
    }

    /// The labels that name the pod and the container, where the series does not have them.
    fn names(&self) -> Vec<(&str, &str)> {
        let Some(pod) = self.owner.pod().filter(|_| self.by == NamedBy::Path) else {
            return Vec::new();
        };
        let mut names = vec![("namespace", pod.namespace.as_str()), ("pod", pod.name.as_str())];
        match &self.owner {
            CgroupOwner::Container(_, name) => names.push(("container", name)),
            CgroupOwner::Sandbox(_) => names.push(("container", SANDBOX)),
            CgroupOwner::Unnamed(_, id) => names.push(("container_id", id)),
            CgroupOwner::Pod(_) | CgroupOwner::Node | CgroupOwner::UnknownPod => {}
        }
        names
    }
}

fn external_labels(settings: &Settings) -> impl Iterator<Item = (&str, &str)> {
    settings.external_labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// What a series is about that has its pod's name: cadvisor gives the sandbox a `name` and no `container`, and Docker's
/// sandboxes the container `POD`, as Podmeter's own series do.
fn named_kind(series: &Received<'_>) -> OwnerKind {
    match (series.get("container"), series.get("name")) {
        ("", "") => OwnerKind::Pod,
        ("" | SANDBOX, _) => OwnerKind::Sandbox,
        _ => OwnerKind::Container,
    }
}

/// The label that tells the series of one histogram or summary apart.
fn bound_label(family_type: FamilyType) -> &'static str {
    match family_type {
        FamilyType::Histogram => "le",
        FamilyType::Summary => "quantile",
        FamilyType::Counter
        | FamilyType::Gauge
        | FamilyType::Info
        | FamilyType::StateSet
        | FamilyType::Unknown => "",
    }
}

/// A series with its final labels, in the bytes that each format wants.
fn spelled(name: &str, labels: &[(&str, &str)], bound_label: &str, is_as_it_came: bool) -> Outcome {
    let written = |bound: Option<&str>| {
        let labels = labels.iter().map(|(name, value)| match bound {
            Some(bound) if *name == bound_label => (*name, bound),
            _ => (*name, *value),
        });
        let mut out = Vec::new();
        write::series(&mut out, name, labels);
        out.into_boxed_slice()
    };
    let bound = labels.iter().find(|(name, _)| !bound_label.is_empty() && *name == bound_label);
    let canonical = bound.and_then(|(_, bound)| write::canonical_bound(bound));
    Outcome::Served {
        rewritten: (!is_as_it_came).then(|| written(None)),
        openmetrics: canonical.as_deref().map(|bound| written(Some(bound))),
    }
}

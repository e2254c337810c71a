//! The labels that the user wants from Kubernetes objects (`kubernetes.labels`): rules, and what they give for a pod. Pure.
//!
//! No rule can overwrite a label of Podmeter's own or give one name twice: a rule's target is checked with the
//! configuration, and what patterns give is settled as kube-state-metrics does it, by `_conflict1`, `_conflict2`, ….

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Label,
    reserved::{self, NameError},
};
use crate::attribution::kubernetes::{
    pod::Metadata,
    wanted::{KeySet, Keys, MAX_KEPT_BYTES, Wanted},
    workload::AttributedPod,
};

/// Most labels that rules give one pod; a tenant decides what labels a pod has.
pub const MAX_LABELS: usize = 32;
/// Longest value: that of a label has 63 bytes, but an annotation may have 256 kB.
pub const MAX_VALUE_BYTES: usize = 256;
const _: () =
    assert!(MAX_VALUE_BYTES < MAX_KEPT_BYTES, "what was cut before must be seen to be too long");

/// All rules, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelRules(Vec<LabelRule>);

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelRule {
    /// One label, from the first place that has a value.
    One {
        /// Where to look, in this order.
        from: Vec<Origin>,
        /// The label's name.
        to: String,
    },
    /// A label for each key that begins so, named as kube-state-metrics does.
    Pattern {
        /// Where to look; the key is the prefix.
        from: Origin,
    },
}

/// A label or annotation of an object around a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    place: Place,
    field: Field,
    key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Pod,
    Namespace,
    Node,
    Deployment,
    Workload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Label,
    Annotation,
}

/// Why a rule is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A place that does not exist.
    #[error(
        "`{0}` names no label or annotation; it takes pod, namespace, node, deployment or workload, then label or \
         annotation, then the key, such as pod.label.region"
    )]
    Origin(String),
    /// A pattern with a target or an alternative.
    #[error("a pattern names its labels itself, so `to` and `or` are not for it")]
    PatternWithTarget,
    /// A pattern behind `or`.
    #[error("a pattern gives many labels, so it is no alternative for one")]
    PatternAsAlternative,
    /// No target.
    #[error("`to` is missing: the name of the label")]
    NoTarget,
    /// A target that is no free label name.
    #[error("`to` is `{0}`, but {1}")]
    Name(String, NameError),
    /// A target that another rule has.
    #[error("`to` is `{0}`, which another rule or external_labels gives already")]
    Twice(String),
}

/// What the rules give for a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The labels; no name stands twice.
    pub labels: Vec<Label>,
    /// Labels beyond the most that are given.
    pub n_left_out: u64,
    /// Values that were too long.
    pub n_cut: u64,
}

impl LabelRule {
    /// Makes a rule of what the configuration says.
    pub fn new(from: &str, or: &[String], to: Option<&str>) -> Result<Self, RuleError> {
        if let Some(pattern) = from.strip_suffix('*') {
            if to.is_some() || !or.is_empty() {
                return Err(RuleError::PatternWithTarget);
            }
            return Ok(Self::Pattern { from: Origin::parse(pattern, from)? });
        }
        let mut origins = vec![Origin::parse(from, from)?.with_key(from)?];
        for other in or {
            if other.ends_with('*') {
                return Err(RuleError::PatternAsAlternative);
            }
            origins.push(Origin::parse(other, other)?.with_key(other)?);
        }
        let to = to.ok_or(RuleError::NoTarget)?;
        reserved::check(to).map_err(|error| RuleError::Name(to.into(), error))?;
        Ok(Self::One { from: origins, to: to.into() })
    }
}

impl Origin {
    fn parse(text: &str, whole: &str) -> Result<Self, RuleError> {
        let parsed = || {
            let (place, rest) = text.split_once('.')?;
            let (field, key) = rest.split_once('.')?;
            let place = match place {
                "pod" => Place::Pod,
                "namespace" => Place::Namespace,
                "node" => Place::Node,
                "deployment" => Place::Deployment,
                "workload" => Place::Workload,
                _ => return None,
            };
            let field = match field {
                "label" => Field::Label,
                "annotation" => Field::Annotation,
                _ => return None,
            };
            Some(Self { place, field, key: key.into() })
        };
        parsed().ok_or_else(|| RuleError::Origin(whole.into()))
    }

    fn with_key(self, whole: &str) -> Result<Self, RuleError> {
        if self.key.is_empty() { Err(RuleError::Origin(whole.into())) } else { Ok(self) }
    }

    fn metadata<'a>(&self, pod: &'a AttributedPod) -> Option<&'a Metadata> {
        match self.place {
            Place::Pod => Some(&pod.pod.metadata),
            Place::Namespace => pod.namespace_metadata.as_deref(),
            Place::Node => pod.node_metadata.as_deref(),
            Place::Deployment => pod.deployment_metadata.as_deref(),
            Place::Workload => pod.workload_metadata.as_deref(),
        }
    }

    fn value<'a>(&self, pod: &'a AttributedPod) -> Option<&'a str> {
        let metadata = self.metadata(pod)?;
        let value = match self.field {
            Field::Label => metadata.label(&self.key),
            Field::Annotation => metadata.annotation(&self.key),
        };
        // An empty label is an absent one in Prometheus.
        value.filter(|value| !value.is_empty())
    }

    /// The labels of a pattern, by the names that they would have if they were alone.
    fn matches<'a>(&self, pod: &'a AttributedPod) -> impl Iterator<Item = (String, &'a str)> {
        let (pairs, prefix) = match (self.metadata(pod), self.field) {
            (None, Field::Label) => (&[][..], "label_"),
            (None, Field::Annotation) => (&[][..], "annotation_"),
            (Some(metadata), Field::Label) => (&*metadata.labels, "label_"),
            (Some(metadata), Field::Annotation) => (&*metadata.annotations, "annotation_"),
        };
        pairs
            .iter()
            .filter(|(key, value)| key.starts_with(&self.key) && !value.is_empty())
            .map(move |(key, value)| (format!("{prefix}{}", snake_case(key)), &**value))
    }
}

impl LabelRules {
    /// Adds a rule; its target must not be another's, nor among `taken`.
    pub fn push(&mut self, rule: LabelRule, taken: impl Fn(&str) -> bool) -> Result<(), RuleError> {
        if let LabelRule::One { to, .. } = &rule {
            let is_anothers = self.0.iter().any(|other| match other {
                LabelRule::One { to: other, .. } => other == to,
                LabelRule::Pattern { .. } => false,
            });
            if is_anothers || taken(to) {
                return Err(RuleError::Twice(to.clone()));
            }
        }
        self.0.push(rule);
        Ok(())
    }

    /// What has to be known of which objects.
    #[must_use]
    pub fn wanted(&self, pod_state: bool) -> Wanted {
        let mut wanted = Wanted { pod_state, ..Wanted::default() };
        for rule in &self.0 {
            match rule {
                LabelRule::One { from, .. } => {
                    for origin in from {
                        want(&mut wanted, origin, |keys| keys.add_key(&origin.key));
                    }
                }
                LabelRule::Pattern { from } => {
                    want(&mut wanted, from, |keys| keys.add_prefix(&from.key));
                }
            }
        }
        wanted
    }

    /// The labels of a pod.
    #[must_use]
    pub fn apply(&self, pod: &AttributedPod) -> Given {
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let mut fixed = Vec::new();
        let mut by_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for rule in &self.0 {
            match rule {
                LabelRule::One { from, to } => {
                    taken.insert(to.clone());
                    if let Some(value) = from.iter().find_map(|origin| origin.value(pod)) {
                        fixed.push((to.clone(), value));
                    }
                }
                LabelRule::Pattern { from } => {
                    for (name, value) in from.matches(pod) {
                        by_name.entry(name).or_default().push(value);
                    }
                }
            }
        }
        let matched = settle(by_name, taken);
        let mut given = Given::default();
        for (name, value) in fixed.into_iter().chain(matched) {
            if given.labels.len() == MAX_LABELS {
                given.n_left_out += 1;
                continue;
            }
            let end = value.floor_char_boundary(MAX_VALUE_BYTES);
            given.n_cut += u64::from(end < value.len());
            let value = value.get(..end).unwrap_or_default();
            given.labels.push((Cow::Owned(name), Arc::from(value)));
        }
        given
    }
}

fn want(wanted: &mut Wanted, origin: &Origin, add: impl Fn(&mut KeySet)) {
    let field = |keys: &mut Keys| match origin.field {
        Field::Label => add(&mut keys.labels),
        Field::Annotation => add(&mut keys.annotations),
    };
    match origin.place {
        Place::Pod => field(&mut wanted.pod),
        Place::Namespace => field(&mut wanted.namespace),
        Place::Node => field(&mut wanted.node),
        Place::Deployment => field(&mut wanted.deployment),
        Place::Workload => {
            field(&mut wanted.workload);
            // A pod that nothing runs is its own workload.
            field(&mut wanted.pod);
        }
    }
}

/// Gives each of the colliding names a number, as kube-state-metrics does: all of them, so that none means another one
/// depending on which others there are.
fn settle(
    by_name: BTreeMap<String, Vec<&str>>,
    mut taken: BTreeSet<String>,
) -> Vec<(String, &str)> {
    let mut settled = Vec::new();
    let mut colliding = Vec::new();
    for (name, values) in by_name {
        match &*values {
            [value] if !taken.contains(&name) => settled.push((name, *value)),
            _ => colliding.push((name, values)),
        }
    }
    taken.extend(settled.iter().map(|(name, _)| name.clone()));
    for (name, values) in colliding {
        let mut number = 0_usize;
        for value in values {
            let free = loop {
                number += 1;
                let candidate = format!("{name}_conflict{number}");
                if taken.insert(candidate.clone()) {
                    break candidate;
                }
            };
            settled.push((free, value));
        }
    }
    settled
}

/// `app.kubernetes.io/partOf` as `app_kubernetes_io_part_of`.
fn snake_case(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    let mut before = '_';
    for letter in key.chars() {
        if letter.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            name.push('_');
        }
        let is_valid = letter.is_ascii_alphanumeric() || letter == '_';
        name.push(if is_valid { letter.to_ascii_lowercase() } else { '_' });
        before = letter;
    }
    name
}

#[cfg(test)]
mod tests;

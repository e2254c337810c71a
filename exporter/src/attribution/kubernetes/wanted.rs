//! Which labels and annotations of which objects the configuration asks for: all others are dropped as objects arrive,
//! and objects of which none is wanted are not read. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::pod::Metadata;

/// Most that is kept of one value: annotations hold whole objects, and no label is that long. What is cut here is longer
/// than a label's value may be, so it is counted where the label is made.
pub(crate) const MAX_KEPT_BYTES: usize = 512;

/// Keys by the object that they are taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of the pod.
    pub pod: Keys,
    /// Of its namespace.
    pub namespace: Keys,
    /// Of its node.
    pub node: Keys,
    /// Of its Deployment.
    pub deployment: Keys,
    /// Of its workload, whatever that is.
    pub workload: Keys,
    /// Whether the state of pods is served, so that it has to be kept.
    pub pod_state: bool,
}

/// Keys of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Of its labels.
    pub labels: KeySet,
    /// Of its annotations.
    pub annotations: KeySet,
}

/// Single keys, and all keys that begin alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    exact: BTreeSet<String>,
    prefixes: BTreeSet<String>,
}

impl Keys {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    /// Keeps what is wanted of an object's labels and annotations, in the order of the keys.
    pub(super) fn prune(
        &self,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    ) -> Metadata {
        Metadata {
            labels: self.labels.prune(labels),
            annotations: self.annotations.prune(annotations),
        }
    }

    /// The keys of both.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            labels: self.labels.and(&other.labels),
            annotations: self.annotations.and(&other.annotations),
        }
    }
}

impl KeySet {
    /// Adds one key.
    pub fn add_key(&mut self, key: &str) {
        self.exact.insert(key.into());
    }

    /// Adds all keys with a prefix; the empty one is that of every key.
    pub fn add_prefix(&mut self, prefix: &str) {
        self.prefixes.insert(prefix.into());
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    fn contains(&self, key: &str) -> bool {
        self.exact.contains(key)
            || self.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()))
    }

    fn prune(&self, pairs: BTreeMap<String, String>) -> Vec<(Box<str>, Box<str>)> {
        let mut kept: Vec<(Box<str>, Box<str>)> = pairs
            .into_iter()
            .filter(|(key, _)| self.contains(key))
            .map(|(key, mut value)| {
                let end = value.floor_char_boundary(MAX_KEPT_BYTES);
                value.truncate(end);
                (key.into(), value.into())
            })
            .collect();
        kept.shrink_to_fit();
        kept
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            exact: self.exact.union(&other.exact).cloned().collect(),
            prefixes: self.prefixes.union(&other.prefixes).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, MAX_KEPT_BYTES};

    #[test]
    fn only_what_is_wanted_is_kept() {
        let mut keys = Keys::default();
        assert!(keys.is_empty());
        keys.labels.add_key("region");
        keys.annotations.add_prefix("example.com/");
        assert!(!keys.is_empty());
        let given =
            |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), format!("{key}!"))).collect();
        let kept = keys.prune(
            given(&["region", "regions", "example.com/a"]),
            given(&["example.com/b", "example.com/a", "region"]),
        );
        assert_eq!(kept.label("region"), Some("region!"));
        assert_eq!(kept.labels.len(), 1);
        assert_eq!(kept.annotations.len(), 2);
        assert_eq!(kept.annotation("example.com/a"), Some("example.com/a!"));
        assert_eq!(kept.annotation("region"), None);

        let mut all = Keys::default();
        all.annotations.add_prefix("");
        let long = format!("{}ü", "x".repeat(MAX_KEPT_BYTES - 1));
        let kept = all.prune(given(&[]), [("whole-object".to_owned(), long)].into());
        let n_bytes = kept.annotation("whole-object").map(str::len);
        assert_eq!(n_bytes, Some(MAX_KEPT_BYTES - 1), "a character is cut as a whole");

        let mut all = Keys::default();
        all.labels.add_prefix("");
        assert_eq!(all.and(&keys).prune(given(&["a", "b"]), given(&["a"])).labels.len(), 2);
    }
}

//! `kubernetes`: whether pods are named by the API, and by which labels of the user's own. Pure.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Visitor};
use serde_saphyr::Spanned;

use super::{ConfigError, Context};
use crate::labelling::rules::{LabelRule, LabelRules};

/// Shortest span between two reads of one object: less is no longer polite to the API server.
const LEAST_REFRESH: Duration = Duration::from_secs(1);
/// How long metadata is trusted by default.
const DEFAULT_REFRESH: Duration = Duration::from_mins(5);

/// What the configuration says of the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// Whether it is asked.
    pub enabled: Enabled,
    /// The kubeconfig, if one was named.
    pub kubeconfig: Option<PathBuf>,
    /// The labels that the user wants.
    pub labels: LabelRules,
    /// How long the metadata of the objects around the pods is trusted.
    pub metadata_refresh: Duration,
    /// Whether the state of pods is served.
    pub pod_state: bool,
}

/// Whether the API is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enabled {
    /// If there are credentials for it.
    #[default]
    Auto,
    /// In any case; without credentials, Podmeter does not start.
    Always,
    /// Never.
    Never,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self {
            enabled: Enabled::Auto,
            kubeconfig: None,
            labels: LabelRules::default(),
            metadata_refresh: DEFAULT_REFRESH,
            pod_state: true,
        }
    }
}

/// The key as it stands in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawKubernetes {
    enabled: Enabled,
    kubeconfig: Option<String>,
    labels: Vec<Spanned<RawRule>>,
    metadata_refresh: Option<String>,
    pod_state: RawPodState,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPodState {
    enabled: bool,
}

impl Default for RawPodState {
    fn default() -> Self {
        Self { enabled: true }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRule {
    from: String,
    or: OneOrMany,
    to: Option<String>,
}

/// A string, or a list of them.
#[derive(Debug, Default)]
struct OneOrMany(Vec<String>);

impl RawKubernetes {
    pub(super) fn resolve(
        self,
        context: &Context<'_>,
        is_taken: impl Fn(&str) -> bool,
    ) -> Result<KubernetesConfig, ConfigError> {
        let mut labels = LabelRules::default();
        for (index, spanned) in self.labels.into_iter().enumerate() {
            let RawRule { from, or, to } = spanned.value;
            LabelRule::new(&from, &or.0, to.as_deref())
                .and_then(|rule| labels.push(rule, &is_taken))
                .map_err(|source| ConfigError::Rule {
                    place: context.place(&spanned.referenced),
                    key: format!("kubernetes.labels[{index}]"),
                    source,
                })?;
        }
        let kubeconfig = self.kubeconfig.map(|path| context.expand("kubernetes.kubeconfig", &path));
        Ok(KubernetesConfig {
            enabled: self.enabled,
            kubeconfig: kubeconfig.transpose()?.map(PathBuf::from),
            labels,
            metadata_refresh: match self.metadata_refresh {
                Some(text) => refresh(&text, context)?,
                None => DEFAULT_REFRESH,
            },
            pod_state: self.pod_state.enabled,
        })
    }
}

fn refresh(text: &str, context: &Context<'_>) -> Result<Duration, ConfigError> {
    span(text).filter(|span| *span >= LEAST_REFRESH).ok_or_else(|| ConfigError::Value {
        file: context.file.into(),
        key: "kubernetes.metadata_refresh".into(),
        value: text.into(),
        wanted: "it takes a number with s, m or h, such as 30s or 5m, and no less than 1s",
    })
}

/// A span as Prometheus writes it, with one unit.
fn span(text: &str) -> Option<Duration> {
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let number: u64 = number.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

impl<'de> Deserialize<'de> for Enabled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOrBool;

        impl Visitor<'_> for AutoOrBool {
            type Value = Enabled;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("auto, true or false")
            }

            fn visit_bool<E>(self, enabled: bool) -> Result<Enabled, E> {
                Ok(if enabled { Enabled::Always } else { Enabled::Never })
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Enabled, E> {
                match text {
                    "auto" => Ok(Enabled::Auto),
                    "true" => Ok(Enabled::Always),
                    "false" => Ok(Enabled::Never),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(AutoOrBool)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrList;

        impl<'de> Visitor<'de> for StringOrList {
            type Value = OneOrMany;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.into()]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<OneOrMany, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = list.next_element()? {
                    many.push(one);
                }
                Ok(OneOrMany(many))
            }
        }

        deserializer.deserialize_any(StringOrList)
    }
}

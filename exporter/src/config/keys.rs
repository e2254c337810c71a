//! The keys of the configuration file: what docs/configuration.md says of them, and which one was probably meant.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::source::probe::{PROBES, ProbeDef, Switch};

/// One key for the documentation.
pub struct Key {
    /// Its path in the file.
    pub path: &'static str,
    /// Its value if it is not given.
    pub default: &'static str,
    /// One or more full sentences.
    pub doc: &'static str,
}

/// Every key, in the order of the documentation.
pub const KEYS: &[Key] = &[
    Key {
        path: "listen",
        default: "`0.0.0.0:9643`",
        doc: "IP address and port on which `/metrics`, `/healthz`, `/readyz` and `/` are served.",
    },
    Key {
        path: "external_labels",
        default: "none",
        doc: "Labels that every series gets, by name. A name that Podmeter gives itself is refused.",
    },
    Key {
        path: "probes.<name>.enabled",
        default: "the probe's own",
        doc: "Whether the kernel probe of that name is loaded; docs/metrics.md lists the probes and which are on.",
    },
    Key { path: "paths.procfs", default: "`/proc`", doc: "Where the host's procfs is mounted." },
    Key { path: "paths.sysfs", default: "`/sys`", doc: "Where the host's sysfs is mounted." },
    Key {
        path: "paths.cgroupfs",
        default: "found in `mountinfo`",
        doc: "Where the host's cgroup hierarchies are mounted, if not where this process sees them.",
    },
];

/// Labels that Podmeter sets itself, which `external_labels` must not name.
pub(super) const OWN_LABELS: &[&str] = &[
    "cgroup",
    "code",
    "container",
    "container_id",
    "device",
    "direction",
    "handler",
    "hook",
    "ip_family",
    "kind",
    "le",
    "limit",
    "map",
    "namespace",
    "node",
    "operation",
    "pod",
    "pod_uid",
    "probe",
    "program",
    "quantile",
    "reason",
    "resource",
    "result",
    "role",
    "source",
    "state",
    "version",
];

/// The names of all probes, as serde wants the known keys.
const PROBE_NAMES: [&str; PROBES.len()] = probe_names();

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time on a table")]
const fn probe_names() -> [&'static str; PROBES.len()] {
    let mut names = [""; PROBES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = PROBES[index].name;
        index += 1;
    }
    names
}

/// Which probes are switched on or off; for those that are not named their own default holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbesConfig(BTreeMap<String, ProbeSwitch>);

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct ProbeSwitch {
    #[serde(default)]
    enabled: Option<bool>,
}

impl ProbesConfig {
    /// Whether the probe is to be loaded.
    #[must_use]
    pub fn enabled(&self, probe: &ProbeDef) -> bool {
        let said = self.0.get(probe.name).and_then(|switch| switch.enabled);
        said.unwrap_or(probe.switch == Switch::On)
    }
}

impl<'de> Deserialize<'de> for ProbesConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;

        impl<'de> Visitor<'de> for ByName {
            type Value = ProbesConfig;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping from the names of probes to their settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProbesConfig, A::Error> {
                let mut switches = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !PROBE_NAMES.contains(&name.as_str()) {
                        return Err(A::Error::unknown_field(&name, &PROBE_NAMES));
                    }
                    switches.insert(name, map.next_value()?);
                }
                Ok(ProbesConfig(switches))
            }
        }

        deserializer.deserialize_map(ByName)
    }
}

/// The known key that is most like the given one, if any is like it at all.
pub(super) fn nearest(given: &str, known: &[&'static str]) -> Option<&'static str> {
    /// Below this the words have little in common.
    const LEAST_LIKENESS: f64 = 0.6;

    let likeness = |key: &str| strsim::jaro_winkler(given, key);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LEAST_LIKENESS).then_some(best)
}

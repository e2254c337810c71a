//! The label names that Podmeter, Prometheus or a family of Podmeter's own gives, which no configuration may take. Pure.

use super::relabel::rule::is_label_name;

/// Every reserved name, in order. A test holds it against the labels of all families.
const RESERVED: &[&str] = &[
    "cgroup",
    "code",
    "condition",
    "container",
    "container_id",
    "created_by_kind",
    "created_by_name",
    "deployment",
    "device",
    "direction",
    "handler",
    "hook",
    "host_ip",
    "host_network",
    "instance",
    "ip_family",
    "job",
    "kind",
    "le",
    "limit",
    "map",
    "namespace",
    "node",
    "operation",
    "owner",
    "owner_is_controller",
    "owner_kind",
    "owner_name",
    "phase",
    "pod",
    "pod_ip",
    "pod_uid",
    "priority_class",
    "probe",
    "program",
    "qos_class",
    "quantile",
    "reason",
    "remote_name",
    "resource",
    "result",
    "role",
    "source",
    "state",
    "uid",
    "unit",
    "version",
    "workload",
    "workload_type",
];

/// Why a name cannot be given by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is no label name.
    #[error(
        "a label name has letters, digits and underscores, and begins with neither a digit nor two underscores"
    )]
    Invalid,
    /// It is taken.
    #[error("that label is Podmeter's own; choose another name")]
    Reserved,
}

/// Whether the name is one that Podmeter gives.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RESERVED.binary_search(&name).is_ok()
}

/// Checks a name that the configuration gives: as Prometheus has had them from the start, and free.
pub fn check(name: &str) -> Result<(), NameError> {
    if !is_label_name(name) || name.starts_with("__") {
        return Err(NameError::Invalid);
    }
    if is_reserved(name) { Err(NameError::Reserved) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{NameError, RESERVED, check, is_reserved};
    use crate::{
        labelling::pod_state,
        source::{host::HOST, probe::PROBES},
        telemetry,
    };

    #[test]
    fn the_list_is_in_order_and_has_every_familys_labels() {
        assert!(RESERVED.is_sorted());
        let probes = PROBES.iter().flat_map(|probe| probe.metrics);
        let host = HOST.iter().flat_map(|source| source.metrics);
        let own = telemetry::METRICS.iter().copied();
        for desc in probes.chain(host).chain(pod_state::METRICS).chain(own) {
            for label in desc.labels {
                assert!(
                    is_reserved(label),
                    "{label} of {} is not in labelling/reserved.rs",
                    desc.name
                );
            }
        }
    }

    #[test]
    fn names_are_checked() {
        let expect = |name, expected| assert_eq!(check(name), expected, "{name}");
        expect("region", Ok(()));
        expect("_region2", Ok(()));
        for name in ["", "9a", "a-b", "a.b", "ä", "__name__", "__a"] {
            expect(name, Err(NameError::Invalid));
        }
        for name in ["le", "quantile", "job", "instance", "node", "pod", "workload_type"] {
            expect(name, Err(NameError::Reserved));
        }
    }
}

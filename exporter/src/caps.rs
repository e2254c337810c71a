//! The Linux capabilities that Podmeter needs, and whether the process has them.

use caps::{CapSet, Capability};

/// A capability that is not there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this process lacks {missing}, which loading eBPF programs needs: run as root, in a privileged container, \
     or with CAP_BPF and CAP_PERFMON (Linux 5.8 and later)"
)]
pub struct MissingCapability {
    missing: &'static str,
}

/// Checks that the process may load and attach tracing programs: `CAP_BPF` and `CAP_PERFMON`, or `CAP_SYS_ADMIN`.
pub fn check_bpf() -> Result<(), MissingCapability> {
    decide(has)
}

/// The capability behind an answer of `false` is the one that is named.
fn decide(has: impl Fn(Capability) -> bool) -> Result<(), MissingCapability> {
    if has(Capability::CAP_SYS_ADMIN) {
        return Ok(());
    }
    match (has(Capability::CAP_BPF), has(Capability::CAP_PERFMON)) {
        (true, true) => Ok(()),
        (true, false) => Err(MissingCapability { missing: "CAP_PERFMON" }),
        (false, _) => Err(MissingCapability { missing: "CAP_BPF" }),
    }
}

/// A kernel that does not know the capability cannot have given it.
fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use caps::Capability;

    use super::decide;

    #[test]
    fn sys_admin_or_both_of_the_finer_ones() {
        let check = |given: &[Capability], expected: Option<&str>| {
            let missing = decide(|capability| given.contains(&capability)).err();
            assert_eq!(missing.map(|error| error.missing), expected);
        };
        check(&[Capability::CAP_SYS_ADMIN], None);
        check(&[Capability::CAP_BPF, Capability::CAP_PERFMON], None);
        check(&[Capability::CAP_BPF], Some("CAP_PERFMON"));
        check(&[Capability::CAP_PERFMON], Some("CAP_BPF"));
        check(&[], Some("CAP_BPF"));
    }
}

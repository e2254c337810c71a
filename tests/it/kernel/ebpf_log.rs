//! Programs that are asked to say what they skip pass the verifier of every kernel, and count as before.

use podmeter::{
    paths::HostPaths,
    source::probe::{EbpfLog, PROBES, ProbeHost},
};
use podmeter_tests::probe::TestProbe;

#[test]
fn every_probe_attaches_with_its_diagnostics_on() {
    let host = ProbeHost { ebpf_log: EbpfLog::On, ..ProbeHost::find(&HostPaths::default()) };
    for def in PROBES {
        for hook in def.hooks {
            // Not every kernel has what every hook needs.
            if let Some(mut probe) = TestProbe::start_where_types_fit(&host, def.name, &[hook.kind])
            {
                // Reading flushes the lines.
                assert_eq!(probe.read().n_lost(NO_LOSS), 0);
            }
        }
    }
}

/// Reasons that an event may have for which nothing is lost, or that was under way when the probe attached.
const NO_LOSS: &[&str] = &["no_duration", "returned_early", "no_entry"];

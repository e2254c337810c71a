//! With `lockdown=confidentiality` every probe that reads the kernel's memory by address is off and says so, and the
//! others count.

use std::env;

use podmeter::{
    paths::HostPaths,
    source::probe::{self, HookKind, OffReason, PROBES, ProbeHost},
};

use podmeter_tests::skip::left_out;

use super::{block_io, network, run_queue};

/// The probes that read nothing by address, but through typed pointers, or nothing at all.
const ALLOWED: &[&str] = &["block_io", "network", "run_queue"];

#[test]
fn probes_say_that_they_may_not_read_memory_and_the_others_count() {
    let host = ProbeHost::find(&HostPaths::default());
    if !host.is_confidential {
        let is_locked_down = env::var("PODMETER_VM_VARIANT").is_ok_and(|name| name == "lockdown");
        assert!(!is_locked_down, "this guest's kernel was started with lockdown=confidentiality");
        return left_out("this kernel runs without lockdown=confidentiality");
    }
    for def in PROBES {
        let (_, statuses) = probe::start(&host, HookKind::ALL, |probe| probe.name == def.name);
        let status = statuses.iter().find(|status| status.name == def.name).expect("a status");
        let reasons = status.reasons.join("; ");
        let state = match status.state {
            Ok(hook) => hook.as_str(),
            Err(reason) => {
                assert_eq!(reason, OffReason::Lockdown, "{}: {reasons}", def.name);
                assert!(reasons.contains("lockdown=confidentiality"), "{}: {reasons}", def.name);
                "off"
            }
        };
        println!("report: hook | {} | {state} | {reasons}", def.name);
        assert_eq!(state == "off", !ALLOWED.contains(&def.name), "{}: {reasons}", def.name);
    }
    network::check_the_hosts_namespace();
    block_io::check_direct_io(HookKind::BtfTracepoint, "direct");
    run_queue::check_busy(HookKind::BtfTracepoint, "preempted");
}

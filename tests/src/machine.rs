//! What the machine that the tests run on must be able to do.

use podmeter::source::probe::{OffReason, Probe, ProbeStatus};

use crate::skip::left_out;

/// Whether this is a virtual machine of `cargo xtask test vm`, whose kernels can attach every probe.
#[must_use]
pub fn is_test_vm() -> bool {
    std::env::var_os("PODMETER_VM").is_some()
}

/// Whether a probe that was asked for is off because this kernel's types do not have what its hooks need,
/// which is said.
#[must_use]
pub fn lacks_types(statuses: &[ProbeStatus]) -> bool {
    let lacking = statuses.iter().find(|status| status.state == Err(OffReason::KernelTypes));
    if let Some(ProbeStatus { name, reasons, .. }) = lacking {
        left_out(format_args!("{name} | {}", reasons.join("; ")));
    }
    lacking.is_some()
}

/// The one probe that was started, or nothing on a machine whose kernel refuses it, after checking that it says why.
#[must_use]
pub fn attached((mut probes, mut statuses): (Vec<Probe>, Vec<ProbeStatus>)) -> Option<Probe> {
    statuses.retain(|status| status.state != Err(OffReason::Disabled));
    let [status] = statuses.try_into().expect("one probe was asked for");
    let ProbeStatus { name, state, reasons, instead } = status;
    let reasons = reasons.join("; ");
    match state {
        Ok(hook) => {
            println!("report: hook | {name} | {} | {reasons}", hook.as_str());
            return probes.pop();
        }
        Err(reason) => println!("report: hook | {name} | off | {}: {reasons}", reason.as_str()),
    }
    assert!(!is_test_vm(), "the kernels of the virtual machines can attach {name}: {reasons}");
    // What the verifier refuses here is a mistake in the program; what is not allowed here has another reason.
    let is_refused = state == Err(OffReason::Refused) && reasons.contains("(verifier: ");
    assert!(!is_refused, "{name} is refused: {reasons}");
    assert!(!reasons.is_empty(), "a probe that is off says why");
    assert!(!instead.is_empty(), "a probe that is off says what there is instead");
    None
}

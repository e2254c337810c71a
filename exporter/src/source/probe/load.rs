//! Loading and attaching: each probe by the first hook that works, with the reasons why not by the better ones.

use std::io;

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Endianness,
    programs::{Program, ProgramError},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use tracing::{info, warn};

use super::{
    HookDef, HookKind, OffReason, PROBES, Probe, ProbeDef, ProbeStatus, ProgramDef,
    btf::{BtfError, KernelTypes},
};
use crate::{
    caps::{self, MissingCapability},
    error_chain::one_line,
    paths::HostPaths,
};

/// Why a probe, or one of its hooks, is not in use.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("switched off in the configuration")]
    Disabled,
    #[error("not allowed")]
    NotAllowed(#[from] MissingCapability),
    #[error("the kernel's types do not give what it needs")]
    Types(#[from] BtfError),
    #[error("cannot load the type information that fentry needs")]
    Btf(#[from] aya::BtfError),
    #[error("cannot load the eBPF object")]
    Object(#[from] EbpfError),
    #[error("the eBPF object has no program {name} of the kind that the hook wants")]
    NoProgram { name: &'static str },
    #[error("this kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)")]
    NoKprobes,
    #[error("the kernel refused to load {program}")]
    Load {
        program: &'static str,
        source: ProgramError,
    },
    #[error("cannot attach {program} to {function}")]
    Attach {
        program: &'static str,
        function: &'static str,
        source: ProgramError,
    },
}

/// What all probes need from the kernel, read once and dropped after the start.
struct KernelInterface {
    types: KernelTypes,
    btf: Btf,
    has_kprobes: bool,
}

/// Starts every probe of the table that `enabled` names, by hooks of the given kinds; one that fails is off and says
/// why.
#[must_use]
pub fn start(
    paths: &HostPaths,
    hooks: &[HookKind],
    enabled: impl Fn(&str) -> bool,
) -> (Vec<Probe>, Vec<ProbeStatus>) {
    // Without a probe to start, the kernel's types are not worth their second of parsing.
    let kernel = PROBES
        .iter()
        .any(|def| enabled(def.name))
        .then(|| KernelInterface::read(paths));
    let mut probes = Vec::new();
    let mut statuses = Vec::new();
    for def in PROBES {
        let (probe, status) = match &kernel {
            Some(Ok(kernel)) if enabled(def.name) => start_one(def, hooks, kernel),
            Some(Err(error)) if enabled(def.name) => (None, off(def, error)),
            _ => (None, off(def, &StartError::Disabled)),
        };
        report(&status);
        probes.extend(probe);
        statuses.push(status);
    }
    (probes, statuses)
}

impl KernelInterface {
    fn read(paths: &HostPaths) -> Result<Self, StartError> {
        caps::check_bpf()?;
        raise_memlock_limit();
        let types = KernelTypes::read(paths)?;
        let btf = Btf::parse_file(paths.sys.join("kernel/btf/vmlinux"), Endianness::default())?;
        let has_kprobes = paths.sys.join("bus/event_source/devices/kprobe").exists()
            || paths.sys.join("kernel/tracing/kprobe_events").exists();
        Ok(Self {
            types,
            btf,
            has_kprobes,
        })
    }
}

fn start_one(
    def: &'static ProbeDef,
    hooks: &[HookKind],
    kernel: &KernelInterface,
) -> (Option<Probe>, ProbeStatus) {
    let globals = match (def.globals)(&kernel.types).map_err(StartError::from) {
        Ok(globals) => globals,
        Err(error) => return (None, off(def, &error)),
    };
    let mut reasons = Vec::new();
    for hook in def.hooks.iter().filter(|hook| hooks.contains(&hook.kind)) {
        match attach_hook(def, hook, &globals, kernel) {
            Ok(ebpf) => {
                let status = ProbeStatus {
                    name: def.name,
                    state: Ok(hook.kind),
                    reasons,
                };
                return (Some(Probe::new(def, ebpf, hook)), status);
            }
            Err(error) => reasons.push(format!("{}: {}", hook.kind.as_str(), one_line(&error))),
        }
    }
    (
        None,
        ProbeStatus {
            name: def.name,
            state: Err(OffReason::Refused),
            reasons,
        },
    )
}

/// Loads the object afresh and attaches the hook's programs; dropping the object undoes all of it.
fn attach_hook(
    def: &ProbeDef,
    hook: &HookDef,
    globals: &[(&'static str, u32)],
    kernel: &KernelInterface,
) -> Result<Ebpf, StartError> {
    if hook.kind == HookKind::Kprobe && !kernel.has_kprobes {
        return Err(StartError::NoKprobes);
    }
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&kernel.btf));
    for (name, value) in globals {
        loader.override_global(name, value, true);
    }
    let mut ebpf = loader.load(def.object)?;
    for program in hook.programs {
        let loaded = ebpf
            .program_mut(program.name)
            .ok_or(StartError::NoProgram { name: program.name })?;
        attach_program(loaded, program, &kernel.btf)?;
    }
    Ok(ebpf)
}

fn attach_program(loaded: &mut Program, program: &ProgramDef, btf: &Btf) -> Result<(), StartError> {
    let (name, function) = (program.name, program.function);
    let load_error = |source| StartError::Load {
        program: name,
        source,
    };
    let attached = match loaded {
        Program::FEntry(entry) => {
            entry.load(function, btf).map_err(load_error)?;
            entry.attach().map(drop)
        }
        Program::FExit(exit) => {
            exit.load(function, btf).map_err(load_error)?;
            exit.attach().map(drop)
        }
        Program::KProbe(probe) => {
            probe.load().map_err(load_error)?;
            probe.attach(function, 0).map(drop)
        }
        _ => return Err(StartError::NoProgram { name }),
    };
    attached.map_err(|source| StartError::Attach {
        program: name,
        function,
        source,
    })
}

fn off(def: &ProbeDef, error: &StartError) -> ProbeStatus {
    let reason = match error {
        StartError::Disabled => OffReason::Disabled,
        StartError::NotAllowed(_) => OffReason::NotAllowed,
        StartError::Types(_) | StartError::Btf(_) => OffReason::KernelTypes,
        _ => OffReason::Refused,
    };
    ProbeStatus {
        name: def.name,
        state: Err(reason),
        reasons: vec![one_line(error)],
    }
}

fn report(status: &ProbeStatus) {
    let reasons = status.reasons.join("; ");
    match status.state {
        Ok(hook) if reasons.is_empty() => {
            info!(probe = status.name, hook = hook.as_str(), "probe attached");
        }
        Ok(hook) => {
            info!(
                probe = status.name,
                hook = hook.as_str(),
                refused = reasons,
                "probe attached"
            );
        }
        Err(OffReason::Disabled) => info!(probe = status.name, reason = reasons, "probe is off"),
        Err(_) => warn!(probe = status.name, reason = reasons, "probe is off"),
    }
}

/// Lifts the limit on locked memory, to which kernels before 5.11 charge maps.
///
/// It is 64 KiB there, less than one probe's maps; where it cannot be lifted, creating the map says so.
fn raise_memlock_limit() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        let error = io::Error::from(error);
        warn!(%error, "cannot lift the limit on locked memory; maps may not fit before Linux 5.11");
    }
}

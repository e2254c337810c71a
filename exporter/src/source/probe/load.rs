//! Loading and attaching: each probe by the first hook that works, with the reasons why not by the better ones.

use std::{io, sync::Arc};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Endianness,
    programs::{Program, ProgramError},
    util::KernelVersion,
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
    Types(#[from] Arc<BtfError>),
    #[error("cannot load the type information that fentry needs")]
    Btf(#[from] aya::BtfError),
    #[error("cannot load the eBPF object")]
    Object(#[from] EbpfError),
    #[error("the eBPF object has no program {name} of the kind that the hook wants")]
    NoProgram { name: &'static str },
    #[error("this kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)")]
    NoKprobes,
    #[error("the kernel refused to load {program}{}", quote(.verdict))]
    Verifier {
        program: &'static str,
        /// The last line of the verifier's log, which is its verdict; empty if the verifier was not asked.
        verdict: String,
        source: io::Error,
    },
    #[error("cannot load {program}")]
    Load { program: &'static str, source: ProgramError },
    #[error("cannot attach {program} to {function}")]
    Attach { program: &'static str, function: &'static str, source: ProgramError },
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
    let wanted: Vec<_> = PROBES.iter().filter(|def| enabled(def.name)).collect();
    let (probes, mut statuses) = start_all(&wanted, hooks, paths)
        .unwrap_or_else(|error| (Vec::new(), wanted.iter().map(|def| off(def, &error)).collect()));
    let disabled = PROBES.iter().filter(|def| !enabled(def.name));
    statuses.extend(disabled.map(|def| off(def, &StartError::Disabled)));
    statuses.iter().for_each(report);
    (probes, statuses)
}

impl KernelInterface {
    fn read(paths: &HostPaths) -> Result<Self, StartError> {
        let types = KernelTypes::read(paths).map_err(Arc::new)?;
        let btf = Btf::parse_file(paths.sys.join("kernel/btf/vmlinux"), Endianness::default())?;
        let has_kprobes = paths.sys.join("bus/event_source/devices/kprobe").exists()
            || paths.sys.join("kernel/tracing/kprobe_events").exists();
        Ok(Self { types, btf, has_kprobes })
    }
}

fn start_all(
    wanted: &[&'static ProbeDef],
    hooks: &[HookKind],
    paths: &HostPaths,
) -> Result<(Vec<Probe>, Vec<ProbeStatus>), StartError> {
    // Without a probe to start, the kernel's types are not worth parsing.
    if wanted.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    caps::check_bpf()?;
    raise_memlock_limit();
    // One loader serves all probes, because making one parses the kernel's types, whoever needs them; so it holds the
    // globals of all, and an object takes those that it has. Its copy of the types goes before ours comes, which
    // halves the memory that the start takes.
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    let kernel = KernelInterface::read(paths)?;
    loader.btf(Some(&kernel.btf));
    let globals: Vec<Result<_, Arc<BtfError>>> =
        wanted.iter().map(|def| (def.globals)(&kernel.types).map_err(Arc::new)).collect();
    for (name, value) in globals.iter().flatten().flatten() {
        loader.override_global(name, value, false);
    }
    let mut probes = Vec::new();
    let mut statuses = Vec::new();
    for (def, globals) in wanted.iter().zip(&globals) {
        let (probe, status) = match globals {
            Ok(_) => start_one(def, hooks, &mut loader, &kernel),
            Err(error) => (None, off(def, &StartError::Types(Arc::clone(error)))),
        };
        probes.extend(probe);
        statuses.push(status);
    }
    Ok((probes, statuses))
}

fn start_one(
    def: &'static ProbeDef,
    hooks: &[HookKind],
    loader: &mut EbpfLoader<'_>,
    kernel: &KernelInterface,
) -> (Option<Probe>, ProbeStatus) {
    let (name, instead) = (def.name, def.instead);
    let mut reasons = Vec::new();
    for hook in def.hooks.iter().filter(|hook| hooks.contains(&hook.kind)) {
        match attach_hook(def, hook, loader, kernel) {
            Ok(ebpf) => {
                let status = ProbeStatus { name, state: Ok(hook.kind), reasons, instead };
                return (Some(Probe::new(def, ebpf, hook)), status);
            }
            Err(error) => reasons.push(format!("{}: {}", hook.kind.as_str(), one_line(&error))),
        }
    }
    (None, ProbeStatus { name, state: Err(OffReason::Refused), reasons, instead })
}

/// Loads the object afresh and attaches the hook's programs; dropping the object undoes all of it.
fn attach_hook(
    def: &ProbeDef,
    hook: &HookDef,
    loader: &mut EbpfLoader<'_>,
    kernel: &KernelInterface,
) -> Result<Ebpf, StartError> {
    if hook.kind == HookKind::Kprobe && !kernel.has_kprobes {
        return Err(StartError::NoKprobes);
    }
    let mut object = loader.load(def.object)?;
    for program in hook.programs {
        let loaded =
            object.program_mut(program.name).ok_or(StartError::NoProgram { name: program.name })?;
        attach_program(loaded, program, &kernel.btf)?;
    }
    Ok(object)
}

fn attach_program(loaded: &mut Program, program: &ProgramDef, btf: &Btf) -> Result<(), StartError> {
    let (name, function) = (program.name, program.function);
    let load_error = |error| load_error(name, error);
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
    attached.map_err(|source| StartError::Attach { program: name, function, source })
}

fn load_error(program: &'static str, error: ProgramError) -> StartError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            // The statistics after the verdict are of no use to an operator.
            let is_verdict = |line: &&str| !line.is_empty() && !line.starts_with("processed ");
            let verdict = log.lines().rev().map(str::trim).find(is_verdict);
            StartError::Verifier {
                program,
                verdict: verdict.unwrap_or_default().into(),
                source: io_error,
            }
        }
        source => StartError::Load { program, source },
    }
}

fn quote(verdict: &str) -> String {
    if verdict.is_empty() { String::new() } else { format!(" (verifier: {verdict})") }
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
        instead: def.instead,
    }
}

fn report(status: &ProbeStatus) {
    let reasons = status.reasons.join("; ");
    match status.state {
        Ok(hook) if reasons.is_empty() => {
            info!(probe = status.name, hook = hook.as_str(), "probe attached");
        }
        Ok(hook) => {
            info!(probe = status.name, hook = hook.as_str(), refused = reasons, "probe attached");
        }
        Err(OffReason::Disabled) => info!(probe = status.name, reason = reasons, "probe is off"),
        Err(_) => {
            let instead = status.instead;
            warn!(probe = status.name, reason = reasons, instead, "probe is off");
        }
    }
}

/// Lifts the limit on locked memory, to which kernels before 5.11 charge maps.
///
/// It is 64 KiB there, less than one probe's maps; where it cannot be lifted, creating the map says so.
fn raise_memlock_limit() {
    let charges_memlock =
        KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 11, 0));
    if !charges_memlock {
        return;
    }
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        let error = io::Error::from(error);
        warn!(%error, "cannot lift the limit on locked memory, so maps may not fit");
    }
}

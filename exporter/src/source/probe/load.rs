//! Loading and attaching: each probe by the first hook that works, with the reasons why not by the better ones.

use std::{fs::File, io, path::PathBuf, sync::Arc};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Endianness,
    maps::MapError,
    programs::{CgroupAttachMode, Program, ProgramError},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use tracing::{info, warn};

use super::{
    PROBES,
    btf::{BtfError, KernelTypes},
    def::{Globals, HookDef, HookKind, Names, Need, ProbeDef, ProgramDef},
    host::ProbeHost,
    running::{OffReason, Probe, ProbeStatus},
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
    #[error("cannot attach {program} to {target}")]
    Attach { program: &'static str, target: &'static str, source: ProgramError },
    #[error(
        "no cgroup2 hierarchy is mounted, whose root the program attaches to; \
         `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`"
    )]
    NoUnified,
    #[error("cannot open the root of the cgroup2 hierarchy at {path}")]
    OpenUnified { path: PathBuf, source: io::Error },
    #[error(
        "the kernel runs with lockdown=confidentiality, which forbids programs to read its memory by \
         address; lockdown=integrity allows it"
    )]
    Lockdown,
    #[error("cannot make the remainders in the maps")]
    Remainders(#[from] MapError),
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
    host: &ProbeHost,
    hooks: &[HookKind],
    enabled: impl Fn(&ProbeDef) -> bool,
) -> (Vec<Probe>, Vec<ProbeStatus>) {
    let wanted: Vec<_> = PROBES.iter().filter(|def| enabled(def)).collect();
    let (probes, mut statuses) = start_these(host, hooks, &wanted);
    let others: Vec<_> = PROBES.iter().filter(|def| !enabled(def)).map(disabled).collect();
    others.iter().for_each(report);
    statuses.extend(others);
    (probes, statuses)
}

/// The same of these, and of no others.
#[must_use]
pub fn start_these(
    host: &ProbeHost,
    hooks: &[HookKind],
    wanted: &[&'static ProbeDef],
) -> (Vec<Probe>, Vec<ProbeStatus>) {
    let (probes, statuses) = start_all(wanted, hooks, host)
        .unwrap_or_else(|error| (Vec::new(), wanted.iter().map(|def| off(def, &error)).collect()));
    statuses.iter().for_each(report);
    (probes, statuses)
}

/// A probe that the configuration switches off.
#[must_use]
pub fn disabled(def: &ProbeDef) -> ProbeStatus {
    off(def, &StartError::Disabled)
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
    host: &ProbeHost,
) -> Result<(Vec<Probe>, Vec<ProbeStatus>), StartError> {
    // Without a probe to start, the kernel's types are not worth parsing.
    if wanted.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    if let Some(error) = all_forbidden(wanted) {
        return Err(error.into());
    }
    lift_memlock_limit();
    // One loader serves all probes, because making one parses the kernel's types, whoever needs them. Its copy of the
    // types goes before ours comes, which halves the memory that the start takes.
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    host.ebpf_log.set(&mut loader);
    let kernel = KernelInterface::read(&host.paths)?;
    loader.btf(Some(&kernel.btf));
    let attempts: Vec<Vec<Attempt>> =
        wanted.iter().map(|def| attempts(def, hooks, &kernel, host)).collect();
    let mut probes = Vec::new();
    let mut statuses = Vec::new();
    for (def, attempts) in wanted.iter().zip(&attempts) {
        let (probe, status) = start_one(def, attempts, &mut loader, &kernel, host);
        probes.extend(probe);
        statuses.push(status);
    }
    Ok((probes, statuses))
}

/// What is missing, if no probe may be attached: the first one's word for all.
fn all_forbidden(wanted: &[&'static ProbeDef]) -> Option<MissingCapability> {
    let mut missing = wanted.iter().map(|def| caps::check_probe(def.name).err());
    let first = missing.next()??;
    missing.all(|one| one.is_some()).then_some(first)
}

/// One way of hooking a probe in on this kernel: what its programs must know, or why it cannot be.
struct Attempt {
    hook: &'static HookDef,
    globals: Result<Globals, Arc<BtfError>>,
}

fn attempts(
    def: &'static ProbeDef,
    hooks: &[HookKind],
    kernel: &KernelInterface,
    host: &ProbeHost,
) -> Vec<Attempt> {
    let wanted = def.hooks.iter().filter(|hook| hooks.contains(&hook.kind));
    let attempt = |hook: &'static HookDef| Attempt {
        hook,
        globals: (hook.globals)(&kernel.types, host).map_err(Arc::new),
    };
    wanted.map(attempt).collect()
}

fn start_one<'a>(
    def: &'static ProbeDef,
    attempts: &'a [Attempt],
    loader: &mut EbpfLoader<'a>,
    kernel: &KernelInterface,
    host: &ProbeHost,
) -> (Option<Probe>, ProbeStatus) {
    let (name, instead) = (def.name, def.instead);
    let mut reasons = Vec::new();
    let mut why_off = OffReason::Refused;
    for attempt in attempts {
        let hook = attempt.hook;
        match attach_hook(def, attempt, loader, kernel, host) {
            Ok((mut ebpf, missing)) => {
                reasons.extend(missing);
                let lines = match host.ebpf_log.reader(name, &mut ebpf) {
                    Some(Err(error)) => {
                        reasons.push(format!("without --ebpf-log: {}", one_line(&error)));
                        None
                    }
                    Some(Ok(lines)) => Some(lines),
                    None => None,
                };
                let status = ProbeStatus { name, state: Ok(hook.kind), reasons, instead };
                let names: Names = (def.names)(&kernel.types);
                return (Some(Probe::new(def, ebpf, hook, host, names, lines)), status);
            }
            Err(error) => {
                why_off = off_reason(&error);
                reasons.push(format!("{}: {}", hook.kind.as_str(), one_line(&error)));
            }
        }
    }
    (None, ProbeStatus { name, state: Err(why_off), reasons, instead })
}

/// Loads the object afresh and attaches the hook's programs, and says which that it can do without are missing;
/// dropping the object undoes all of it.
fn attach_hook<'a>(
    def: &ProbeDef,
    attempt: &'a Attempt,
    loader: &mut EbpfLoader<'a>,
    kernel: &KernelInterface,
    host: &ProbeHost,
) -> Result<(Ebpf, Vec<String>), StartError> {
    let Attempt { hook, globals } = attempt;
    caps::check_probe(def.name)?;
    if hook.kind == HookKind::Kprobe && !kernel.has_kprobes {
        return Err(StartError::NoKprobes);
    }
    if host.is_confidential && hook.memory.is_read(host) {
        return Err(StartError::Lockdown);
    }
    let globals = globals.as_ref().map_err(Arc::clone)?;
    for (name, value) in globals {
        // The library's globals are in an object only as far as its programs use them.
        loader.override_global(name, value, false);
    }
    let mut object = loader.load(def.object)?;
    for table in def.tables {
        table.make_remainders(&mut object)?;
    }
    let mut missing = Vec::new();
    for program in hook.programs {
        let loaded =
            object.program_mut(program.name).ok_or(StartError::NoProgram { name: program.name })?;
        match attach_program(loaded, program, &kernel.btf, host) {
            Ok(()) => {}
            Err(error) if program.need == Need::Optional => {
                missing.push(format!("without {}: {}", program.target, one_line(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((object, missing))
}

fn attach_program(
    loaded: &mut Program,
    program: &ProgramDef,
    btf: &Btf,
    host: &ProbeHost,
) -> Result<(), StartError> {
    let (name, target) = (program.name, program.target);
    let load_error = |error| load_error(name, error);
    let attached = match loaded {
        Program::FEntry(entry) => {
            entry.load(target, btf).map_err(load_error)?;
            entry.attach().map(drop)
        }
        Program::FExit(exit) => {
            exit.load(target, btf).map_err(load_error)?;
            exit.attach().map(drop)
        }
        Program::KProbe(probe) => {
            probe.load().map_err(load_error)?;
            probe.attach(target, 0).map(drop)
        }
        Program::BtfTracePoint(tracepoint) => {
            tracepoint.load(target, btf).map_err(load_error)?;
            tracepoint.attach().map(drop)
        }
        Program::RawTracePoint(tracepoint) => {
            tracepoint.load().map_err(load_error)?;
            tracepoint.attach(target).map(drop)
        }
        Program::CgroupSkb(packets) => {
            packets.load().map_err(load_error)?;
            let direction = packets.expected_attach_type().ok_or(StartError::NoProgram { name })?;
            let path = host.unified.as_ref().ok_or(StartError::NoUnified)?;
            let root = File::open(path)
                .map_err(|source| StartError::OpenUnified { path: path.clone(), source })?;
            // A link (5.7 and later) is always beside what others attach there, Cilium or systemd for instance, and
            // takes no flag that says so: kernel/bpf/cgroup.c, cgroup_bpf_link_attach() of 5.10 and 6.12.
            packets.attach(root, direction, CgroupAttachMode::Single).map(drop)
        }
        _ => return Err(StartError::NoProgram { name }),
    };
    attached.map_err(|source| StartError::Attach { program: name, target, source })
}

fn load_error(program: &'static str, error: ProgramError) -> StartError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            // The statistics after the verdict are of no use to an operator.
            let statistics = ["processed ", "stack depth ", "verification time "];
            let is_verdict = |line: &&str| {
                !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word))
            };
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
    ProbeStatus {
        name: def.name,
        state: Err(off_reason(error)),
        reasons: vec![one_line(error)],
        instead: def.instead,
    }
}

fn off_reason(error: &StartError) -> OffReason {
    match error {
        StartError::Disabled => OffReason::Disabled,
        StartError::NotAllowed(_) => OffReason::NotAllowed,
        StartError::Types(_) | StartError::Btf(_) => OffReason::KernelTypes,
        StartError::Lockdown => OffReason::Lockdown,
        _ => OffReason::Refused,
    }
}

/// Says in the log what became of a probe.
pub fn report(status: &ProbeStatus) {
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
pub fn lift_memlock_limit() {
    if !caps::counts_maps() {
        return;
    }
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        let error = io::Error::from(error);
        warn!(%error, "cannot lift the limit on locked memory, so maps may not fit: add CAP_SYS_RESOURCE");
    }
}

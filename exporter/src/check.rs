//! `podmeter check`: what works on this machine, what does not, why, and what to do.

use std::{collections::BTreeMap, fmt, fs, net::TcpListener};

use crate::{
    agent::{Agent, StartError},
    attribution::kubernetes::{Access, KubernetesStatus, SyncState, review::Reviewer},
    caps::{self, Machine, NEEDS, privileged::Privileged},
    cgroup::hierarchy::{Hierarchy, Version},
    config::{Config, Enabled, local::LocalTargets, remote_write::BufferConfig},
    error_chain::one_line,
    remote_write::buffer::{FolderState, try_out},
    server::{ServerError, web::Web},
    source::probe::{HookKind, OffReason, PROBES, ProbeStatus},
    targets::LastScrape,
};

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Ok,
    /// It works less well than it could, or something beside it replaces it.
    Warn,
    /// It was asked for and will not work.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The thing.
    pub subject: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        write!(formatter, "{verdict}  {:<20}  {}", self.subject, self.text)?;
        if !self.remedy.is_empty() {
            write!(formatter, "\n{:28}-> {}", "", self.remedy)?;
        }
        Ok(())
    }
}

/// Looks at everything that the configuration asks for, in the order in which it is needed.
///
/// `listener` is what became of listening where the configuration says, before the process dropped its capabilities.
pub async fn run(
    config: &Config,
    listener: Result<TcpListener, ServerError>,
    privileged: &Privileged,
) -> Vec<Finding> {
    let mut findings = vec![kernel(config)];
    findings.extend(capabilities(config, privileged));
    findings.push(listen(config, listener));
    findings.extend(web(config));
    findings.extend(tokens(config).await);
    findings.push(cgroups(config));
    match Agent::start(config, privileged) {
        Ok(agent) => {
            findings.extend(agent.probes().iter().map(probe));
            findings.extend(sources(&agent).await);
            let local = agent.local_targets();
            findings.push(ok("targets", local.as_str().into()));
            let scrapes = agent.last_scrapes().into_iter();
            findings.extend(scrapes.filter_map(|(job, last)| Some(target(&job, last?, local))));
            findings.extend(receivers(&agent).await);
            // After the collection, which waits for the pods.
            findings.extend(kubernetes(&agent, config));
        }
        Err(error @ StartError::NoAccess(_)) => {
            findings.push(fail("kubernetes", one_line(&error), "or set kubernetes.enabled: auto"));
        }
        Err(error @ (StartError::Telemetry(_) | StartError::Rules(_) | StartError::Probes(_))) => {
            findings.push(fail("start", one_line(&error), "report this bug"));
        }
    }
    findings
}

/// Whether something that was asked for will not work.
#[must_use]
pub fn has_failed(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.verdict == Verdict::Fail)
}

fn kernel(config: &Config) -> Finding {
    let path = config.paths.proc.join("sys/kernel/osrelease");
    match fs::read_to_string(&path) {
        Ok(release) => ok("kernel", format!("Linux {}", release.trim())),
        Err(error) => fail(
            "kernel",
            format!("cannot read {}: {error}", path.display()),
            "mount procfs, or set paths.procfs",
        ),
    }
}

/// What is missing for the probes that are switched on; what is there in one line.
fn capabilities(config: &Config, privileged: &Privileged) -> Vec<Finding> {
    let had = |capability| privileged.had(capability);
    let enabled = PROBES.iter().filter(|probe| config.probes.enabled(probe));
    let enabled: Vec<_> = enabled.map(|probe| probe.name).collect();
    // One line for what several probes miss.
    let missing: BTreeMap<_, _> = enabled
        .iter()
        .filter_map(|probe| caps::missing(probe, had))
        .map(|error| (error.capability.index(), error))
        .collect();
    let remedy = "or switch the probes off: probes.<name>.enabled";
    let fail = |error: &caps::MissingCapability| fail("capabilities", one_line(error), remedy);
    let mut findings: Vec<_> = missing.values().map(fail).collect();
    let version = Hierarchy::find(&config.paths).ok().map(|hierarchy| hierarchy.version);
    let short = caps::shortcomings(&Machine::find(version), &enabled, had);
    findings.extend(short.iter().map(|error| warn("capabilities", one_line(error), "")));
    let held = NEEDS.iter().map(|need| need.capability).filter(|capability| had(*capability));
    let held: Vec<_> = held.map(|capability| capability.to_string()).collect();
    if findings.is_empty() {
        let held = if held.is_empty() { "none".to_owned() } else { held.join(", ") };
        findings.push(ok("capabilities", format!("{held}: enough for the probes that are on")));
    }
    findings
}

fn listen(config: &Config, listener: Result<TcpListener, ServerError>) -> Finding {
    match listener {
        Ok(_free) => ok("listen", format!("{} is free", config.listen)),
        // The error itself says what to do.
        Err(error) => fail("listen", one_line(&error), ""),
    }
}

fn web(config: &Config) -> Option<Finding> {
    let path = config.web.config_file.as_ref()?;
    Some(match Web::load(path) {
        Ok(web) => ok("web configuration", format!("{}: {}", path.display(), web.describe())),
        // The error itself says what to do.
        Err(error) => fail("web configuration", one_line(&error), ""),
    })
}

/// Whether the API server answers about tokens at all: one that nobody has is unknown to it.
async fn tokens(config: &Config) -> Option<Finding> {
    const NOBODYS: &str = "podmeter-check";

    if !config.web.kubernetes_auth {
        return None;
    }
    let subject = "tokens of scrapers";
    let Some(access) = Access::find(config.kubernetes.kubeconfig.as_deref()) else {
        let text = "there is neither a service account nor a kubeconfig".into();
        return Some(fail(subject, text, "set kubernetes.kubeconfig, or run in a pod"));
    };
    Some(match Reviewer::new(access).review(NOBODYS, "/metrics").await {
        Ok(_) => ok(subject, "the Kubernetes API says whose they are".into()),
        // The error itself says what to do.
        Err(error) => fail(subject, one_line(&error), ""),
    })
}

fn cgroups(config: &Config) -> Finding {
    match Hierarchy::find(&config.paths) {
        Ok(hierarchy) => {
            let version = match hierarchy.version {
                Version::V1 => "v1",
                Version::V2 => "v2",
            };
            let io = match Hierarchy::find_io(&config.paths) {
                None => ", the io controller is nowhere".to_owned(),
                Some(io) if io.is_same_as(&hierarchy) => String::new(),
                Some(io) => format!(", the io controller at {}", io.mount_point.display()),
            };
            let found = format!(
                "cgroup {version}, the cpu controller is at {}{io}",
                hierarchy.mount_point.display()
            );
            match hierarchy.partial_view() {
                None => ok("cgroups", found),
                Some(warning) => fail("cgroups", found, &warning),
            }
        }
        Err(error) => fail("cgroups", one_line(&error), "mount it, or set paths.cgroupfs"),
    }
}

fn probe(status: &ProbeStatus) -> Finding {
    let subject = format!("probe {}", status.name);
    let reasons = status.reasons.join("; ");
    match status.state {
        Ok(hook) if reasons.is_empty() => ok(&subject, format!("attached by {}", hook.as_str())),
        Ok(hook) => {
            warn(&subject, format!("attached by {}; {reasons}", hook.as_str()), remedy_for(hook))
        }
        Err(OffReason::Disabled) => ok(&subject, reasons),
        Err(reason) => fail(&subject, reasons, remedy(reason)),
    }
}

fn remedy_for(hook: HookKind) -> &'static str {
    match hook {
        HookKind::BtfTracepoint | HookKind::CgroupSkb | HookKind::Fentry => "",
        HookKind::RawTracepoint => {
            "nothing: the numbers are the same, at a higher cost for each event"
        }
        HookKind::Kprobe => {
            "nothing: the numbers are the same; fentry needs CONFIG_FUNCTION_TRACER and CONFIG_DEBUG_INFO_BTF"
        }
    }
}

fn remedy(reason: OffReason) -> &'static str {
    match reason {
        // Of one that is not allowed, the reason itself says what to do.
        OffReason::Disabled | OffReason::NotAllowed => "",
        OffReason::KernelTypes => {
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y, or switch the probe off"
        }
        OffReason::Lockdown => {
            "boot the node with lockdown=integrity (or none), or switch the probe off; what the cgroup files say is \
             measured all the same"
        }
        OffReason::Refused => {
            "use a kernel with kprobes or fentry that lockdown does not bar (cat /sys/kernel/security/lockdown), or \
             switch the probe off; what the cgroup files say is measured all the same"
        }
    }
}

async fn sources(agent: &std::sync::Arc<Agent>) -> Vec<Finding> {
    if let Err(error) = agent.collect().await {
        return vec![fail("collection", one_line(&error), "report this bug")];
    }
    let finding = |run: crate::agent::SourceRun| {
        let subject = format!("source {}", run.name);
        match (run.last, run.last_error) {
            (_, Some((_, error))) => fail(&subject, error, "see the log"),
            (Some((_, duration)), None) => {
                ok(&subject, format!("collected in {:.1} ms", duration.as_secs_f64() * 1e3))
            }
            (None, None) => fail(&subject, "did not answer".into(), "see the log"),
        }
    };
    agent.runs().into_iter().map(finding).collect()
}

/// How the one scrape of a target went; it is part of the collection before.
fn target(job: &str, last: LastScrape, local: LocalTargets) -> Finding {
    let LastScrape { duration, error, remark, .. } = last;
    let subject = format!("target {job}");
    if let Some(remark) = remark {
        return ok(&subject, remark.as_str().into());
    }
    let fix = match local {
        LocalTargets::Found => {
            "see the target; nobody named it, so what it needs stands in kubelet.tls_config, or it is named in scrape_configs"
        }
        _ => "see the target, and its item in scrape_configs",
    };
    match error {
        Some(error) => fail(&subject, error, fix),
        None => ok(&subject, format!("relayed in {:.1} ms", duration.as_secs_f64() * 1e3)),
    }
}

/// Whether each receiver takes a request, one without samples.
async fn receivers(agent: &Agent) -> Vec<Finding> {
    let mut findings = Vec::new();
    for endpoint in agent.pushing().endpoints {
        let name = &endpoint.config().name;
        findings.extend(endpoint.config().buffer.as_ref().map(|config| buffer(name, config)));
        let subject = format!("receiver {name}");
        findings.push(match endpoint.try_out().await {
            Ok(()) => ok(&subject, format!("takes {}", endpoint.config().message.as_str())),
            // The error itself says what to do.
            Err(error) => fail(&subject, one_line(&error), ""),
        });
    }
    findings
}

/// Whether a receiver's requests can wait where they are to.
fn buffer(name: &str, config: &BufferConfig) -> Finding {
    let BufferConfig { directory, size_limit } = config;
    let subject = format!("buffer {name}");
    let directory = directory.display();
    let mb = |n_bytes: u64| n_bytes >> 20;
    match try_out(config) {
        Ok(FolderState::InUse) => {
            ok(&subject, format!("a Podmeter that runs has it in {directory}"))
        }
        Ok(FolderState::Writable { room }) if room < *size_limit => warn(
            &subject,
            format!("{directory} has room for {} MB of {}", mb(room), mb(*size_limit)),
            "give it a larger disk, or set buffer.size_limit lower: once the disk is full, samples wait in memory",
        ),
        Ok(FolderState::Writable { .. }) => {
            ok(&subject, format!("{directory} has room for {} MB", mb(*size_limit)))
        }
        // The error itself says what to do.
        Err(error) => fail(&subject, one_line(&error), ""),
    }
}

fn kubernetes(agent: &Agent, config: &Config) -> Vec<Finding> {
    let Some(status) = agent.kubernetes() else {
        let reason = match config.kubernetes.enabled {
            Enabled::Never => "not asked: kubernetes.enabled is false",
            Enabled::Auto | Enabled::Always => {
                "not asked: there is neither a service account nor a kubeconfig; containers are told apart by \
                 pod_uid and container_id"
            }
        };
        return vec![ok("kubernetes", reason.into())];
    };
    let mut findings = vec![pods_of_node(&status)];
    for (resource, message) in
        status.forbidden.iter().filter(|(resource, _)| &***resource != "pods")
    {
        findings.push(fail(
            &format!("kubernetes {resource}"),
            message.clone(),
            &format!("allow get on {resource} in the ClusterRole, or take the rules off kubernetes.labels that need it"),
        ));
    }
    findings
}

fn pods_of_node(status: &KubernetesStatus) -> Finding {
    let KubernetesStatus { access, node, numbers, .. } = status;
    let error = status.last_error.as_ref().map_or("no answer yet", |(_, error)| error.as_str());
    match status.state {
        SyncState::Watching if numbers.n_live == 0 => warn(
            "kubernetes",
            format!("by {access}: node {node} has no pods"),
            "set node_name to the name that `kubectl get nodes` shows, unless the node is empty",
        ),
        SyncState::Watching => {
            ok("kubernetes", format!("by {access}: {} pods on node {node}", numbers.n_live))
        }
        SyncState::Forbidden => fail(
            "kubernetes pods",
            error.into(),
            "allow list and watch on pods in the ClusterRole; deploy/ has one",
        ),
        SyncState::Unauthorized => fail(
            "kubernetes",
            format!("by {access}: {error}"),
            "look whether the token is of this cluster, and whether it has expired",
        ),
        SyncState::Starting | SyncState::Retrying => fail(
            "kubernetes",
            format!("by {access}: {error}"),
            "look whether the API server can be reached from this node",
        ),
    }
}

fn ok(subject: &str, text: String) -> Finding {
    finding(subject, Verdict::Ok, text, "")
}

fn warn(subject: &str, text: String, remedy: &str) -> Finding {
    finding(subject, Verdict::Warn, text, remedy)
}

fn fail(subject: &str, text: String, remedy: &str) -> Finding {
    finding(subject, Verdict::Fail, text, remedy)
}

fn finding(subject: &str, verdict: Verdict, text: String, remedy: &str) -> Finding {
    Finding { subject: subject.into(), verdict, text, remedy: remedy.into() }
}

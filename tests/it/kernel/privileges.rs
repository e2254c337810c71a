//! Once `podmeter run` serves, one thread has the capabilities that docs/security.md says it keeps, and no other has any;
//! what is measured is what a process with all rights measures.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use podmeter::{
    caps::{
        Grant, Machine, NEEDS, confine,
        privileged::{Keep, Privileged, THREAD_NAME},
    },
    cgroup::hierarchy::Hierarchy,
    config::Config,
    error_chain::one_line,
    paths::HostPaths,
    source::{
        Source as _,
        probe::{self, HookKind, PROBES, ProbeHost, ProbeStatus},
    },
};
use podmeter_tests::{
    exporter::Exporter,
    http::get,
    machine::{attached, is_test_vm},
    page::TestAgent,
    skip::{left_out, skipped},
    tools::{podmeter, write},
    whole::NodePage,
};

/// Every probe is on.
const CONFIG: &str = "probes: { run_queue: { enabled: true } }\nkubernetes: { enabled: false }\n";

/// A user without any privilege.
const NOBODY: u32 = 65_534;

const PERF_EVENT_PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// The probes that have hooks of this kind.
const BY_KPROBES: [&str; 2] = ["cpu_throttle", "oom"];

#[test]
fn one_thread_has_capabilities_and_no_other() {
    let Some(binary) = podmeter() else { return };
    let threads = Threads::of(&Exporter::start(&binary, CONFIG));
    let kept = kept(own("CapEff"));
    threads.check(kept, kept, 0);
}

/// In the chart's profile `capabilities` the process cannot make its bounding set smaller; `no_new_privs` holds. What it
/// has is enough for every probe, by the hook that a process with all rights gets.
#[test]
fn the_profile_of_the_chart_is_made_smaller_still() {
    let Some(binary) = podmeter() else { return };
    if !Command::new("setpriv")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|it| it.success())
    {
        return skipped("there is no setpriv");
    }
    let granted: Vec<_> = NEEDS.iter().filter(|need| need.grant == Grant::Always).collect();
    let names = granted.iter().map(|need| need.capability.to_string());
    let names: Vec<_> =
        names.map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase())).collect();
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all"]);
    command.arg(format!("--bounding-set=-all,{}", names.join(","))).arg(&binary);
    let exporter = Exporter::start_by(command, CONFIG);
    let threads = Threads::of(&exporter);
    // The tests themselves may have less than root has elsewhere.
    let granted = mask(granted.iter().map(|need| need.capability.index())) & own("CapBnd");
    threads.check(kept(granted), granted, granted);
    let page = NodePage::of(&exporter);
    let is_attached = |labels: &[(&str, &str)]| page.count("podmeter_probe_attached", labels) > 0.5;
    let hook = |probe: &str| {
        let hooks = HookKind::ALL.iter().map(|hook| hook.as_str());
        hooks.filter(|hook| is_attached(&[("probe", probe), ("hook", hook)])).collect::<String>()
    };
    let attached = PROBES.iter().map(|def| (def.name.to_owned(), hook(def.name)));
    let attached: BTreeMap<_, _> = attached.filter(|(_, hook)| !hook.is_empty()).collect();
    drop(exporter);
    let level = fs::read_to_string(PERF_EVENT_PARANOID).unwrap();
    let level = level.trim();
    println!(
        "report: privileges | the chart's profile, perf_event_paranoid {level} | {attached:?}"
    );
    assert_eq!(attached, with_all_rights());
}

/// The guests' kernels are Debian's, which know a level above those of the original.
#[test]
fn kprobes_take_sys_admin_where_events_are_restricted() {
    if !is_test_vm() {
        return left_out("sets perf_event_paranoid of the whole machine");
    }
    let before = fs::read_to_string(PERF_EVENT_PARANOID).unwrap();
    let n_attached = [("2", false), ("3", false), ("3", true)].map(|(level, restricts_events)| {
        fs::write(PERF_EVENT_PARANOID, level).unwrap();
        // It keeps CAP_SYS_ADMIN for this only.
        let keep = Keep::Needed(Machine { restricts_events, ..Machine::find(None) });
        let privileged = Privileged::start(keep, probe::lift_memlock_limit).unwrap();
        let statuses = privileged.run(|| {
            let host = ProbeHost::find(&HostPaths::default());
            probe::start(&host, &[HookKind::Kprobe], |probe| BY_KPROBES.contains(&probe.name)).1
        });
        let mut statuses = statuses.unwrap();
        statuses.retain(|status| BY_KPROBES.contains(&status.name));
        for ProbeStatus { name, state, reasons, .. } in &statuses {
            let state = state.map_or("off", HookKind::as_str);
            let reasons = reasons.join("; ");
            println!("report: kprobes | level {level} | {name} | {state} | {reasons}");
        }
        statuses.iter().filter(|status| status.state.is_ok()).count()
    });
    fs::write(PERF_EVENT_PARANOID, before).unwrap();
    assert_eq!(n_attached, [BY_KPROBES.len(), 0, BY_KPROBES.len()]);
}

/// What root may read by its capabilities only is closed to the threads that fetch pages.
#[test]
fn a_file_of_another_user_is_closed_to_it() {
    let Some(binary) = podmeter() else { return };
    let dir = tempfile::tempdir().unwrap();
    let token = write(dir.path(), "token", "secret");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let error = |owner: u32| {
        chown(&token, Some(owner), None).unwrap();
        let exporter = Exporter::start(&binary, &target(&token));
        let page = get(&exporter.url("/metrics"), &[]);
        assert!(page.text().contains("up{job=\"elsewhere\""), "{}", page.text());
        let landing = get(&exporter.url("/"), &[]);
        let mut rows = landing.text().lines();
        rows.find(|line| line.contains("<td>elsewhere</td>")).unwrap().to_owned()
    };
    let refused = error(NOBODY);
    assert!(refused.contains("Permission denied") && refused.contains("token"), "{refused}");
    let closed = error(0);
    assert!(closed.contains("refused") && !closed.contains("Permission denied"), "{closed}");
}

/// The kernel lets a process with these few attach every probe by the hook that one with all rights gets, and asks for
/// nothing more when maps, cgroups and namespaces are read.
#[test]
fn everything_is_measured_without_the_rest() {
    let config = Config::parse(CONFIG, "test.yaml", &|_| None).unwrap();
    let page = TestAgent::start(&config).collect();
    let attached: BTreeMap<_, _> = page
        .labels_of("podmeter_probe_attached", 1.0)
        .into_iter()
        .map(|mut labels| (labels.remove("probe").unwrap(), labels.remove("hook").unwrap()))
        .collect();
    println!("report: privileges | {attached:?}");
    assert_eq!(attached, with_all_rights());
    let failed = page.labels_of("podmeter_source_success", 0.0);
    assert!(failed.is_empty(), "{failed:?}");
    let n_sources = page.labels_of("podmeter_source_success", 1.0).len();
    assert!(n_sources > attached.len(), "the readers of files are sources, too");
}

/// Which thread may read maps depends on the kernel, as decision 0016 says; Podmeter reads them on one that always may.
#[test]
fn reading_maps_takes_a_capability_on_old_kernels() {
    let host = ProbeHost::find(&HostPaths::default());
    let started = probe::start(&host, HookKind::ALL, |probe| probe.name == "network");
    let Some(mut probe) = attached(started) else { return };
    let read = thread::spawn(move || {
        confine::drop_all().unwrap();
        probe.collect(&Arc::default(), &[]).map(drop)
    });
    let read = read.join().unwrap();
    let sysctl = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    println!(
        "report: privileges | {version:?} | unprivileged_bpf_disabled {} | maps without capabilities: {}",
        sysctl.trim(),
        read.as_ref().map_or_else(|error| one_line(error), |()| "read".to_owned())
    );
    assert_eq!(read.is_ok(), version >= (5, 19) || sysctl.trim() == "0");
}

/// The hook of each probe that attaches in this process.
fn with_all_rights() -> BTreeMap<String, String> {
    let host = ProbeHost::find(&HostPaths::default());
    let (_probes, statuses) = probe::start(&host, HookKind::ALL, |_| true);
    let hook = |status: &ProbeStatus| Some(status.state.ok()?.as_str().to_owned());
    statuses.iter().filter_map(|status| Some((status.name.to_owned(), hook(status)?))).collect()
}

/// What the thread keeps on this machine of what it is given.
fn kept(given: u64) -> u64 {
    let version = Hierarchy::find(&HostPaths::default()).ok().map(|hierarchy| hierarchy.version);
    let kept = Machine::find(version).kept(|one| given & mask([one.index()]) != 0);
    mask(kept.into_iter().map(|one| one.index()))
}

/// A set as the kernel writes it.
fn mask(capabilities: impl IntoIterator<Item = u8>) -> u64 {
    capabilities.into_iter().fold(0, |mask, capability| mask | 1 << capability)
}

/// A set of the test's own thread.
fn own(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

/// A target whose port nobody listens on.
fn target(token: &Path) -> String {
    format!(
        "kubernetes: {{ enabled: false }}
probes: {{ {} }}
scrape_configs:
  - job_name: elsewhere
    url: http://127.0.0.1:1/metrics
    authorization: {{ credentials_file: {} }}
",
        PROBES
            .iter()
            .map(|probe| format!("{}: {{ enabled: false }}", probe.name))
            .collect::<Vec<_>>()
            .join(", "),
        token.display()
    )
}

/// The fields of `/proc/<pid>/task/<tid>/status`, by thread.
struct Threads(Vec<BTreeMap<String, String>>);

impl Threads {
    /// Those of a Podmeter that has served a page, and so has every kind of thread.
    fn of(exporter: &Exporter) -> Self {
        let page = get(&exporter.url("/metrics"), &[]);
        assert!(page.text().contains("podmeter_source_success"), "{}", page.text());
        let tasks = fs::read_dir(format!("/proc/{}/task", exporter.id())).unwrap();
        let files = tasks.map(|task| task.unwrap().path().join("status"));
        // A thread may have ended meanwhile.
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        let fields = |text: String| {
            let fields = text.lines().filter_map(|line| line.split_once(':'));
            fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
        };
        Self(texts.map(fields).collect())
    }

    fn check(&self, kept: u64, kept_bound: u64, bound: u64) {
        let privileged: Vec<_> =
            self.0.iter().filter(|thread| thread["Name"] == THREAD_NAME).collect();
        assert_eq!(privileged.len(), 1, "one thread is privileged");
        assert!(self.0.len() > 3, "the runtime has threads, too: {}", self.0.len());
        for thread in &self.0 {
            let is_privileged = thread["Name"] == THREAD_NAME;
            let set = |name: &str| u64::from_str_radix(&thread[name], 16).unwrap();
            let (has, bound) = if is_privileged { (kept, kept_bound) } else { (0, bound) };
            let found = ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"].map(set);
            assert_eq!(found, [has, has, 0, 0, bound], "{}: {found:x?}", thread["Name"]);
            assert_eq!(thread["NoNewPrivs"], "1", "{}", thread["Name"]);
        }
        let n_threads = self.0.len();
        println!("report: privileges | {n_threads} threads | the privileged one has {kept:x}");
    }
}

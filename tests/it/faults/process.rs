//! Podmeter itself is stopped, killed, and asked to end.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};
use podmeter_tests::{
    cgroup::{Hierarchy, wait_for},
    client::{connect_narrow, loopback, socket_address},
    exposition::Exposition,
    task::TestTask,
    tools::podmeter,
    whole::{JOBS, Whole},
};
use rustix::process::Signal;

/// How long Podmeter is stopped; other tests run meanwhile.
const STOPPED: Duration = Duration::from_mins(1);

const RUN_QUEUE: &str = "podmeter_cpu_run_queue_latency_seconds_count";

/// Waits while Podmeter is stopped: what it will have missed.
const N_WAKES: usize = 200;

#[test]
fn a_minute_of_sigstop_loses_no_count_and_doubles_none() {
    let Some(whole) = Whole::start() else { return };
    let task = Hierarchy::find().ok().map(|hierarchy| {
        let cgroup = hierarchy.create("stopped");
        let task = TestTask::asleep(&cgroup);
        (task, cgroup)
    });
    let before = whole.page();
    let is_attached = before.count("podmeter_probe_attached", &[("probe", "run_queue")]) > 0.5;
    whole.exporter.signal(Signal::STOP);
    let stopped = Instant::now();
    // A scraper that asks meanwhile gets its page afterwards.
    let mut waiting = TcpStream::connect(whole.exporter.address()).expect("the kernel accepts");
    waiting.write_all(b"GET /metrics HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n").unwrap();
    let mut counted = String::from("run_queue cannot attach");
    let mut of_cgroup = None;
    if let Some((mut task, cgroup)) = task {
        let n_before = task.n_waits();
        for _ in 0..N_WAKES {
            task.wake();
        }
        of_cgroup = Some((task.n_waits() - n_before, task, cgroup));
    }
    thread::sleep(STOPPED.saturating_sub(stopped.elapsed()));
    whole.exporter.signal(Signal::CONT);
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("the page comes");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:.80}");

    let after = whole.page();
    assert_eq!(after.n_up(), JOBS.len(), "the first scrape is whole");
    assert!(after.knows_pods());
    assert_eq!(after.0.fallen_since(&before.0), <[String; 0]>::default());
    if let (true, Some((n_waits, _, cgroup))) = (is_attached, &of_cgroup) {
        let path = cgroup.relative_path();
        let n_counted = after.count(RUN_QUEUE, &[("cgroup", &path)])
            - before.count(RUN_QUEUE, &[("cgroup", &path)]);
        // The last wait may come with the next one only, and the first page may have been before the first sleep.
        assert!((n_counted - *n_waits as f64).abs() <= 2.0, "{n_counted} of {n_waits}");
        counted = format!("{n_counted} of {n_waits} waits of a task");
    }
    println!(
        "report: faults | SIGSTOP for {} s | served: the page that was asked for meanwhile | counted: {counted} | healed at scrape 1",
        STOPPED.as_secs()
    );
}

/// What a process has of the kernel: ids of programs, maps and links.
#[derive(Debug, Default, PartialEq, Eq)]
struct KernelObjects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl KernelObjects {
    /// Those of a process, by what procfs says of its descriptors.
    fn of(process: u32) -> Self {
        let mut objects = Self::default();
        let folder = format!("/proc/{process}/fdinfo");
        for entry in fs::read_dir(folder).expect("the process runs").flatten() {
            // A descriptor may be closed by now.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let field = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok())
            };
            // A link has the id of its program, too, and a program that of none else.
            objects.links.extend(field("link_id:"));
            objects.programs.extend(field("prog_id:"));
            objects.maps.extend(field("map_id:"));
        }
        objects
    }

    /// Those of them that the kernel has now, whoever holds them.
    fn left(&self) -> Self {
        let programs = loaded_programs().filter_map(Result::ok).map(|program| program.id());
        let maps = loaded_maps().filter_map(Result::ok).map(|map| map.id());
        let links = loaded_links().filter_map(Result::ok).map(|link| link.id());
        Self {
            programs: programs.filter(|id| self.programs.contains(id)).collect(),
            maps: maps.filter(|id| self.maps.contains(id)).collect(),
            links: links.filter(|id| self.links.contains(id)).collect(),
        }
    }
}

#[test]
fn kill_leaves_nothing_in_the_kernel_and_the_page_comes_back() {
    let Some(binary) = podmeter() else { return };
    let whole = Whole::start_by(Command::new(&binary));
    let before = whole.page();
    let n_attached = before.count("podmeter_probe_attached", &[]);
    let objects = KernelObjects::of(whole.exporter.id());
    assert_eq!(objects.left(), objects, "the kernel knows them by these ids");
    assert!(n_attached < 0.5 || !objects.programs.is_empty(), "probes have programs");

    let whole = whole.restart(Command::new(&binary));
    // The kernel frees them a little later, after a grace period of RCU.
    wait_for("the kernel has freed all", || objects.left() == KernelObjects::default());
    let after = whole.page();
    assert!((after.count("podmeter_probe_attached", &[]) - n_attached).abs() < 0.5);
    assert_eq!(after.n_up(), JOBS.len(), "the first scrape is whole");
    let mut n_scrapes = 1;
    wait_for("the pods are known again", || {
        n_scrapes += 1;
        whole.page().knows_pods()
    });
    println!(
        "report: faults | SIGKILL and restart | left in the kernel: 0 of {} programs, {} maps, {} links | healed: targets at scrape 1, names by scrape {n_scrapes} without a pause",
        objects.programs.len(),
        objects.maps.len(),
        objects.links.len()
    );
}

/// The scrape that is under way is delivered to its end, and a scraper that only now connects is refused.
#[test]
fn sigterm_delivers_the_scrape_that_is_under_way() {
    let Some(binary) = podmeter() else { return };
    let whole = Whole::start_large(Command::new(binary));
    let expected = whole.page().0.n_series();
    let Whole { exporter, around } = whole;
    // The kernel keeps less for it than the page has, so that some of the page is still to be sent.
    let mut scraper = connect_narrow(loopback(1), socket_address(exporter.address()));
    scraper.write_all(b"GET /metrics HTTP/1.1\r\nHost: n\r\n\r\n").expect("it reads");
    let mut beginning = [0];
    scraper.read_exact(&mut beginning).expect("the answer begins");
    let address = exporter.address().to_owned();
    exporter.signal(Signal::TERM);
    wait_for("nobody listens any more", || TcpStream::connect(&address).is_err());
    let mut rest = Vec::new();
    scraper.read_to_end(&mut rest).expect("the answer comes to its end");
    let text = String::from_utf8([&beginning[..], &rest].concat()).expect("a page is UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    assert_eq!(length, Some(body.len().to_string().as_str()), "{head}");
    let page = Exposition::parse(body);
    assert!(page.n_series() >= expected, "{} of {expected} series", page.n_series());
    let (status, log) = exporter.terminate();
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("cut off"), "{log}");
    drop(around);
    println!(
        "report: faults | SIGTERM during a scrape | served: {} series to the end, then exit 0",
        page.n_series()
    );
}

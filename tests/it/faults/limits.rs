//! What Podmeter lives on runs short: memory, file descriptors, the disk.

use std::{
    fs::{self, File},
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use podmeter_tests::{
    cgroup::{Hierarchy, wait_for},
    client::{
        SCRAPE, connect_from, connect_narrow, exchange, loopback, scrape, socket_address, split,
    },
    exporter::{Exporter, with_listen},
    exposition::Exposition,
    http::get,
    memory::Memory,
    skip::{left_out, skipped},
    tools::{Process, podmeter, write},
    whole::{Around, JOBS, NodePage, Whole},
};
use rustix::process::Signal;

/// What the chart gives the container (`resources.limits.memory`).
const MEMORY_LIMIT: u64 = 256 << 20;

const N_SCRAPERS: u16 = 20;
const N_SCRAPES: usize = 2;

/// The binary, and where its memory can be limited; nothing where that is impossible, after saying so.
fn limitable() -> Option<(PathBuf, Hierarchy)> {
    let (Some(binary), Ok(hierarchy)) = (podmeter(), Hierarchy::find()) else {
        skipped("no binary, or no cgroup can be made here");
        return None;
    };
    if !Memory::is_there(&hierarchy) {
        skipped("there is no memory controller here");
        return None;
    }
    Some((binary, hierarchy))
}

#[test]
fn twenty_scrapers_fit_into_the_memory_of_the_chart() {
    let Some((binary, hierarchy)) = limitable() else { return };
    let cgroup = hierarchy.create("budget");
    let memory = Memory::of(&hierarchy, &cgroup);
    memory.set_limit(MEMORY_LIMIT);
    let whole = Whole::start_large(memory.command(&binary));
    let address = socket_address(whole.exporter.address());
    let n_series = whole.page().0.n_series();
    let scrapers: Vec<_> = (0..N_SCRAPERS)
        .map(|idx| {
            thread::spawn(move || {
                let statuses = (0..N_SCRAPES).map(|_| {
                    let (status, body) = scrape(loopback(idx + 1), address);
                    if status == 200 {
                        let page = Exposition::parse(&body);
                        assert!(page.n_series() >= n_series, "the page is whole");
                    }
                    status
                });
                statuses.collect::<Vec<_>>()
            })
        })
        .collect();
    let statuses: Vec<u16> = scrapers
        .into_iter()
        .flat_map(|scraper| scraper.join().expect("each is answered"))
        .collect();
    let n_of = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    let (n_served, n_refused) = (n_of(200), n_of(503));
    assert_eq!(n_served + n_refused, statuses.len(), "{statuses:?}");
    let page = whole.page();
    assert!((page.n_limit_hits("scrapes") - n_refused as f64).abs() < 0.5, "each 503 is counted");
    assert_eq!(memory.n_killed(), 0);
    println!(
        "report: faults | {N_SCRAPERS} scrapers in {} MiB | served: {n_served} pages, {n_refused} times 503, all counted | killed: 0, peak {} MiB",
        MEMORY_LIMIT >> 20,
        memory.peak() >> 20
    );
    let (status, log) = whole.exporter.terminate();
    assert!(status.success(), "{status}: {log}");
}

/// What it may have above the most that it needed: the size of a page more or less at the wrong moment.
const ROOM: u64 = 8 << 20;

/// A node's day in short: scrapes, a configuration that is read again, targets and an API server that go and come back.
fn day(whole: &mut Whole) {
    let config = whole.around.config();
    for _ in 0..N_SCRAPES {
        assert_eq!(whole.page().n_up(), whole.around.n_targets());
    }
    whole.around.targets.close();
    whole.around.api.close();
    wait_for("the loss of the API server is noticed", || !whole.page().is_watching());
    whole.around.targets.open();
    whole.around.api.open();
    whole.exporter.configure(&format!("{config}external_labels: {{ shift: night }}\n"));
    whole.exporter.signal(Signal::HUP);
    wait_for("the day is over", || {
        let page = whole.page();
        page.n_up() == whole.around.n_targets() && page.is_watching() && page.knows_pods()
    });
}

#[test]
fn a_limit_just_above_its_need_takes_nothing() {
    let Some((binary, hierarchy)) = limitable() else { return };
    let run = |name: &str, limit: u64| {
        let cgroup = hierarchy.create(name);
        let memory = Memory::of(&hierarchy, &cgroup);
        memory.set_limit(limit);
        let mut whole = Whole::start_large(memory.command(&binary));
        day(&mut whole);
        assert_eq!(memory.n_killed(), 0);
        let (status, log) = whole.exporter.terminate();
        assert!(status.success(), "{status}: {log}");
        memory.peak()
    };
    // The first one has the program itself in its account, as the kernel read it from the disk.
    let _cold = run("cold", MEMORY_LIMIT);
    let need = run("need", MEMORY_LIMIT);
    if need == 0 {
        return left_out("this kernel does not say what a cgroup had at most");
    }
    let limit = need + ROOM;
    let peak = run("just-above", limit);
    println!(
        "report: faults | a limit of {} MiB, {} more than the peak before | served: all, after targets, API server and configuration changed | killed: 0, peak {} MiB",
        limit >> 20,
        ROOM >> 20,
        peak >> 20
    );
}

/// Podmeter itself has some 60 open for its programs, and keeps half of all for the files of cgroups.
const N_FILES: u16 = 256;

#[test]
fn without_descriptors_it_counts_and_serves_again_afterwards() {
    let Some(binary) = podmeter() else { return };
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {N_FILES} && exec \"$0\" \"$@\"")]).arg(&binary);
    let whole = Whole::start_by(command);
    let address = socket_address(whole.exporter.address());
    let crowd: Vec<TcpStream> =
        (0..N_FILES).map(|idx| connect_from(loopback(100 + idx / 32), address)).collect();
    // Those that say nothing are cut off, and the next ones take their places.
    let mut n_counted = 0.0;
    wait_for("it is served and counted", || {
        let (status, body) = scrape(loopback(1), address);
        assert_eq!(status, 200, "{body}");
        let hits = Exposition::parse(&body)
            .sum("podmeter_http_limit_hits_total", &[("limit", "files")])
            .unwrap_or_default();
        n_counted = hits;
        hits >= 1.0
    });
    drop(crowd);
    let mut n_scrapes = 0;
    wait_for("the page is whole again", || {
        n_scrapes += 1;
        let page = whole.page();
        page.n_up() == JOBS.len() && page.knows_pods()
    });
    let n_connects = whole.page().n_failures("connect");
    println!(
        "report: faults | {N_FILES} descriptors, as many clients | counted: {n_counted} files, {n_connects} targets without one | healed at scrape {n_scrapes}"
    );
}

/// A file system of its own, which is small.
pub(super) struct TinyDisk {
    pub(super) dir: tempfile::TempDir,
}

impl TinyDisk {
    /// Mounts one, or says why not.
    pub(super) fn mount() -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "podmeter-test"])
            .arg(dir.path())
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if output.status.success() {
            Ok(Self { dir })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Writes a file until nothing more fits.
    fn fill(&self) -> PathBuf {
        let path = self.dir.path().join("filler");
        let mut file = File::create(&path).expect("there is room for a name");
        for n_bytes in [4096, 1] {
            while file.write_all(&vec![b'x'; n_bytes]).is_ok() {}
        }
        path
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
        if !status.is_ok_and(|status| status.success()) {
            println!("left behind: {}", self.dir.path().display());
        }
    }
}

/// Podmeter whose log goes to a file; it gives its URL.
fn start_logging(binary: &Path, config: &Path, log: &Path) -> (Process, String) {
    let mut command = Command::new(binary);
    command.arg("run").arg("--config").arg(config).stdin(Stdio::null());
    let log_file = File::options().create(true).append(true).open(log).expect("it can be written");
    let process = Process::start(command.stderr(log_file));
    let mut url = None;
    wait_for("it serves", || {
        let text = fs::read_to_string(log).expect("the log is there");
        let found =
            text.split_once("serving http").and_then(|(_, rest)| rest.split_once("/metrics"));
        url = found.map(|(base, _)| format!("http{base}"));
        url.is_some()
    });
    (process, url.expect("it was found"))
}

/// Neither a log that cannot be written nor a configuration that was cut short takes a page.
#[test]
fn a_full_disk_takes_no_page() {
    let Some(binary) = podmeter() else { return };
    let disk = match TinyDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => return skipped(format_args!("full disk | {reason}")),
    };
    let mut around = Around::start();
    let text = with_listen(&around.config());
    let config = write(disk.dir.path(), "podmeter.yaml", &text);
    let log = disk.dir.path().join("log");
    let (process, url) = start_logging(&binary, &config, &log);
    let page = || NodePage::read(&get(&format!("{url}/metrics"), &[]));
    wait_for("the pods are known", || page().knows_pods());

    let filler = disk.fill();
    let n_logged = fs::metadata(&log).expect("it is there").len();
    // Each of these has something to be logged.
    around.targets.close();
    around.api.close();
    let odd = get(&format!("{url}/metrics"), &[("Accept", ";;;=garbage,,")]);
    assert_eq!(NodePage::read(&odd).n_up(), 0);
    process.signal(Signal::HUP);
    wait_for("the loss of the API server is noticed", || !page().is_watching());
    // An editor that writes in place has emptied the file before it learns that the disk is full.
    let mut cut = File::options().write(true).truncate(true).open(&config).expect("it is there");
    drop(cut.write_all(text.as_bytes().get(..10).expect("it is longer")));
    drop(cut);
    process.signal(Signal::HUP);
    wait_for("the configuration is refused", || {
        page().0.sum("podmeter_config_last_reload_successful", &[]) == Some(0.0)
    });
    around.targets.open();
    around.api.open();
    let still = page();
    assert_eq!(still.n_up(), JOBS.len(), "the configuration from before is in force");
    assert!(still.knows_pods());
    assert!(!process.has_ended());

    fs::remove_file(filler).expect("it is there");
    fs::write(&config, &text).expect("there is room again");
    process.signal(Signal::HUP);
    let mut n_scrapes = 0;
    wait_for("the configuration is taken again", || {
        n_scrapes += 1;
        page().0.sum("podmeter_config_last_reload_successful", &[]) == Some(1.0)
    });
    assert!(page().knows_pods());
    wait_for("the log goes on", || fs::metadata(&log).expect("it is there").len() > n_logged);
    println!(
        "report: faults | disk full | served: all | counted: the refused configuration | healed: configuration by scrape {n_scrapes} without a pause, log at its next line"
    );
}

/// A pipe that nobody reads is full soon.
#[test]
fn a_log_that_nobody_reads_holds_up_no_page() {
    let Some(binary) = podmeter() else { return };
    let around = Around::start();
    let mut command = Command::new(binary);
    // Each scrape has much to say.
    command.env("RUST_LOG", "trace");
    let exporter = Exporter::start_by(command, &around.config());
    let page = || NodePage::read(&get(&exporter.url("/metrics"), &[]));
    wait_for("the pods are known", || page().knows_pods());
    let dropped = || page().0.sum("podmeter_log_lines_dropped_total", &[]).expect("it is there");
    let mut n_scrapes = 0;
    wait_for("more was logged than waits for its reader", || {
        n_scrapes += 1;
        dropped() > 0.0
    });
    let still = page();
    assert_eq!(still.n_up(), JOBS.len());
    assert!(still.knows_pods());
    let n_dropped = dropped();
    let (status, log) = exporter.terminate();
    assert!(status.success(), "{status}: {log}");
    // What was dropped is newer than what is in the pipe, and no line is cut.
    assert!(log.lines().count() > 100, "{log}");
    println!(
        "report: faults | log not read | served: all | counted: {n_dropped} lines after {n_scrapes} scrapes | healed: ends on SIGTERM"
    );
}

/// Several parts at once: no target answers, and within the chart's memory some clients do not read, and many say nothing.
#[test]
fn memory_targets_and_slow_readers_at_once() {
    let Some((binary, hierarchy)) = limitable() else { return };
    let cgroup = hierarchy.create("several");
    let memory = Memory::of(&hierarchy, &cgroup);
    memory.set_limit(MEMORY_LIMIT);
    let mut whole = Whole::start_large(memory.command(&binary));
    let address = socket_address(whole.exporter.address());
    let before = whole.page();
    let slow: Vec<TcpStream> = (0..6)
        .map(|idx| {
            let mut stream = connect_narrow(loopback(10 + idx), address);
            stream.write_all(SCRAPE).expect("it reads");
            stream
        })
        .collect();
    let crowd: Vec<TcpStream> = (0..500).map(|_| connect_from(loopback(50), address)).collect();
    whole.around.targets.close();
    let mut n_pages = 0;
    for _ in 0..5 {
        let answer = exchange(connect_from(loopback(1), address), SCRAPE);
        let (status, body) = split(&answer);
        assert_eq!(status, 200, "{body:.200}");
        let page = Exposition::parse(&body);
        assert_eq!(page.fallen_since(&before.0), <[String; 0]>::default());
        n_pages += 1;
    }
    drop((slow, crowd));
    whole.around.targets.open();
    let page = whole.page();
    assert_eq!(page.n_up(), whole.around.n_targets(), "the first scrape has the targets back");
    assert_eq!(memory.n_killed(), 0);
    println!(
        "report: faults | targets gone, 6 readers that do not read, 500 clients, {} MiB | served: {n_pages} pages of {n_pages} | killed: 0, peak {} MiB | healed at scrape 1",
        MEMORY_LIMIT >> 20,
        memory.peak() >> 20
    );
}

//! Block IO agrees with the kernel's own `io.stat` (cgroup v1: `blkio.throttle.*`), and belongs to whom caused it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use podmeter::{
    config::Config,
    metric::Histogram,
    source::probe::HookKind,
    subject::{CgroupId, Subject},
};
use podmeter_tests::{
    cgroup::{Hierarchy, TestCgroup},
    disk::{DirectFile, Disk, IoStat, ScratchFile},
    machine::is_test_vm,
    page::TestAgent,
    probe::{Reading, TestProbe},
    skip::{left_out, skipped},
};

const LATENCY: &str = "podmeter_io_latency_seconds";
const QUEUE: &str = "podmeter_io_queue_seconds";
const BYTES: &str = "podmeter_io_bytes_total";
const ERRORS: &str = "podmeter_io_errors_total";

/// The owner of what is nobody's.
const REMAINDER: Subject = Subject::IoCgroup(CgroupId(0));

/// Direct IO does not merge, so that each bio is one request, on each kind of disk that the machine has.
#[test]
fn direct_io_agrees_to_the_byte_and_to_the_request() {
    check_direct_io(HookKind::BtfTracepoint, "direct");
}

/// What reads by helper counts the same.
#[test]
fn by_raw_tracepoint_direct_io_agrees_as_well() {
    check_direct_io(HookKind::RawTracepoint, "raw_tracepoint, direct");
}

/// Also under lockdown=confidentiality, by typed reads.
pub(super) fn check_direct_io(hook: HookKind, case: &str) {
    check_direct_io_with(hook, case, || {});
}

/// The same, and something done once the probe is attached.
pub(super) fn check_direct_io_with(hook: HookKind, case: &str, once_attached: impl Fn()) {
    let Some(hierarchy) = hierarchy() else { return };
    for Place { disk, path, _file } in places() {
        let Some(mut probe) = TestProbe::start("block_io", &[hook]) else { return };
        once_attached();
        let cgroup = hierarchy.create("direct");
        IoStat::begin(&cgroup, &disk);
        {
            let mut file = DirectFile::open(&path).expect("it was opened before");
            let _inside = cgroup.enter();
            for idx in 0..32 {
                file.write(4096, idx * 16_384).expect("the disk takes it");
                file.read(8192, idx * 65_536).expect("the disk gives it");
            }
        }
        let stat = IoStat::of(&cgroup, &disk);
        let reading = probe.read();
        println!("report: skipped events | {case} | {:?}", reading.stats().skipped);
        let ours = |operation| Ours::of(&reading, &cgroup, &disk, operation);
        let (read, write) = (format!("{case} read"), format!("{case} write"));
        compare(&disk, &read, ours("read"), stat.n_bytes_read, Some(stat.n_reads));
        compare(&disk, &write, ours("write"), stat.n_bytes_written, Some(stat.n_writes));
        assert!(stat.n_bytes_read >= 32 * 8192 && stat.n_bytes_written >= 32 * 4096, "{stat:?}");
        assert_eq!(reading.n_lost(NO_LOSS), 0, "{:?}", reading.stats());
    }
}

/// A scheduler is given every request, so each waits in its queue, if only for a moment.
#[test]
fn requests_that_a_scheduler_takes_have_a_queue_time() {
    let (Some(hierarchy), Some(disk)) = (hierarchy(), vm_disk()) else { return };
    disk.set_scheduler("mq-deadline").expect("every guest has it");
    let Some(mut probe) = start() else { return };
    let cgroup = hierarchy.create("queue");
    {
        let mut file = DirectFile::open(&disk.node()).expect("root may open it");
        let _inside = cgroup.enter();
        for idx in 0..16 {
            file.read(4096, idx * 65_536).expect("the disk gives it");
        }
    }
    let reading = probe.read();
    let labels = [("device", disk.name()), ("operation", "read")];
    let subject = Subject::IoCgroup(cgroup.id());
    let count = |family| reading.histogram(family, subject, &labels).map(|one| one.count());
    assert_eq!(count(QUEUE), Some(16));
    assert_eq!(count(LATENCY), Some(16));
    disk.set_scheduler("none").expect("no scheduler is always there");
}

/// Pages that a cgroup made dirty are written by a kworker after all its processes have gone, and are its own.
#[test]
fn buffered_writeback_belongs_to_whom_dirtied_the_pages() {
    const BYTES_WRITTEN: usize = 4 << 20;

    let (Some(hierarchy), Some(disk)) = (hierarchy(), vm_disk()) else { return };
    if !hierarchy.is_v2() {
        return left_out("writeback | cgroup v1 does not tell whose the pages are");
    }
    run("mkfs.ext4", &["-q", "-F", "/dev/vda"]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mount = Mount::new(&disk.node(), dir.path());
    let Some(mut probe) = start() else { return };
    let cgroup = hierarchy.create("writeback");
    {
        let _inside = cgroup.enter();
        let mut file = File::create(dir.path().join("data")).expect("the file system is empty");
        file.write_all(&vec![0x5a; BYTES_WRITTEN]).expect("the page cache takes it");
    }
    run("sync", &[]);
    drop(mount);
    let stat = IoStat::of(&cgroup, &disk);
    let reading = probe.read();
    let ours = Ours::of(&reading, &cgroup, &disk, "write");
    compare(&disk, "buffered write, by a kworker", ours, stat.n_bytes_written, None);
    assert!(stat.n_bytes_written >= BYTES_WRITTEN as u64, "{stat:?}");
    println!(
        "report: block_io | {} | buffered write | requests {} | bios {}",
        disk.name(),
        ours.requests,
        stat.n_writes
    );
    assert!(ours.requests <= stat.n_writes, "bios merge into requests");
    assert_eq!(reading.n_lost(NO_LOSS), 0, "{:?}", reading.stats());
}

#[test]
fn discards_agree_to_the_byte() {
    let (Some(hierarchy), Some(disk)) = (hierarchy(), vm_disk()) else { return };
    let Some(mut probe) = start() else { return };
    let cgroup = hierarchy.create("discard");
    IoStat::begin(&cgroup, &disk);
    {
        let mut file = DirectFile::open(&disk.node()).expect("root may open it");
        let _inside = cgroup.enter();
        run("blkdiscard", &["-o", "1048576", "-l", "2097152", "/dev/vda"]);
        // `io.stat` has no line for a disk of which a cgroup has only discarded.
        file.read(4096, 0).expect("the disk gives it");
    }
    let stat = IoStat::of(&cgroup, &disk);
    let reading = probe.read();
    let ours = Ours::of(&reading, &cgroup, &disk, "discard");
    compare(&disk, "discard", ours, stat.n_bytes_discarded, Some(stat.n_discards));
    assert_eq!(stat.n_bytes_discarded, 2_097_152);
}

/// A flush has no bio: several who wait for their data share one. It is the remainder's, and its waiter, whose own
/// request is completed without having been issued, is not counted.
#[test]
fn a_flush_is_counted_once_and_is_nobodys() {
    let (Some(hierarchy), Some(disk)) = (hierarchy(), vm_disk()) else { return };
    let Some(mut probe) = start() else { return };
    let cgroup = hierarchy.create("flush");
    let before = n_flushes(&disk);
    {
        let file = DirectFile::open(&disk.node()).expect("root may open it");
        let _inside = cgroup.enter();
        file.write(4096, 0).expect("the disk takes it");
        for _ in 0..3 {
            file.file().sync_all().expect("the disk flushes");
        }
    }
    let n_flushes = n_flushes(&disk) - before;
    let reading = probe.read();
    let labels = [("device", disk.name()), ("operation", "flush")];
    let flushes = reading.histogram(LATENCY, REMAINDER, &labels).expect("it flushed").count();
    println!(
        "report: truth | {LATENCY} | flush, {} | ours {flushes} | kernel {n_flushes} | {:+}",
        disk.name(),
        i128::from(flushes) - i128::from(n_flushes)
    );
    assert_eq!(flushes, n_flushes);
    assert!(flushes >= 3, "each was asked for by itself");
    assert_eq!(reading.number(BYTES, REMAINDER, &labels), None, "it moves nothing");
    let no_owner = reading.stats().skipped.iter().find(|(reason, _)| *reason == "no_owner");
    assert_eq!(no_owner.map(|(_, n_events)| *n_events), Some(flushes));
    let write = Ours::of(&reading, &cgroup, &disk, "write");
    assert_eq!((write.requests, write.bytes), (1, 4096), "the write alone");
    assert_eq!(reading.n_lost(NO_LOSS), 0, "{:?}", reading.stats());
}

/// The disk in memory can be told that some of its sectors are bad: of a request over one of them, the part before it
/// is completed, and the rest fails.
#[test]
fn a_request_that_fails_in_part_is_one_error() {
    /// The parameter of `scsi_debug` by which reading from sector 0x1234 on fails.
    const OPTS: &str = "/sys/bus/pseudo/drivers/scsi_debug/opts";
    const MEDIUM_ERROR: &str = "2";
    const BAD_SECTOR: u64 = 0x1234;

    let Some(hierarchy) = hierarchy() else { return };
    if !is_test_vm() {
        return left_out("errors | only a virtual machine has a disk that fails");
    }
    let disk = Disk::find_scsi().expect("every guest has one");
    let Some(mut probe) = start() else { return };
    let cgroup = hierarchy.create("errors");
    IoStat::begin(&cgroup, &disk);
    fs::write(OPTS, MEDIUM_ERROR).expect("root may set it");
    {
        let mut file = DirectFile::open(&disk.node()).expect("root may open it");
        let _inside = cgroup.enter();
        let start = BAD_SECTOR / 8 * 8 * 512;
        file.read(4096, start).expect_err("a sector in it is bad");
        file.read(4096, start - 4096).expect("those before it are good");
    }
    fs::write(OPTS, "0").expect("root may set it");
    let stat = IoStat::of(&cgroup, &disk);
    let reading = probe.read();
    let ours = Ours::of(&reading, &cgroup, &disk, "read");
    compare(&disk, "read, one of two failed", ours, stat.n_bytes_read, None);
    assert_eq!(ours.errors, 1, "{ours:?}");
    assert_eq!(ours.requests, 2, "{ours:?}");
    assert_eq!(reading.n_lost(NO_LOSS), 0, "{:?}", reading.stats());
}

/// A disk in memory that is driven by bios has no requests, so there is nothing to time.
#[test]
fn a_disk_without_requests_has_no_series() {
    let Some(hierarchy) = hierarchy() else { return };
    let Some(disk) = Disk::find("ram0") else {
        assert!(!is_test_vm(), "every guest has one");
        return left_out("ram0 | this machine has no such disk");
    };
    let Some(mut probe) = start() else { return };
    let cgroup = hierarchy.create("ram");
    {
        let mut file = DirectFile::open(&disk.node()).expect("root may open it");
        let _inside = cgroup.enter();
        file.read(4096, 0).expect("the disk gives it");
    }
    assert!(probe.read().is_silent_about(Subject::IoCgroup(cgroup.id())));
}

/// The same path in the hierarchies of both controllers is one owner, also where those are two (cgroup v1).
#[test]
fn a_page_names_the_owner_by_its_path_in_the_io_hierarchy() {
    let Some(hierarchy) = hierarchy() else { return };
    let Some(Place { disk, path, _file }) = places().into_iter().next() else { return };
    if start().is_none() {
        return;
    }
    let cgroup = hierarchy.create("page");
    let agent = TestAgent::start(&Config::default());
    {
        let mut file = DirectFile::open(&path).expect("it was opened before");
        let _inside = cgroup.enter();
        file.read(4096, 0).expect("the disk gives it");
    }
    let owner = cgroup.relative_path();
    let labels = [("cgroup", &*owner), ("device", disk.name()), ("operation", "read")];
    let page = agent.collect();
    assert!(page.number(BYTES, &labels).is_some_and(|n_bytes| n_bytes >= 4096.0));
    assert!(page.histogram(LATENCY, &labels).is_some_and(|found| found.count() >= 1));
}

/// Reasons that are no loss: a flush is nobody's, and another's request may have been under way at the start.
const NO_LOSS: &[&str] = &["no_owner", "no_entry"];

/// What the probe counted.
#[derive(Clone, Copy, Debug)]
struct Ours {
    requests: u64,
    bytes: u64,
    errors: u64,
}

impl Ours {
    fn of(reading: &Reading, cgroup: &TestCgroup, disk: &Disk, operation: &str) -> Self {
        let labels = [("device", disk.name()), ("operation", operation)];
        let subject = Subject::IoCgroup(cgroup.id());
        let number = |family| reading.number(family, subject, &labels).map_or(0, whole);
        let latency = reading.histogram(LATENCY, subject, &labels);
        let requests = latency.as_ref().map_or(0, Histogram::count);
        Self { requests, bytes: number(BYTES), errors: number(ERRORS) }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the kernel counts, and never so far that a number loses digits"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Compares bytes and, where no bio was merged or split, requests with the kernel's numbers.
fn compare(disk: &Disk, case: &str, ours: Ours, n_bytes: u64, n_bios: Option<u64>) {
    let truths = [(BYTES, ours.bytes, Some(n_bytes)), (LATENCY, ours.requests, n_bios)];
    for (family, ours, kernel) in truths {
        let Some(kernel) = kernel else { continue };
        println!(
            "report: truth | {family} | {case}, {} | ours {ours} | kernel {kernel} | {:+}",
            disk.name(),
            i128::from(ours) - i128::from(kernel)
        );
        assert_eq!(ours, kernel, "{family}, {case}, {}", disk.name());
    }
}

/// Flush requests of a disk that the kernel has completed.
fn n_flushes(disk: &Disk) -> u64 {
    let path = format!("/sys/block/{}/stat", disk.name());
    let text = fs::read_to_string(path).expect("the disk is there");
    text.split_whitespace().nth(15).expect("flushes are counted").parse().expect("a number")
}

pub(super) fn start() -> Option<TestProbe> {
    TestProbe::start("block_io", &[HookKind::BtfTracepoint])
}

fn hierarchy() -> Option<Hierarchy> {
    Hierarchy::find_io().map_err(skipped).ok()
}

/// The disk of a virtual machine that a test may overwrite.
pub(super) fn vm_disk() -> Option<Disk> {
    if !is_test_vm() {
        left_out("/dev/vda | only a virtual machine has a disk to overwrite");
        return None;
    }
    let disk = Disk::find("vda").expect("every guest has one");
    Some(disk)
}

/// What a test may overwrite on a disk.
struct Place {
    disk: Disk,
    path: PathBuf,
    /// Removed at the end, where it is a file.
    _file: Option<ScratchFile>,
}

/// In a virtual machine whole disks, elsewhere a file.
fn places() -> Vec<Place> {
    if is_test_vm() {
        let disks = [Disk::find("vda"), Disk::find("nullb0"), Disk::find_scsi()];
        let place = |disk: Disk| Place { path: disk.node(), disk, _file: None };
        return disks.map(|disk| place(disk.expect("every guest has it"))).into();
    }
    match ScratchFile::new_in(Path::new(env!("CARGO_TARGET_TMPDIR")), 4 << 20) {
        Ok(file) => {
            let (disk, path) = (file.disk().clone(), file.path().to_owned());
            vec![Place { disk, path, _file: Some(file) }]
        }
        Err(reason) => {
            skipped(format_args!("block_io | {reason}"));
            Vec::new()
        }
    }
}

/// A mounted file system.
struct Mount<'a> {
    dir: &'a Path,
}

impl<'a> Mount<'a> {
    fn new(node: &Path, dir: &'a Path) -> Self {
        run("mount", &["-t", "ext4", &node.display().to_string(), &dir.display().to_string()]);
        Self { dir }
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        run("umount", &[&self.dir.display().to_string()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

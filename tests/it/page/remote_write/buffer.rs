//! What waits on disk outlives the process, and nothing of it comes twice.

use std::{fs, path::Path, process::Command};

use podmeter_tests::{cgroup::wait_for, exporter::Exporter, receiver::Kind};
use rustix::process::Signal;

use super::{assert_all_arrived, config, number, own_page, setup, source::Source, wait_for_pages};

fn buffered(folder: &Path, size_limit: &str) -> String {
    format!(", buffer: {{ directory: '{}', size_limit: {size_limit} }}", folder.display())
}

/// Nothing but the source's own series is sent, so that what was made requests of can be counted.
const ONLY_SOURCE: &str = ", write_relabel_configs: [{ source_labels: [__name__], regex: 'seen_total|level|took_.*', action: keep }]";

/// Waits until all pages that were collected lie in the buffer or are sent.
fn wait_until_pushed(source: &Source, exporter: &Exporter) {
    wait_for("all pages are made requests of", || {
        let n_samples: usize = source.expected(&[]).values().map(Vec::len).sum();
        let page = own_page(exporter);
        let n_pending = number(&page, "podmeter_remote_write_pending_samples");
        // Stale markers are samples, too; they are fewer than a page has.
        number(&page, "podmeter_remote_write_samples_total") + n_pending >= n_samples as f64
    });
}

/// The receiver is away, Podmeter is killed, starts again, and the receiver comes back.
fn check_restart(kind: Kind, signal: Signal) {
    let Some((binary, mut receiver)) = setup(kind) else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = Source::start();
    let more = format!("{ONLY_SOURCE}{}", buffered(folder.path(), "64MB"));
    let config = config(&source, &receiver, &more);
    let exporter = Exporter::start(&binary, &config);
    wait_for_pages(&source, 3);
    receiver.stop();
    wait_for_pages(&source, 3);
    if signal == Signal::KILL {
        // Right behind a page, so that none is under way.
        wait_for_pages(&source, 1);
        wait_until_pushed(&source, &exporter);
        exporter.signal(Signal::KILL);
        drop(exporter);
    } else {
        let (_, log) = exporter.terminate();
        assert!(log.contains("wait in the buffer"), "{log}");
    }
    assert!(fs::read_dir(folder.path()).unwrap().count() > 1);
    let exporter = Exporter::start(&binary, &config);
    wait_for_pages(&source, 2);
    receiver.start_again();
    wait_for_pages(&source, 3);
    let (_, log) = exporter.terminate();
    assert!(log.contains("all samples were sent"), "{log}");
    assert_all_arrived(&format!("{kind:?}, restart by {signal:?}"), &source, &receiver);
}

#[test]
fn prometheus_misses_nothing_of_what_was_killed() {
    check_restart(Kind::Prometheus, Signal::KILL);
}

#[test]
fn prometheus_misses_nothing_of_what_was_stopped() {
    check_restart(Kind::Prometheus, Signal::TERM);
}

#[test]
fn victoria_metrics_misses_nothing_of_what_was_killed() {
    check_restart(Kind::VictoriaMetrics, Signal::KILL);
}

/// A disk without room is counted, and what waits is in memory then.
#[test]
fn a_full_disk_stops_nothing() {
    let Some((binary, mut receiver)) = setup(Kind::Prometheus) else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path()) else { return };
    let source = Source::start();
    let config = config(&source, &receiver, &buffered(folder.path(), "64MB"));
    let exporter = Exporter::start(&binary, &config);
    wait_for_pages(&source, 2);
    receiver.stop();
    wait_for("the disk is full", || {
        number(&own_page(&exporter), "podmeter_remote_write_buffer_errors_total") > 2.0
    });
    receiver.start_again();
    wait_for_pages(&source, 2);
    let (_, log) = exporter.terminate();
    assert!(log.contains("all samples were sent"), "{log}");
    assert_all_arrived("Prometheus, full disk", &source, &receiver);
}

/// A file system of 64 kB, which needs root.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "podmeter-test"]).arg(folder);
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        if !is_mounted {
            println!("report: skipped | a full disk: this user may not mount one");
        }
        is_mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // It goes with the machine otherwise.
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

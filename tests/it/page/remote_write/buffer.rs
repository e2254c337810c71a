//! What waits on disk outlives the process, and nothing of it comes twice.

use std::{fs, path::Path, process::Command};

use podmeter_tests::{
    cgroup::wait_for,
    exporter::Exporter,
    receiver::{Kind, Receiver},
    skip::skipped,
};
use rustix::process::Signal;

use super::{
    assert_all_arrived, config, config_of, item, number, own_page, setup, setup_both,
    source::Source, wait_for_pages,
};

fn buffered(folder: &Path, size_limit: &str) -> String {
    format!(", buffer: {{ directory: '{}', size_limit: {size_limit} }}", folder.display())
}

/// Nothing but the source's own series is sent, so that what was made requests of can be counted.
const ONLY_SOURCE: &str = ", write_relabel_configs: [{ source_labels: [__name__], regex: 'seen_total|level|took_.*', action: keep }]";

/// Waits until all pages that were collected lie in the buffers of so many receivers or are sent.
fn wait_until_pushed(source: &Source, exporter: &Exporter, n_receivers: usize) {
    wait_for("all pages are made requests of", || {
        let n_samples: usize = source.expected(&[]).values().map(Vec::len).sum();
        let n_samples = n_samples * n_receivers;
        let page = own_page(exporter);
        let n_pending = number(&page, "podmeter_remote_write_pending_samples");
        // Stale markers are samples, too; they are fewer than a page has.
        number(&page, "podmeter_remote_write_samples_total") + n_pending >= n_samples as f64
    });
}

/// The receivers are away, Podmeter is killed, starts again, and the receivers come back.
fn check_restart(signal: Signal) {
    let Some((binary, mut receivers)) = setup_both() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folders = ["prometheus", "victoria-metrics"].map(|name| folder.path().join(name));
    let source = Source::start();
    let items = receivers.iter().zip(&folders).map(|(receiver, folder)| {
        item(&receiver.write_url(), &format!("{ONLY_SOURCE}{}", buffered(folder, "64MB")))
    });
    let config = config_of(&source, &items.collect::<Vec<_>>());
    let exporter = Exporter::start(&binary, &config);
    wait_for_pages(&source, 3);
    receivers.iter_mut().for_each(Receiver::stop);
    wait_for_pages(&source, 3);
    if signal == Signal::KILL {
        // Right behind a page, so that none is under way.
        wait_for_pages(&source, 1);
        wait_until_pushed(&source, &exporter, receivers.len());
        exporter.signal(Signal::KILL);
        drop(exporter);
    } else {
        let (_, log) = source.terminate(exporter);
        assert_eq!(log.matches("wait in the buffer").count(), receivers.len(), "{log}");
    }
    for folder in &folders {
        assert!(fs::read_dir(folder).unwrap().count() > 1);
    }
    let exporter = Exporter::start(&binary, &config);
    wait_for_pages(&source, 2);
    receivers.iter_mut().for_each(Receiver::start_again);
    wait_for_pages(&source, 3);
    let (_, log) = source.terminate(exporter);
    assert_eq!(log.matches("all samples were sent").count(), receivers.len(), "{log}");
    for receiver in &receivers {
        let case = format!("{:?}, restart by {signal:?}", receiver.kind());
        assert_all_arrived(&case, &source, receiver);
    }
}

#[test]
fn both_receivers_miss_nothing_of_what_was_killed() {
    check_restart(Signal::KILL);
}

#[test]
fn both_receivers_miss_nothing_of_what_was_stopped() {
    check_restart(Signal::TERM);
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
    let (_, log) = source.terminate(exporter);
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
            skipped("a full disk: this user may not mount one");
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

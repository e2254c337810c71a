//! A cgroup v2 hierarchy of plain files: a node whose containers are throttled as a test says, without privileges.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tempfile::TempDir;

use crate::tools::write;

/// How often the counters rise.
const STEP: Duration = Duration::from_millis(50);

/// The hierarchy; its counters rise until it is dropped.
#[derive(Debug)]
pub struct FakeCgroups {
    dir: TempDir,
    is_over: Arc<AtomicBool>,
    rising: Option<JoinHandle<()>>,
}

impl FakeCgroups {
    /// Makes these cgroups: the path without its leading `/`, and how many milliseconds it is throttled in each second.
    #[must_use]
    pub fn make(cgroups: &[(&str, u64)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().join("cgroup");
        let proc = dir.path().join("proc");
        for folder in [&root, &proc.join("self")] {
            fs::create_dir_all(folder).expect("a folder can be made");
        }
        let mounts = format!("30 24 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.display());
        drop(write(&proc.join("self"), "mountinfo", &mounts));
        drop(write(&root, "cgroup.controllers", "cpu io memory\n"));
        let mut stats = Vec::new();
        for (path, milliseconds) in cgroups {
            let cgroup = root.join(path);
            fs::create_dir_all(&cgroup).expect("a folder can be made");
            drop(write(&cgroup, "cpu.max", "50000 100000\n"));
            stats.push((write(&cgroup, "cpu.stat", &stat(0)), *milliseconds));
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let rising = thread::spawn(move || rise(&stats, &until));
        Self { dir, is_over, rising: Some(rising) }
    }

    /// The keys of a configuration that lead to it.
    #[must_use]
    pub fn config(&self) -> String {
        let path = |name| self.dir.path().join(name).display().to_string();
        format!(
            "kubernetes: {{ enabled: false }}\npaths: {{ cgroupfs: {}, procfs: {} }}\n",
            path("cgroup"),
            path("proc")
        )
    }
}

impl Drop for FakeCgroups {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(rising) = self.rising.take() {
            // It ends by itself, unless a file could not be written, which its own message says.
            drop(rising.join());
        }
    }
}

fn rise(stats: &[(PathBuf, u64)], is_over: &AtomicBool) {
    let mut n_steps: u64 = 0;
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(STEP);
        n_steps += 1;
        for (file, milliseconds) in stats {
            replace(file, &stat(n_steps * milliseconds * 50));
        }
    }
}

/// Overwrites a file where it is: Podmeter keeps it open.
fn replace(file: &Path, text: &str) {
    let mut file = OpenOptions::new().write(true).open(file).expect("the file is there");
    file.write_all(text.as_bytes()).expect("the file can be written");
}

/// Numbers of one length, so that a reader in between sees a whole text.
fn stat(throttled_microseconds: u64) -> String {
    format!(
        "usage_usec 100\nuser_usec 50\nsystem_usec 50\nnr_periods 100\nnr_throttled 50\n\
         throttled_usec {throttled_microseconds:012}\n"
    )
}

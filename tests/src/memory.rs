//! Memory limits of a test's cgroups, processes that run into them, and what the kernel counts about it.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::cgroup::{Hierarchy, TestCgroup, wait_for};

/// Where cgroup v1 has the memory controller.
const V1: &str = "/sys/fs/cgroup/memory";

const SIGKILL: i32 = 9;

/// The memory controller's side of a cgroup: the same directory on cgroup v2, one of the same path on v1.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    cgroup: PathBuf,
    is_v2: bool,
}

impl Memory {
    /// Whether the hierarchy's version has the controller here: since 6.11 a kernel may have it in cgroup v2 only.
    #[must_use]
    pub fn is_there(hierarchy: &Hierarchy) -> bool {
        hierarchy.is_v2() || Path::new(V1).join("cgroup.procs").exists()
    }

    /// Switches the controller on for a cgroup.
    #[must_use]
    pub fn of(hierarchy: &Hierarchy, cgroup: &TestCgroup) -> Self {
        let is_v2 = hierarchy.is_v2();
        let path = if is_v2 {
            let parent = cgroup.path().parent().expect("a cgroup is below the mount");
            fs::write(parent.join("cgroup.subtree_control"), "+memory").expect("it has memory");
            cgroup.path().to_owned()
        } else {
            let path = Path::new(V1).join(cgroup.relative_path().trim_start_matches('/'));
            fs::create_dir(&path).expect("v1 has the memory controller");
            path
        };
        Self { path, cgroup: cgroup.path().to_owned(), is_v2 }
    }

    /// Limits it, swap included.
    pub fn set_limit(&self, bytes: u64) {
        let bytes = bytes.to_string();
        if self.is_v2 {
            self.write("memory.max", &bytes);
            self.write_if_there("memory.swap.max", "0");
        } else {
            self.write("memory.limit_in_bytes", &bytes);
            self.write_if_there("memory.memsw.limit_in_bytes", &bytes);
        }
    }

    /// Lets all of its processes be killed together; v1 cannot.
    pub fn set_oom_group(&self) {
        self.write("memory.oom.group", "1");
    }

    /// Processes of this very cgroup that the kernel killed for want of memory.
    #[must_use]
    pub fn n_killed(&self) -> u32 {
        let file = if self.is_v2 { "memory.events.local" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.path.join(file)).expect("the kernel counts them");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("every kernel has it").parse().expect("a number")
    }

    /// A command that executes a binary in it.
    #[must_use]
    pub fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new("sh");
        let enter = "echo 0 > \"$0/cgroup.procs\" && echo 0 > \"$1/cgroup.procs\"";
        command.arg("-c").arg(format!("{enter} && shift && exec \"$@\""));
        command.args([&self.cgroup, &self.path]).arg(binary);
        command
    }

    /// The most bytes that it ever had, page cache included; nought where the kernel does not say (v2 before 5.19).
    #[must_use]
    pub fn peak(&self) -> u64 {
        let file = if self.is_v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    /// Starts a process in it that takes more and more memory once it gets a line of input.
    #[must_use]
    pub fn glutton(&self) -> Child {
        self.start("read go; a=0123456789abcdef; while :; do a=$a$a; done")
    }

    /// Starts a process in it that does nothing.
    #[must_use]
    pub fn sleeper(&self) -> Child {
        self.start("read go")
    }

    fn start(&self, script: &str) -> Child {
        // Whoever is to choose a victim on the whole machine is to choose this one.
        let enter = "echo 1000 > /proc/self/oom_score_adj && echo 0 > \"$0/cgroup.procs\" && \
                     echo 0 > \"$1/cgroup.procs\" && echo ready";
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{enter} && {script}"))
            .args([&self.cgroup, &self.path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut ready = [0; 6];
        let stdout = child.stdout.as_mut().expect("it is piped");
        std::io::Read::read_exact(stdout, &mut ready).expect("it says that it is ready");
        child
    }

    fn write(&self, file: &str, value: &str) {
        let path = self.path.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }

    fn write_if_there(&self, file: &str, value: &str) {
        if self.path.join(file).exists() {
            self.write(file, value);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.is_v2
            && let Err(error) = fs::remove_dir(&self.path)
        {
            eprintln!("left behind: {}: {error}", self.path.display());
        }
    }
}

/// Gives a process of [`Memory::glutton`] its line.
pub fn let_go(child: &mut Child) {
    let stdin = child.stdin.as_mut().expect("it is piped");
    std::io::Write::write_all(stdin, b"go\n").expect("it reads");
}

/// Waits for the end of a process, which must have been killed.
pub fn wait_until_killed(mut child: Child) {
    let mut status = None;
    wait_for("the process has ended", || {
        status = child.try_wait().expect("it is a child of this process");
        status.is_some()
    });
    let signal = status.and_then(|status| status.signal());
    assert_eq!(signal, Some(SIGKILL), "{status:?}");
}

/// This process is never chosen, whoever else is, for as long as this lives.
#[derive(Debug)]
pub struct SparedByOom;

const SCORE: &str = "/proc/self/oom_score_adj";

impl SparedByOom {
    /// Spares the process with all its threads, and those that it starts.
    #[must_use]
    pub fn this_process() -> Self {
        fs::write(SCORE, "-1000").expect("root may spare a process");
        Self
    }
}

impl Drop for SparedByOom {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SCORE, "0") {
            eprintln!("left behind: {SCORE}: {error}");
        }
    }
}

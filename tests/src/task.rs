//! One process of a test in a cgroup, which is stopped and woken at will, and the kernel's own account of it.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::{TestCgroup, wait_for};

/// A process with one thread; it ends with this.
#[derive(Debug)]
pub struct TestTask {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl TestTask {
    /// One that always runs.
    #[must_use]
    pub fn busy(cgroup: &TestCgroup) -> Self {
        Self::start(cgroup, "while :; do :; done")
    }

    /// One that sleeps until it is woken.
    #[must_use]
    pub fn asleep(cgroup: &TestCgroup) -> Self {
        Self::start(cgroup, "exec cat")
    }

    /// A script that replaces nothing but itself: the process stays the same.
    fn start(cgroup: &TestCgroup, script: &str) -> Self {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("echo 0 > \"$0/cgroup.procs\" && {script}"))
            .arg(cgroup.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let task = Self { child, stdin, stdout };
        let pid = task.child.id().to_string();
        let procs = cgroup.path().join("cgroup.procs");
        wait_for("the process is in the cgroup", || {
            fs::read_to_string(&procs).is_ok_and(|procs| procs.lines().any(|line| line == pid))
        });
        task
    }

    /// Wakes one that is asleep, and waits for it to have done its work.
    pub fn wake(&mut self) {
        self.stdin.write_all(b"x").expect("it reads");
        self.stdout.read_exact(&mut [0]).expect("it answers");
    }

    /// Stops it, whatever it does.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        wait_for("it is stopped", || self.state() == Some('T'));
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// For how long it has waited for a CPU in its life.
    #[must_use]
    pub fn run_delay(&self) -> Duration {
        let text = self.read("schedstat");
        let waited = text.split_whitespace().nth(1).expect("time, wait, number of slices");
        Duration::from_nanos(waited.parse().expect("nanoseconds"))
    }

    /// How often it waited for a CPU and was given one, once it sleeps.
    ///
    /// The kernel counts no wait of a task that is woken before it has left the run queue (delayed dequeue, since 6.12).
    #[must_use]
    pub fn n_waits(&self) -> u64 {
        wait_for("it sleeps", || self.state() == Some('S'));
        let text = self.read("schedstat");
        let slices = text.split_whitespace().nth(2).expect("time, wait, number of slices");
        slices.parse().expect("a number")
    }

    /// Moves it into a cgroup.
    pub fn move_to(&self, cgroup: &TestCgroup) {
        let pid = self.child.id().to_string();
        fs::write(cgroup.path().join("cgroup.procs"), pid).expect("root may move it");
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("root may send it");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// As `ps` shows it.
    fn state(&self) -> Option<char> {
        self.read("stat").rsplit_once(") ")?.1.chars().next()
    }

    fn read(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"))
    }
}

impl Drop for TestTask {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

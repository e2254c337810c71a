//! Real peers that `cargo xtask test` brings: Prometheus, promtool and a Python with `prometheus_client`.

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::skip::skipped;

/// The path of a tool from the environment, or nothing after saying that the test is skipped.
///
/// Under CI, where `cargo xtask test` has set everything up, a missing tool is a failure.
#[must_use]
pub fn tool(variable: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        assert!(env::var_os("CI").is_none(), "{variable} is not set: run `cargo xtask test page`");
        skipped(format_args!("{variable} is not set: run `cargo xtask test page`"));
    }
    path
}

/// The Podmeter binary that belongs to this build.
#[must_use]
pub fn podmeter() -> Option<PathBuf> {
    tool("PODMETER_BIN")
}

/// A Python interpreter that finds `prometheus_client`.
#[must_use]
pub fn python() -> Option<Command> {
    let modules: OsString = tool("PODMETER_PYTHON_PATH")?.into();
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", modules);
    Some(command)
}

/// Runs a command with `input` on its standard input.
#[must_use]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(input).expect("the command reads its input");
    drop(stdin);
    child.wait_with_output().expect("the command ends")
}

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// The child, for its pipes and its end.
    #[must_use]
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()));
        // Until it is waited for, one that ended is there as a zombie.
        !stat.is_ok_and(|stat| {
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it has not been waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is no concern of a test that is over.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Writes a file and gives its path.
#[must_use]
pub fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    path
}

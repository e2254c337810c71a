//! `podmeter run` as a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{ChildStderr, Command, ExitStatus, Stdio},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    cgroup::wait_for,
    tools::{Process, write},
};

/// A configuration that serves on a free port.
#[must_use]
pub fn with_listen(config: &str) -> String {
    format!("listen: 127.0.0.1:0\n{config}")
}

/// A running Podmeter on a port of its own.
#[derive(Debug)]
pub struct Exporter {
    process: Process,
    url: String,
    stderr: BufReader<ChildStderr>,
    dir: TempDir,
    file: PathBuf,
}

impl Exporter {
    /// Starts the binary with this configuration beside `listen`, and waits until it says where it serves.
    #[must_use]
    pub fn start(binary: &Path, config: &str) -> Self {
        Self::start_by(Command::new(binary), config)
    }

    /// The same by a command that executes the binary.
    #[must_use]
    pub fn start_by(command: Command, config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = write(dir.path(), "podmeter.yaml", &with_listen(config));
        Self::start_in(command, dir, file)
    }

    /// The same with a file of a folder, which has `listen` as [`with_listen`] gives it.
    #[must_use]
    pub fn start_in(mut command: Command, dir: TempDir, file: PathBuf) -> Self {
        command.arg("run").arg("--config").arg(&file);
        Self::of_command(&mut command, dir, file)
    }

    /// Runs a command that becomes `podmeter run` with that file of the folder, and waits until it says where it serves;
    /// the folder goes with it.
    #[must_use]
    pub fn of_command(command: &mut Command, dir: TempDir, file: PathBuf) -> Self {
        let mut process = Process::start(command.stderr(Stdio::piped()));
        let stderr = process.child().stderr.take().expect("standard error is piped");
        let mut stderr = BufReader::new(stderr);
        let mut seen = String::new();
        let url = loop {
            let mut line = String::new();
            let n_bytes = stderr.read_line(&mut line).expect("the log is text");
            assert!(n_bytes > 0, "podmeter ended before it served:\n{seen}");
            seen.push_str(&line);
            // Fields follow the URL.
            let url =
                line.split_once("serving http").and_then(|(_, rest)| rest.split_once("/metrics"));
            if let Some((base, _)) = url {
                break format!("http{base}");
            }
        };
        Self { process, url, stderr, dir, file }
    }

    /// Its configuration file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder that the file is in, or is reached by.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the configuration file in place.
    pub fn configure(&self, config: &str) {
        fs::write(&self.file, with_listen(config)).expect("the file can be written");
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.split_once("://").expect("a URL has a scheme").1
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends it in an instant, as the kernel does when memory runs out.
    pub fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.child().wait().expect("it can be waited for");
    }

    /// Sends SIGTERM and gives the exit status and the rest of the log.
    #[must_use]
    pub fn terminate(mut self) -> (ExitStatus, String) {
        self.process.signal(Signal::TERM);
        let mut ended = None;
        wait_for("podmeter stops on SIGTERM", || {
            ended = self.process.child().try_wait().expect("it can be waited for");
            ended.is_some()
        });
        let status = ended.expect("it was waited for");
        let mut log = String::new();
        self.stderr.read_to_string(&mut log).expect("the log is text");
        (status, log)
    }
}

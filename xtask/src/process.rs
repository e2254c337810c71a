//! Child processes: how commands are run, found and, where they must, run as root.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How many bytes of a failed command's output an error shows.
const SHOWN_OUTPUT_BYTES: usize = 4096;

/// Runs a command on this terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("failed to start {}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// Runs a command silently and gives its standard output; an error shows the end of what it said.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to start {}", line(command)))?;
    if !output.status.success() {
        let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        bail!("{} ended with {}\n{}", line(command), output.status, tail(&said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command starts and succeeds within the time; what it says is thrown away.
pub(crate) fn succeeds(command: &mut Command, time: Duration) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = silent.spawn() else {
        return false;
    };
    let deadline = Instant::now() + time;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => {
                // A child that ended in between needs no killing.
                drop(child.kill());
                drop(child.wait());
                return false;
            }
        }
    }
}

/// Folders that many a user's `PATH` leaves out, and that have what only root can make use of.
const SYSTEM_FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The executable that the name stands for on `PATH`, or on root's.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of /proc/self is the effective user, without a dependency for one system call.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// A command that runs as root: itself, or through a sudo that asks for no password.
pub(crate) fn as_root(program: &Path) -> Option<Command> {
    if is_root() {
        return Some(Command::new(program));
    }
    if !succeeds(Command::new("sudo").args(["-n", "true"]), Duration::from_secs(10)) {
        return None;
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "--preserve-env", "--"]).arg(program);
    Some(command)
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains(char::is_whitespace) {
        return format!("'{word}'");
    }
    word.into_owned()
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(SHOWN_OUTPUT_BYTES);
    let start = (start..=text.len()).find(|&index| text.is_char_boundary(index));
    start.and_then(|start| text.get(start..)).unwrap_or(text).trim_end()
}

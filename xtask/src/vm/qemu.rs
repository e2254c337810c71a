//! One boot of a guest: starts qemu, follows what it says, and kills it when it hangs.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{initramfs::SENTINEL, kernel::Kernel};
use crate::process;

/// How long a guest may take in all.
const GUEST_TIME: Duration = Duration::from_mins(20);
/// How long a guest may take to power off after its tests ended.
const POWEROFF_TIME: Duration = Duration::from_secs(10);
/// How long a kernel may take to come up where KVM works: some seconds, and many on a busy machine.
const KVM_BOOT_TIME: Duration = Duration::from_secs(30);
const POLL_TIME: Duration = Duration::from_millis(200);
/// Of the guest's disk, a file with holes.
const DISK_BYTES: u64 = 256 << 20;

/// What the kernel says when nothing good will come any more, and how often it must say so.
const TROUBLE: &[(&str, usize)] = &[
    ("end Kernel panic", 1),
    ("Kernel panic - not syncing", 1),
    ("rcu: RCU grace-period kthread stack dump:", 1),
    ("watchdog: BUG: soft lockup", 2),
];

/// How qemu runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Kvm,
    /// Translation: ten times slower, and everywhere.
    Tcg,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The tests ran to their end.
    Finished { exit_status: i32 },
    /// It powered off or restarted before that.
    Early,
    /// It was killed, and why.
    Killed(String),
}

/// The files of one boot.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) initramfs: PathBuf,
    pub(crate) disk: PathBuf,
    /// What the kernel and the init script say.
    pub(crate) console: PathBuf,
}

/// KVM, if it is there and works; a `/dev/kvm` alone does not mean that, nor that firmware runs: some nested ones stop at
/// the first kernel, whose instructions they cannot all emulate.
pub(crate) fn accelerator(kernel: &Kernel) -> Accelerator {
    let may_open = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let mut probe = Command::new("qemu-system-x86_64");
    // The kernel finds no root file system, panics and restarts at once, which ends qemu: so it did come up.
    probe
        .args(["-accel", "kvm", "-cpu", "host", "-smp", "2", "-m", "512", "-display", "none"])
        .args(["-nodefaults", "-no-reboot", "-append", "panic=-1", "-kernel"])
        .arg(&kernel.image);
    if may_open && process::succeeds(&mut probe, KVM_BOOT_TIME) {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    }
}

/// Boots the kernel, with these parameters beside those that every guest has, and gives each line of the tests to `on_line`.
pub(crate) fn boot(
    kernel: &Kernel,
    parameters: &str,
    files: &Files,
    accelerator: Accelerator,
    mut on_line: impl FnMut(&str),
) -> Result<End> {
    let disk = fs::File::create(&files.disk).context("failed to create the guest's disk")?;
    disk.set_len(DISK_BYTES).context("failed to size the guest's disk")?;
    fs::write(&files.console, "").context("failed to create the console's log")?;
    let mut command = command(kernel, parameters, files, accelerator);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", process::line(&command)))?;
    let stdout = child.stdout.take().context("the guest's output is piped")?;
    let end = follow(&mut child, stdout, &files.console, &mut on_line)?;
    let output = child.wait_with_output().context("failed to wait for qemu")?;
    if end == End::Early && !output.status.success() {
        bail!("qemu ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(end)
}

fn command(kernel: &Kernel, parameters: &str, files: &Files, accelerator: Accelerator) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    match accelerator {
        Accelerator::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
        Accelerator::Tcg => command.args(["-accel", "tcg,thread=multi", "-cpu", "max"]),
    };
    let drive = format!("file={},if=none,id=disk,format=raw,cache=unsafe", files.disk.display());
    command
        .args(["-smp", "2", "-m", "2048", "-display", "none", "-nodefaults", "-no-reboot"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&files.initramfs)
        .arg("-append")
        .arg(format!("console=ttyS0 panic=-1 quiet {parameters}"))
        .args(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"])
        .args(["-netdev", "user,id=net,restrict=on"])
        .args(["-device", "virtio-net-pci,netdev=net,romfile="])
        .arg("-serial")
        .arg(format!("file:{}", files.console.display()))
        .args(["-serial", "stdio"]);
    command
}

/// Follows a guest to its end.
fn follow(
    child: &mut Child,
    stdout: ChildStdout,
    console: &Path,
    on_line: &mut impl FnMut(&str),
) -> Result<End> {
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut line = Vec::new();
        // The last line may be cut off: then it names the test that hung.
        while stdout.read_until(b'\n', &mut line).is_ok_and(|n_bytes| n_bytes > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    let mut deadline = Instant::now() + GUEST_TIME;
    let mut end = End::Early;
    loop {
        match receiver.recv_timeout(POLL_TIME) {
            Ok(line) => match line.strip_prefix(SENTINEL) {
                Some(status) => {
                    end = End::Finished { exit_status: status.trim().parse().unwrap_or(-1) };
                    deadline = Instant::now() + POWEROFF_TIME;
                }
                None => on_line(&line),
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(sign) = trouble(console) {
                    child.kill().context("failed to kill qemu")?;
                    end = ended_by(end, format!("the kernel said \"{sign}\""));
                }
            }
        }
        if Instant::now() > deadline {
            child.kill().context("failed to kill qemu")?;
            end = ended_by(end, format!("no end after {} s", GUEST_TIME.as_secs()));
        }
    }
    if end == End::Early
        && let Some(sign) = trouble(console)
    {
        end = End::Killed(format!("the kernel said \"{sign}\""));
    }
    if reader.join().is_err() {
        bail!("the reader of the guest's output panicked");
    }
    Ok(end)
}

/// A guest that only fails to power off has given all its verdicts.
fn ended_by(end: End, reason: String) -> End {
    if end == End::Early { End::Killed(reason) } else { end }
}

/// The first sign of trouble in the console's log.
fn trouble(console: &Path) -> Option<&'static str> {
    let console = fs::read(console).unwrap_or_default();
    sign_in(&String::from_utf8_lossy(&console))
}

fn sign_in(console: &str) -> Option<&'static str> {
    let sign = TROUBLE.iter().find(|(sign, times)| console.matches(sign).count() >= *times);
    sign.map(|(sign, _)| *sign)
}

#[cfg(test)]
mod tests {
    use super::sign_in;

    #[test]
    fn trouble_is_seen() {
        assert_eq!(sign_in("[ 1.0] hello\n"), None);
        assert_eq!(sign_in("[ 1.0] watchdog: BUG: soft lockup - CPU#0\n"), None);
        let twice = "watchdog: BUG: soft lockup - CPU#0\n".repeat(2);
        assert_eq!(sign_in(&twice), Some("watchdog: BUG: soft lockup"));
        let panic = "---[ end Kernel panic - not syncing: Attempted to kill init! ]---";
        assert_eq!(sign_in(panic), Some("end Kernel panic"));
    }
}

//! A machine inside this machine: process, mount and network namespaces, of which nothing stays when they end.
//!
//! The kubelet mounts, sets sysctls, and writes to `/run` and `/var/log`, wherever it is told to live; containers' shims
//! outlive whoever started them. In here all that is the sandbox's own. Cgroups are the machine's, and so are seen by what
//! is tested.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::super::{start_logged, wait_at_the_end};
use crate::tools::Process;

/// The first process of the sandbox, which also takes leave of processes that nobody else waits for.
const INIT: &str = "
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/netns
mount -t tmpfs -o mode=755 tmpfs /var/log
# What the kubelet sets for the whole machine, it sets in files of its own.
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \\
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    file=/run/sysctl-${name##*/}
    cat /proc/sys/$name > $file
    mount --bind $file /proc/sys/$name
done
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo ready
sleep infinity &
wait
";

/// The ends of the link between the machine and the sandbox.
const OUTER_END: &str = "podmeter-host";
const INNER_END: &str = "podmeter-node";

/// The machine's address on the link.
pub(super) const HOST: &str = "198.18.77.254";
/// The node's, which is the sandbox's. No network uses these: they are for benchmarks.
pub const ADDRESS: &str = "198.18.77.1";

/// The link, which is there before the sandbox, so that a server can listen on it.
#[derive(Debug)]
pub(super) struct Link;

impl Link {
    pub(super) fn create() -> Self {
        // A test that was killed may have left it.
        remove_link();
        let peer = ["peer", "name", INNER_END];
        run(Command::new("ip").args(["link", "add", OUTER_END, "type", "veth"]).args(peer));
        let address = format!("{HOST}/24");
        run(Command::new("ip").args(["address", "add", &address, "dev", OUTER_END]));
        run(Command::new("ip").args(["link", "set", OUTER_END, "up"]));
        Self
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        remove_link();
    }
}

/// Removes one end of the link, and with it the other; it may be gone with the sandbox.
fn remove_link() {
    let removed = Command::new("ip").args(["link", "delete", OUTER_END]).output();
    drop(removed.expect("ip starts"));
}

#[derive(Debug)]
pub(super) struct Sandbox {
    /// Its first process, as this machine counts.
    init: u32,
    unshare: Option<Process>,
    /// Each a `nsenter` that waits for what it started.
    programs: Vec<Process>,
    dir: PathBuf,
    /// Where programs are looked for.
    path: String,
}

impl Sandbox {
    /// Starts it at the end of the link, with these folders before the others on `PATH`.
    pub(super) fn start(_link: &Link, dir: &Path, folders: &[PathBuf]) -> Self {
        let folders = folders.iter().map(|folder| folder.display().to_string());
        let path: Vec<String> = folders.chain(["/usr/sbin:/usr/bin:/sbin:/bin".into()]).collect();
        // It ends with the thread that starts it, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig=KILL", "unshare", "--fork", "--kill-child=KILL"])
            .args(["--pid", "--mount", "--mount-proc", "--net", "--ipc", "sh", "-c", INIT])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut unshare = Process::start(&mut command);
        let stdout = unshare.child().stdout.take().expect("standard output is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("it can be read");
        assert_eq!(line, "ready\n", "the namespaces cannot be made; are you root?");
        let init = child_of(unshare.child().id()).expect("unshare waits for its child");
        let sandbox = Self {
            init,
            unshare: Some(unshare),
            programs: Vec::new(),
            dir: dir.into(),
            path: path.join(":"),
        };
        sandbox.connect();
        sandbox
    }

    fn connect(&self) {
        let init = self.init.to_string();
        run(Command::new("ip").args(["link", "set", INNER_END, "netns", &init]));
        let address = format!("{ADDRESS}/24");
        run(self.command("ip").args(["address", "add", &address, "dev", INNER_END]));
        run(self.command("ip").args(["link", "set", INNER_END, "up"]));
        run(self.command("ip").args(["route", "add", "default", "via", HOST]));
    }

    /// The namespace of its processes.
    pub(super) fn process_namespace(&self) -> PathBuf {
        let link = format!("/proc/{}/ns/pid", self.init);
        fs::read_link(&link).unwrap_or_else(|error| panic!("{link}: {error}"))
    }

    /// A command inside.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--pid", "--mount", "--net", "--ipc", "--"])
            .arg(program.as_ref())
            .env("PATH", &self.path)
            .stdin(Stdio::null());
        command
    }

    /// Starts a program inside, with a log in the folder. It ends with the sandbox.
    pub(super) fn spawn(&mut self, name: &str, command: &mut Command) {
        self.programs.push(start_logged(&self.dir, name, command));
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.unshare = None;
        // The first process is there until all others have gone.
        wait_at_the_end("nothing runs in the sandbox", || {
            (!Path::new(&format!("/proc/{}", self.init)).exists()).then_some(())
        });
    }
}

/// Runs a command that must succeed.
pub(super) fn run(command: &mut Command) {
    drop(output(command));
}

/// Runs a command that must succeed, and gives what it prints.
pub(super) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one child of a process.
fn child_of(parent: u32) -> Option<u32> {
    let parent = parent.to_string();
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name before the bracket may contain anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        (rest.split(' ').nth(1) == Some(&parent)).then_some(id)
    })
}

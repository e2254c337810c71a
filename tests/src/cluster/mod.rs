//! A real Kubernetes API server with its etcd, in a temporary folder and on free ports of this machine.
//!
//! There are no controllers: a test makes owners and pods itself, and writes their status, so that it decides what is seen
//! and when. `cargo xtask test cluster` brings the programs; without them a test says that it is skipped.

mod api_server;
mod certificates;
mod etcd;
pub mod helm;
pub mod kubectl;
pub mod node;
pub mod service_account;
pub mod workload;

use std::{
    fs::{self, OpenOptions},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use self::{
    api_server::ApiServer,
    certificates::{Certificates, Pair},
    etcd::Etcd,
    kubectl::{Credentials, Kubectl},
    service_account::ServiceAccount,
};
use crate::{
    http::Client,
    tools::{Process, tool},
};

/// How long a test waits for a component: on a busy machine the API server alone takes half a minute to start.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Where the API server listens if there is no node.
const LOOPBACK: &str = "127.0.0.1";

/// How many bytes of each log a failed test shows.
const SHOWN_LOG_BYTES: usize = 4096;

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the programs are.
#[derive(Clone, Debug)]
struct Programs(PathBuf);

impl Programs {
    fn find() -> Option<Self> {
        tool("PODMETER_KUBERNETES").map(Self)
    }

    /// A component of Kubernetes.
    fn compiled(&self, name: &str) -> PathBuf {
        self.0.join("compiled").join(name)
    }

    /// A program of a Debian package, by its path there.
    fn debian(&self, path: &str) -> PathBuf {
        self.0.join("debian").join(path)
    }
}

/// How an API server is started.
struct Options<'a> {
    /// Where it listens.
    address: &'a str,
    flags: &'a [&'a str],
}

/// A running API server, and what a test does with it.
#[derive(Debug)]
pub struct Cluster {
    kubectl: Kubectl,
    admin: Pair,
    certificates: Certificates,
    programs: Programs,
    // Ends before its etcd.
    api_server: ApiServer,
    etcd: Etcd,
    dir: TempDir,
}

impl Cluster {
    /// Starts one, or gives nothing after saying that the programs are not there.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further flags of the API server.
    ///
    /// `--watch-cache-sizes=pods#0` makes it answer every watch from etcd: then a compaction is seen at once.
    #[must_use]
    pub fn start_with(flags: &[&str]) -> Option<Self> {
        let programs = Programs::find()?;
        Some(Self::start_at(programs, &Options { address: LOOPBACK, flags }))
    }

    fn start_at(programs: Programs, options: &Options<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let certificates = Certificates::make(dir.path());
        let etcd = Etcd::start(&programs, dir.path());
        let api_server =
            ApiServer::start(&programs, dir.path(), &certificates, etcd.url(), options);
        let admin = certificates.client("admin", "admin", Some("system:masters"));
        let credentials = Credentials::Certificate(&admin);
        let ca_file = certificates.ca_file();
        let kubeconfig =
            kubectl::kubeconfig(dir.path(), "admin", api_server.url(), ca_file, &credentials);
        let kubectl = Kubectl::new(&programs, dir.path(), kubeconfig);
        let cluster = Self { kubectl, admin, certificates, programs, api_server, etcd, dir };
        cluster.api_server.wait_until_ready(&cluster.certificates);
        cluster
    }

    /// A kubeconfig with a certificate for a user and, maybe, the group that it is in.
    fn kubeconfig(&self, name: &str, user: &str, group: Option<&str>) -> PathBuf {
        let pair = self.certificates.client(name, user, group);
        let credentials = Credentials::Certificate(&pair);
        kubectl::kubeconfig(self.dir.path(), name, self.url(), self.ca_file(), &credentials)
    }

    /// Where the API is.
    #[must_use]
    pub fn url(&self) -> &str {
        self.api_server.url()
    }

    /// The certificate that the API server's is signed with.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        self.certificates.ca_file()
    }

    /// `kubectl` as an administrator.
    #[must_use]
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The administrator over HTTP, where `kubectl` would take too long: a thousand objects, or more.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.ca_file(), &self.admin.certificate, &self.admin.key)
    }

    /// Writes the status of an object, as its controller or the kubelet would.
    ///
    /// The path is the object's in the API, such as `/api/v1/namespaces/shop/pods/web-0`.
    pub fn set_status(&self, path: &str, status: &Value) {
        let mut object = self.kubectl.get_raw(path);
        let fields = object.as_object_mut().expect("an object of the API");
        fields.insert("status".into(), status.clone());
        let path = format!("{path}/status");
        self.kubectl.with_input(&["replace", "--raw", &path, "-f", "-"], &object);
    }

    /// A ServiceAccount that exists, with a token of its own, as a pod would have them mounted.
    #[must_use]
    pub fn service_account(&self, namespace: &str, name: &str) -> ServiceAccount {
        ServiceAccount::mount(self, namespace, name)
    }

    /// Ends the API server at once, as a crash would: connections are reset, nothing is said.
    pub fn kill_api_server(&mut self) {
        self.api_server.kill();
    }

    /// Starts it again, on the same port and with the same objects, and waits until it serves.
    pub fn restart_api_server(&mut self) {
        self.api_server.kill();
        self.api_server.spawn();
        self.api_server.wait_until_ready(&self.certificates);
    }

    /// Stops the API server in mid-breath: connections stay open, and nothing comes through them.
    pub fn freeze_api_server(&self) {
        self.api_server.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw_api_server(&self) {
        self.api_server.signal(Signal::CONT);
    }

    /// Makes etcd forget all history, and gives the revision that it forgot all before.
    ///
    /// A watch from a `resourceVersion` is gone if more than one change of anything came after it. But the API server still
    /// serves watches from its own cache, unless it is restarted or started without one.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn compact(&self) -> u64 {
        self.etcd.compact()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            show_logs(self.dir.path());
        }
    }
}

/// Prints the end of each component's log, before the folder goes.
fn show_logs(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = fs::read(&path).unwrap_or_default();
            let end = log.get(log.len().saturating_sub(SHOWN_LOG_BYTES)..).unwrap_or(&log);
            println!("==> {}\n{}", path.display(), String::from_utf8_lossy(end));
        }
    }
}

/// Starts a program whose output goes to a file.
fn start_logged(dir: &Path, name: &str, command: &mut Command) -> Process {
    let path = dir.join(format!("{name}.log"));
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    let also = log.try_clone().expect("a file can be shared");
    Process::start(command.stdin(Stdio::null()).stdout(log).stderr(also))
}

/// Waits until the condition gives something, or fails the test.
pub fn wait_until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    poll(condition).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// The same for what is done after a test, which may have failed already.
fn wait_at_the_end(what: &str, condition: impl FnMut() -> Option<()>) {
    if poll(condition).is_none() {
        println!("left behind: waited {PATIENCE:?} in vain: {what}");
    }
}

fn poll<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = condition();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        // Asking without a pause would take the CPU from the one that is asked.
        thread::park_timeout(PAUSE);
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    free.expect("there is a free port").port()
}

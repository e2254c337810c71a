//! The process of the API server.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    Programs,
    certificates::{Certificates, TokenKeys},
    free_port, wait_until,
};
use crate::{
    http::{Trust, try_get_https},
    tools::Process,
};

/// How many bytes of the log a failure shows.
const SHOWN_LOG_BYTES: usize = 4096;

/// An API server, which may be down.
#[derive(Debug)]
pub(super) struct ApiServer {
    url: String,
    log: PathBuf,
    command: Command,
    process: Option<Process>,
}

impl ApiServer {
    /// Starts it; it serves some seconds later.
    pub(super) fn start(
        programs: &Programs,
        dir: &Path,
        certificates: &Certificates,
        etcd_url: &str,
        flags: &[&str],
    ) -> Self {
        let port = free_port();
        let serving = certificates.server("api-server", &["localhost", "127.0.0.1"]);
        let TokenKeys { public, private } = certificates.token_keys();
        let mut command = Command::new(programs.compiled("kube-apiserver"));
        command
            .arg(format!("--etcd-servers={etcd_url}"))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", dir.join("api-server").display()))
            .arg(format!("--tls-cert-file={}", serving.certificate.display()))
            .arg(format!("--tls-private-key-file={}", serving.key.display()))
            .arg(format!("--client-ca-file={}", certificates.ca_file().display()))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", public.display()))
            .arg(format!("--service-account-signing-key-file={}", private.display()))
            .arg("--service-cluster-ip-range=10.96.0.0/16")
            .arg("--authorization-mode=RBAC")
            .arg("--allow-privileged=true")
            // The endpoints of a server that listens on loopback are refused.
            .arg("--endpoint-reconciler-type=none")
            // Without controllers no namespace gets the ServiceAccount that it wants in each pod.
            .arg("--disable-admission-plugins=ServiceAccount")
            .args(flags)
            .stdin(Stdio::null());
        let url = format!("https://127.0.0.1:{port}");
        let log = dir.join("api-server.log");
        let mut api_server = Self { url, log, command, process: None };
        api_server.spawn();
        api_server
    }

    /// Starts the process again.
    pub(super) fn spawn(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.expect("a file for the log");
        let also: File = log.try_clone().expect("a file can be shared");
        self.process = Some(Process::start(self.command.stdout(log).stderr(also)));
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it says that all of it is ready, roles and namespaces included.
    pub(super) fn wait_until_ready(&self, certificates: &Certificates) {
        let url = format!("{}/readyz", self.url);
        let trust = Trust::Authority(certificates.ca_file());
        wait_until(&format!("the API server is ready; {}", self.log.display()), || {
            let last_words = self.process.as_ref().is_none_or(Process::has_ended);
            assert!(!last_words, "the API server ended:\n{}", self.end_of_log());
            let answer = try_get_https(&url, trust, &[]).ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// Ends the process: a polite request would keep its watches for up to a minute.
    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    pub(super) fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("the API server runs");
        process.signal(signal);
    }

    fn end_of_log(&self) -> String {
        let log = fs::read(&self.log).expect("the log can be read");
        let end = log.get(log.len().saturating_sub(SHOWN_LOG_BYTES)..).unwrap_or(&log);
        String::from_utf8_lossy(end).into_owned()
    }
}

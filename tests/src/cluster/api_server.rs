//! The process of the API server.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use super::{
    LOOPBACK, Options, Programs,
    certificates::{Certificates, TokenKeys},
    free_port, start_logged, wait_until,
};
use crate::{
    http::{Trust, try_get_https},
    tools::Process,
};

/// The first address of the Services, which is the API server's own.
const SERVICE: &str = "10.96.0.1";

/// An API server, which may be down.
#[derive(Debug)]
pub(super) struct ApiServer {
    url: String,
    dir: PathBuf,
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
        options: &Options<'_>,
    ) -> Self {
        let Options { address, flags } = options;
        let port = free_port();
        let names = ["localhost", address, "kubernetes.default.svc", SERVICE];
        let serving = certificates.server("api-server", &names);
        let TokenKeys { public, private } = certificates.token_keys();
        let mut command = Command::new(programs.compiled("kube-apiserver"));
        command
            .arg(format!("--etcd-servers={etcd_url}"))
            .arg(format!("--bind-address={address}"))
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", dir.join("api-server").display()))
            .arg(format!("--tls-cert-file={}", serving.certificate.display()))
            .arg(format!("--tls-private-key-file={}", serving.key.display()))
            .arg(format!("--client-ca-file={}", certificates.ca_file().display()))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", public.display()))
            .arg(format!("--service-account-signing-key-file={}", private.display()))
            .arg("--service-cluster-ip-range=10.96.0.0/16")
            .arg("--authorization-mode=Node,RBAC")
            .arg("--allow-privileged=true")
            // Without controllers no namespace gets the ServiceAccount that it wants in each pod.
            .arg("--disable-admission-plugins=ServiceAccount")
            .args(*flags);
        if *address == LOOPBACK {
            // The endpoints of a server that listens there are refused.
            command.arg("--endpoint-reconciler-type=none");
        }
        let url = format!("https://{address}:{port}");
        let mut api_server = Self { url, dir: dir.into(), command, process: None };
        api_server.spawn();
        api_server
    }

    /// Starts the process again.
    pub(super) fn spawn(&mut self) {
        self.process = Some(start_logged(&self.dir, "api-server", &mut self.command));
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it says that all of it is ready, roles and namespaces included.
    pub(super) fn wait_until_ready(&self, certificates: &Certificates) {
        let url = format!("{}/readyz", self.url);
        let trust = Trust::Authority(certificates.ca_file());
        wait_until("the API server is ready", || {
            let has_ended = self.process.as_ref().is_none_or(Process::has_ended);
            assert!(!has_ended, "the API server ended");
            let answer = try_get_https(&url, trust, &[]).ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// Ends the process: a polite request would keep its watches for up to a minute.
    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    pub(super) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the API server runs");
        process.signal(signal);
    }
}

//! `kubectl`, as somebody.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Cluster, Programs, certificates::Pair};
use crate::tools::{run_with_input, write};

/// A `kubectl` with the credentials of one user.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// What it has learnt of the API; in the home folder it would be another cluster's.
    cache: PathBuf,
}

/// What a user shows to the API server.
pub(super) enum Credentials<'a> {
    Certificate(&'a Pair),
    TokenFile(&'a Path),
}

#[expect(
    clippy::must_use_candidate,
    reason = "most are run for what they do, not for what they say"
)]
impl Kubectl {
    /// As the holder of a token.
    pub(super) fn with_token(cluster: &Cluster, dir: &Path, token_file: &Path) -> Self {
        let credentials = Credentials::TokenFile(token_file);
        let kubeconfig = kubeconfig(dir, "token", cluster.url(), cluster.ca_file(), &credentials);
        Self::new(&cluster.programs, dir, kubeconfig)
    }

    pub(super) fn new(programs: &Programs, dir: &Path, kubeconfig: PathBuf) -> Self {
        let program = programs.debian("usr/bin/kubectl");
        Self { program, kubeconfig, cache: dir.join("kubectl-cache") }
    }

    /// The file with its credentials, which other clients understand as well.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs it, and gives what it prints or, if it fails, what it says.
    pub fn try_run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache);
        let output = run_with_input(command.args(arguments), input.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs it, and gives what it prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments, "").unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// Runs it with an object on its standard input.
    pub fn with_input(&self, arguments: &[&str], object: &Value) -> String {
        let printed = self.try_run(arguments, &object.to_string());
        printed.unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}\n{object}"))
    }

    /// Applies objects, in YAML or JSON.
    pub fn apply(&self, objects: &str) {
        if let Err(error) = self.try_run(&["apply", "-f", "-"], objects) {
            panic!("kubectl apply: {error}\n{objects}");
        }
    }

    /// Creates an object that is a question, and gives the API server's answer.
    #[must_use]
    pub fn review(&self, object: &Value) -> Value {
        parse(&self.with_input(&["create", "--output=json", "-f", "-"], object))
    }

    /// Reads a path of the API.
    #[must_use]
    pub fn get_raw(&self, path: &str) -> Value {
        parse(&self.run(&["get", "--raw", path]))
    }
}

/// Writes a kubeconfig.
pub(super) fn kubeconfig(
    dir: &Path,
    name: &str,
    url: &str,
    ca_file: &Path,
    credentials: &Credentials<'_>,
) -> PathBuf {
    let mut user = String::new();
    match credentials {
        Credentials::Certificate(Pair { certificate, key }) => {
            let (certificate, key) = (certificate.display(), key.display());
            write!(user, "client-certificate: {certificate}, client-key: {key}")
        }
        Credentials::TokenFile(file) => write!(user, "tokenFile: {}", file.display()),
    }
    .expect("a string takes everything");
    let ca_file = ca_file.display();
    let text = format!(
        "apiVersion: v1
kind: Config
clusters: [ {{ name: test, cluster: {{ server: '{url}', certificate-authority: {ca_file} }} }} ]
users: [ {{ name: test, user: {{ {user} }} }} ]
contexts: [ {{ name: test, context: {{ cluster: test, user: test }} }} ]
current-context: test
"
    );
    write(dir, &format!("{name}.kubeconfig"), &text)
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text)
        .unwrap_or_else(|error| panic!("kubectl printed no JSON: {error}\n{text}"))
}

//! A ServiceAccount's credentials, in a folder as a pod has them under `/var/run/secrets/kubernetes.io/serviceaccount`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{Cluster, kubectl::Kubectl};
use crate::tools::write;

/// Life of a token: longer than any test or bench.
const TOKEN_SECONDS: u32 = 3600;

/// A folder with `token`, `ca.crt` and `namespace`.
#[derive(Debug)]
pub struct ServiceAccount {
    namespace: String,
    name: String,
    dir: PathBuf,
    n_tokens: u32,
    kubectl: Kubectl,
}

impl ServiceAccount {
    pub(super) fn mount(cluster: &Cluster, namespace: &str, name: &str) -> Self {
        let dir = cluster.dir.path().join(format!("service-account-{namespace}-{name}"));
        fs::create_dir(&dir).unwrap_or_else(|error| panic!("mkdir {}: {error}", dir.display()));
        for file in ["token", "ca.crt", "namespace"] {
            link(Path::new(&format!("..data/{file}")), &dir.join(file));
        }
        let kubectl = Kubectl::with_token(cluster, &dir, &dir.join("token"));
        let (namespace, name) = (namespace.into(), name.into());
        let mut account = Self { namespace, name, dir, n_tokens: 0, kubectl };
        account.rotate(cluster);
        account
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The token's file.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// The token that the file has now.
    #[must_use]
    pub fn token(&self) -> String {
        let path = self.token_file();
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
    }

    /// `kubectl` as this ServiceAccount; its kubeconfig names the token's file, and not the token.
    #[must_use]
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Puts a new token into the folder, all at once, as the kubelet does. The old one stays valid.
    pub fn rotate(&mut self, cluster: &Cluster) {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "expirationSeconds": TOKEN_SECONDS },
        });
        let Self { namespace, name, .. } = self;
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = cluster.kubectl().with_input(&["create", "--raw", &path, "-f", "-"], &request);
        let answer: Value = serde_json::from_str(&answer).expect("the API server answers JSON");
        let token = answer.pointer("/status/token").and_then(Value::as_str).expect("a token");
        self.n_tokens += 1;
        let data = format!("..data-{}", self.n_tokens);
        let new = self.dir.join(&data);
        fs::create_dir(&new).unwrap_or_else(|error| panic!("mkdir {}: {error}", new.display()));
        let ca = fs::read_to_string(cluster.ca_file()).expect("the certificate can be read");
        for (file, text) in [("token", token), ("ca.crt", &ca), ("namespace", namespace)] {
            drop(write(&new, file, text));
        }
        let next = self.dir.join("..data_tmp");
        link(Path::new(&data), &next);
        fs::rename(&next, self.dir.join("..data")).expect("a link can be replaced");
    }

    /// Deletes the ServiceAccount and makes it anew: all tokens that it had are refused some seconds later.
    ///
    /// What is bound to it by name, such as roles, is the new one's.
    pub fn revoke(&self, cluster: &Cluster) {
        let Self { namespace, name, .. } = self;
        for verb in ["delete", "create"] {
            cluster.kubectl().run(&[verb, "serviceaccount", "--namespace", namespace, name]);
        }
    }
}

fn link(target: &Path, at: &Path) {
    symlink(target, at).unwrap_or_else(|error| panic!("link {}: {error}", at.display()));
}

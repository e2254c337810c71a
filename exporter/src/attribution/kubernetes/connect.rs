//! Where the API server is and who Podmeter is there: a service account, or a kubeconfig.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::task;

/// What makes a process one that runs in a pod.
const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How the API server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// By the service account of the pod that Podmeter runs in.
    ServiceAccount,
    /// By a kubeconfig.
    Kubeconfig(PathBuf),
}

/// There is no way to an API that was asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{key}` is true, but there is neither a service account nor a kubeconfig; set kubernetes.kubeconfig or KUBECONFIG, \
     or run in a pod"
)]
pub struct NoAccess {
    /// The key of the configuration that asks for it.
    pub key: &'static str,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The service account is not complete.
    #[error("cannot use the service account")]
    ServiceAccount(#[source] InClusterError),
    /// The kubeconfig cannot be read.
    #[error("cannot use the kubeconfig {path}")]
    Kubeconfig { path: PathBuf, source: Box<KubeconfigError> },
    /// The kubeconfig wants a program to be run.
    #[error(
        "the kubeconfig {0} gets its credentials from a program, and Podmeter starts none; use a token or a certificate"
    )]
    Program(PathBuf),
    /// There is nobody whose signature on the server's certificate could be trusted.
    #[error(
        "the kubeconfig {0} names no certificate-authority, and this system has no list of authorities: name the cluster's"
    )]
    NoAuthority(PathBuf),
    /// What they say makes no client.
    #[error("cannot make a client of the API server")]
    Client(#[source] Box<kube::Error>),
    /// Reading panicked.
    #[error("reading the credentials ended early, which is a bug")]
    Panicked(#[source] task::JoinError),
}

impl Access {
    /// What there is: the kubeconfig that was configured or that `$KUBECONFIG` names, or the service account.
    ///
    /// `~/.kube/config` is not taken unasked: it is a person's, and may lead anywhere.
    #[must_use]
    pub fn find(configured: Option<&Path>) -> Option<Self> {
        Self::choose(
            configured,
            env::var_os("KUBECONFIG").map(PathBuf::from),
            env::var_os(SERVICE_HOST).is_some() && Path::new(SERVICE_ACCOUNT_TOKEN).exists(),
        )
    }

    fn choose(
        configured: Option<&Path>,
        variable: Option<PathBuf>,
        has_service_account: bool,
    ) -> Option<Self> {
        let variable = variable.filter(|path| !path.as_os_str().is_empty());
        match configured.map(Path::to_path_buf).or(variable) {
            Some(path) => Some(Self::Kubeconfig(path)),
            None => has_service_account.then_some(Self::ServiceAccount),
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::ServiceAccount => "the pod's service account".into(),
            Self::Kubeconfig(path) => format!("kubeconfig {}", path.display()),
        }
    }

    /// A client with the credentials as they are now. A token file is read again by the client itself, every minute.
    pub(super) async fn connect(&self) -> Result<Client, ConnectError> {
        let mut config = match self {
            Self::ServiceAccount => {
                let read = task::spawn_blocking(Config::incluster);
                let config = read.await.map_err(ConnectError::Panicked)?;
                config.map_err(ConnectError::ServiceAccount)?
            }
            Self::Kubeconfig(path) => from_kubeconfig(path.clone()).await?,
        };
        // The plan waits between attempts, and counts them.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))
    }
}

async fn from_kubeconfig(path: PathBuf) -> Result<Config, ConnectError> {
    let wrong =
        |path: PathBuf| move |source| ConnectError::Kubeconfig { path, source: Box::new(source) };
    let file = path.clone();
    let read = task::spawn_blocking(move || Kubeconfig::read_from(file));
    let kubeconfig = read.await.map_err(ConnectError::Panicked)?.map_err(wrong(path.clone()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(wrong(path.clone()))?;
    if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
        return Err(ConnectError::Program(path));
    }
    if config.root_cert.is_some() {
        return Ok(config);
    }
    if config.accept_invalid_certs || config.cluster_url.scheme_str() != Some("https") {
        // The client wants authorities even where none is asked; the image has no list of them.
        config.root_cert = Some(Vec::new());
        return Ok(config);
    }
    let known = task::spawn_blocking(rustls_native_certs::load_native_certs);
    if known.await.map_err(ConnectError::Panicked)?.certs.is_empty() {
        return Err(ConnectError::NoAuthority(path));
    }
    Ok(config)
}

/// The name of this node in the API: what was configured, what the pod was told, or the host's name.
pub fn node_name(
    configured: Option<&str>,
    hostname: impl FnOnce() -> io::Result<String>,
) -> String {
    if let Some(name) = configured {
        return name.into();
    }
    if let Some(name) = env::var("NODE_NAME").ok().filter(|name| !name.is_empty()) {
        return name;
    }
    // The kubelet registers its node by the host's name in lower case.
    hostname().map_or_else(|_| "unknown".into(), |name| name.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::Access;

    #[test]
    fn what_is_configured_comes_first_and_nothing_is_taken_unasked() {
        let kubeconfig = |path: &str| Some(Access::Kubeconfig(PathBuf::from(path)));
        let check = |configured: Option<&str>, variable: Option<&str>, account, expected| {
            let variable = variable.map(PathBuf::from);
            assert_eq!(Access::choose(configured.map(Path::new), variable, account), expected);
        };
        check(Some("/a"), Some("/b"), true, kubeconfig("/a"));
        check(None, Some("/b"), true, kubeconfig("/b"));
        check(None, Some(""), true, Some(Access::ServiceAccount));
        check(None, None, true, Some(Access::ServiceAccount));
        check(None, None, false, None);
    }
}

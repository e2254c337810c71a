//! `podmeter top`: asks a running Podmeter again and again for the families that say who waits and who is busy, and
//! shows what happened in between: on a terminal live, in a pipe as rows.
//!
//! It measures nothing itself and needs no privileges; what it cannot get it says, with what to do.

mod draw;
mod error;
mod page;
mod plain;
mod poll;
mod state;
mod terminal;

use std::{
    io::{self, IsTerminal as _},
    net::SocketAddr,
};

use http::Uri;
use tokio::time;

pub use self::error::TopError;
use self::poll::Poller;
use crate::{
    cli::TopArgs,
    demand::SELF,
    labelling::glance::Signal,
    serve::reachable,
    source::upstream::client::config::{
        ClientCertificate, ClientConfig, Compression, Credentials, Secret, TlsConfig, Verification,
    },
};

/// Largest page; a node with a thousand containers gives some megabytes.
const MAX_PAGE_BYTES: usize = 64 << 20;

/// Shows until it is told to stop, or once.
pub async fn run(args: &TopArgs, listen: SocketAddr) -> Result<(), TopError> {
    let poller = Poller::new(client_config(args, listen)?);
    if io::stdout().is_terminal() && !args.once {
        return terminal::run(poller, args).await;
    }
    print(poller, args).await
}

/// Prints rows until the reader goes, or once.
async fn print(mut poller: Poller, args: &TopArgs) -> Result<(), TopError> {
    let mut ticks = time::interval(args.interval);
    let mut is_first = true;
    loop {
        ticks.tick().await;
        let Some(rates) = poller.look().await? else {
            continue;
        };
        match plain::print(&mut io::stdout().lock(), rates, args.sort, args.rows, is_first) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(TopError::Output)?,
        }
        if args.once {
            return Ok(());
        }
        is_first = false;
    }
}

/// How the endpoint is asked.
fn client_config(args: &TopArgs, listen: SocketAddr) -> Result<ClientConfig, TopError> {
    let credentials = match (&args.token_file, &args.username, &args.password_file) {
        (Some(file), ..) => {
            Some(Credentials::Token { scheme: "Bearer".into(), token: Secret::File(file.clone()) })
        }
        (None, Some(username), Some(file)) => Some(Credentials::Basic {
            username: username.clone(),
            password: Secret::File(file.clone()),
        }),
        _ => None,
    };
    let client = args.cert_file.clone().zip(args.key_file.clone());
    let client = client.map(|(cert_file, key_file)| ClientCertificate { cert_file, key_file });
    let verification =
        if args.insecure_skip_verify { Verification::Skipped } else { Verification::Required };
    Ok(ClientConfig {
        url: url(args, listen)?,
        credentials,
        tls: TlsConfig { ca_file: args.ca_file.clone(), client, server_name: None, verification },
        compression: Compression::Refused,
        max_body_bytes: MAX_PAGE_BYTES,
    })
}

/// The page with the few families that are shown; nothing else is collected for it.
fn url(args: &TopArgs, listen: SocketAddr) -> Result<Uri, TopError> {
    let has_tls_options = args.ca_file.is_some() || args.insecure_skip_verify;
    let scheme = if has_tls_options { "https" } else { "http" };
    let given = match &args.url {
        Some(url) if url.contains("://") => url.clone(),
        Some(address) => format!("{scheme}://{address}"),
        None => format!("{scheme}://{}", reachable(listen)),
    };
    let refused = |reason| TopError::Url { url: given.clone(), reason };
    let parsed: Uri = given.parse().map_err(|_invalid| refused("it is no URL"))?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) || parsed.authority().is_none() {
        return Err(refused("it begins with neither http:// nor https://, or names no host"));
    }
    if parsed.query().is_some() {
        return Err(refused("it has a query, and top asks its own"));
    }
    let path = if parsed.path() == "/" { "/metrics" } else { parsed.path() };
    let sources = Signal::SOURCES.into_iter().chain([SELF]);
    let query: Vec<String> = sources.map(|name| format!("collect%5B%5D={name}")).collect();
    let mut parts = parsed.clone().into_parts();
    let path_and_query = format!("{path}?{}", query.join("&")).parse();
    parts.path_and_query = Some(path_and_query.map_err(|_invalid| refused("its path is none"))?);
    Uri::from_parts(parts).map_err(|_invalid| refused("it is no URL"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::url;
    use crate::cli::{Cli, Command, TopArgs};

    fn args(words: &[&str]) -> TopArgs {
        let words = ["podmeter", "top"].iter().chain(words).map(OsString::from);
        match Cli::parse_args(words).unwrap().command {
            Command::Top(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_url_is_found() {
        let check = |words: &[&str], expected: &str| {
            let url = url(&args(words), "0.0.0.0:9643".parse().unwrap()).unwrap().to_string();
            let (page, query) = url.split_once('?').unwrap();
            assert_eq!(page, expected);
            assert!(query.starts_with("collect%5B%5D=cgroup_cpu&"), "{query}");
            assert!(query.ends_with("&collect%5B%5D=podmeter"), "{query}");
        };
        check(&[], "http://127.0.0.1:9643/metrics");
        check(&["--url", "10.0.0.1:9643"], "http://10.0.0.1:9643/metrics");
        check(&["--url", "http://node/"], "http://node/metrics");
        check(&["--url", "https://node/podmeter/metrics"], "https://node/podmeter/metrics");
        check(&["--insecure-skip-verify"], "https://127.0.0.1:9643/metrics");
        check(&["--ca-file", "ca.crt", "--url", "node:1"], "https://node:1/metrics");
    }

    #[test]
    fn a_wrong_url_is_refused_with_the_reason() {
        let check = |given: &str, reason: &str| {
            let error = url(&args(&["--url", given]), "0.0.0.0:1".parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        };
        check("ftp://node", "neither http:// nor https://");
        check("http://a b", "no URL");
        check("http://node/metrics?job=a", "query");
    }
}

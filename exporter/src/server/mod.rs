//! Podmeter's HTTP server: HTTP/1.1, plain or with TLS, for scrapers, probes and people.
//!
//! | path | answer to `GET` and `HEAD` |
//! |---|---|
//! | `/metrics` | 200 with the page, collected now: text 0.0.4 or `OpenMetrics` 1.0 by `Accept`, gzip or zstd by `Accept-Encoding` |
//! | `/metrics?job=…` | the same of the named targets only; `collect[]=…` of the named sources or targets only, `exclude[]=…` of all others |
//! | | 400 when a name is none |
//! | | 503 when too many scrapes run or when this one took too long, 500 when the page could not be made |
//! | `/healthz` | 200 `ok`, as long as the process serves at all |
//! | `/readyz` | 200 `ok`, or 503 with the reason why not |
//! | `/` | 200 with a page for people: version, probes, sources |
//! | any other | 404 with the list of paths |
//!
//! The header `X-Prometheus-Scrape-Timeout-Seconds`, less half a second, bounds how long a scrape waits for targets and
//! sources; one that is no time is left alone.
//!
//! Where [`Web`] guards the endpoint, all but `/healthz` and `/readyz` is for those that it lets in: others get 401 or
//! 403, and their connection is closed.
//!
//! It refuses other methods (405), requests with a body (413), headers that are too large or too many (431), and
//! clients that are slow to ask or to read (they are cut off). [`Limits`] has the bounds; each that is met is told to
//! [`App::limit_hit`].

pub mod app;
pub mod limits;
pub mod web;

mod addresses;
mod body;
mod connection;
mod crowd;
mod door;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod guard;
mod landing;
mod pace;
mod router;
mod scrape;
mod wire;

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinSet},
};

use self::{
    app::App,
    door::{Accepted, Door},
    guard::{Guard, NoRandomness},
    limits::{Limit, Limits},
    router::Router,
    web::Web,
};

/// A server that has its address but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    web: Web,
    guard: Guard,
}

/// Why the server cannot listen, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another process listens there.
    #[error(
        "failed to listen on {address}, which is in use: stop the process that has it \
         (`ss -ltnp 'sport = :{port}'` shows it), or set `listen:` to another address",
        port = address.port()
    )]
    AddressInUse {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The port is reserved for the privileged.
    #[error(
        "failed to listen on {address} for want of permission: set `listen:` to a port above 1023, \
         or give the process CAP_NET_BIND_SERVICE"
    )]
    PermissionDenied {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The machine does not have the address.
    #[error(
        "failed to listen on {address}, which is no address of this machine: set `listen:` to one that is, \
         or to 0.0.0.0:{port} for all",
        port = address.port()
    )]
    NoSuchAddress {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket that listens cannot be used.
    #[error("failed to serve on the socket that listens")]
    Socket(#[source] io::Error),
    /// There is no key for what is remembered of secrets.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// Anything else that the kernel refused.
    #[error("failed to listen on {address}: check `listen:`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Clients that wait in the kernel's backlog; `net.core.somaxconn` bounds them, too.
const BACKLOG: i32 = 1024;

/// Takes the address; port 0 takes any free port. No runtime is needed, so that it can be done while the process still has
/// the capability for a port below 1024.
pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener, ServerError> {
    let on_error = |source| ServerError::new(address, source);
    let listener = std::net::TcpListener::bind(address).map_err(on_error)?;
    // The standard library's own is short.
    rustix::net::listen(&listener, BACKLOG).map_err(|error| on_error(error.into()))?;
    Ok(listener)
}

impl Server {
    /// Serves where [`listen`] has taken the address; needs a runtime.
    pub fn new(listener: std::net::TcpListener, limits: Limits) -> Result<Self, ServerError> {
        let address = listener.local_addr().map_err(ServerError::Socket)?;
        listener.set_nonblocking(true).map_err(ServerError::Socket)?;
        let listener = TcpListener::from_std(listener).map_err(ServerError::Socket)?;
        Ok(Self { listener, address, limits, web: Web::none(), guard: Guard::new()? })
    }

    /// The same with TLS, and with who is let in.
    #[must_use]
    pub fn guarded_by(self, web: Web) -> Self {
        Self { web, ..self }
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is there, then lets running requests finish for [`Limits::drain_time`].
    pub async fn serve<A: App>(self, app: Arc<A>, shutdown: impl Future<Output = ()>) {
        let Self { listener, limits, web, guard, .. } = self;
        let router = Arc::new(Router::new(app, limits, web, guard));
        let door = Door::new(listener, Arc::clone(&router));
        let (stop, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        {
            let mut shutdown = pin!(shutdown);
            let mut next = pin!(door.next());
            loop {
                tokio::select! {
                    () = &mut shutdown => break,
                    Some(ended) = tasks.join_next() => report(ended),
                    accepted = &mut next => {
                        next.set(door.next());
                        let (router, stopped) = (Arc::clone(&router), stopped.clone());
                        tasks.spawn(async move {
                            let Accepted { stream, address, member, places } = accepted;
                            connection::serve(stream, address, &member, router, stopped).await;
                            drop(places);
                        });
                    }
                }
            }
        }
        drop(door);
        drop(stop);
        drain(tasks, &router).await;
    }
}

impl ServerError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse { address, source },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { address, source },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { address, source },
            _ => Self::Listen { address, source },
        }
    }
}

async fn drain<A: App>(mut tasks: JoinSet<()>, router: &Router<A>) {
    let all_ended = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(router.limits().drain_time, all_ended).await.is_err() {
        let n_connections = tasks.len();
        for _ in 0..n_connections {
            router.limit_hit(Limit::DrainTime);
        }
        tracing::warn!(n_connections, "cut off the connections that did not end in time");
        tasks.shutdown().await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection was lost to a bug in Podmeter");
    }
}

#[cfg(test)]
mod tests;

//! Who is let in to ask: one client after the other, as many at once as there are places for all and for each address.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    addresses::{AddressPlace, Addresses},
    app::App,
    crowd::{Crowd, Member},
    limits::Limit,
    router::Router,
};

/// How long accepting rests after an error, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where clients come in.
pub(super) struct Door<A> {
    listener: TcpListener,
    router: Arc<Router<A>>,
    slots: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    crowd: Crowd,
}

/// A client that is to be served, with what it takes up.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) address: IpAddr,
    pub(super) member: Arc<Member>,
    /// Free again when they are dropped.
    pub(super) places: (OwnedSemaphorePermit, AddressPlace),
}

impl<A: App> Door<A> {
    pub(super) fn new(listener: TcpListener, router: Arc<Router<A>>) -> Self {
        let slots = Arc::new(Semaphore::new(router.limits().n_connections));
        Self { listener, router, slots, addresses: Arc::default(), crowd: Crowd::default() }
    }

    /// Waits for a client, and then for its slot; further ones wait in the kernel's backlog meanwhile.
    ///
    /// Who drops this unfinished may lose a client.
    pub(super) async fn next(&self) -> Accepted {
        loop {
            let (stream, address) = self.accept().await;
            let n_most = self.router.limits().n_connections_of_address;
            let Some(place) = self.addresses.take(address, n_most) else {
                tracing::debug!(%address, "closed a connection: the address has too many");
                self.router.limit_hit(Limit::ConnectionsOfAddress);
                continue;
            };
            if let Some(slot) = self.slot().await {
                let member = self.crowd.enter();
                return Accepted { stream, address, member, places: (slot, place) };
            }
        }
    }

    async fn accept(&self) -> (TcpStream, IpAddr) {
        loop {
            let error = match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer.ip()),
                Err(error) => error,
            };
            if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) {
                self.router.limit_hit(Limit::Files);
            }
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    /// A slot; if there is none, those who ask for nothing make room.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        self.router.limit_hit(Limit::Connections);
        self.crowd.room(&self.slots, self.router.limits().room_time).await
    }
}

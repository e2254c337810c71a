//! What costs something for clients that have shown nothing yet: few at once, few in line, and a rest after each that
//! was refused, so that guessing costs the node no more than a part of one core.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use crate::server::addresses::{AddressPlace, Addresses};

/// The bounds of a gate.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "they are numbers, and say of what")]
pub(super) struct Width {
    /// Checks that run at once.
    pub(super) n_places: usize,
    /// Checks that run or wait.
    pub(super) n_in_line: usize,
    /// Those among them that are of one address.
    pub(super) n_of_address: usize,
}

/// Lets in so many at once.
#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    line: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    n_of_address: usize,
}

/// The line is full.
#[derive(Debug)]
pub(super) struct Full;

/// A place behind the gate; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    _place: Option<OwnedSemaphorePermit>,
    _in_line: OwnedSemaphorePermit,
    _of_address: AddressPlace,
}

impl Gate {
    pub(super) fn new(width: Width) -> Self {
        Self {
            places: Arc::new(Semaphore::new(width.n_places)),
            line: Arc::new(Semaphore::new(width.n_in_line)),
            addresses: Arc::default(),
            n_of_address: width.n_of_address,
        }
    }

    /// Waits for a place; a full line, or too many of the address in it, are turned away.
    pub(super) async fn enter(&self, address: IpAddr) -> Result<Entered, Full> {
        let in_line = Arc::clone(&self.line).try_acquire_owned().map_err(|_full| Full)?;
        let of_address = self.addresses.take(address, self.n_of_address).ok_or(Full)?;
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        Ok(Entered { _place: place, _in_line: in_line, _of_address: of_address })
    }
}

impl Entered {
    /// Keeps the place for a while, though nothing is done there.
    pub(super) fn rest(self, pause: Duration) {
        tokio::spawn(async move {
            time::sleep(pause).await;
            drop(self);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use tokio::time;

    use super::{Gate, Width};

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    /// Whether somebody waits in the line: nothing happens within a moment.
    async fn waits(future: &mut (impl Future + Unpin)) -> bool {
        time::timeout(Duration::from_millis(20), future).await.is_err()
    }

    #[tokio::test]
    async fn one_address_leaves_room_for_others_and_the_line_has_an_end() {
        let gate = Gate::new(Width { n_places: 1, n_in_line: 3, n_of_address: 2 });
        let first = gate.enter(ONE).await.expect("a free place");
        let mut second = Box::pin(gate.enter(ONE));
        assert!(waits(&mut second).await);
        assert!(gate.enter(ONE).await.is_err(), "two of this address are in line");
        let mut other = Box::pin(gate.enter(OTHER));
        assert!(waits(&mut other).await);
        assert!(gate.enter(OTHER).await.is_err(), "the line is full");
        drop(first);
        drop(second.await.expect("it was in line"));
        other.await.expect("it was in line");
    }

    #[tokio::test]
    async fn a_place_that_rests_is_taken_until_then() {
        let gate = Gate::new(Width { n_places: 1, n_in_line: 2, n_of_address: 2 });
        let pause = Duration::from_millis(200);
        let began = time::Instant::now();
        gate.enter(ONE).await.expect("a free place").rest(pause);
        gate.enter(OTHER).await.expect("it waits in line");
        assert!(began.elapsed() >= pause);
    }
}

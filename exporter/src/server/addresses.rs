//! How much each address has at once, so that one client cannot take what is there for all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Counts by address; holds no more addresses than there are places given.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One place of an address; free again when it is dropped.
#[derive(Debug)]
pub(super) struct AddressPlace {
    addresses: Arc<Addresses>,
    key: IpAddr,
}

impl Addresses {
    /// A place, if the address has fewer than `n_most`.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, n_most: usize) -> Option<AddressPlace> {
        let key = key(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= n_most {
            return None;
        }
        *count += 1;
        Some(AddressPlace { addresses: Arc::clone(self), key })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = counts.get_mut(&self.key) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&self.key);
        }
    }
}

/// Of IPv6 the network of 64 bits, of which a host may have all addresses.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::Addresses;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let addresses = Arc::new(Addresses::default());
        let take = |address: &str| addresses.take(address.parse::<IpAddr>().unwrap(), 2);
        let first = take("10.0.0.1");
        let second = take("::ffff:10.0.0.1");
        assert!(first.is_some() && second.is_some());
        assert!(take("10.0.0.1").is_none());
        assert!(take("10.0.0.2").is_some());
        drop(first);
        assert!(take("10.0.0.1").is_some());
        drop(second);
        let of_network = [take("fd00::1"), take("fd00::2:0:0:3")];
        assert!(of_network.iter().all(Option::is_some));
        assert!(take("fd00::4").is_none());
        assert!(take("fd00:0:0:1::4").is_some());
        drop(of_network);
        assert!(addresses.0.lock().unwrap().is_empty());
    }
}

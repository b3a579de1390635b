//! Bounds the sockets that have not authenticated: those that speak HTTP, and connections before
//! `auth`. They are counted apart from those that have, or anybody could take the place of
//! everybody.

use std::net::IpAddr;
use std::sync::Arc;

use shared::contract::limits::TURNED_AWAY_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::auth::client_address::{AddressPlace, Addresses};

/// Those sockets.
#[derive(Debug)]
pub(crate) struct Unproven {
    places: Arc<Semaphore>,
    max: usize,
    addresses: Arc<Addresses>,
    per_address: usize,
    turned_away: Semaphore,
}

/// Why there is no place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// All places of the node are taken.
    Node,
    /// All that one address may have.
    Address,
    /// The node is leaving.
    Leaving,
}

/// The place of one socket; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct UnprovenPlace {
    _of_node: OwnedSemaphorePermit,
    _of_address: Option<AddressPlace>,
}

impl Unproven {
    /// None yet; at most `max` at a time, and `per_address` from one address, where 0 is no limit.
    pub(crate) fn new(max: usize, per_address: usize) -> Unproven {
        let (places, addresses) = (Arc::new(Semaphore::new(max)), Arc::default());
        let turned_away = Semaphore::new(TURNED_AWAY_MAX);
        Unproven { places, max, addresses, per_address, turned_away }
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.max - self.places.available_permits()
    }

    /// Leave to tell one more socket that there is no place for it; there is none when many are
    /// being told.
    pub(crate) fn turn_away(&self) -> Option<SemaphorePermit<'_>> {
        self.turned_away.try_acquire().ok()
    }

    /// A place for one more. What comes from a proxy has no `address` of its own yet.
    pub(crate) fn enter(&self, address: Option<IpAddr>) -> Result<UnprovenPlace, Crowded> {
        let of_address = address.map(|address| self.enter_address(address)).transpose()?;
        let of_node = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Crowded::Node)?;
        Ok(UnprovenPlace { _of_node: of_node, _of_address: of_address })
    }

    /// Counts a socket behind a proxy for its client.
    pub(crate) fn enter_address(&self, address: IpAddr) -> Result<AddressPlace, Crowded> {
        self.addresses.enter(address, self.per_address).ok_or(Crowded::Address)
    }
}

impl UnprovenPlace {
    /// It is counted for this client, and no longer for whoever brought it.
    pub(crate) fn belongs_to(&mut self, place: AddressPlace) {
        self._of_address = Some(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_per_address_and_in_all_and_given_back() {
        let unproven = Unproven::new(3, 2);
        let one: IpAddr = [192, 0, 2, 1].into();
        let two: IpAddr = [192, 0, 2, 2].into();
        let first = unproven.enter(Some(one)).unwrap();
        let _second = unproven.enter(Some(one)).unwrap();
        assert_eq!(unproven.enter(Some(one)).unwrap_err(), Crowded::Address);
        let mut third = unproven.enter(None).unwrap();
        assert_eq!(unproven.enter(Some(two)).unwrap_err(), Crowded::Node);
        third.belongs_to(unproven.enter_address(two).unwrap());
        drop(first);
        let _fourth = unproven.enter(Some(two)).unwrap();
        assert_eq!(unproven.enter_address(two).unwrap_err(), Crowded::Address);
        drop(third);
        unproven.enter(Some(two)).unwrap();
    }
}

//! How many connections are open, over all and from each address. The newest beyond a limit is shed.

use super::address::{Origin, is_trusted};
use crate::{
    config::Network,
    meters::{Entered, meters},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The connections that are open.
pub(super) struct Connections {
    open_max: usize,
    per_address_max: usize,
    trusted: Vec<Network>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_origin: HashMap<Origin, usize>,
}

/// A connection's place, which is free again when this is dropped.
pub(super) struct Place {
    connections: Arc<Connections>,
    origin: Option<Origin>,
    _counted: Entered,
}

impl Connections {
    /// None yet. Trusted proxies speak for many, so only the limit over all holds for them.
    pub(super) fn new(open_max: usize, per_address_max: usize, trusted: Vec<Network>) -> Self {
        Self { open_max, per_address_max, trusted, open: Mutex::default() }
    }

    /// A place for one more from this address.
    ///
    /// # Errors
    /// Of what there is too much, in a word.
    pub(super) fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Result<Place, &'static str> {
        let peer = peer.filter(|peer| !is_trusted(*peer, &self.trusted));
        let origin = peer.map(Origin::of);
        let mut open = self.open();
        let of_origin = origin.and_then(|origin| open.by_origin.get(&origin)).copied().unwrap_or(0);
        if open.all >= self.open_max {
            return Err("too_many");
        }
        if of_origin >= self.per_address_max {
            return Err("too_many_from_address");
        }
        open.all = open.all.saturating_add(1);
        if let Some(origin) = origin {
            open.by_origin.insert(origin, of_origin.saturating_add(1));
        }
        Ok(Place { connections: self.clone(), origin, _counted: meters().connections.enter() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.all = open.all.saturating_sub(1);
        let Some(origin) = self.origin else { return };
        match open.by_origin.get_mut(&origin) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => drop(open.by_origin.remove(&origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_over_all_and_given_back() {
        let trusted = vec![Network::parse("10.0.0.0/8").unwrap()];
        let connections = Arc::new(Connections::new(5, 2, trusted));
        let enter = |peer: &str| connections.enter(Some(peer.parse().unwrap()));
        let first = enter("192.0.2.1").unwrap();
        let second = enter("192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.1").err(), Some("too_many_from_address"));
        let proxied: Vec<_> = (0..3).map(|_| enter("10.0.0.1").unwrap()).collect();
        assert_eq!(enter("192.0.2.2").err(), Some("too_many"), "all places are taken");
        drop(first);
        assert!(enter("192.0.2.1").is_ok());
        drop((second, proxied));
        let open = connections.open();
        assert_eq!((open.all, open.by_origin.len()), (0, 0), "nothing is remembered");
    }
}

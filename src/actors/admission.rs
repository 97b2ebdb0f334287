//! How much may be worked on at once: full means "not now", said before anything is touched.
//!
//! A command takes a [`Place`] among those in flight and, before it does anything, sets the room on disk aside that its
//! outcome needs. So whatever has begun can be recorded, even when the disk fills up meanwhile.

use super::{BooksReader, Unavailable};
use crate::journal::{Reservation, Space};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a command takes besides its own text: frame, ids, names in the legs, the rest of the last block, and the block of
/// a second entry for a provider's answer that comes late.
const ENTRY_OVERHEAD_BYTES: u64 = 10 * 1024;
/// For how many provider answers that are out room is kept at the most. Further ones wait on a full disk until there is
/// room, which loses nothing: the provider is asked again. Without this bound a provider's outage would look like a full
/// disk.
const OUTSTANDING_ROOM_MAX: usize = 32;

/// Who may begin.
pub struct Admission {
    in_flight: Arc<Semaphore>,
    in_flight_max: u32,
    space: Arc<Space>,
    open: AtomicBool,
}

/// A place among the commands in flight. Dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// An open door for `in_flight_max` commands at once.
    #[must_use]
    pub fn new(in_flight_max: u32, space: Arc<Space>) -> Self {
        let places = usize::try_from(in_flight_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            in_flight: Arc::new(Semaphore::new(places)),
            in_flight_max,
            space,
            open: AtomicBool::new(true),
        }
    }

    /// Lets a command in.
    ///
    /// # Errors
    /// Why not now.
    pub fn enter(&self) -> Result<Place, Unavailable> {
        if !self.open.load(Ordering::Acquire) {
            return Err(Unavailable::NotServing);
        }
        match self.in_flight.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: permit }),
            Err(_) => Err(Unavailable::Overloaded),
        }
    }

    /// Sets room on disk aside for the outcome of a command whose body has `body_bytes`, beyond the room for
    /// provider answers that payments on the books still wait for.
    ///
    /// # Errors
    /// [`Unavailable::StorageFull`]; [`Unavailable::Overloaded`] while the next segment is being made;
    /// [`Unavailable::NotServing`] once a write has failed.
    pub fn reserve(
        &self,
        body_bytes: usize,
        books: &BooksReader,
    ) -> Result<Reservation, Unavailable> {
        let outstanding = books.read().in_doubt_count();
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        if self.space.is_closed() {
            return Err(Unavailable::NotServing);
        }
        // While the next segment is merely being made, the room comes back in a moment.
        let none =
            if self.space.is_full() { Unavailable::StorageFull } else { Unavailable::Overloaded };
        // Whatever of the body goes into the entry is not longer there than it was in the body.
        let own = bytes(body_bytes).saturating_add(ENTRY_OVERHEAD_BYTES);
        let room = self.space.reserve(own).ok_or(none)?;
        let outstanding = outstanding.min(OUTSTANDING_ROOM_MAX);
        let left = self.space.free().saturating_sub(self.space.reserved());
        if left < bytes(outstanding).saturating_mul(ENTRY_OVERHEAD_BYTES) {
            return Err(none);
        }
        Ok(room)
    }

    /// How many commands are in flight, and how many may be.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        let all = usize::try_from(self.in_flight_max).unwrap_or(usize::MAX);
        (all.saturating_sub(self.in_flight.available_permits()), all)
    }

    /// The room in the journal.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Whether commands are taken at all.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self, books: &BooksReader) -> Result<(), Unavailable> {
        if !self.open.load(Ordering::Acquire) {
            return Err(Unavailable::NotServing);
        }
        self.reserve(0, books).map(drop)
    }

    /// Admits nothing more.
    pub fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// Waits until nothing is in flight.
    pub async fn idle(&self) {
        drop(self.in_flight.acquire_many(self.in_flight_max).await);
    }
}

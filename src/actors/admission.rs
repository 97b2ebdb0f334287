//! How much may be worked on at once: full means "not now", said before anything is touched.
//!
//! A command takes a [`Place`] among those in flight and, before it does anything, sets the room on disk aside that its
//! outcome needs. So whatever has begun can be recorded, even when the disk fills up meanwhile.

use super::Unavailable;
use crate::journal::{Reservation, Space};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What an entry takes besides the request's own text: frame, ids, account names, the rest of its last block, and the
/// seal after it.
const ENTRY_OVERHEAD_BYTES: u64 = 8 * 1024;

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

    /// Sets room on disk aside for the outcome of a command whose body has `body_bytes`, beyond the room for the
    /// provider answers that `outstanding` payments still wait for.
    ///
    /// # Errors
    /// [`Unavailable::StorageFull`], or [`Unavailable::NotServing`] once a write has failed.
    pub fn reserve(
        &self,
        body_bytes: usize,
        outstanding: usize,
    ) -> Result<Reservation, Unavailable> {
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        // A name in the body may stand in the entry up to three times: in the details and in both account names.
        let own = bytes(body_bytes).saturating_mul(3).saturating_add(ENTRY_OVERHEAD_BYTES);
        if self.space.is_closed() {
            return Err(Unavailable::NotServing);
        }
        let room = self.space.reserve(own).ok_or(Unavailable::StorageFull)?;
        let left = self.space.free().saturating_sub(self.space.reserved());
        if left < bytes(outstanding).saturating_mul(ENTRY_OVERHEAD_BYTES) {
            return Err(Unavailable::StorageFull);
        }
        Ok(room)
    }

    /// Whether commands are taken at all.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self, outstanding: usize) -> Result<(), Unavailable> {
        if !self.open.load(Ordering::Acquire) {
            return Err(Unavailable::NotServing);
        }
        self.reserve(0, outstanding).map(drop)
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

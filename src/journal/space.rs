//! How much pre-written room the journal has left, and who was promised it.
//!
//! The writer and the thread that prepares segments update it, admission control asks it; each holds the lock for a few
//! instructions. The promise: as long as only holders of reservations append, and each no more than it reserved, every
//! append finds room, even on a full disk. Appending itself asks for no reservation.

use super::frame;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The shared view of the room left in pre-written segments.
#[derive(Debug)]
pub struct Space {
    room: Mutex<Room>,
    /// How many bytes of batches this process has written.
    written: AtomicU64,
    /// What the end of the active segment may lose: a batch that does not fit goes into the next one whole.
    waste_max: u64,
}

/// All in bytes.
#[derive(Debug, Default)]
struct Room {
    /// In the segment in use, behind the last batch.
    active: u64,
    /// In the segment ahead; 0 while there is none.
    ahead: u64,
    reserved: u64,
    /// The next segment could not be made.
    full: bool,
    /// A write has failed: there is no room any more.
    closed: bool,
}

impl Space {
    pub(super) fn new(batch_on_disk_max: u64) -> Self {
        let waste_max = frame::bytes_on_disk(0).abs_diff(batch_on_disk_max);
        Self { room: Mutex::default(), written: AtomicU64::new(0), waste_max }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free_in(&self, room: &Room) -> u64 {
        match room {
            Room { closed: true, .. } => 0,
            Room { active, ahead: 0, .. } => *active,
            Room { active, ahead, .. } => {
                active.saturating_sub(self.waste_max).saturating_add(*ahead)
            }
        }
    }

    /// How many bytes of batches this process has written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn add_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many bytes can be appended for certain, in batches of any size, whether promised or not.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free_in(&self.lock())
    }

    /// How many of them are promised.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.lock().reserved
    }

    /// Whether the segment ahead is ready.
    #[must_use]
    pub fn has_segment_ahead(&self) -> bool {
        self.lock().ahead > 0
    }

    /// Whether a write has failed, so that there never will be room again.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether the next segment could not be made when that was last tried.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lock().full
    }

    /// Promises room for one batch with this payload, even if it is written alone; `None` if there is no such room.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, payload_bytes: u64) -> Option<Reservation> {
        let bytes = frame::bytes_on_disk(payload_bytes);
        let mut room = self.lock();
        let wanted = room.reserved.checked_add(bytes)?;
        if wanted > self.free_in(&room) {
            return None;
        }
        room.reserved = wanted;
        Some(Reservation { space: Arc::clone(self), bytes })
    }

    pub(super) fn set_active(&self, bytes: u64) {
        self.lock().active = bytes;
    }

    pub(super) fn set_ahead(&self, bytes: u64) {
        let mut room = self.lock();
        (room.ahead, room.full) = (bytes, false);
    }

    pub(super) fn set_full(&self) {
        self.lock().full = true;
    }

    /// The segment ahead becomes the active one, in one step: nobody sees a moment without room.
    pub(super) fn advance(&self) {
        let mut room = self.lock();
        room.active = std::mem::take(&mut room.ahead);
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
    }
}

/// A promise of room, given back when dropped: after the batch it was for is durable, or will not come.
#[derive(Debug)]
pub struct Reservation {
    space: Arc<Space>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut room = self.space.lock();
        room.reserved = room.reserved.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_promised_than_is_free_and_a_dropped_promise_returns() {
        let space = Arc::new(Space::new(16_384));
        assert!(space.reserve(1).is_none());
        space.set_active(8_192);
        let first = space.reserve(1).unwrap();
        assert_eq!(space.reserved(), 4_096, "a batch takes whole blocks");
        assert!(space.reserve(4_096).is_none(), "the header takes room too");
        let second = space.reserve(3_000).unwrap();
        assert!(space.reserve(1).is_none());
        drop(first);
        assert!(space.reserve(1).is_some());
        drop(second);
        assert_eq!(space.reserved(), 0);
        assert!(space.reserve(u64::MAX).is_none());
    }

    #[test]
    fn the_end_of_the_active_segment_counts_only_as_far_as_every_batch_can_use_it() {
        let space = Space::new(16_384);
        space.set_active(20_480);
        assert_eq!(space.free(), 20_480);
        space.set_ahead(61_440);
        assert_eq!(space.free(), 20_480 - 12_288 + 61_440);
        space.set_active(4_096);
        assert_eq!(space.free(), 61_440);
    }

    #[test]
    fn a_change_of_segments_shows_no_moment_without_room() {
        let space = Arc::new(Space::new(16_384));
        space.set_active(4_096);
        space.set_ahead(61_440);
        let promised = space.reserve(50_000).unwrap();
        space.advance();
        assert_eq!(space.free(), 61_440);
        assert!(space.reserve(20_000).is_none(), "the promise moved along");
        drop(promised);
        assert!(space.reserve(20_000).is_some());
        space.close();
        space.set_ahead(61_440);
        assert_eq!(space.free(), 0, "after a failed write there is no room");
    }

    #[test]
    fn a_full_disk_and_a_failed_write_are_seen_until_there_is_a_segment_again_or_for_ever() {
        let space = Space::new(16_384);
        assert!(!space.has_segment_ahead() && !space.is_full() && !space.is_closed());
        space.set_full();
        assert!(space.is_full() && !space.has_segment_ahead());
        space.set_ahead(61_440);
        assert!(!space.is_full() && space.has_segment_ahead());
        space.advance();
        assert!(!space.has_segment_ahead());
        space.close();
        assert!(space.is_closed());
        space.add_written(4_096);
        space.add_written(8_192);
        assert_eq!(space.written(), 12_288);
    }
}

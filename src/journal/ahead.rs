//! The segment ahead: a thread that keeps one prepared, so that no append waits for it or fails for
//! lack of room.
//!
//! The writer owns it and takes prepared segments from it. When the disk is full it tries again
//! every second; it says so once, and once more when there is room again.

#[cfg(feature = "fault-injection")]
pub mod by_hand;

use super::{
    JournalError,
    disk::{Disk, Fill},
    segment::Prepared,
    space::Space,
};
use std::{
    io, mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

const RETRY: Duration = Duration::from_secs(1);

/// The thread's handle; dropping it ends the thread.
pub(super) struct Ahead {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    space: Arc<Space>,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether somebody waits for the next one, or for the thread to end.
    is_waited_for: AtomicBool,
}

enum State {
    /// One will be ready soon.
    Making,
    Ready(Prepared),
    /// The last try failed, and why; the next one comes by itself.
    Unable(Box<str>),
    Closed,
}

impl Ahead {
    /// Prepares nothing until [`Ahead::start`].
    pub(super) fn new(disk: Arc<dyn Disk>, space: Arc<Space>, segment_bytes: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                disk,
                space,
                segment_bytes,
                state: Mutex::new(State::Making),
                changed: Condvar::new(),
                is_waited_for: AtomicBool::new(false),
            }),
            thread: None,
        }
    }

    /// Begins to prepare segment `number` and those that follow it.
    pub(super) fn start(&mut self, number: u64) -> io::Result<()> {
        #[cfg(feature = "fault-injection")]
        if by_hand::is_on() {
            by_hand::begin(&self.shared, number);
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("journal-ahead".into());
        self.thread = Some(thread.spawn(move || Closing(shared).run(number))?);
        Ok(())
    }

    /// The prepared segment, whose room from now on counts as the active one's. Waits while it is being made; the next
    /// one is begun at once.
    pub(super) fn take(&self) -> Result<Prepared, JournalError> {
        let mut state = self.shared.settled();
        match mem::replace(&mut *state, State::Making) {
            State::Ready(prepared) => {
                self.shared.space.advance();
                self.shared.changed.notify_all();
                Ok(prepared)
            }
            State::Unable(why) => {
                *state = State::Unable(why.clone());
                Err(JournalError::NoSpace { why })
            }
            State::Making | State::Closed => {
                *state = State::Closed;
                Err(JournalError::Stopped)
            }
        }
    }

    /// Waits until the next segment is ready or cannot be made.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        drop(self.shared.settled());
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        *self.shared.lock() = State::Closed;
        self.shared.is_waited_for.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that prepares journal segments had panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled(&self) -> MutexGuard<'_, State> {
        #[cfg(feature = "fault-injection")]
        by_hand::prepare_for(self);
        let is_making = |state: &mut State| matches!(state, State::Making);
        let mut state = self.lock();
        if is_making(&mut state) {
            self.is_waited_for.store(true, Ordering::Relaxed);
        }
        self.changed.wait_while(state, is_making).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Makes the next segment if that can be, and says how it went.
    fn prepare(&self, number: u64) -> MutexGuard<'_, State> {
        let may_rest = || !self.is_waited_for.load(Ordering::Relaxed);
        let fill = Fill::WithRestsWhile(&may_rest);
        let made = Prepared::make(&*self.disk, number, self.segment_bytes, fill);
        let mut state = self.lock();
        self.is_waited_for.store(matches!(*state, State::Closed), Ordering::Relaxed);
        match (made, &*state) {
            (_, State::Closed) => return state,
            (Ok(prepared), before) => {
                if matches!(before, State::Unable(_)) {
                    tracing::info!("the journal has room for its next segment again");
                }
                self.space.set_ahead(prepared.room());
                *state = State::Ready(prepared);
            }
            (Err(error), before) => {
                if !matches!(before, State::Unable(_)) {
                    tracing::error!(%error, "no room for the journal's next segment");
                }
                self.space.set_full();
                *state = State::Unable(error.to_string().into());
            }
        }
        self.changed.notify_all();
        state
    }
}

/// Closes the door however the thread ends, so that nobody waits for a segment that never comes.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        *self.0.lock() = State::Closed;
        self.0.changed.notify_all();
    }
}

impl Closing {
    fn run(&self, first: u64) {
        let mut number = first;
        loop {
            let state = self.0.prepare(number);
            let changed = &self.0.changed;
            let state = match *state {
                State::Closed => return,
                State::Ready(_) => {
                    number = number.saturating_add(1);
                    let ready = |state: &mut State| matches!(state, State::Ready(_));
                    changed.wait_while(state, ready).unwrap_or_else(PoisonError::into_inner)
                }
                State::Making | State::Unable(_) => {
                    let open = |state: &mut State| !matches!(state, State::Closed);
                    let waited = changed.wait_timeout_while(state, RETRY, open);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            // Or a stop would have to wait until one more segment was written that nobody takes.
            if matches!(*state, State::Closed) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::simulated::{Fullness, SimulatedDisk};
    use std::time::Instant;

    const SEGMENT_BYTES: u64 = 64 * 1024;

    fn ahead(disk: &Arc<dyn Disk>) -> Ahead {
        Ahead::new(Arc::clone(disk), Arc::new(Space::new(4096)), SEGMENT_BYTES)
    }

    #[test]
    fn when_it_is_dropped_its_thread_has_let_go_of_the_disk() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
        let mut ahead = ahead(&disk);
        ahead.start(2).unwrap();
        drop(ahead.take().unwrap());
        ahead.settle();
        drop(ahead);
        assert_eq!(Arc::strong_count(&disk), 1);
        assert_eq!(disk.list().unwrap().len(), 2, "one taken, one ahead, and no more");
    }

    #[test]
    fn a_segment_that_somebody_waits_for_is_filled_without_rests_and_a_stop_waits_for_none() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
        let ahead = ahead(&disk);
        let shared = Arc::clone(&ahead.shared);
        let is_waited_for = || shared.is_waited_for.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            assert!(!is_waited_for());
            let waiter = scope.spawn(|| ahead.take().map(drop));
            while !is_waited_for() {
                std::thread::yield_now();
            }
            drop(shared.prepare(2));
            assert!(waiter.join().unwrap().is_ok());
            assert!(!is_waited_for());
        });
        drop(ahead);
        assert!(is_waited_for());
        drop(shared.prepare(3));
        assert!(is_waited_for(), "no segment is begun anew with rests");
    }

    #[test]
    fn whoever_waits_for_a_segment_is_told_when_the_thread_has_ended() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
        let ahead = ahead(&disk);
        drop(Closing(Arc::clone(&ahead.shared)));
        assert!(matches!(*ahead.shared.lock(), State::Closed));
        assert!(matches!(ahead.take(), Err(JournalError::Stopped)));
    }

    #[test]
    fn a_full_disk_is_not_asked_again_and_again() {
        let simulated = SimulatedDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(simulated.clone());
        simulated.set_full(Fullness::Full);
        let mut ahead = ahead(&disk);
        let began = Instant::now();
        ahead.start(2).unwrap();
        ahead.settle();
        while began.elapsed() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        let calls = simulated.calls();
        let tries_max = 1 + began.elapsed().as_millis() / RETRY.as_millis();
        // A try makes a file and removes what is left of it.
        assert!(u128::from(calls) <= 2 * tries_max, "{calls}");
    }
}

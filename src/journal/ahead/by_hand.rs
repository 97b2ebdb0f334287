//! Segments that are prepared when a test says so, and not by a thread. Only compiled for tests.

use super::{Shared, State};
use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Weak},
};

thread_local! {
    static BY_HAND: Cell<bool> = const { Cell::new(false) };
    /// The last writer that was begun on this thread, and the number of its next segment.
    static PREPARING: RefCell<(Weak<Shared>, u64)> = const { RefCell::new((Weak::new(), 0)) };
}

/// From now on, writers that begin on the calling thread have segments prepared by [`prepare`], or when they need one.
pub fn turn_on() {
    BY_HAND.set(true);
}

pub(super) fn is_on() -> bool {
    BY_HAND.get()
}

pub(super) fn begin(shared: &Arc<Shared>, number: u64) {
    PREPARING.set((Arc::downgrade(shared), number));
}

/// Prepares the next segment of the last writer that was begun on the calling thread, unless there is one.
pub fn prepare() {
    let Some(shared) = PREPARING.with_borrow(|(shared, _)| shared.upgrade()) else { return };
    let is_ready = matches!(*shared.lock(), State::Ready(_));
    if !is_ready {
        step(&shared);
    }
}

/// What the thread would do while the writer waits for it.
pub(super) fn prepare_for(shared: &Shared) {
    let is_making = matches!(*shared.lock(), State::Making);
    if is_on() && is_making {
        step(shared);
    }
}

fn step(shared: &Shared) {
    let number = PREPARING.with_borrow(|(_, number)| *number);
    let is_ready = matches!(*shared.prepare(number), State::Ready(_));
    PREPARING.with_borrow_mut(|(_, number)| *number += u64::from(is_ready));
}

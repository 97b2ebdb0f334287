//! Threads for work that can wait: below payments in priority, woken by time or by a bell, told to stop by their owner.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// Runs `work` on a thread of its own, of lower priority.
///
/// # Errors
/// The operating system makes no more threads.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let named = thread::Builder::new().name(name.into());
    named.spawn(move || {
        // It gets what payments leave of a core, and is off it the moment that one of them wants it. Without that it
        // works as well, only less politely.
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let own = thread_native_id();
        if let Err(error) = set_thread_priority_and_policy(own, ThreadPriority::Min, idle) {
            tracing::warn!(?error, "a background thread keeps the priority of payments");
        }
        work();
    })?;
    Ok(())
}

/// The owner's hold on a background thread. Dropping it tells the thread to stop, and waits for nothing.
pub struct Background {
    bell: Arc<Bell>,
}

impl Background {
    /// Starts `work` on a thread of this name. `ended` is called when the work is over, whether it returned or panicked,
    /// and is told whether it panicked.
    ///
    /// # Errors
    /// The operating system makes no more threads.
    pub fn spawn(
        name: &str,
        work: impl FnOnce(&Bell) + Send + 'static,
        ended: impl FnOnce(bool) + Send + 'static,
    ) -> io::Result<Self> {
        let bell = Arc::new(Bell::default());
        let own = bell.clone();
        spawn(name, move || {
            // Nothing of what a panic left half done is used again.
            let panicked = catch_unwind(AssertUnwindSafe(|| work(&own))).is_err();
            ended(panicked);
        })?;
        Ok(Self { bell })
    }

    /// Wakes the thread.
    pub fn ring(&self) {
        self.bell.change(|state| state.rings = true);
    }

    /// Tells the thread to stop as soon as it can.
    pub fn stop(&self) {
        self.bell.change(|state| state.stopped = true);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a background thread waits at.
#[derive(Default)]
pub struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rings: bool,
    stopped: bool,
}

impl Bell {
    /// Whether the thread is to stop. To be asked at every step of long work.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Waits until somebody rings (or did since the last wait), the time is over, or the thread is to stop.
    pub fn wait(&self, at_most: Duration) {
        let began = Instant::now();
        let mut state = self.state();
        while !state.rings && !state.stopped {
            let Some(rest) = at_most.checked_sub(began.elapsed()) else { break };
            let waited = self.changed.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.rings = false;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use thread_priority::thread_schedule_policy;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_background_thread_is_woken_by_the_bell_and_stops_with_its_owner_at_low_priority() {
        let (say, said) = mpsc::channel();
        let tell_end = say.clone();
        let background = Background::spawn(
            "test",
            move |bell| {
                while !bell.is_stopped() {
                    bell.wait(LONG * 60);
                    let policy = thread_schedule_policy().unwrap();
                    say.send((thread::current().name() == Some("test"), Some(policy))).unwrap();
                }
            },
            move |panicked| tell_end.send((panicked, None)).unwrap(),
        );
        let background = background.unwrap();
        background.ring();
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert_eq!(said.recv_timeout(LONG), Ok((true, Some(idle))));
        assert_ne!(thread_schedule_policy().unwrap(), idle, "others are not");
        drop(background);
        let last = std::iter::from_fn(|| said.recv_timeout(LONG).ok()).last();
        assert_eq!(last, Some((false, None)), "no wait kept it from its end, and it was no panic");
    }

    #[test]
    fn a_background_thread_that_panics_is_heard_of() {
        let (say, said) = mpsc::channel();
        let work = |_: &Bell| panic!("a seeded bug in the background");
        let _background =
            Background::spawn("test", work, move |panicked| say.send(panicked).unwrap());
        assert_eq!(said.recv_timeout(LONG), Ok(true));
    }

    #[test]
    fn a_ring_that_came_before_the_wait_is_not_lost() {
        let bell = Bell::default();
        bell.change(|state| state.rings = true);
        bell.wait(LONG * 60);
        assert!(!bell.state().rings, "it is answered once");
    }
}

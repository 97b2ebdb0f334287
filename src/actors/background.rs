//! Threads for work that can wait: woken by time or by a bell, told to stop by their owner.

use rustix::process::{getpriority_process, setpriority_process};
use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How a background thread shares a core with payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// It gets what the others leave of a core, and of one that they want as a whole a tenth of what each of them gets:
    /// enough to come to an end however busy the machine is. Not for a thread that holds a lock of the books.
    Polite,
    /// It gets its share like any other.
    Fair,
}

/// How much nicer a polite thread is than the process: its share is a tenth of any other's.
const NICE: i32 = 10;

/// Runs `work` on a thread of its own. `ended` is called when the work is over, whether it returned or panicked, and is
/// told whether it panicked.
///
/// # Errors
/// The operating system makes no more threads.
pub fn spawn(
    name: &str,
    manners: Manners,
    work: impl FnOnce() + Send + 'static,
    ended: impl FnOnce(bool) + Send + 'static,
) -> io::Result<()> {
    let named = thread::Builder::new().name(name.into());
    named.spawn(move || {
        if manners == Manners::Polite {
            // On Linux each thread has a nice value of its own. Without that it works as well, only less politely.
            let polite =
                getpriority_process(None).and_then(|own| setpriority_process(None, own + NICE));
            if let Err(error) = polite {
                tracing::warn!(?error, "a background thread keeps the priority of payments");
            }
        }
        // Nothing of what a panic left half done is used again.
        ended(catch_unwind(AssertUnwindSafe(work)).is_err());
    })?;
    Ok(())
}

/// Breaks in long work: a thread that wakes to answer somebody may have to wait until whoever has the core has used up its
/// slice, some milliseconds, and a longer piece of work means as many such waits. So it comes in short pieces.
#[derive(Debug)]
pub struct Breaks {
    /// When the last one ended.
    since: Cell<Instant>,
}

impl Default for Breaks {
    fn default() -> Self {
        Self { since: Cell::new(Instant::now()) }
    }
}

impl Breaks {
    /// How long is worked at once, where the steps are that short.
    const WORK: Duration = Duration::from_micros(500);
    /// The longest rest.
    const REST_MAX: Duration = Duration::from_millis(10);

    /// Rests, if enough has been done since the last time, for twice as long as that took: so the work takes a third of a
    /// core. To be called at every step of long work, with no lock held.
    pub fn rest_if_due(&self) {
        let worked = self.since.get().elapsed();
        if worked >= Self::WORK {
            thread::sleep((worked * 2).min(Self::REST_MAX));
            self.since.set(Instant::now());
        }
    }
}

/// The owner's hold on a background thread. Dropping it tells the thread to stop, and waits for nothing.
pub struct Background {
    bell: Arc<Bell>,
}

impl Background {
    /// Starts `work` on a thread of this name, of fair manners. `ended` is as for [`spawn`].
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
        spawn(name, Manners::Fair, move || work(&own), ended)?;
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

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_background_thread_is_woken_by_the_bell_stops_with_its_owner_and_gets_its_share_of_a_core()
    {
        let (say, said) = mpsc::channel();
        let tell_end = say.clone();
        let background = Background::spawn(
            "test",
            move |bell| {
                while !bell.is_stopped() {
                    bell.wait(LONG * 60);
                    let nice = getpriority_process(None).unwrap();
                    say.send((thread::current().name() == Some("test"), Some(nice))).unwrap();
                }
            },
            move |panicked| tell_end.send((panicked, None)).unwrap(),
        );
        let background = background.unwrap();
        background.ring();
        let own = getpriority_process(None).unwrap();
        assert_eq!(said.recv_timeout(LONG), Ok((true, Some(own))), "it may hold the books' lock");
        drop(background);
        let last = std::iter::from_fn(|| said.recv_timeout(LONG).ok()).last();
        assert_eq!(last, Some((false, None)), "no wait kept it from its end, and it was no panic");
    }

    #[test]
    fn a_polite_thread_is_below_the_others_and_no_other_is_with_it() {
        let (say, said) = mpsc::channel();
        let own = getpriority_process(None).unwrap();
        let work = move || say.send(getpriority_process(None).unwrap()).unwrap();
        spawn("test", Manners::Polite, work, drop).unwrap();
        assert!(own < 19, "run the tests less nicely than nice 19");
        assert_eq!(said.recv_timeout(LONG), Ok((own + NICE).min(19)));
        assert_eq!(getpriority_process(None), Ok(own));
    }

    #[test]
    fn long_work_rests_after_each_piece_and_short_work_does_not() {
        let (began, breaks) = (Instant::now(), Breaks::default());
        let mut rests = 0;
        while rests < 5 {
            let since = breaks.since.get();
            breaks.rest_if_due();
            if breaks.since.get() != since {
                rests += 1;
                assert!(breaks.since.get() - since >= Breaks::WORK * 3);
            }
        }
        assert!(began.elapsed() >= Breaks::WORK * 15);
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

//! Waiting for a condition, never for a time; and many threads let go at the same moment.

use std::{
    env,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// After this long a condition will not come true any more, however slow the machine. `PATIENCE=` (in seconds) for one
/// that stands still at times.
pub fn patience() -> Duration {
    let seconds = env::var("PATIENCE").map_or(30, |text| text.parse().expect("whole seconds"));
    Duration::from_secs(seconds)
}

const POLL: Duration = Duration::from_millis(5);

/// What `look` finds, as soon as it finds something.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < patience(), "not within {:?}: {what}", patience());
        thread::sleep(POLL);
    }
}

/// Stops those who work until they are told to when it is dropped, also by a test that fails.
pub struct Stopping<'a>(pub &'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs `act` with each of `0..count`, in as many threads, all let go at once. The results are in the order of the
/// numbers.
pub fn at_once<T: Send>(count: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(count);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let (act, barrier) = (&act, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    act(number)
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, T>| thread.join().unwrap();
        threads.into_iter().map(join).collect()
    })
}

/// Has the calling thread, and those that it starts, take only what others leave of the processor: for tests that
/// compute for a minute, beside which servers are still to answer in time.
pub fn give_way() {
    rustix::process::setpriority_process(None, 19).unwrap();
}

//! The task door: where actors have something run beside their own work, and where they wait for a time.
//!
//! In the program that is the runtime of the thread. A test may put a world of its own in its place, in which it decides
//! what runs next and what time it is: so the same actors run in the deterministic simulation, `tests/it/simulation.rs`.

#[cfg(feature = "fault-injection")]
pub mod simulated;

#[cfg(feature = "fault-injection")]
pub use simulated::{beside, now, sleep, spawn, start, timeout, timeout_at};

#[cfg(not(feature = "fault-injection"))]
pub use {
    actix_rt::spawn,
    tokio::time::{sleep, timeout, timeout_at},
};

#[cfg(not(feature = "fault-injection"))]
use {
    actix::{Actor, Addr, Context},
    tokio::time::Instant,
};

/// What time it is, by a clock that nobody can set.
#[cfg(not(feature = "fault-injection"))]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Starts an actor on the calling thread. `prepare` is called before anything can be sent to it.
#[cfg(not(feature = "fault-injection"))]
pub fn start<A: Actor<Context = Context<A>>>(
    actor: A,
    prepare: impl FnOnce(&mut Context<A>),
) -> Addr<A> {
    A::create(|ctx| {
        prepare(ctx);
        actor
    })
}

/// Runs the task that `make` makes on a thread of its own.
#[cfg(not(feature = "fault-injection"))]
pub fn beside<T: Future<Output = ()> + 'static>(make: impl FnOnce() -> T + Send + 'static) {
    actix_rt::Arbiter::new().spawn_fn(move || drop(spawn(make())));
}

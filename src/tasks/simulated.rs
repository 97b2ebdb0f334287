//! The task door with a double: a world that a test makes, for the thread that enters it. Only compiled for tests.
//!
//! On a thread that has entered no world, everything is as in the program.

use actix::{Actor, Addr, Context};
use actix_rt::Arbiter;
use std::{
    cell::RefCell,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{self, Poll},
    time::Duration,
};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

/// Something that runs until it is done.
pub type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Who decides what runs next, and what time it is.
pub trait World {
    /// What time it is.
    fn now(&self) -> Instant;
    /// Takes a task to run.
    fn spawn(&self, task: Task);
    /// Ends at a time.
    fn sleep_until(&self, time: Instant) -> Task;
}

thread_local! {
    static WORLD: RefCell<Option<Rc<dyn World>>> = const { RefCell::new(None) };
}

/// The calling thread's stay in a world; dropping it leaves.
pub struct Stay(());

impl Drop for Stay {
    fn drop(&mut self) {
        WORLD.set(None);
    }
}

/// Enters a world.
#[must_use]
pub fn enter(world: Rc<dyn World>) -> Stay {
    WORLD.set(Some(world));
    Stay(())
}

/// The world that the calling thread is in.
fn world() -> Option<Rc<dyn World>> {
    WORLD.with_borrow(Option::clone)
}

/// Whether the calling thread is in a world.
#[must_use]
pub fn is_entered() -> bool {
    WORLD.with_borrow(Option::is_some)
}

/// What time it is, by a clock that nobody can set.
#[must_use]
pub fn now() -> Instant {
    world().map_or_else(Instant::now, |world| world.now())
}

/// The time was over.
#[derive(Debug)]
pub struct Late;

/// A task died.
#[derive(Debug)]
pub struct Died;

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task died")
    }
}

/// What a task will have come to.
pub enum Spawned<T> {
    /// The runtime runs it.
    Running(JoinHandle<T>),
    /// The world does.
    Simulated(oneshot::Receiver<T>),
}

impl<T> Future for Spawned<T> {
    type Output = Result<T, Died>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Running(handle) => Pin::new(handle).poll(cx).map_err(|_| Died),
            Self::Simulated(result) => Pin::new(result).poll(cx).map_err(|_| Died),
        }
    }
}

/// Runs a task on the calling thread.
pub fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> Spawned<T> {
    let Some(world) = world() else { return Spawned::Running(actix_rt::spawn(task)) };
    let (tell, told) = oneshot::channel();
    world.spawn(Box::pin(async move { drop(tell.send(task.await)) }));
    Spawned::Simulated(told)
}

/// Waits for so long.
pub async fn sleep(time: Duration) {
    match world() {
        Some(world) => world.sleep_until(world.now() + time).await,
        None => tokio::time::sleep(time).await,
    }
}

/// What `task` comes to, if that is before `until`.
///
/// # Errors
/// It is not.
pub async fn timeout_at<T: Future>(until: Instant, task: T) -> Result<T::Output, Late> {
    let Some(world) = world() else {
        return tokio::time::timeout_at(until, task).await.map_err(|_| Late);
    };
    tokio::select! {
        biased;
        result = task => Ok(result),
        () = world.sleep_until(until) => Err(Late),
    }
}

/// What `task` comes to within a time.
///
/// # Errors
/// It takes longer.
pub async fn timeout<T: Future>(time: Duration, task: T) -> Result<T::Output, Late> {
    timeout_at(now() + time, task).await
}

/// Starts an actor on the calling thread. `prepare` is called before anything can be sent to it.
pub fn start<A: Actor<Context = Context<A>>>(
    actor: A,
    prepare: impl FnOnce(&mut Context<A>),
) -> Addr<A> {
    let mut ctx = Context::new();
    prepare(&mut ctx);
    let running = ctx.into_future(actor);
    let address = running.address();
    drop(spawn(running));
    address
}

/// Runs the task that `make` makes on a thread of its own.
pub fn beside<T: Future<Output = ()> + 'static>(make: impl FnOnce() -> T + Send + 'static) {
    if is_entered() {
        drop(spawn(make()));
    } else {
        Arbiter::new().spawn_fn(move || drop(spawn(make())));
    }
}

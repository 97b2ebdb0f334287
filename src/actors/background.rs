//! Threads for work that must not be in the way of payments.

use rustix::{process::setpriority_process, thread::gettid};
use std::{io, thread};

/// How much lower than that of the payments' threads the priority is: they get nine tenths of a core that both want.
const NICENESS: i32 = 10;

/// Runs `work` on a thread of its own, of lower priority.
///
/// # Errors
/// The operating system makes no more threads.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let named = thread::Builder::new().name(name.into());
    named.spawn(move || {
        // On Linux a priority belongs to the thread. Without the lower one it works as well, only less politely.
        if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
            tracing::warn!(%error, "a background thread keeps the priority of payments");
        }
        work();
    })?;
    Ok(())
}

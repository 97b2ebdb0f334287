//! The stop order: say so → go on for the grace → no new connections → finish what is there → seal → snapshot.
//!
//! Each step has its time, so that one that hangs leaves some to those after it, and a thread ends the process if all
//! else fails. Nothing is lost by being cut off at any point: that is what the journal is for.

use super::{Crew, Signal, Socket, Stopped};
use crate::http::Drain;
use actix_web::dev::ServerHandle;
use rustix::net::{Shutdown, shutdown};
use std::{
    net::TcpListener,
    process, thread,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout_at};

/// How long a connection that is open when no more are taken may stay without a request.
const LINGER: Duration = Duration::from_secs(1);
/// For how long nobody must have been connected before nobody is: whoever was accepted in the last moment is counted a
/// moment later.
const QUIET: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_millis(5);
/// How long whoever asks again is made to wait for a disk that may not hang at all: a batch takes milliseconds.
const IMPATIENCE: Duration = Duration::from_millis(500);
/// How long after all its times are over the process is ended.
const SLACK: Duration = Duration::from_secs(3);

/// What a stop may take.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// How long new connections are still taken.
    pub grace: Duration,
    /// All the rest.
    pub rest: Duration,
}

/// The open door.
pub(super) struct Entrance<'a> {
    /// Who accepts and serves.
    pub server: ServerHandle,
    /// Its socket once more.
    pub listener: TcpListener,
    /// Whose the socket is.
    pub socket: Socket,
    /// Who is told, and counts.
    pub drain: &'a Drain,
}

/// Takes the server down. A further `shutdown` ends the grace, one after that the wait for a disk that hangs.
///
/// # Errors
/// What was not done in time. On `Ok` everything is written and sealed.
pub(super) async fn stop(
    entrance: Entrance<'_>,
    crew: Crew,
    pace: Pace,
    shutdown: &mut impl FnMut() -> Signal,
) -> Result<(), Stopped> {
    end_after(pace.grace.saturating_add(pace.rest).saturating_add(SLACK));
    tracing::info!("draining: not ready any more; each answer is the last one on its connection");
    entrance.drain.begin();
    tokio::select! {
        () = sleep(pace.grace) => {}
        () = shutdown(), if !pace.grace.is_zero() => {}
    }
    let began = tokio::time::Instant::now();
    let within = |fifths: u32| began + pace.rest / 5 * fifths;
    entrance.take_no_more(within(2)).await;
    crew.admission.close();
    tracing::info!("stopping: no more payments are taken, those in flight are finished");
    crew.reconciliations.stop();
    let drained = timeout_at(within(3), crew.admission.idle()).await;
    if timeout_at(within(3), entrance.server.stop(true)).await.is_err() {
        drop(entrance.server.stop(false));
    }
    // A disk that hangs would keep the process for ever; so would whoever waits for it.
    let snapshots = crew.snapshots.clone();
    let impatience = async {
        shutdown().await;
        sleep(IMPATIENCE).await;
    };
    let stopped = tokio::select! {
        stopped = timeout_at(within(4), crew.stop()) => stopped,
        () = impatience => return Err(Stopped::Cut),
    };
    stopped.map_err(|_| Stopped::Cut)??;
    // Only a convenience to the next start.
    let last = tokio::select! {
        last = timeout_at(within(5), snapshots.make()) => last.is_ok(),
        () = shutdown() => false,
    };
    if !last {
        tracing::warn!(
            "the last snapshot was not awaited: the next start reads more of the journal"
        );
    }
    drained.map_err(|_| Stopped::DrainTimeout)
}

impl Entrance<'_> {
    /// Takes no more connections, and waits until those that are open have had their answer. One without a request is
    /// waited for shortly: whoever was let in is not sent away unheard.
    async fn take_no_more(&self, until: tokio::time::Instant) {
        self.server.pause().await;
        let quiet = match self.socket {
            Socket::Own => {
                if let Err(error) = shutdown(&self.listener, Shutdown::Read) {
                    tracing::warn!(%error, "the socket goes on listening until the process ends");
                }
                Duration::ZERO
            }
            // Who connects from now on waits in it for the next process.
            Socket::Inherited => QUIET,
        };
        let until = until.min(tokio::time::Instant::now() + LINGER);
        let mut last_seen = Instant::now();
        while tokio::time::Instant::now() < until {
            if self.drain.connections() > 0 {
                last_seen = Instant::now();
            } else if last_seen.elapsed() >= quiet {
                return;
            }
            sleep(POLL).await;
        }
    }
}

/// Ends the process after this time, whatever hangs.
fn end_after(time: Duration) {
    let end = move || {
        thread::sleep(time);
        tracing::error!(
            "the stop hangs: the process is ended; what was acknowledged is in the journal"
        );
        process::exit(4);
    };
    if let Err(error) = thread::Builder::new().name("last resort".into()).spawn(end) {
        tracing::warn!(%error, "no thread to end the process if the stop should hang");
    }
}

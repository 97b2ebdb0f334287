//! Has snapshots made: when there is much new in the journal, when the last one is old, and when somebody asks.
//!
//! A thread of its own makes them from the bytes on disk; the books and the ledger are never waited for or kept waiting.

use super::{BooksReader, background};
use crate::{
    clock::Clock,
    domain::time::Timestamp,
    journal::{
        Folders, JournalError, Space,
        snapshot::{self, Held, Taken},
    },
};
use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How often it is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When a snapshot is made without being asked for.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// This long after the last one.
    pub every: Duration,
    /// This many bytes of journal after the last one.
    pub every_bytes: u64,
}

/// What became of a wish for a snapshot.
#[derive(Clone, Debug)]
pub struct Made {
    /// The newest snapshot; `None` as long as there are no payments.
    pub snapshot: Option<Held>,
    /// Whether it was made now. If not, it held every payment's entry already.
    pub now: bool,
    /// How many segments went to the archive.
    pub archived: u64,
    /// When it was asked for.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
}

/// How others ask for snapshots.
#[derive(Clone)]
pub struct Snapshots {
    wishes: Sender<Wish>,
}

type Wish = oneshot::Sender<Result<Made, Arc<JournalError>>>;

impl Snapshots {
    /// Starts the thread. `unsaved` bytes of the journal are not in a snapshot yet.
    ///
    /// # Errors
    /// The operating system makes no more threads.
    pub fn start(
        folders: Folders,
        books: BooksReader,
        clock: Arc<dyn Clock>,
        (space, unsaved): (Arc<Space>, u64),
        rhythm: Rhythm,
    ) -> io::Result<Self> {
        let (wishes, wished) = mpsc::channel();
        let last = Instant::now();
        let maker = Maker { folders, books, clock, space, rhythm, last, written: 0, unsaved };
        background::spawn("snapshots", move || maker.run(&wished))?;
        Ok(Self { wishes })
    }

    /// Has one made that goes through everything that is durable now.
    ///
    /// # Errors
    /// Why there is none; those that were there still are.
    pub async fn make(&self) -> Result<Made, Arc<JournalError>> {
        let stopped = || Arc::new(JournalError::Stopped);
        let (wish, made) = oneshot::channel();
        self.wishes.send(wish).map_err(|_| stopped())?;
        made.await.map_err(|_| stopped())?
    }
}

struct Maker {
    folders: Folders,
    books: BooksReader,
    clock: Arc<dyn Clock>,
    space: Arc<Space>,
    rhythm: Rhythm,
    /// When the last one was made, or the process started.
    last: Instant,
    /// How many bytes the process had written by then.
    written: u64,
    /// How many bytes from before this process are in no snapshot.
    unsaved: u64,
}

impl Maker {
    fn run(mut self, wished: &Receiver<Wish>) {
        loop {
            let wish = match wished.recv_timeout(LOOK_EVERY) {
                Ok(wish) => Some(wish),
                Err(RecvTimeoutError::Timeout) if self.is_due() => None,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let made = self.make();
            if let Some(wish) = wish
                && wish.send(made).is_err()
            {
                tracing::debug!("whoever wanted a snapshot is gone");
            }
        }
    }

    fn is_due(&self) -> bool {
        let new = self.space.written().saturating_sub(self.written).saturating_add(self.unsaved);
        new > 0 && (new >= self.rhythm.every_bytes || self.last.elapsed() >= self.rhythm.every)
    }

    fn make(&mut self) -> Result<Made, Arc<JournalError>> {
        let (at, began, written) = (self.clock.now(), Instant::now(), self.space.written());
        let through = self.books.read().position().sequence;
        let taken = snapshot::take(&self.folders, through);
        // Also after a failure: it is not tried again every second.
        (self.last, self.written, self.unsaved) = (Instant::now(), written, 0);
        let made = taken.and_then(|taken| {
            let (now, archived) = (taken.is_some(), taken.as_ref().map_or(0, |it| it.archived));
            let snapshot = match taken {
                Some(Taken { snapshot, .. }) => Some(snapshot),
                None => snapshot::newest(&self.folders)?,
            };
            Ok(Made { snapshot, now, archived, at, took: began.elapsed() })
        });
        match &made {
            Ok(Made { snapshot: Some(snapshot), now: true, archived, took, .. }) => tracing::info!(
                file = %snapshot.file.display(),
                sequence = snapshot.position.sequence,
                payments = snapshot.payments,
                bytes = snapshot.bytes,
                archived_segments = archived,
                ms = took.as_millis(),
                "a snapshot was made"
            ),
            Ok(_) => {}
            Err(error) => tracing::error!(
                %error,
                "no snapshot could be made: payments go on and none is lost, but the next start takes longer"
            ),
        }
        made.map_err(Arc::new)
    }
}

//! A start's first work: the books, from the newest good snapshot and the journal behind it.

use super::{Started, Stopped};
use crate::{
    clock::Clock,
    config::Config,
    domain::{books::Books, entry::Batch, id::Sequence},
    journal::{
        DirectIo, Folders, JournalError, Options, Recovered, Report, Writer, recover_as,
        snapshot::{self, Loaded, Refused},
    },
};
use std::{io, sync::Arc, thread, time::Duration};
use tokio::sync::oneshot;
use uuid::Uuid;

/// What recovery made.
pub struct Recovery {
    /// Continues the journal.
    pub journal: Writer,
    /// What it adds up to.
    pub books: Books,
    /// What was found.
    pub report: Report,
    /// Where everything is.
    pub folders: Folders,
    /// Through which entry a snapshot told it all; 0 if the journal alone did.
    pub snapshot: Sequence,
    /// Newer snapshots that are damaged, set aside.
    pub damaged_snapshots: Vec<Refused>,
}

impl Recovery {
    pub(super) fn started(&self, took: Duration) -> Started {
        Started {
            report: self.report.clone(),
            snapshot: self.snapshot,
            damaged_snapshots: self.damaged_snapshots.clone(),
            payments: self.books.payment_count(),
            took,
        }
    }
}

/// Brings the books back from the newest good snapshot and the journal behind it, on a thread of its own, so that `/health` and `/ready` answer meanwhile.
pub(super) async fn recover_books(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Result<Recovery, Stopped> {
    let data = config.data_dir.clone();
    let direct = if config.journal.direct_io { DirectIo::WhereAvailable } else { DirectIo::Never };
    let options = Options {
        segment_bytes: config.journal.segment_bytes,
        batch_bytes_max: config.journal.batch_bytes_max,
        software: env!("CARGO_PKG_VERSION").into(),
    };
    let recovering = move || {
        let folders = Folders::open(&data, direct).map_err(JournalError::io("open", data))?;
        #[cfg(feature = "fault-injection")]
        let folders = crate::journal::disk::faulty::faults_from_environment(folders)
            .map_err(JournalError::io("seed faults in", "STRONGROOM_FAULT".into()))?;
        bring_back(folders, options, Uuid::new_v4(), &*clock)
    };
    let (tell, told) = oneshot::channel();
    // A thread that nobody waits for: whoever is told to stop meanwhile does so at once.
    thread::Builder::new().name("recovery".into()).spawn(move || drop(tell.send(recovering())))?;
    Ok(told.await.map_err(|_| io::Error::other("recovery died of a bug"))??)
}

/// Brings the books back from the newest good snapshot and the journal behind it. A journal that has to be founded gets
/// the identity `new_store`.
pub fn bring_back(
    folders: Folders,
    options: Options,
    new_store: Uuid,
    clock: &dyn Clock,
) -> Result<Recovery, JournalError> {
    let Loaded { mut books, refused } = snapshot::load(&folders, Sequence::MAX)?;
    let covered = books.position();
    let mut visit = |batch: &Batch| books.replay(batch);
    let recovered = recover_as(new_store, (&folders, covered), options, clock.now(), &mut visit)?;
    let Recovered { writer, report } = recovered;
    let now = clock.now();
    clock.not_before(report.last_at);
    if now < report.last_at {
        tracing::error!(
            machine = %now, journal = %report.last_at,
            "the machine's clock stands behind the journal: the time stands still until it has caught up, so no \
             authorization lapses; check the clock"
        );
    }
    let set_aside = |it: Refused| snapshot::set_aside(&folders, it.sequence, it.why);
    let damaged_snapshots = refused.into_iter().map(set_aside).collect::<Result<_, _>>()?;
    let snapshot = covered.sequence;
    let journal = writer;
    Ok(Recovery { journal, books, report, folders, snapshot, damaged_snapshots })
}

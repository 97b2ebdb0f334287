//! `strongroom restore`: a new data folder made of a backup, as it stands or as it stood at a moment.
//!
//! The folder gets its name only when all of it was verified. What the backup does not hold is told, since the providers
//! may have moved that money: nobody but them knows.

use super::{
    backup::Made,
    offline::{Moment, Offline, WrongFolder},
    verdict::Progress,
};
use crate::{
    domain::{books, entry::Hash, id::Sequence},
    journal::{
        DataLock, JournalError, NewFolder,
        backup::{self, Extent, Note},
    },
};
use anyhow::Context;
use clap::Args;
use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Instant,
};

/// What `restore` is told.
#[derive(Args)]
pub struct Restore {
    /// The backup's folder. A plain copy of a data folder will do.
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// The data folder to make. It must not exist, or be empty.
    #[arg(long, value_name = "NEW")]
    data: PathBuf,
    /// Leave out what happened after this time or entry. A batch of entries that were written at once is left out whole.
    #[arg(long, value_name = "TIME|SEQ")]
    until: Option<Moment>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Makes the folder, verifies it, and prints what is in it on stdout. On `Ok` a server can go on from it.
///
/// # Errors
/// Why not; then there is nothing under the folder's name.
pub fn run(arguments: &Restore) -> anyhow::Result<()> {
    let began = Instant::now();
    let backup = Offline::open(arguments.from.clone())?;
    let end = end(&backup, arguments.until).with_context(|| {
        format!("the backup in {} cannot be restored", arguments.from.display())
    })?;
    let new = &arguments.data;
    let folder = begin(new)?;
    let lock = DataLock::take(folder.path())?;
    let made = Made::copy(&backup, folder.path(), lock, &end)
        .with_context(|| format!("{} was not made and nothing is left of it", new.display()))?;
    folder.publish().map_err(JournalError::io("name", new.clone()))?;
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", made.json(new, began.elapsed()))?;
        return Ok(());
    }
    writeln!(
        out,
        "restored {} to {}: {}",
        backup.folder().display(),
        new.display(),
        made.reaches()
    )?;
    if let Some(until) = arguments.until {
        writeln!(out, "cut after the last whole batch up to {until}")?;
    }
    made.print(&mut out, began.elapsed())?;
    writeln!(
        out,
        "what happened after {} is not in it: reconcile it with the providers before payments are taken, also because \
         a retry under an idempotency key that was used since would charge again",
        made.verdict.books.position().at
    )?;
    Ok(())
}

/// How far to restore: to the last whole batch that lies within `until`. All before is found to be one chain of hashes,
/// and the whole of it to be what the backup's note says.
fn end(backup: &Offline, until: Option<Moment>) -> anyhow::Result<Extent> {
    let note = Note::read(backup.folder())?;
    let scan = Scan::of(backup, until, note.as_ref().map(|note| note.through))?;
    if let Some(what) = note.and_then(|note| scan.differs_from(&note)) {
        let file = backup.folder().join(backup::NOTE);
        let sequence = scan.end.last.sequence.saturating_add(1);
        return Err(JournalError::Damaged { file, offset: 0, sequence, what: what.into() }.into());
    }
    let is_empty = scan.end.last.sequence == 0;
    anyhow::ensure!(!is_empty, "no entry of it lies before the moment that is asked for");
    Ok(scan.end)
}

/// What reading a backup showed.
struct Scan {
    /// As far as it is wanted.
    end: Extent,
    /// The hash of the batch that the note says is the last.
    noted: Option<Hash>,
    /// Whether more may stand behind.
    is_cut: bool,
}

impl Scan {
    fn of(
        backup: &Offline,
        until: Option<Moment>,
        noted: Option<Sequence>,
    ) -> anyhow::Result<Self> {
        let progress = Progress::new("reading the backup");
        let mut reader = backup.read()?;
        let end = Extent { store: reader.store(), last: books::Position::default() };
        let mut scan = Self { end, noted: None, is_cut: false };
        while let Some(located) = reader.next() {
            let batch = located?.batch;
            let Some(entry) = batch.entries.last() else { continue };
            let (sequence, at) = (entry.sequence, entry.at);
            scan.is_cut = until.is_some_and(|until| !until.holds(sequence, at));
            if scan.is_cut {
                break;
            }
            scan.end.last = books::Position { sequence, at, head: batch.hash };
            if noted == Some(sequence) {
                scan.noted = Some(batch.hash);
            }
            // What stands behind is not read, so it may be damaged.
            scan.is_cut = matches!(until, Some(Moment::Sequence(until)) if until <= sequence);
            if scan.is_cut {
                break;
            }
            let (segment, segments) = reader.segments();
            progress.tell((segment, segments), || format!("segment {segment} of {segments}"));
        }
        Ok(scan)
    }

    /// What the note says otherwise, as far as the backup was read.
    fn differs_from(&self, note: &Note) -> Option<String> {
        let (store, last) = (self.end.store, self.end.last);
        if note.store != store {
            let noted = note.store;
            return Some(format!("its note says that it is of store {noted}, it is of {store}"));
        }
        let is_beyond = self.is_cut && last.sequence < note.through;
        let is_there = self.noted.is_some_and(|head| head.to_string() == note.chain_head);
        (!is_beyond && !is_there).then(|| {
            let Note { through, chain_head, .. } = note;
            format!(
                "its note says that it goes through entry {through}, block {chain_head}; that is not there"
            )
        })
    }
}

fn begin(folder: &Path) -> anyhow::Result<NewFolder> {
    NewFolder::begin(folder).map_err(|error| match error.kind() {
        ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory => {
            WrongFolder::NotEmpty { folder: folder.into() }.into()
        }
        ErrorKind::AlreadyExists => {
            WrongFolder::Unfinished { folder: NewFolder::partial(folder) }.into()
        }
        _ => JournalError::io("make", folder.into())(error).into(),
    })
}

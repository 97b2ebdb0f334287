//! `strongroom restore`: a new data folder made of a backup, as it stands or as it stood at a moment.
//!
//! The folder gets its name only when all of it was verified. What the backup does not hold is told, since the providers
//! may have moved that money: nobody but them knows.

use super::{
    backup::Made,
    offline::{Moment, Offline, WrongFolder},
};
use crate::{
    domain::{books, id::Sequence},
    journal::{
        DataLock, JournalError, NewFolder,
        backup::{Extent, Note},
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
        "what happened after {} is not in it: reconcile it with the providers before payments are taken",
        made.verdict.books.position().at
    )?;
    Ok(())
}

/// How far to restore: to the last whole batch that lies within `until`. All before is found to be one chain of hashes,
/// and the whole of it to be what the backup's note says.
fn end(backup: &Offline, until: Option<Moment>) -> anyhow::Result<Extent> {
    let note = Note::read(backup.folder())?;
    let mut reader = backup.read()?;
    let store = reader.store();
    let mut last = books::Position::default();
    let mut noted = None;
    let mut is_cut = false;
    for located in reader.by_ref() {
        let batch = located?.batch;
        let Some(entry) = batch.entries.last() else { continue };
        if until.is_some_and(|until| !until.holds(entry.sequence, entry.at)) {
            is_cut = true;
            break;
        }
        last = books::Position { sequence: entry.sequence, at: entry.at, head: batch.hash };
        if note.as_ref().is_some_and(|note| note.through == last.sequence) {
            noted = Some(last);
        }
        // What stands behind is not read, so it may be damaged.
        if matches!(until, Some(Moment::Sequence(until)) if until <= last.sequence) {
            is_cut = true;
            break;
        }
    }
    let what = match note {
        Some(note) if note.store != store => {
            format!("its note says that it is of store {}, it is of store {store}", note.store)
        }
        Some(note) if !(is_cut && last.sequence < note.through) => match noted {
            Some(position) if position.head.to_string() == note.chain_head => String::new(),
            _ => format!(
                "its note says that it goes through entry {}, block {}; that is not there",
                note.through, note.chain_head
            ),
        },
        _ => String::new(),
    };
    if !what.is_empty() {
        return Err(damaged(backup, last.sequence, what).into());
    }
    anyhow::ensure!(last.sequence > 0, "no entry of it lies before the moment that is asked for");
    Ok(Extent { store, last })
}

fn damaged(backup: &Offline, last: Sequence, what: String) -> JournalError {
    let file = backup.folder().join("BACKUP");
    JournalError::Damaged { file, offset: 0, sequence: last.saturating_add(1), what: what.into() }
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

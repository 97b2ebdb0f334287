//! `strongroom backup`: a copy of the journal on another disk, made while the server runs, and proven.
//!
//! It asks nothing of the server: what the watermark says was durable when it began is what it copies. The copy is a data
//! folder that every other command reads. It is verified from its first byte each time, also where nothing new was copied:
//! a backup that was never read may be none.

use super::{
    offline::{Folder, Offline, WrongFolder},
    verdict::{Progress, Verdict},
};
use crate::{
    clock::{Clock, SystemClock},
    journal::{
        DataLock, DirectIo, Folders, JournalError,
        backup::{self, Copied, CopyError, Extent, Note},
    },
};
use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What `backup` is told.
#[derive(Args)]
pub struct Backup {
    /// The backup's folder: a new one, or that of an earlier backup of the same data.
    #[arg(value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    folder: Folder,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Copies the journal, verifies the copy, and prints what is in it on stdout. On `Ok` the backup holds everything that
/// was durable when it began.
///
/// # Errors
/// Why the backup is not what it should be. An earlier backup in the folder is never made worse.
pub fn run(arguments: &Backup) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut source = arguments.folder.open()?;
    let end = backup::extent(source.folders(), source.through())?;
    let end = end.ok_or_else(|| source.no_journal())?;
    source.let_go();
    let to = &arguments.to;
    if lies_in(to, source.folder())? {
        let (folder, data) = (to.clone(), source.folder().into());
        return Err(WrongFolder::Inside { folder, data }.into());
    }
    let lock = DataLock::take(to)?;
    let made = Made::copy(&source, to, lock, &end).with_context(|| {
        format!("the backup in {} could not be brought up to date", to.display())
    })?;
    let position = made.verdict.books.position();
    let note = Note {
        store: end.store,
        through: position.sequence,
        last_entry_at: position.at.to_string(),
        chain_head: position.head.to_string(),
        verified_at: SystemClock::default().now().to_string(),
    };
    note.write(to)?;
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", made.json(to, began.elapsed()))?;
        return Ok(());
    }
    writeln!(
        out,
        "backed up {} to {}: {}",
        source.folder().display(),
        to.display(),
        made.reaches()
    )?;
    Ok(made.print(&mut out, began.elapsed())?)
}

/// Whether a folder, there or not, is `data` or lies in it.
fn lies_in(folder: &Path, data: &Path) -> Result<bool, JournalError> {
    let data = data.canonicalize().map_err(JournalError::io("find", data.into()))?;
    let folder = std::path::absolute(folder).map_err(JournalError::io("find", folder.into()))?;
    let there = folder.ancestors().find_map(|above| above.canonicalize().ok());
    Ok(there.is_some_and(|there| there.starts_with(data)))
}

/// A copy that was verified.
pub(super) struct Made {
    pub(super) verdict: Verdict,
    copied: Copied,
    /// Nobody else writes to it meanwhile.
    _held: Offline,
}

impl Made {
    /// Copies the journal of `source` to the folder `to`, through `end`, and verifies all that is there then. The folder
    /// is held by `lock` meanwhile.
    pub(super) fn copy(
        source: &Offline,
        to: &Path,
        lock: DataLock,
        end: &Extent,
    ) -> anyhow::Result<Self> {
        let folders = Folders::open(to, DirectIo::WhereAvailable)
            .map_err(JournalError::io("open", to.into()))?;
        let progress = Progress::new("copying");
        let mut tell = |copied: &Copied, count: usize| {
            let done = copied.segments.saturating_add(copied.already_there);
            let all = u64::try_from(count).unwrap_or(u64::MAX);
            progress.tell((done, all), || format!("segment {done} of {count}"));
        };
        let copied = backup::copy(source.folders(), &folders, end, &mut tell)?;
        drop(progress);
        let copy = Offline::own(to.into(), folders, lock);
        let verdict = Verdict::on(&copy)?;
        verdict.judge(to)?;
        let last = verdict.books.position();
        if (last.sequence, last.head) != (end.last.sequence, end.last.head) {
            return Err(CopyError::NotItsHistory {
                folder: to.into(),
                what: format!(
                    "it ends with entry {}, block {}; entry {}, block {} was to be copied",
                    last.sequence, last.head, end.last.sequence, end.last.head
                )
                .into(),
            }
            .into());
        }
        Ok(Self { verdict, copied, _held: copy })
    }

    /// How much is in it.
    pub(super) fn reaches(&self) -> String {
        let (position, payments) =
            (self.verdict.books.position(), self.verdict.books.payment_count());
        let (sequence, at) = (position.sequence, position.at);
        format!("{sequence} entries of {payments} payments, through entry {sequence}, {at}")
    }

    pub(super) fn print(&self, out: &mut impl Write, took: Duration) -> io::Result<()> {
        let Copied { segments, already_there, bytes } = self.copied;
        let head = self.verdict.books.position().head;
        writeln!(
            out,
            "copied {segments} segments ({bytes} bytes), {already_there} were there already"
        )?;
        writeln!(out, "chain head {head}")?;
        writeln!(
            out,
            "read back from its first byte: every hash, rule and sum holds; {} ms in all",
            took.as_millis()
        )
    }

    pub(super) fn json(&self, folder: &Path, took: Duration) -> Value {
        let position = self.verdict.books.position();
        json!({
            "ok": true,
            "folder": folder.display().to_string(),
            "entries": position.sequence,
            "payments": self.verdict.books.payment_count(),
            "chainHead": position.head.to_string(),
            "lastEntryAt": position.at.to_string(),
            "segmentsCopied": self.copied.segments,
            "segmentsAlreadyThere": self.copied.already_there,
            "bytesCopied": self.copied.bytes,
            "bytesVerified": self.verdict.bytes,
            "durationMs": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

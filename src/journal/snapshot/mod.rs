//! Snapshots: what the journal added up to at one entry, so that a start need not read it all again.
//!
//! A snapshot is made from the one before and the journal's bytes since; the live books are never touched, and what was
//! written is read back and judged before it counts. It is never the truth: a damaged one is passed over, and whatever
//! it says can be made again from the journal. Two are kept.
//!
//! ```text
//! data/snapshots/00000000000000081344.snap   everything through entry 81344
//!
//! ┌────────┬───────────────┬─────┬───────────────┬──────────────┬─────┬──────────┬─────────┐
//! │ header │ payments part │ ... │ payments part │ blocks part  │ ... │ contents │ trailer │
//! └────────┴───────────────┴─────┴───────────────┴──────────────┴─────┴──────────┴─────────┘
//! ```
//!
//! A payments part holds whole payments in the order of their ids, each with all its entries as the journal encodes
//! them. A part that nothing was added to is copied as it is. Reading order: `contents` and `part` (the format),
//! [`take`] (making one), [`load`] (starting from one), [`compare`] (proving one).

mod compare;
mod contents;
#[cfg(feature = "fault-injection")]
pub mod fuzzing;
mod load;
mod part;
mod take;

#[cfg(test)]
mod tests;

pub use compare::{Comparison, Difference, compare};
pub use load::{Loaded, Refused, load, set_aside};
pub use take::{Held, Taken, newest, take};

use super::{JournalError, disk::Disk, folders::Folders};
use crate::domain::id::Sequence;
use contents::Contents;

/// How many snapshots are kept.
const KEPT: usize = 2;

/// The file name of the snapshot through this entry.
fn file_name(sequence: Sequence) -> String {
    format!("{sequence:020}.snap")
}

/// Through which entry a snapshot of this name goes; `None` if this is no snapshot's name.
fn sequence_of(name: &str) -> Option<Sequence> {
    let sequence = name.strip_suffix(".snap")?.parse().ok()?;
    (file_name(sequence) == name).then_some(sequence)
}

/// The snapshots that are there, newest first, good or not.
fn list(folders: &Folders) -> Result<Vec<Sequence>, JournalError> {
    let disk = &folders.snapshots;
    let names = disk.list().map_err(JournalError::io("list", disk.path("")))?;
    let mut sequences: Vec<Sequence> = names.iter().filter_map(|name| sequence_of(name)).collect();
    sequences.sort_unstable_by(|a, b| b.cmp(a));
    Ok(sequences)
}

/// A snapshot file whose contents are whole; its parts are checked when they are read.
struct Snapshot<'a> {
    disk: &'a dyn Disk,
    name: String,
    contents: Contents,
}

impl<'a> Snapshot<'a> {
    /// The snapshot in file `name`; the error says why it is none.
    fn open(disk: &'a dyn Disk, name: String) -> Result<Self, String> {
        let contents = Contents::read(disk, &name)?;
        Ok(Self { disk, name, contents })
    }
}

//! The folders of a store: where its journal, its archive and its snapshots are.
//!
//! Each is behind a [`Disk`] of its own. What each holds is for the modules that write there to say.

use super::{
    JournalError, archive,
    disk::{DirectIo, Disk, RealDisk},
    segment,
};
use crate::domain::id::Sequence;
use std::{collections::BTreeMap, io, path::Path, sync::Arc};

/// The doors to a store's files.
#[derive(Clone)]
pub struct Folders {
    /// `data/journal`: the segments that are not archived, the last one being written.
    pub journal: Arc<dyn Disk>,
    /// `data/archive`: older segments, compressed.
    pub archive: Arc<dyn Disk>,
    /// `data/snapshots`.
    pub snapshots: Arc<dyn Disk>,
}

/// Where a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Journal,
    Archive,
}

impl Folders {
    /// The folders below `data`, made (mode 0700, their names durable) where they are missing.
    pub fn open(data: &Path, direct: DirectIo) -> io::Result<Self> {
        let open = |name| -> io::Result<Arc<dyn Disk>> {
            Ok(Arc::new(RealDisk::open(&data.join(name), direct)?))
        };
        Ok(Self {
            journal: open("journal")?,
            archive: open("archive")?,
            snapshots: open("snapshots")?,
        })
    }

    /// The folders below `data`, for reading; makes nothing. A missing archive or missing snapshots are empty.
    pub fn of_existing(data: &Path, direct: DirectIo) -> io::Result<Self> {
        let open = |name| -> io::Result<Arc<dyn Disk>> {
            Ok(Arc::new(RealDisk::of_existing(&data.join(name), direct)?))
        };
        Ok(Self {
            journal: open("journal")?,
            archive: open("archive")?,
            snapshots: open("snapshots")?,
        })
    }

    /// All segments by their first entry. One that stands in both places counts as not archived: its archiving was cut
    /// short, or is under way.
    pub(super) fn segments(&self) -> Result<BTreeMap<Sequence, Place>, JournalError> {
        self.list_segments().map_err(JournalError::io("list", self.journal.path("")))
    }

    fn list_segments(&self) -> io::Result<BTreeMap<Sequence, Place>> {
        // In this order: a segment that goes to the archive meanwhile is seen in one of them at least.
        let journal = self.journal.list()?;
        let journal = journal.iter().filter_map(|name| segment::first_of(name));
        let archived = self.archive.list()?;
        let archived = archived.iter().filter_map(|name| archive::first_of(name));
        Ok(archived
            .map(|first| (first, Place::Archive))
            .chain(journal.map(|first| (first, Place::Journal)))
            .collect())
    }
}

impl Folders {
    /// One folder for everything: no two kinds of files have names alike.
    #[must_use]
    pub fn all_in(disk: Arc<dyn Disk>) -> Self {
        Self { journal: Arc::clone(&disk), archive: Arc::clone(&disk), snapshots: disk }
    }
}

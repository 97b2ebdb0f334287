//! Copies of a journal, for a backup and for a restore.
//!
//! A sealed segment never changes, so it is copied once; only the last segment of an earlier copy is copied anew, because
//! it may have been cut where the journal ended then. A segment is checked before a byte of it is written, gets its name
//! only when it was read back from the device and found equal, and the oldest comes first: a copy that is cut short is a
//! whole journal, only a shorter one. Whether the copy is the source's own history is proven by the chain: the last batch
//! of what was there must stand in the source, at the same entry with the same hash.

use super::{
    JournalError, archive,
    buffer::{AlignedBuffer, bytes, index, is_zero},
    disk::{DirectIo, Disk, RealDisk, Source},
    folders::Folders,
    frame::{self, Flaw},
    new_file::NewFile,
    reader::Reader,
    segment::{self, FIRST_BATCH},
    watermark::{self, Watermark},
};
use crate::domain::{books, id::Sequence};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use uuid::Uuid;

/// The name of the note in a backup's folder.
pub const NOTE: &str = "BACKUP";

/// Which journal, and how far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The journal's identity.
    pub store: Uuid,
    /// Its last whole batch. The time is not known (zero) if the last segment holds no batch yet.
    pub last: books::Position,
}

/// What a copy took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copied {
    /// Segments that were written.
    pub segments: u64,
    /// Segments that were there already.
    pub already_there: u64,
    /// Bytes that were written.
    pub bytes: u64,
}

/// Why a journal was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A file could not be read or written, or is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The folder belongs to another journal.
    #[error(
        "{} holds a backup of store {found}, this journal is store {wanted}: nothing was changed; name another folder",
        folder.display()
    )]
    OtherStore {
        /// The backup.
        folder: PathBuf,
        /// Whose it is.
        found: Uuid,
        /// Whose was to be copied.
        wanted: Uuid,
    },
    /// The backup holds what the journal does not.
    #[error(
        "the backup in {} holds entries that this journal does not hold ({what}): the journal was restored from an older \
         state, or another server went on from it. Nothing was changed. Keep that backup, it may be the only copy of those \
         entries, and back up to another folder",
        folder.display()
    )]
    NotItsHistory {
        /// The backup.
        folder: PathBuf,
        /// How that shows.
        what: Box<str>,
    },
}

/// Through which entry a journal that another process may be writing is durable for certain; `None` if that is not
/// known.
pub fn durable_through(folders: &Folders) -> Result<Option<Sequence>, JournalError> {
    const LOOKS_MAX: usize = 100;
    let disk = &*folders.journal;
    for _ in 0..LOOKS_MAX {
        match disk.read(watermark::FILE, Source::Cache) {
            Ok(content) => {
                if let Some(mark) = Watermark::decode(&content) {
                    return Ok(Some(mark.sequence));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(JournalError::io("read", disk.path(watermark::FILE))(error));
            }
        }
        // Caught in the middle of being written.
        thread::sleep(Duration::from_millis(1));
    }
    Ok(None)
}

/// Where the journal ends, or with which batch it reaches entry `through`; `None` if there is no journal. Looks at one
/// segment, and judges its end as a start would.
pub fn extent(folders: &Folders, through: Sequence) -> Result<Option<Extent>, JournalError> {
    let segments = segments(folders)?;
    let before = match segments.iter().rfind(|first| **first <= through) {
        None => books::Position::default(),
        Some(first) => {
            let (content, file) = folders.read(*first)?;
            let header = header_of(&content, *first, &file)?;
            let sequence = first.saturating_sub(1);
            books::Position { sequence, head: header.previous, ..books::Position::default() }
        }
    };
    let from = before.sequence.saturating_add(1);
    let Some(mut reader) = Reader::open_at(folders, from, before, through)? else {
        return Ok(None);
    };
    for located in reader.by_ref() {
        located?;
    }
    Ok(Some(Extent { store: reader.store(), last: reader.position() }))
}

/// Makes the journal in `to` hold what the one in `from` holds, up to and with the batch `end.last`, which must stand
/// there. On `Ok` all of it is durable. `tell` hears how far it is, and of how many segments.
pub fn copy(
    from: &Folders,
    to: &Folders,
    end: &Extent,
    tell: &mut dyn FnMut(&Copied, usize),
) -> Result<Copied, CopyError> {
    let through = end.last.sequence;
    let held = extent(to, Sequence::MAX)?;
    if let Some(held) = held {
        compare(from, to, end, &held)?;
    }
    clear(to)?;
    let there = segments(to)?;
    let newest_there = there.last().copied();
    let wanted: Vec<_> = segments(from)?.into_iter().filter(|first| *first <= through).collect();
    let (last, count) = (wanted.last().copied(), wanted.len());
    let mut copied = Copied::default();
    for first in wanted {
        let is_whole =
            Some(first) != newest_there || held.is_some_and(|held| is_same(&held.last, &end.last));
        if there.contains(&first) && is_whole {
            copied.already_there += 1;
            continue;
        }
        let cut = if Some(first) == last { through } else { Sequence::MAX };
        copied.bytes += copy_segment(from, to, first, cut)?;
        copied.segments += 1;
        tell(&copied, count);
    }
    // Snapshots would be copied here. They follow from the segments, so a copy without them only starts more slowly.
    let mark = Watermark { sequence: through, hash: end.last.head };
    write(&*to.journal, watermark::FILE, &mark.encode())?;
    Ok(copied)
}

/// Refuses a copy whose last batch does not stand in the source.
fn compare(from: &Folders, to: &Folders, end: &Extent, held: &Extent) -> Result<(), CopyError> {
    let folder = || to.journal.path("").parent().map(PathBuf::from).unwrap_or_default();
    if held.store != end.store {
        return Err(CopyError::OtherStore {
            folder: folder(),
            found: held.store,
            wanted: end.store,
        });
    }
    let (sequence, through) = (held.last.sequence, end.last.sequence);
    let what = if sequence > through {
        format!("it goes through entry {sequence}, the journal through entry {through}")
    } else if extent(from, sequence)?.is_none_or(|same| !is_same(&same.last, &held.last)) {
        format!("its batch that ends with entry {sequence} is another one")
    } else {
        return Ok(());
    };
    Err(CopyError::NotItsHistory { folder: folder(), what: what.into() })
}

fn is_same(one: &books::Position, other: &books::Position) -> bool {
    (one.sequence, one.head) == (other.sequence, other.head)
}

/// Removes what a copy that was cut short left without its name.
fn clear(to: &Folders) -> Result<(), JournalError> {
    for disk in [&to.journal, &to.archive] {
        let names = disk.list().map_err(JournalError::io("list", disk.path("")))?;
        for name in names.iter().filter(|name| name.ends_with(".tmp")) {
            disk.remove(name).map_err(JournalError::io("remove", disk.path(name)))?;
        }
    }
    Ok(())
}

/// The first entries of all segments, in order.
fn segments(folders: &Folders) -> Result<Vec<Sequence>, JournalError> {
    let segments = folders.segments()?;
    Ok(segments.into_keys().collect())
}

/// Copies a segment: as it is, or cut behind entry `through`. Returns how many bytes were written.
fn copy_segment(
    from: &Folders,
    to: &Folders,
    first: Sequence,
    through: Sequence,
) -> Result<u64, JournalError> {
    let (mut content, file) = from.read(first)?;
    let end = end_of(&content, first, through, &file, &|| ())?;
    let (here, archived) = (segment::file_name(first), archive::file_name(first));
    // A cut segment is written out, since it will be copied anew or written on.
    let is_archived = file == from.archive.path(&archived);
    let (written, other_form) = if is_archived && through == Sequence::MAX {
        let source = from.archive.read(&archived, Source::Cache);
        let compressed = source.map_err(JournalError::io("read", file))?;
        write(&*to.archive, &archived, &compressed)?;
        (bytes(compressed.len()), (&to.journal, here))
    } else {
        content.get_mut(index(end)..).unwrap_or_default().fill(0);
        write(&*to.journal, &here, &content)?;
        (bytes(content.len()), (&to.archive, archived))
    };
    let (disk, name) = other_form;
    match disk.remove(&name).and_then(|()| disk.sync_folder()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(JournalError::io("remove", disk.path(&name))(error))
        }
        _ => Ok(written),
    }
}

/// Where the last batch that ends at or before `through` ends in the segment. All before is found as it was written.
/// `rest` is called before each batch.
pub(super) fn end_of(
    content: &[u8],
    first: Sequence,
    through: Sequence,
    file: &Path,
    rest: &dyn Fn(),
) -> Result<u64, JournalError> {
    let header = header_of(content, first, file)?;
    let (store, segment, offset) = (header.store, header.number, bytes(FIRST_BATCH));
    let mut place = frame::Place { store, segment, offset };
    let mut last = first.saturating_sub(1);
    while last < through {
        rest();
        let ahead = content.get(index(place.offset)..).unwrap_or_default();
        let what = match frame::open(ahead, &place) {
            Ok(frame) => {
                last = frame.header.last();
                place.offset = place.offset.saturating_add(frame.bytes);
                continue;
            }
            Err(_) if is_zero(ahead) => break,
            Err(Flaw::Unfinished(what)) => what.into(),
            Err(Flaw::Wrong(what)) => what,
        };
        return Err(JournalError::Damaged {
            file: file.into(),
            offset: place.offset,
            sequence: last.saturating_add(1),
            what: what.into(),
        });
    }
    Ok(place.offset)
}

fn header_of(
    content: &[u8],
    first: Sequence,
    file: &Path,
) -> Result<segment::Header, JournalError> {
    segment::Header::decode(content).map_err(|flaw| match flaw {
        segment::Flaw::Damaged(what) => JournalError::Damaged {
            file: file.into(),
            offset: 0,
            sequence: first,
            what: what.into(),
        },
        segment::Flaw::Unsupported(what) => {
            JournalError::Unsupported { file: file.into(), what: what.into() }
        }
    })
}

/// Writes a file that has its name only when the device gave back what was written.
fn write(disk: &dyn Disk, name: &str, content: &[u8]) -> Result<(), JournalError> {
    let written = || -> io::Result<()> {
        let mut file = NewFile::begin(disk, name)?;
        file.append(content)?;
        let unpublished = file.finish()?;
        if *disk.read(&unpublished, Source::Device)? != *content {
            return Err(io::Error::other("what was written cannot be read back"));
        }
        file.publish()
    };
    written().map_err(JournalError::io("write", disk.path(name)))
}

impl Folders {
    /// A segment's bytes, from wherever it is, and the file they stand in. A server may move it to the archive at any
    /// moment.
    fn read(&self, first: Sequence) -> Result<(AlignedBuffer, PathBuf), JournalError> {
        let (disk, name) = (&self.journal, segment::file_name(first));
        match disk.read(&name, Source::Cache) {
            Ok(content) => Ok((content, disk.path(&name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let content = archive::read(&*self.archive, first, Source::Cache)?;
                Ok((content, self.archive.path(&archive::file_name(first))))
            }
            Err(error) => Err(JournalError::io("read", disk.path(&name))(error)),
        }
    }
}

/// What a backup says about itself: what must be in it. Kept as JSON in the file `BACKUP` of its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Which journal.
    pub store: Uuid,
    /// The last entry.
    pub through: Sequence,
    /// Its time, RFC 3339.
    pub last_entry_at: String,
    /// The hash that stands for everything, in hexadecimal.
    pub chain_head: String,
    /// When all of it had been verified, RFC 3339.
    pub verified_at: String,
}

impl Note {
    /// Writes the note of the backup in `folder`. On return it is durable.
    pub fn write(&self, folder: &Path) -> Result<(), JournalError> {
        let failed = |error| JournalError::io("write", folder.join(NOTE))(error);
        let disk = RealDisk::of_existing(folder, DirectIo::Never).map_err(failed)?;
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::from).map_err(failed)?;
        text.push(b'\n');
        write(&disk, NOTE, &text)
    }

    /// The note in `folder`; `None` if there is none, as in a plain copy of a data folder.
    pub fn read(folder: &Path) -> Result<Option<Self>, JournalError> {
        let failed = |error| JournalError::io("read", folder.join(NOTE))(error);
        let disk = RealDisk::of_existing(folder, DirectIo::Never).map_err(failed)?;
        let text = match disk.read(NOTE, Source::Cache) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(failed)?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|_| JournalError::Damaged {
            file: folder.join(NOTE),
            offset: 0,
            sequence: 0,
            what: "the note that says what the backup must hold cannot be read".into(),
        })
    }
}

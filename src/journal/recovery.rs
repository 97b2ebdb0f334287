//! Recovery: from whatever a crash left to a journal that can be written again.
//!
//! Runs once, at every start, under the data folder's lock. It hands every batch to the books,
//! mends a torn tail, and proves that the journal is writable by writing to it. Damage it never
//! touches: it refuses, and has changed nothing.

use super::{
    JournalError, Options,
    buffer::{AlignedBuffer, bytes},
    chain::Chain,
    disk::{Disk, DiskFile, Fill},
    entry,
    folders::{Folders, Place},
    frame,
    reader::{End, Reader, TORN_PREFIX, Torn},
    segment::{self, Prepared},
    writer::Writer,
};
use crate::domain::{
    books,
    entry::{Batch, Hash, Record},
    id::Sequence,
    time::Timestamp,
};
use std::{path::PathBuf, sync::Arc};
use uuid::Uuid;

/// An open journal, and what was found.
pub struct Recovered {
    /// Continues the journal.
    pub writer: Writer,
    /// For the log.
    pub report: Report,
}

/// What a recovery found and where the journal stands after it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which journal.
    pub store: Uuid,
    /// How many times it has been taken over for writing, this time included.
    pub epoch: u64,
    /// How many entries there are, the one of this start included.
    pub entries: u64,
    /// How many of them stand behind what a snapshot covers; all of them without one.
    pub replayed: u64,
    /// How many bytes of batches those are.
    pub bytes: u64,
    /// In how many segments.
    pub segments: u64,
    /// What a crash had left of a batch that nobody was told of.
    pub torn: Option<TornTail>,
    /// The last entry.
    pub last_sequence: Sequence,
    /// Its time.
    pub last_at: Timestamp,
    /// The hash that stands for everything.
    pub chain_head: Hash,
}

/// Bytes behind the last good batch, now zeroed where they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment they stood in.
    pub file: PathBuf,
    /// Where they began.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// The file that holds them now.
    pub set_aside_as: PathBuf,
}

/// Opens the journal in `folders`, or founds it if there is none, and gives every batch behind what a snapshot `covered`
/// (nothing: the default position) in order to `visit`, the one that records this start included.
///
/// On `Ok` all that was visited is durable, and the journal was written to. `visit` says why if the
/// books refuse a batch; that is [`JournalError::Damaged`], as is every other fault that is not a
/// torn tail, and then nothing was changed on disk. The caller holds the [`super::DataLock`].
pub fn recover(
    folders: &Folders,
    options: Options,
    now: Timestamp,
    covered: books::Position,
    visit: &mut dyn FnMut(&Batch) -> Result<(), String>,
) -> Result<Recovered, JournalError> {
    recover_as(Uuid::new_v4(), (folders, covered), options, now, visit)
}

/// [`recover`], with the identity for a journal that has to be founded: a simulation leaves nothing to chance.
pub fn recover_as(
    new_store: Uuid,
    (folders, covered): (&Folders, books::Position),
    options: Options,
    now: Timestamp,
    visit: &mut dyn FnMut(&Batch) -> Result<(), String>,
) -> Result<Recovered, JournalError> {
    options.check()?;
    let disk = Arc::clone(&folders.journal);
    let mut bytes_read = 0;
    let end = match Reader::open_at(folders, start(folders, covered)?, covered, Sequence::MAX)? {
        Some(reader) => read(reader, &mut bytes_read, visit)?,
        None if covered.sequence > 0 => return Err(no_journal(&*disk, covered)),
        None => End { chain: Chain::new(new_store), torn: None },
    };
    // Only from here on is anything changed on disk.
    let torn = mend(&*disk, &end, now)?;
    let mut chain = end.chain;
    chain.epoch = chain.epoch.saturating_add(u64::from(!seeded!(EpochNotRaised)));
    let opened = Record::Opened { epoch: chain.epoch, software: options.software.clone() };
    let active = continue_or_begin(&disk, &mut chain, &opened, &options)?;
    let segments = chain.segment;
    let mut writer = Writer::new(disk, active, chain, &options)?;
    let position = writer.position();
    let batch = writer.append(vec![opened], now)?;
    let bytes = bytes_read + writer.position().offset.abs_diff(position.offset);
    visit(&batch).map_err(|why| refused(position.file, position.offset, &batch, &why))?;
    writer.prepare_ahead()?;
    let report = Report {
        store: writer.store(),
        epoch: writer.epoch(),
        entries: writer.last_sequence(),
        replayed: writer.last_sequence().saturating_sub(covered.sequence),
        bytes,
        segments,
        torn,
        last_sequence: writer.last_sequence(),
        last_at: writer.last_at(),
        chain_head: writer.chain_head(),
    };
    Ok(Recovered { writer, report })
}

/// Where reading starts. Without a snapshot, with the first segment. With one, with the first that is not archived: what
/// the journal's folder holds is checked at every start, also what the snapshot covers. Behind an old snapshot that was
/// put back, some of what follows may be archived: then with that.
fn start(folders: &Folders, covered: books::Position) -> Result<Sequence, JournalError> {
    if covered.sequence == 0 {
        return Ok(0);
    }
    let segments = folders.segments()?;
    let mut here = segments.into_iter().filter(|(_, place)| *place == Place::Journal);
    let behind = covered.sequence.saturating_add(1);
    Ok(here.next().map_or(0, |(first, _)| first.min(behind)))
}

fn no_journal(disk: &dyn Disk, covered: books::Position) -> JournalError {
    JournalError::Damaged {
        file: disk.path(""),
        offset: 0,
        sequence: 1,
        what: format!("it is missing, and a snapshot holds entries through {}", covered.sequence)
            .into(),
    }
}

/// Hands every batch to the books and adds up their bytes.
fn read(
    mut reader: Reader,
    bytes_read: &mut u64,
    visit: &mut dyn FnMut(&Batch) -> Result<(), String>,
) -> Result<End, JournalError> {
    for located in reader.by_ref() {
        let located = located?;
        visit(&located.batch)
            .map_err(|why| refused(located.file, located.offset, &located.batch, &why))?;
        *bytes_read += located.bytes;
    }
    Ok(reader.end())
}

fn refused(file: PathBuf, offset: u64, batch: &Batch, why: &str) -> JournalError {
    JournalError::Damaged {
        file,
        offset,
        sequence: batch.entries.first().map_or(0, |entry| entry.sequence),
        what: format!("the books refuse the batch: {why}").into(),
    }
}

/// Clears away what the last process left unfinished. On return what was read is durable, contents
/// and names, and behind it there are only zeros.
fn mend(disk: &dyn Disk, end: &End, now: Timestamp) -> Result<Option<TornTail>, JournalError> {
    let names = disk.list().map_err(JournalError::io("list", disk.path("")))?;
    for name in names.iter().filter(|name| segment::is_ahead(name)) {
        disk.remove(name).map_err(JournalError::io("remove", disk.path(name)))?;
    }
    let torn = match &end.torn {
        Some(torn) => Some(set_aside(disk, &end.chain, torn, unused(&names, &end.chain, now))?),
        None => None,
    };
    if end.chain.segment > 0 {
        let name = end.chain.file();
        open(disk, &name)?.sync().map_err(JournalError::io("sync", disk.path(&name)))?;
    }
    disk.sync_folder().map_err(JournalError::io("sync", disk.path("")))?;
    Ok(torn)
}

/// A name that no earlier set-aside file has.
fn unused(names: &[String], chain: &Chain, now: Timestamp) -> String {
    let sequence = chain.next_sequence();
    let mut millis = now.millis();
    loop {
        let name = format!("{TORN_PREFIX}{sequence}-{millis}.bytes");
        if !names.contains(&name) {
            return name;
        }
        millis += 1;
    }
}

/// Copies the torn bytes into a file of their own, durable, and only then zeroes them where they
/// stood.
fn set_aside(
    disk: &dyn Disk,
    chain: &Chain,
    torn: &Torn,
    name: String,
) -> Result<TornTail, JournalError> {
    let content = AlignedBuffer::blocks_of(&torn.bytes);
    let aside = disk.path(&name);
    disk.create_zeroed(&name, bytes(content.len()), Fill::AtOnce)
        .map_err(JournalError::io("create", aside.clone()))?;
    open(disk, &name)?.write(0, &content).map_err(JournalError::io("write", aside.clone()))?;
    disk.sync_folder().map_err(JournalError::io("sync the folder of", aside.clone()))?;
    let file = disk.path(&chain.file());
    open(disk, &chain.file())?
        .write(chain.offset, &AlignedBuffer::zeroed(content.len()))
        .map_err(JournalError::io("write", file.clone()))?;
    tracing::warn!(
        file = %file.display(),
        offset = chain.offset,
        bytes = content.len(),
        next_entry = chain.next_sequence(),
        set_aside_as = %aside.display(),
        what = torn.what,
        "a torn tail was set aside: a crash cut the last write short, and nobody was told of it"
    );
    Ok(TornTail { file, offset: chain.offset, bytes: bytes(content.len()), set_aside_as: aside })
}

/// The segment to go on in: the last one if `opened` fits there, else a new one at the end of the
/// chain.
fn continue_or_begin(
    disk: &Arc<dyn Disk>,
    chain: &mut Chain,
    opened: &Record,
    options: &Options,
) -> Result<Box<dyn DiskFile>, JournalError> {
    if chain.room() >= frame::bytes_on_disk(bytes(entry::encoded_bytes(opened)?)) {
        return open(&**disk, &chain.file());
    }
    let number = chain.segment.saturating_add(1);
    let next = Prepared::make(&**disk, number, options.segment_bytes, Fill::AtOnce)
        .map_err(|error| JournalError::NoSpace { why: error.to_string().into() })?;
    next.take_into_use(&**disk, chain)
}

fn open(disk: &dyn Disk, name: &str) -> Result<Box<dyn DiskFile>, JournalError> {
    disk.open(name, segment::writes()).map_err(JournalError::io("open", disk.path(name)))
}

//! Making a snapshot: the one before, merged with the journal's bytes since, payment by payment.

use super::{
    KEPT, Snapshot,
    contents::{Contents, HEADER_BYTES, Kind, Part},
    file_name, list, load,
    part::{Added, Block, PartWriter},
};
use crate::{
    domain::{
        books::{Placed, Position},
        entry::{Batch, Entry, Record},
        id::{PaymentId, Sequence},
        ledger::Turnover,
        money::Currency,
        webhook::Webhooks,
    },
    journal::{
        JournalError, archive,
        buffer::{bytes, index},
        disk::Source,
        folders::{Folders, Place},
        new_file::NewFile,
        reader::Reader,
    },
};
use std::{collections::BTreeMap, path::PathBuf};
use uuid::Uuid;

/// How much is merged at once, in entries and in their bytes, so that memory stays bounded however much there is to catch
/// up with and however large a payment is. Not in bytes on disk: under little load nearly all of a batch is filling, and
/// each stretch copies the whole snapshot before it.
const STRETCH_ENTRIES: u64 = if cfg!(test) { 64 } else { 256 * 1024 };
const STRETCH_BYTES: u64 = if cfg!(test) { 256 * 1024 } else { 128 * 1024 * 1024 };

/// How much room a snapshot leaves to the journal.
const ROOM_LEFT_BYTES: u64 = 256 * 1024 * 1024;

/// How the name of a snapshot ends that is being written.
const UNFINISHED: &str = ".snap.tmp";

/// A snapshot that is there.
#[derive(Clone, Debug)]
pub struct Held {
    /// Through where it goes.
    pub position: Position,
    /// Where it is.
    pub file: PathBuf,
    /// How many bytes it has.
    pub bytes: u64,
    /// How many payments it holds.
    pub payments: u64,
}

/// A snapshot that was made, and what followed from it.
#[derive(Clone, Debug)]
pub struct Taken {
    /// What was made.
    pub snapshot: Held,
    /// How many segments went to the archive because two snapshots now cover them.
    pub archived: u64,
    /// Files that turned out to be damaged snapshots, with what is wrong, and were set aside.
    pub damaged: Vec<load::Refused>,
}

/// Makes a snapshot that goes through the durable entry `through`. `None` if the newest one covers every payment's entry
/// already.
///
/// The journal may be written meanwhile, by the process that holds the [`crate::journal::DataLock`] and calls this, and
/// nobody else may be making a snapshot. If there is much to catch up with, it is done in stretches, each of which ends
/// with a snapshot. On `Ok` the snapshot was read back from the device and judged, it is durable, there are at most two,
/// and every segment that both cover is in the archive. After an error all is as it was, or further on by stretches.
///
/// `rest` is called at every step of the work, mostly some hundred microseconds or a few milliseconds apart, with no lock
/// held. Longer pieces are a segment that is read to be archived, and the journal's bytes up to where the snapshot before
/// goes, which are a segment at most.
pub fn take(
    folders: &Folders,
    through: Sequence,
    rest: &dyn Fn(),
) -> Result<Option<Taken>, JournalError> {
    clear(folders)?;
    let mut last: Option<Taken> = None;
    while let Some(mut taken) = take_stretch(folders, through, rest)? {
        if let Some(before) = last {
            taken.archived += before.archived;
            taken.damaged.splice(0..0, before.damaged);
        }
        let reached = taken.snapshot.position.sequence;
        last = Some(taken);
        if reached >= through {
            break;
        }
    }
    Ok(last)
}

/// The newest snapshot whose contents are whole.
pub fn newest(folders: &Folders) -> Result<Option<Held>, JournalError> {
    for sequence in list(folders)? {
        let (disk, name) = (&folders.snapshots, file_name(sequence));
        if let Ok(Snapshot { contents, .. }) = Snapshot::open(&**disk, name.clone()) {
            return Ok(Some(Held {
                position: contents.position,
                bytes: disk.length(&name).map_err(JournalError::io("read", disk.path(&name)))?,
                file: disk.path(&name),
                payments: contents.payments,
            }));
        }
    }
    Ok(None)
}

fn take_stretch(
    folders: &Folders,
    through: Sequence,
    rest: &dyn Fn(),
) -> Result<Option<Taken>, JournalError> {
    let mut damaged = Vec::new();
    for sequence in list(folders)? {
        let taken = Snapshot::open(&*folders.snapshots, file_name(sequence))
            .map_err(Stop::Damaged)
            .and_then(|snapshot| take_after(folders, Some(&snapshot), through, rest));
        match taken {
            Ok(taken) => return Ok(taken.map(|taken| Taken { damaged, ..taken })),
            Err(Stop::Damaged(why)) => damaged.push(load::set_aside(folders, sequence, why)?),
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
    match take_after(folders, None, through, rest) {
        Ok(taken) => Ok(taken.map(|taken| Taken { damaged, ..taken })),
        Err(Stop::Damaged(why)) => Err(failed(folders, why)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Why no snapshot is made after the previous one.
enum Stop {
    /// The previous one is damaged.
    Damaged(String),
    Failed(JournalError),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Damaged(why)
    }
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::Failed(error)
    }
}

fn take_after(
    folders: &Folders,
    previous: Option<&Snapshot<'_>>,
    through: Sequence,
    rest: &dyn Fn(),
) -> Result<Option<Taken>, Stop> {
    let from = previous.map(|it| it.contents.position).unwrap_or_default();
    let Some(reader) = Reader::open_at(folders, from.sequence, from, through)? else {
        return Ok(None);
    };
    let endpoints = previous.map(|it| it.endpoints(Source::Device)).transpose()?;
    let stretch = Stretch::read(reader, Webhooks::restore(endpoints.unwrap_or_default()), rest)?;
    if stretch.payments.is_empty() {
        return Ok(None);
    }
    check_room(folders, previous, &stretch)?;
    let name = file_name(stretch.position.sequence);
    let mut file = NewFile::begin(&*folders.snapshots, &name)
        .map_err(JournalError::io("create", folders.snapshots.path(&name)))?;
    file.append(&Contents::header()).map_err(|error| file.failed("write", error))?;
    debug_assert_eq!(file.length(), bytes(HEADER_BYTES));
    let mut contents = stretch.contents(folders, previous)?;
    let mut writer = PartWriter::new(file, rest);
    merge(previous, stretch, &mut writer)?;
    let (mut file, parts) = writer.finish()?;
    contents.parts = parts;
    let of_payments = contents.parts.iter().filter(|part| part.kind == Kind::Payments);
    contents.payments = of_payments.map(|part| part.items).sum();
    let tail = contents.encode(file.length());
    file.append(&tail).map_err(|error| file.failed("write", error))?;
    let written = file.finish().map_err(|error| file.failed("sync", error))?;
    let judged = previous.map(|it| &it.contents);
    load::verify(&*folders.snapshots, written, &contents, judged, rest)
        .map_err(|why| failed(folders, why))?;
    let length = file.length();
    file.publish().map_err(JournalError::io("rename", folders.snapshots.path(&name)))?;
    prune(folders)?;
    let snapshot = Held {
        position: contents.position,
        file: folders.snapshots.path(&name),
        bytes: length,
        payments: contents.payments,
    };
    Ok(Some(Taken { snapshot, archived: archive_covered(folders, rest)?, damaged: Vec::new() }))
}

/// A snapshot must not take the room that the journal needs next.
fn check_room(
    folders: &Folders,
    previous: Option<&Snapshot<'_>>,
    stretch: &Stretch,
) -> Result<(), JournalError> {
    let disk = &folders.snapshots;
    let free = disk.free().map_err(JournalError::io("ask the size of", disk.path("")))?;
    let parts = previous.map(|it| it.contents.parts.as_slice()).unwrap_or_default();
    let old = parts.iter().map(|part| part.length).sum::<u64>();
    let needed = old.saturating_add(stretch.bytes).saturating_add(ROOM_LEFT_BYTES);
    match free >= needed {
        true => Ok(()),
        false => Err(failed(folders, format!("it might need {needed} bytes, and {free} are free"))),
    }
}

fn failed(folders: &Folders, why: String) -> JournalError {
    JournalError::Snapshot { folder: folders.snapshots.path(""), why: why.into() }
}

/// What the journal says since the snapshot before.
struct Stretch {
    store: Uuid,
    position: Position,
    payments: BTreeMap<PaymentId, Added>,
    blocks: Vec<Block>,
    webhooks: Webhooks,
    /// Entries that are kept whole.
    kept: Vec<Entry>,
    /// Of payments, and others.
    entries: [u64; 2],
    turnover: BTreeMap<Currency, Turnover>,
    /// How many bytes of the journal it was.
    bytes: u64,
}

impl Stretch {
    fn read(mut reader: Reader, webhooks: Webhooks, rest: &dyn Fn()) -> Result<Self, JournalError> {
        let mut stretch = Self {
            store: reader.store(),
            position: Position::default(),
            payments: BTreeMap::new(),
            blocks: Vec::new(),
            webhooks,
            kept: Vec::new(),
            entries: [0; 2],
            turnover: BTreeMap::new(),
            bytes: 0,
        };
        let (mut entries_bytes, mut scratch) = (0, Vec::new());
        for located in reader.by_ref() {
            rest();
            let located = located?;
            stretch.bytes = stretch.bytes.saturating_add(located.bytes);
            entries_bytes += located.entries_bytes;
            stretch.add(located.batch, &mut scratch)?;
            let is_full = stretch.entries.iter().sum::<u64>() >= STRETCH_ENTRIES
                || entries_bytes >= STRETCH_BYTES;
            // A stretch without payments makes no snapshot, so the next one could not go on behind it.
            if is_full && !stretch.payments.is_empty() {
                break;
            }
        }
        stretch.position = reader.position();
        Ok(stretch)
    }

    fn add(&mut self, batch: Batch, scratch: &mut Vec<u8>) -> Result<(), JournalError> {
        let [payments, others] = &mut self.entries;
        self.blocks.extend(batch.entries.first().map(|entry| (entry.sequence, batch.hash)));
        for entry in batch.entries {
            if entry.record.is_kept() {
                self.kept.push(entry.clone());
            }
            match entry.record {
                Record::Payment(mut record) => {
                    if seeded!(KeyNotInSnapshot) {
                        record.request = None;
                    }
                    *payments += 1;
                    for leg in record.transaction.iter().flat_map(|transaction| &transaction.legs) {
                        let currency = record.transaction.as_ref().map(|it| it.currency);
                        let turnover = currency.map(|it| self.turnover.entry(it).or_default());
                        turnover.into_iter().for_each(|turnover| turnover.add(leg));
                    }
                    let added = self.payments.entry(record.payment).or_default();
                    let placed = Placed { sequence: entry.sequence, at: entry.at, record };
                    added.push(placed, scratch)?;
                }
                Record::Webhook(record) => {
                    *others += 1;
                    self.webhooks.apply(record, entry.sequence, entry.at);
                }
                Record::Opened { .. } | Record::Sealed | Record::Stray(_) | Record::Access(_) => {
                    *others += 1
                }
            }
        }
        Ok(())
    }

    /// What the snapshot after `previous` will say about itself, but for its parts.
    fn contents(
        &self,
        folders: &Folders,
        previous: Option<&Snapshot<'_>>,
    ) -> Result<Contents, JournalError> {
        let previous = previous.map(|it| &it.contents);
        let mut turnover = previous.map(|it| it.turnover.clone()).unwrap_or_default();
        for (currency, since) in &self.turnover {
            let sum = turnover.entry(*currency).or_default();
            sum.debits += since.debits;
            sum.credits += since.credits;
        }
        let [payments, others] = previous.map(|it| it.entries).unwrap_or_default();
        let segments = folders.segments()?;
        Ok(Contents {
            store: self.store,
            position: self.position,
            entries: [payments + self.entries[0], others + self.entries[1]],
            payments: 0,
            turnover,
            segments: segments.range(..=self.position.sequence).map(|(first, _)| *first).collect(),
            parts: Vec::new(),
        })
    }
}

/// Writes every payment and every block, those of `previous` and those of the stretch.
fn merge(
    previous: Option<&Snapshot<'_>>,
    stretch: Stretch,
    writer: &mut PartWriter<'_>,
) -> Result<(), Stop> {
    let Stretch { mut payments, blocks, webhooks, kept, .. } = stretch;
    let parts = |kind| {
        let parts = previous.map(|it| it.contents.parts.as_slice()).unwrap_or_default();
        parts.iter().filter(move |part| part.kind == kind)
    };
    let mut following = parts(Kind::Payments).skip(1);
    for part in parts(Kind::Payments) {
        let Some(previous) = previous else { continue };
        // New payments between two parts go to the first of them, those behind the last part to that.
        let mut here = payments;
        payments = match following.next() {
            Some(next) => here.split_off(&next.first),
            None => BTreeMap::new(),
        };
        merge_part(previous, part, here, writer)?;
    }
    for (id, added) in payments {
        writer.payment(id, &[added.encoded()])?;
    }
    let last = parts(Kind::Blocks).next_back();
    for part in parts(Kind::Blocks) {
        let Some(previous) = previous else { continue };
        if Some(part) == last {
            for block in previous.blocks_of(part, Source::Device)? {
                writer.block(block)?;
            }
        } else {
            writer.copy(part, &previous.bytes_of(part, Source::Device)?)?;
        }
    }
    for block in blocks {
        writer.block(block)?;
    }
    for endpoint in webhooks.endpoints() {
        writer.endpoint(endpoint)?;
    }
    let before = previous.map(|it| it.all_kept(Source::Device)).transpose()?;
    for entry in before.iter().flatten().chain(&kept) {
        writer.kept(entry)?;
    }
    Ok(())
}

/// Writes a part of `previous` with what was added to it since.
fn merge_part(
    previous: &Snapshot<'_>,
    part: &Part,
    mut added: BTreeMap<PaymentId, Added>,
    writer: &mut PartWriter<'_>,
) -> Result<(), Stop> {
    if added.is_empty() {
        return Ok(writer.copy(part, &previous.bytes_of(part, Source::Device)?)?);
    }
    let more: usize = added.values().map(Added::size).sum();
    writer.expect(index(part.plain).saturating_add(more))?;
    previous.payments_of(part, Source::Device, |id, _, before| {
        let behind = added.split_off(&id);
        for (id, added) in std::mem::replace(&mut added, behind) {
            writer.payment(id, &[added.encoded()])?;
        }
        let since = added.remove(&id).unwrap_or_default();
        writer.payment(id, &[before, since.encoded()]).map_err(Stop::from)
    })?;
    for (id, added) in added {
        writer.payment(id, &[added.encoded()])?;
    }
    Ok(())
}

/// Removes what a process that was killed left of a snapshot: the next one has another name.
fn clear(folders: &Folders) -> Result<(), JournalError> {
    let disk = &folders.snapshots;
    let names = disk.list().map_err(JournalError::io("list", disk.path("")))?;
    for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
        disk.remove(name).map_err(JournalError::io("remove", disk.path(name)))?;
    }
    Ok(())
}

/// Removes all but the newest snapshots.
fn prune(folders: &Folders) -> Result<(), JournalError> {
    let disk = &folders.snapshots;
    for sequence in list(folders)?.into_iter().skip(KEPT) {
        let name = file_name(sequence);
        disk.remove(&name).map_err(JournalError::io("remove", disk.path(&name)))?;
    }
    disk.sync_folder().map_err(JournalError::io("sync", disk.path("")))
}

/// Moves every sealed segment that both snapshots cover to the archive. Returns how many.
fn archive_covered(folders: &Folders, rest: &dyn Fn()) -> Result<u64, JournalError> {
    let snapshots = list(folders)?;
    let covered = match snapshots.get(KEPT - 1) {
        Some(older) => *older,
        None => return Ok(0),
    };
    let segments = folders.segments()?;
    let mut archived = 0;
    for ((first, place), next) in segments.iter().zip(segments.keys().skip(1)) {
        if *place == Place::Journal && *next <= covered {
            archive::put(folders, *first, rest)?;
            archived += 1;
        }
    }
    Ok(archived)
}

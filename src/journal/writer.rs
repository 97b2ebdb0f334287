//! The writer: one batch at a time, durable before it returns.
//!
//! The ledger is its only caller. It orders entries and chains them; what they say it does not
//! judge. It never writes to a block twice, and after a failed write it never writes again: what is
//! on disk then, only a recovery can tell.

use super::{
    JournalError, Options,
    ahead::Ahead,
    buffer::{AlignedBuffer, bytes, index},
    chain::Chain,
    disk::{Disk, DiskFile, Writes},
    entry,
    frame::{self, HEADER_BYTES},
    space::Space,
    watermark::{self, Watermark},
};
use crate::{
    domain::{
        entry::{Batch, Entry, Hash, Record},
        id::Sequence,
        time::Timestamp,
    },
    meters::meters,
};
use std::{path::PathBuf, sync::Arc, time::Instant};
use uuid::Uuid;

/// A place in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The segment.
    pub file: PathBuf,
    /// The byte in it.
    pub offset: u64,
}

/// The open end of the journal. There is one, because there is one recovery under one lock.
pub struct Writer {
    disk: Arc<dyn Disk>,
    active: Box<dyn DiskFile>,
    watermark: Box<dyn DiskFile>,
    chain: Chain,
    space: Arc<Space>,
    ahead: Ahead,
    batch_bytes_max: usize,
    /// Holds one frame; kept, so that appending allocates nothing of size.
    buffer: AlignedBuffer,
    /// Holds a watermark; kept for the same reason.
    mark: AlignedBuffer,
    /// Up while a write is under way, and for ever once one failed.
    stopped: bool,
}

impl Writer {
    /// A writer at the end of `chain`, whose last segment is open as `active`. It prepares no
    /// segments before [`Writer::prepare_ahead`].
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        active: Box<dyn DiskFile>,
        chain: Chain,
        options: &Options,
    ) -> Result<Self, JournalError> {
        let watermark = disk
            .open(watermark::FILE, Writes::Cached)
            .map_err(JournalError::io("open", disk.path(watermark::FILE)))?;
        let frame_bytes_max = frame::bytes_on_disk(bytes(options.batch_bytes_max));
        let space = Arc::new(Space::new(frame_bytes_max));
        space.set_active(chain.room());
        Ok(Self {
            ahead: Ahead::new(Arc::clone(&disk), Arc::clone(&space), options.segment_bytes),
            disk,
            active,
            watermark,
            chain,
            space,
            batch_bytes_max: options.batch_bytes_max,
            buffer: AlignedBuffer::with_capacity(index(frame_bytes_max)),
            mark: AlignedBuffer::zeroed(watermark::BYTES),
            stopped: false,
        })
    }

    /// Begins to keep one segment ready ahead, in the background.
    pub(super) fn prepare_ahead(&mut self) -> Result<(), JournalError> {
        let number = self.chain.segment.saturating_add(1);
        let file = self.disk.path(&super::segment::ahead_name(number));
        self.ahead.start(number).map_err(JournalError::io("start the thread that prepares", file))
    }

    /// Makes `records` the next entries, at `at` or the time of the last entry, whichever is later,
    /// in one write.
    ///
    /// On `Ok` they are durable and survive a power failure. [`JournalError::NoSpace`] and
    /// [`JournalError::TooLarge`] mean that nothing was written and the writer is well. After any
    /// other error the entries may be on disk or not, and every further append is refused: end the
    /// process, recovery will tell.
    ///
    /// # Panics
    /// If there are no records: a batch holds one at least.
    pub fn append(&mut self, records: Vec<Record>, at: Timestamp) -> Result<Batch, JournalError> {
        assert!(!records.is_empty(), "a batch holds one entry at least");
        if self.stopped {
            return Err(JournalError::Stopped);
        }
        let header = self.encode(&records, at)?;
        if bytes(self.buffer.len()) > self.chain.room() {
            let next = self.ahead.take()?;
            self.guarded(|writer| {
                writer.active = next.take_into_use(&*writer.disk, &mut writer.chain)?;
                Ok(())
            })?;
        }
        self.guarded(|writer| writer.write(records, &header))
    }

    /// The shared view of the room that is left.
    #[must_use]
    pub fn space(&self) -> Arc<Space> {
        Arc::clone(&self.space)
    }

    /// The last durable entry.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        self.chain.sequence
    }

    /// The time of the last durable entry; no later one goes back behind it.
    #[must_use]
    pub fn last_at(&self) -> Timestamp {
        self.chain.at
    }

    /// The hash of the last durable batch, which stands for everything before it.
    #[must_use]
    pub fn chain_head(&self) -> Hash {
        self.chain.head
    }

    /// How many times the journal has been taken over, by this writer last.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.chain.epoch
    }

    /// Which journal this is.
    #[must_use]
    pub fn store(&self) -> Uuid {
        self.chain.store
    }

    /// Where the next batch goes, if it fits there.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { file: self.disk.path(&self.chain.file()), offset: self.chain.offset }
    }

    /// Waits until the next segment is ready or cannot be made.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.ahead.settle();
    }

    /// Puts header space, payload and padding into the buffer, and says what the header will be.
    fn encode(&mut self, records: &[Record], at: Timestamp) -> Result<frame::Header, JournalError> {
        let bytes_max = self.batch_bytes_max;
        let too_large = || JournalError::TooLarge { bytes_max };
        self.buffer.truncate(0);
        self.buffer.push(&[0; HEADER_BYTES]).map_err(|_| too_large())?;
        for record in records {
            entry::encode(record, &mut self.buffer)?;
        }
        let payload = self.buffer.len() - HEADER_BYTES;
        if payload > bytes_max {
            return Err(too_large());
        }
        self.buffer.pad_to_block().map_err(|_| too_large())?;
        Ok(frame::Header {
            count: u32::try_from(records.len()).map_err(|_| too_large())?,
            payload_bytes: u32::try_from(payload).map_err(|_| too_large())?,
            epoch: self.chain.epoch,
            first: self.chain.next_sequence(),
            at: at.max(self.chain.at),
            previous: self.chain.head,
        })
    }

    /// Does what changes the disk. Should it fail, or panic, nothing will be written after it.
    fn guarded<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        self.stopped = true;
        let changed = change(self).inspect_err(|_| self.space.close())?;
        self.space.set_active(self.chain.room());
        self.stopped = false;
        Ok(changed)
    }

    /// Seals the frame in the buffer, writes it, and moves on behind it.
    fn write(
        &mut self,
        records: Vec<Record>,
        header: &frame::Header,
    ) -> Result<Batch, JournalError> {
        // Gone before the write begins, so that it is promised to nobody meanwhile.
        let room = self.chain.room().saturating_sub(bytes(self.buffer.len()));
        self.space.set_active(room);
        let content = HEADER_BYTES + index(u64::from(header.payload_bytes));
        let place = self.chain.place();
        let frame = self.buffer.get_mut(..content).unwrap_or_default();
        let hash = frame::seal(frame, header, &place);
        let began = Instant::now();
        self.active
            .write(place.offset, &self.buffer)
            .or_else(|error| if seeded!(SyncTriedAgain) { self.active.sync() } else { Err(error) })
            .map_err(JournalError::io("write", self.disk.path(&self.chain.file())))?;
        meters().syncs.note_time((), began.elapsed());
        meters().batches.note((), header.count.into());
        let batch = Batch {
            entries: (header.first..)
                .zip(records)
                .map(|(sequence, record)| Entry { sequence, at: header.at, record })
                .collect(),
            hash,
        };
        self.chain.follow(header, hash, bytes(self.buffer.len()));
        self.space.add_written(bytes(self.buffer.len()));
        let watermark = Watermark { sequence: self.chain.sequence, hash };
        self.mark.copy_from_slice(&watermark.encode());
        self.watermark
            .write(0, &self.mark)
            .map_err(JournalError::io("write", self.disk.path(watermark::FILE)))?;
        Ok(batch)
    }
}

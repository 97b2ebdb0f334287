//! Where the chain of batches stands: what the next segment and the next batch must follow.
//!
//! Reader and writer keep one each, so that what is demanded of a batch when it is read is what was
//! done when it was written.

use super::{
    buffer::bytes,
    frame::{self, Place},
    segment::{self, FIRST_BATCH},
};
use crate::domain::{books, entry::Hash, id::Sequence, time::Timestamp};
use uuid::Uuid;

/// The end of the journal, as far as it was read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Which journal.
    pub(super) store: Uuid,
    /// The number of the last segment; 0 before the first.
    pub(super) segment: u64,
    /// The size of that segment.
    pub(super) segment_bytes: u64,
    /// The sequence of its first entry, which names it.
    pub(super) segment_first: Sequence,
    /// Where in that segment the next batch goes.
    pub(super) offset: u64,
    /// The epoch of the last writer.
    pub(super) epoch: u64,
    /// The last entry; 0 before the first.
    pub(super) sequence: Sequence,
    /// Its time.
    pub(super) at: Timestamp,
    /// The hash of the last batch.
    pub(super) head: Hash,
}

impl Chain {
    /// An empty journal.
    pub(super) fn new(store: Uuid) -> Self {
        Self {
            store,
            segment: 0,
            segment_bytes: 0,
            segment_first: 0,
            offset: 0,
            epoch: 0,
            sequence: 0,
            at: Timestamp::default(),
            head: Hash::default(),
        }
    }

    pub(super) fn next_sequence(&self) -> Sequence {
        self.sequence.saturating_add(1)
    }

    /// The name of the last segment.
    pub(super) fn file(&self) -> String {
        segment::file_name(self.segment_first)
    }

    /// Where the next batch goes.
    pub(super) fn place(&self) -> Place {
        Place { store: self.store, segment: self.segment, offset: self.offset }
    }

    /// How many bytes of batches the last segment can still take.
    pub(super) fn room(&self) -> u64 {
        self.segment_bytes.saturating_sub(self.offset)
    }

    /// Moves to the end of whatever stands before the segment that reading starts with, for which the segment's header
    /// vouches; or says what speaks against starting there with what a snapshot covers.
    pub(super) fn start_at(
        &mut self,
        header: &segment::Header,
        covered: books::Position,
    ) -> Option<String> {
        self.store = header.store;
        if covered.sequence == 0 {
            return None;
        }
        let before = header.first.saturating_sub(1);
        if before > covered.sequence {
            return Some(format!("the segments before entry {} are missing", header.first));
        }
        if before == covered.sequence {
            if header.previous != covered.head {
                return Some("the segment does not follow the snapshot (its hash differs)".into());
            }
            self.at = covered.at;
        }
        self.segment = header.number.saturating_sub(1);
        self.sequence = before;
        self.head = header.previous;
        None
    }

    /// What speaks against this segment coming next.
    pub(super) fn refuse_segment(&self, header: &segment::Header) -> Option<String> {
        if header.store != self.store {
            return Some(format!(
                "the segment belongs to store {}, this journal is store {}",
                header.store, self.store
            ));
        }
        if Some(header.number) != self.segment.checked_add(1) {
            let wanted = self.segment.saturating_add(1);
            return Some(format!(
                "the segment has number {}, number {wanted} is missing",
                header.number
            ));
        }
        if header.first != self.next_sequence() {
            return Some(format!("the segment begins with entry {}", header.first));
        }
        if header.epoch < self.epoch {
            return Some(format!(
                "the segment is of writer {}, after writer {} had taken over",
                header.epoch, self.epoch
            ));
        }
        (header.previous != self.head)
            .then(|| "the segment does not follow the batch before it (its hash differs)".into())
    }

    /// Moves to the start of a segment.
    pub(super) fn begin_segment(&mut self, header: &segment::Header) {
        self.segment = header.number;
        self.segment_bytes = header.segment_bytes;
        self.segment_first = header.first;
        self.offset = bytes(FIRST_BATCH);
        self.epoch = header.epoch;
    }

    /// What speaks against this batch coming next.
    pub(super) fn refuse_batch(&self, header: &frame::Header) -> Option<String> {
        if header.previous != self.head {
            return Some("the batch does not follow the one before it (its hash differs)".into());
        }
        if header.first != self.next_sequence() {
            return Some(format!("the batch begins with entry {}", header.first));
        }
        if header.epoch < self.epoch {
            return Some(format!(
                "the batch is of writer {}, after writer {} had taken over",
                header.epoch, self.epoch
            ));
        }
        (header.at < self.at).then(|| format!("the batch's time {} goes back", header.at))
    }

    /// Moves behind a batch of this hash that takes `bytes` on disk.
    pub(super) fn follow(&mut self, header: &frame::Header, hash: Hash, bytes: u64) {
        self.offset = self.offset.saturating_add(bytes);
        self.epoch = header.epoch;
        self.head = hash;
        self.sequence = header.last();
        self.at = header.at;
    }
}

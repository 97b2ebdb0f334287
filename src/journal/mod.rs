//! The journal: bytes and files on disk, judging nothing.
//!
//! It is the book of first entry and the only store of truth; everything in memory is derived from
//! it. The ledger is its only writer. What entries mean is the domain's business: this module
//! orders them, chains them, makes them durable, and gives them back exactly as they were, or says
//! where they are not.
//!
//! ```text
//! data/LOCK                                    held for life by the one process that writes
//! data/journal/00000000000000000001.seg        segments, named by their first entry
//! data/journal/00000000000000081344.seg        the newest one is being written
//! data/journal/ahead-3.tmp                     the next one, full of zeros
//! data/journal/watermark                       "at least through here was acknowledged"
//! data/journal/torn-81502-1763823845123.bytes  what a crash left of a batch never answered
//!
//! a segment   ┌────────┬─────────────┬──────┬───────┬──────────────┐
//!             │ header │ batch       │ batch│ batch │ zeros ...    │   all in blocks of 4096 bytes
//!             └────────┴─────────────┴──────┴───────┴──────────────┘
//! a batch     ┌────────┬───────┬───────┬───────┬─────────┐
//!             │ header │ entry │ entry │ entry │ padding │           one write, one hash; it holds
//!             └────────┴───────┴───────┴───────┴─────────┘           the hash of the batch before
//! ```
//!
//! A start goes [`DataLock::take`] → [`RealDisk::open`] → [`recover`] → [`Writer::append`], for
//! ever. Reading order of the files: [`disk`] and [`buffer`] (the door), [`entry`], `frame`,
//! `segment`, `chain`, `watermark` (the format), [`writer`], `ahead` and [`space`] (writing),
//! [`reader`] and [`recovery`] (reading), [`backup`] (copying).

pub mod disk;

pub mod buffer;

mod error;

mod lock;

pub mod entry;

mod frame;

#[cfg(feature = "fault-injection")]
pub mod fuzzing;

mod segment;

mod chain;

mod watermark;

pub mod writer;

#[cfg(not(feature = "fault-injection"))]
mod ahead;
#[cfg(feature = "fault-injection")]
pub mod ahead;

pub mod space;

pub mod folders;

mod new_file;

mod archive;
mod compression;

pub mod reader;

pub mod snapshot;

pub mod recovery;

pub mod backup;

mod new_folder;
pub mod pepper;

#[cfg(test)]
mod tests;

pub use self::{
    disk::{DirectIo, Disk, RealDisk},
    error::JournalError,
    folders::Folders,
    lock::DataLock,
    new_folder::NewFolder,
    reader::{Located, Reader, Tail},
    recovery::{Recovered, Report, TornTail, recover, recover_as},
    space::{Reservation, Space},
    writer::{Position, Writer},
};

use self::buffer::{BLOCK_BYTES, bytes};

/// How the journal is written. Reading needs none of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of new segments: whole blocks, 64 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// The most bytes of entries in one batch; it must fit into a segment.
    pub batch_bytes_max: usize,
    /// The release, such as `0.1.0`; it goes into the entry of each start.
    pub software: Box<str>,
}

impl Options {
    const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
    const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

    fn check(&self) -> Result<(), JournalError> {
        let sizes = Self::SEGMENT_BYTES_MIN..=Self::SEGMENT_BYTES_MAX;
        let room = self.segment_bytes.saturating_sub(bytes(BLOCK_BYTES));
        let why = if !sizes.contains(&self.segment_bytes) {
            "a segment has 64 KiB to 1 GiB"
        } else if !self.segment_bytes.is_multiple_of(bytes(BLOCK_BYTES)) {
            "the size of a segment is a multiple of 4096"
        } else if frame::bytes_on_disk(bytes(self.batch_bytes_max)) > room {
            "the largest batch must fit into a segment"
        } else {
            return Ok(());
        };
        Err(JournalError::Options { why: why.into() })
    }
}

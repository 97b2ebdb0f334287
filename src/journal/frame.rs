//! The frame of a batch: what makes it findable, checkable, and impossible to mistake for another.
//!
//! The writer seals frames, the reader opens them. Pure bytes: no file is touched here.
//!
//! ```text
//! offset  bytes
//!      0      4  magic "SRbt"
//!      4      2  frame version, 1
//!      6      2  zero
//!      8      4  entries in the batch
//!     12      4  payload length in bytes
//!     16      8  epoch of the writer
//!     24      8  sequence of the first entry
//!     32      8  time of all entries, milliseconds since 1970
//!     40     32  hash of the batch before; zeros for the first
//!     72      8  check: SHA-256 over place and bytes 0..72, its first 8 bytes
//!     80     32  hash: SHA-256 over bytes 0..80 and the payload
//!    112         payload: the entries; then zeros up to a multiple of 4096
//! ```
//!
//! All numbers are little-endian. The *place* (store, segment number, offset in the file) goes into
//! the check but not into the bytes. So the length can be trusted before it is used, and a block
//! from another store, another segment or another offset is never taken for a frame.

use super::{
    buffer::{BLOCK_BYTES, Fields, bytes, index, is_zero},
    entry,
};
use crate::domain::{
    entry::{Batch, Entry, Hash},
    id::Sequence,
    time::Timestamp,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What a device writes as a whole or not at all, in bytes; none in use has smaller sectors.
const SECTOR_BYTES: usize = 512;

/// Where the payload begins.
pub(super) const HEADER_BYTES: usize = 112;

const MAGIC: [u8; 4] = *b"SRbt";
const VERSION: u16 = 1;
/// What the check covers.
const CHECKED_BYTES: usize = 72;
/// What the hash covers besides the payload.
const HASHED_BYTES: usize = 80;

/// Where a frame stands, which is a part of its check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) store: Uuid,
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// What a frame says about its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) count: u32,
    pub(super) payload_bytes: u32,
    pub(super) epoch: u64,
    pub(super) first: Sequence,
    pub(super) at: Timestamp,
    pub(super) previous: Hash,
}

impl Header {
    /// The sequence of the last entry.
    pub(super) fn last(&self) -> Sequence {
        self.first.saturating_add(u64::from(self.count)).saturating_sub(1)
    }
}

/// Why bytes are no good frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// As a write leaves it that a crash cut short; or damage.
    Unfinished(&'static str),
    /// Written as a whole, and wrong all the same. No crash does that.
    Wrong(String),
}

/// A frame that is right in itself; whether it belongs here is for the chain to say.
pub(super) struct Frame<'a> {
    pub(super) header: Header,
    pub(super) hash: Hash,
    /// The entries, as they are encoded.
    pub(super) payload: &'a [u8],
    /// On disk, in whole blocks.
    pub(super) bytes: u64,
}

impl Frame<'_> {
    /// The entries, decoded; the error says what is wrong with one.
    pub(super) fn batch(&self) -> Result<Batch, String> {
        Ok(Batch { entries: entries(&self.header, self.payload)?, hash: self.hash })
    }
}

/// How many bytes on disk a batch of this payload takes.
pub(super) fn bytes_on_disk(payload_bytes: u64) -> u64 {
    payload_bytes
        .saturating_add(bytes(HEADER_BYTES))
        .checked_next_multiple_of(bytes(BLOCK_BYTES))
        .unwrap_or(u64::MAX)
}

/// Writes the header into the first [`HEADER_BYTES`] of `frame`, whose payload is already there,
/// unpadded.
pub(super) fn seal(frame: &mut [u8], header: &Header, place: &Place) -> Hash {
    let mut fields = Vec::with_capacity(HEADER_BYTES);
    fields.extend(MAGIC);
    fields.extend(VERSION.to_le_bytes());
    fields.extend([0; 2]);
    fields.extend(header.count.to_le_bytes());
    fields.extend(header.payload_bytes.to_le_bytes());
    fields.extend(header.epoch.to_le_bytes());
    fields.extend(header.first.to_le_bytes());
    fields.extend(header.at.millis().to_le_bytes());
    fields.extend(header.previous.0);
    fields.extend(check(&fields, place));
    let hash = hash(&fields, frame.get(HEADER_BYTES..).unwrap_or_default());
    fields.extend(hash.0);
    for (to, from) in frame.iter_mut().zip(fields) {
        *to = from;
    }
    hash
}

/// The header at the start of `bytes`; `None` if none was ever written whole at this place.
pub(super) fn header_at(bytes: &[u8], place: &Place) -> Option<Header> {
    let checked = bytes.get(..CHECKED_BYTES)?;
    let mut fields = Fields(bytes);
    if fields.array()? != MAGIC {
        return None;
    }
    let (_version, _zero) = (fields.u16()?, fields.u16()?);
    let header = Header {
        count: fields.u32()?,
        payload_bytes: fields.u32()?,
        epoch: fields.u64()?,
        first: fields.u64()?,
        at: Timestamp::from_millis(fields.u64()?),
        previous: Hash(fields.array()?),
    };
    (fields.array()? == check(checked, place)).then_some(header)
}

/// Reads the frame at the start of `rest`, the bytes from its place to the end of its segment.
pub(super) fn open<'a>(rest: &'a [u8], place: &Place) -> Result<Frame<'a>, Flaw> {
    let Some(header) = header_at(rest, place) else {
        // The header is part of one sector, so a write that a crash cut short left all of it or nothing.
        return Err(match is_zero(rest.get(..SECTOR_BYTES).unwrap_or(rest)) {
            true => Flaw::Unfinished("the batch's header is missing"),
            false => Flaw::Wrong("something else stands where the batch's header belongs".into()),
        });
    };
    let version = Fields(rest.get(4..).unwrap_or_default()).u16();
    if version != Some(VERSION) {
        return Err(Flaw::Wrong("the batch is of an unknown version".into()));
    }
    let payload_bytes = index(u64::from(header.payload_bytes));
    let on_disk = bytes_on_disk(u64::from(header.payload_bytes));
    let too_long = || Flaw::Wrong("the batch is longer than its segment".into());
    let frame = rest.get(..index(on_disk)).ok_or_else(too_long)?;
    let (content, padding) =
        frame.split_at_checked(HEADER_BYTES + payload_bytes).ok_or_else(too_long)?;
    let (head, payload) = content.split_at_checked(HEADER_BYTES).ok_or_else(too_long)?;
    let (hashed, stored) = head.split_at_checked(HASHED_BYTES).ok_or_else(too_long)?;
    let hash = hash(hashed, payload);
    if stored != hash.0 {
        return Err(Flaw::Unfinished("the batch's bytes do not match its hash"));
    }
    if !is_zero(padding) {
        return Err(Flaw::Wrong("bytes stand in the batch's padding".into()));
    }
    if header.count == 0 {
        return Err(Flaw::Wrong("the batch holds no entry".into()));
    }
    Ok(Frame { header, hash, payload, bytes: on_disk })
}

fn entries(header: &Header, payload: &[u8]) -> Result<Vec<Entry>, String> {
    let mut rest = payload;
    let mut entries = Vec::new();
    let mut sequence = header.first;
    for _ in 0..header.count {
        let (record, behind) = entry::decode(rest)?;
        entries.push(Entry { sequence, at: header.at, record });
        rest = behind;
        sequence = sequence.checked_add(1).ok_or("the sequence overflows")?;
    }
    if entries.is_empty() || !rest.is_empty() {
        return Err("the batch's count does not match its entries".into());
    }
    Ok(entries)
}

fn check(fields: &[u8], place: &Place) -> [u8; 8] {
    let mut digest = Sha256::new();
    digest.update(place.store);
    digest.update(place.segment.to_le_bytes());
    digest.update(place.offset.to_le_bytes());
    digest.update(fields);
    let digest: [u8; 32] = digest.finalize().into();
    let mut check = [0; 8];
    check.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    check
}

fn hash(fields: &[u8], payload: &[u8]) -> Hash {
    let mut digest = Sha256::new();
    digest.update(fields);
    digest.update(payload);
    Hash(digest.finalize().into())
}

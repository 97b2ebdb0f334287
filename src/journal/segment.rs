//! A segment: a file of fixed size that starts with a header block and holds batches, zeros behind
//! them.
//!
//! ```text
//! offset  bytes
//!      0      8  magic "SRsegmnt"
//!      8      2  format version, 1
//!     10      2  the oldest format version whose readers can read it, 1
//!     12      2  codec of the entries: 1 = bincode 2.0.1, standard configuration
//!     14      2  zero
//!     16     16  store: the UUID that the journal got when it was founded
//!     32      8  segment number, 1 for the first
//!     40      8  sequence of the first entry
//!     48      8  epoch of the writer that took the segment into use
//!     56      8  size of the segment in bytes
//!     64     32  hash of the last batch before; zeros for the first segment
//!     96     32  SHA-256 over bytes 0..96
//!    128         zeros up to 4096, where the first batch begins
//! ```
//!
//! All numbers are little-endian. The first 128 bytes keep this layout in every format version. A
//! segment is prepared under a temporary name (`ahead-{number}.tmp`) and gets its own name only
//! when its header is durable.

use super::{
    JournalError,
    buffer::{AlignedBuffer, BLOCK_BYTES, Fields, bytes, is_zero},
    chain::Chain,
    disk::{Disk, DiskFile, Fill, Writes},
    entry,
};
use crate::domain::{entry::Hash, id::Sequence};
use sha2::{Digest, Sha256};
use std::io;
use uuid::Uuid;

const MAGIC: [u8; 8] = *b"SRsegmnt";
const FORMAT: u16 = 1;
const READER_MIN: u16 = 1;
const HASHED_BYTES: usize = 96;

/// Where the first batch of every segment begins.
pub(super) const FIRST_BATCH: usize = BLOCK_BYTES;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store: Uuid,
    pub(super) number: u64,
    pub(super) first: Sequence,
    pub(super) epoch: u64,
    pub(super) segment_bytes: u64,
    pub(super) previous: Hash,
}

/// Why bytes are no good header.
#[derive(Debug)]
pub(super) enum Flaw {
    Damaged(&'static str),
    Unsupported(String),
}

impl Header {
    /// The header of the next segment on this chain.
    pub(super) fn next(chain: &Chain, segment_bytes: u64) -> Self {
        Self {
            store: chain.store,
            number: chain.segment + 1,
            first: chain.next_sequence(),
            epoch: chain.epoch,
            segment_bytes,
            previous: chain.head,
        }
    }

    /// The header block.
    pub(super) fn encode(&self) -> AlignedBuffer {
        let mut fields = Vec::with_capacity(BLOCK_BYTES);
        fields.extend(MAGIC);
        fields.extend(FORMAT.to_le_bytes());
        fields.extend(READER_MIN.to_le_bytes());
        fields.extend(entry::CODEC.to_le_bytes());
        fields.extend([0; 2]);
        fields.extend(self.store.into_bytes());
        fields.extend(self.number.to_le_bytes());
        fields.extend(self.first.to_le_bytes());
        fields.extend(self.epoch.to_le_bytes());
        fields.extend(self.segment_bytes.to_le_bytes());
        fields.extend(self.previous.0);
        fields.extend(hash(&fields));
        AlignedBuffer::blocks_of(&fields)
    }

    /// Reads the header block of a segment.
    pub(super) fn decode(segment: &[u8]) -> Result<Self, Flaw> {
        let cut_off = Flaw::Damaged("the segment's header is cut off");
        let block = segment.get(..BLOCK_BYTES).ok_or(cut_off)?;
        let mut fields = Fields(block);
        let (magic, [format, reader_min, codec]) = (fields.array(), versions(&mut fields));
        let header = Self::fields(&mut fields);
        let hashed = block.get(..HASHED_BYTES).unwrap_or_default();
        let (Some(header), true) = (header, fields.array() == Some(hash(hashed))) else {
            return Err(Flaw::Damaged("the segment's header does not match its hash"));
        };
        if magic != Some(MAGIC) {
            return Err(Flaw::Damaged("the file is not a journal segment"));
        }
        if reader_min > READER_MIN || codec != entry::CODEC {
            return Err(Flaw::Unsupported(format!(
                "format {format}, for readers of {reader_min} or later, codec {codec}; this \
                 release knows format {FORMAT}, codec {}",
                entry::CODEC
            )));
        }
        if !is_zero(fields.0) {
            return Err(Flaw::Damaged("bytes stand behind the segment's header"));
        }
        Ok(header)
    }

    fn fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            store: Uuid::from_bytes(fields.array()?),
            number: fields.u64()?,
            first: fields.u64()?,
            epoch: fields.u64()?,
            segment_bytes: fields.u64()?,
            previous: Hash(fields.array()?),
        })
    }
}

fn versions(fields: &mut Fields<'_>) -> [u16; 3] {
    let versions = [fields.u16(), fields.u16(), fields.u16()].map(|field| field.unwrap_or(0));
    // Two zero bytes, covered by the hash.
    fields.u16();
    versions
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The file name of the segment that starts with this entry.
pub(super) fn file_name(first: Sequence) -> String {
    format!("{first:020}.seg")
}

/// Which entry a segment of this name starts with; `None` if this is no segment's name.
pub(super) fn first_of(name: &str) -> Option<Sequence> {
    let first = name.strip_suffix(".seg")?.parse().ok()?;
    (file_name(first) == name).then_some(first)
}

/// The name under which segment `number` is prepared.
pub(super) fn ahead_name(number: u64) -> String {
    format!("ahead-{number}.tmp")
}

/// Whether this is the name of a prepared segment.
pub(super) fn is_ahead(name: &str) -> bool {
    name.starts_with("ahead-") && name.ends_with(".tmp")
}

/// What a write to a segment is worth.
pub(super) fn writes() -> Writes {
    if seeded!(DataNotSynced) { Writes::Cached } else { Writes::Durable }
}

/// A segment of zeros that is ready to be taken into use.
pub(super) struct Prepared {
    name: String,
    file: Box<dyn DiskFile>,
    segment_bytes: u64,
}

impl Prepared {
    /// Writes segment `number` full of zeros. On return content and size are durable. On an error
    /// nothing is left of it, as far as the disk allows.
    pub(super) fn make(
        disk: &dyn Disk,
        number: u64,
        segment_bytes: u64,
        fill: Fill<'_>,
    ) -> io::Result<Self> {
        let name = ahead_name(number);
        let made = disk
            .create_zeroed(&name, segment_bytes, fill)
            .and_then(|()| disk.open(&name, writes()));
        match made {
            Ok(file) => Ok(Self { name, file, segment_bytes }),
            Err(error) => {
                if let Err(remove) = disk.remove(&name)
                    && remove.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(file = %disk.path(&name).display(), %remove, "cannot remove");
                }
                Err(error)
            }
        }
    }

    /// Puts the segment at the end of the chain. On return header and name are durable; after an
    /// error the journal needs a recovery.
    pub(super) fn take_into_use(
        self,
        disk: &dyn Disk,
        chain: &mut Chain,
    ) -> Result<Box<dyn DiskFile>, JournalError> {
        let header = Header::next(chain, self.segment_bytes);
        let name = file_name(header.first);
        self.file
            .write(0, &header.encode())
            .map_err(JournalError::io("write", disk.path(&self.name)))?;
        disk.rename(&self.name, &name)
            .map_err(JournalError::io("rename", disk.path(&self.name)))?;
        if !seeded!(FolderNotSynced) {
            disk.sync_folder().map_err(JournalError::io("sync the folder of", disk.path(&name)))?;
        }
        chain.begin_segment(&header);
        Ok(self.file)
    }

    /// How many bytes of batches it can take.
    pub(super) fn room(&self) -> u64 {
        self.segment_bytes.saturating_sub(bytes(FIRST_BATCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            store: Uuid::from_u128(7),
            number: 3,
            first: 42,
            epoch: 2,
            segment_bytes: 65_536,
            previous: Hash([5; 32]),
        }
    }

    #[test]
    fn a_header_is_read_back_and_no_changed_byte_goes_unseen() {
        let block = header().encode();
        assert_eq!(Header::decode(&block).unwrap(), header());
        for place in 0..block.len() {
            let mut changed = block.to_vec();
            changed[place] ^= 0x10;
            assert!(Header::decode(&changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn an_unknown_format_or_codec_is_refused_as_such() {
        for (place, value) in [(10, 2), (12, 9)] {
            let mut block = header().encode().to_vec();
            block[place] = value;
            let hash = hash(&block[..HASHED_BYTES]);
            block[HASHED_BYTES..HASHED_BYTES + 32].copy_from_slice(&hash);
            assert!(matches!(Header::decode(&block), Err(Flaw::Unsupported(_))));
        }
    }

    #[test]
    fn a_segment_is_named_by_its_first_entry() {
        assert_eq!(file_name(42), "00000000000000000042.seg");
        assert_eq!(first_of("00000000000000000042.seg"), Some(42));
        for other in ["42.seg", "+0000000000000000042.seg", "watermark", ".seg"] {
            assert_eq!(first_of(other), None, "{other}");
        }
        assert!(is_ahead(&ahead_name(3)));
        for other in ["00000000000000000042.seg", "ahead-3.seg", "00000000000000000042.snap.tmp"] {
            assert!(!is_ahead(other), "{other}");
        }
    }
}

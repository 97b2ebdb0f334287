//! The watermark: a small file that says "at least through here was acknowledged".
//!
//! The writer rewrites it after every durable batch, without a sync. So it survives the end of the
//! process, and tells recovery that a bad last batch was no torn write; after a power failure it
//! may be old, or, if it was new, empty or zeros, and then says less or nothing. It is part of one
//! sector, so anything else is damage.
//!
//! ```text
//! offset  bytes
//!      0      8  magic "SRwatmrk"
//!      8      8  sequence of the last entry
//!     16     32  hash of its batch
//!     48     16  SHA-256 over bytes 0..48, its first 16 bytes
//! ```

use super::buffer::Fields;
use crate::domain::{entry::Hash, id::Sequence};
use sha2::{Digest, Sha256};

/// The file's name.
pub(super) const FILE: &str = "watermark";

/// How long it is.
pub(super) const BYTES: usize = 64;
const CHECKED_BYTES: usize = 48;
const MAGIC: [u8; 8] = *b"SRwatmrk";

/// What was acknowledged for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watermark {
    pub(super) sequence: Sequence,
    pub(super) hash: Hash,
}

impl Watermark {
    /// What stands in the file: [`BYTES`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::with_capacity(BYTES);
        fields.extend(MAGIC);
        fields.extend(self.sequence.to_le_bytes());
        fields.extend(self.hash.0);
        fields.extend(check(&fields));
        fields
    }

    /// `None` if these are not the bytes of a watermark.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let checked = bytes.get(..CHECKED_BYTES)?;
        let mut fields = Fields(bytes);
        let magic: [u8; 8] = fields.array()?;
        let watermark = Self { sequence: fields.u64()?, hash: Hash(fields.array()?) };
        let genuine = magic == MAGIC && fields.0 == check(checked);
        genuine.then_some(watermark)
    }
}

fn check(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).into_iter().take(BYTES - CHECKED_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_is_read_back_and_no_changed_byte_goes_unseen() {
        let watermark = Watermark { sequence: 7, hash: Hash([9; 32]) };
        let bytes = watermark.encode();
        assert_eq!(Watermark::decode(&bytes), Some(watermark));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_eq!(Watermark::decode(&changed), None, "byte {place}");
            assert_eq!(Watermark::decode(&bytes[..place]), None, "cut at {place}");
        }
    }
}

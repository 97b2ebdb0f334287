//! What a snapshot says about itself: through where it goes, what it adds up to, and where its parts are.
//!
//! ```text
//! offset  bytes
//!      0      8  magic "SRsnapsh"
//!      8      2  format version, 1
//!     10      2  the oldest format version whose readers can read it, 1
//!     12      2  codec of the entries, as in a segment's header
//!     14      2  zero
//!     16         the parts, one behind the other
//!                the contents:
//!            16    store
//!             8    the last entry's sequence
//!             8    its time, milliseconds since 1970
//!            32    the hash of its batch: the head of the chain
//!             8    entries of payments
//!             8    other entries
//!             8    payments
//!             4    currencies, and for each: 3 bytes code, 16 bytes debits, 16 bytes credits
//!             4    segments, and for each: 8 bytes first sequence
//!             4    parts, and for each: 1 byte kind (1 payments, 2 blocks, 3 endpoints, 4 kept), 8 bytes
//!                  offset, 8 bytes length, 8 bytes length decompressed, 8 bytes items, 8 bytes entries of payments,
//!                  16 + 16 bytes first and last payment's id, 32 bytes SHA-256
//!                the trailer:
//!             8    where the contents begin
//!            32    SHA-256 over the first 16 bytes, the contents, and the 8 bytes before
//! ```
//!
//! All numbers are little-endian. So every byte of the file is under a hash.

use crate::{
    domain::{
        books::Position,
        entry::Hash,
        id::{PaymentId, Sequence},
        ledger::Turnover,
        money::Currency,
        time::Timestamp,
    },
    journal::{
        buffer::{Fields, bytes, index},
        disk::{Disk, Source},
        entry,
    },
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use uuid::Uuid;

const MAGIC: [u8; 8] = *b"SRsnapsh";
const FORMAT: u16 = 1;
const READER_MIN: u16 = 1;
const TRAILER_BYTES: usize = 40;

/// Where the first part begins.
pub(super) const HEADER_BYTES: usize = 16;

/// The most bytes of contents that are read: parts of some 300 GB.
const CONTENTS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a snapshot says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) store: Uuid,
    pub(super) position: Position,
    /// How many of the entries through there are payments', and how many are not.
    pub(super) entries: [u64; 2],
    pub(super) payments: u64,
    pub(super) turnover: BTreeMap<Currency, Turnover>,
    /// The first entry of each segment that was begun by then.
    pub(super) segments: Vec<Sequence>,
    pub(super) parts: Vec<Part>,
}

/// A part and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) offset: u64,
    /// As it stands in the file.
    pub(super) length: u64,
    /// Decompressed.
    pub(super) plain: u64,
    /// How many payments or blocks.
    pub(super) items: u64,
    /// How many entries of payments.
    pub(super) entries: u64,
    pub(super) first: PaymentId,
    pub(super) last: PaymentId,
    pub(super) hash: [u8; 32],
}

/// What a part holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Payments,
    Blocks,
    Endpoints,
    Kept,
}

impl Contents {
    /// The first bytes of every snapshot.
    pub(super) fn header() -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(MAGIC);
        header.extend(FORMAT.to_le_bytes());
        header.extend(READER_MIN.to_le_bytes());
        header.extend(entry::CODEC.to_le_bytes());
        header.extend([0; 2]);
        header
    }

    /// The last bytes of a snapshot whose parts end at `offset`: contents and trailer.
    pub(super) fn encode(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.store.into_bytes());
        out.extend(self.position.sequence.to_le_bytes());
        out.extend(self.position.at.millis().to_le_bytes());
        out.extend(self.position.head.0);
        out.extend(self.entries.into_iter().flat_map(u64::to_le_bytes));
        out.extend(self.payments.to_le_bytes());
        out.extend(count(self.turnover.len()));
        for (currency, turnover) in &self.turnover {
            out.extend(currency.code().bytes().take(3));
            out.extend(turnover.debits.to_le_bytes());
            out.extend(turnover.credits.to_le_bytes());
        }
        out.extend(count(self.segments.len()));
        out.extend(self.segments.iter().flat_map(|first| first.to_le_bytes()));
        out.extend(count(self.parts.len()));
        self.parts.iter().for_each(|part| part.encode(&mut out));
        Self::seal(out, offset)
    }

    /// Encoded contents that begin at `offset`, and the trailer.
    pub(super) fn seal(mut contents: Vec<u8>, offset: u64) -> Vec<u8> {
        let trailer = offset.to_le_bytes();
        let hash = hash(&Self::header(), &contents, &trailer);
        contents.extend(trailer);
        contents.extend(hash);
        contents
    }

    /// Reads the contents of file `name` from the device; the error says why it is no snapshot that can be used.
    pub(super) fn read(disk: &dyn Disk, name: &str) -> Result<Self, String> {
        let read = |offset: u64, length: u64| {
            let content = disk.read_part(name, offset, index(length), Source::Device);
            content.map_err(|error| format!("it cannot be read: {error}"))
        };
        let length = disk.length(name).map_err(|error| format!("it cannot be read: {error}"))?;
        let least = bytes(HEADER_BYTES + TRAILER_BYTES);
        if length < least {
            return Err("it is cut off".into());
        }
        let header = read(0, bytes(HEADER_BYTES))?;
        let trailer_at = length - bytes(TRAILER_BYTES);
        let trailer = read(trailer_at, bytes(TRAILER_BYTES))?;
        let mut fields = Fields(&trailer);
        let (place, stored) = (fields.array::<8>(), fields.array::<32>());
        let offset = u64::from_le_bytes(place.unwrap_or_default());
        let size = trailer_at.checked_sub(offset).filter(|size| *size <= CONTENTS_BYTES_MAX);
        let size = size.ok_or("its trailer is not what was written")?;
        let contents = read(offset, size)?;
        if stored != Some(hash(&header, &contents, &place.unwrap_or_default())) {
            return Err("its contents do not match their hash".into());
        }
        check_versions(&header)?;
        let contents = Self::decode(&contents).ok_or("its contents are not what was written")?;
        contents.check(offset)?;
        Ok(contents)
    }

    fn decode(contents: &[u8]) -> Option<Self> {
        let mut fields = Fields(contents);
        let store = Uuid::from_bytes(fields.array()?);
        let position = Position {
            sequence: fields.u64()?,
            at: Timestamp::from_millis(fields.u64()?),
            head: Hash(fields.array()?),
        };
        let (entries, payments) = ([fields.u64()?, fields.u64()?], fields.u64()?);
        let mut turnover = BTreeMap::new();
        for _ in 0..fields.u32()? {
            let code: [u8; 3] = fields.array()?;
            let currency = Currency::from_code(std::str::from_utf8(&code).ok()?)?;
            let debits = i128::from_le_bytes(fields.array()?);
            let credits = i128::from_le_bytes(fields.array()?);
            turnover.insert(currency, Turnover { debits, credits });
        }
        let segments = (0..fields.u32()?).map(|_| fields.u64()).collect::<Option<_>>()?;
        let parts = (0..fields.u32()?).map(|_| Part::decode(&mut fields)).collect::<Option<_>>()?;
        let contents = Self { store, position, entries, payments, turnover, segments, parts };
        fields.0.is_empty().then_some(contents)
    }

    /// Whether the figures fit each other, and the parts fill the file up to `end`.
    fn check(&self, end: u64) -> Result<(), String> {
        if sum(self.entries) != Some(self.position.sequence) {
            return Err(format!(
                "it counts {} entries of payments and {} others, and goes through entry {}",
                self.entries[0], self.entries[1], self.position.sequence
            ));
        }
        let of = |kind| self.parts.iter().filter(move |part| part.kind == kind);
        if sum(of(Kind::Payments).map(|part| part.items)) != Some(self.payments) {
            return Err("its parts hold more or fewer payments than it counts".into());
        }
        if sum(self.parts.iter().map(|part| part.entries)) != Some(self.entries[0]) {
            return Err("its parts hold more or fewer entries than it counts".into());
        }
        let mut offset = bytes(HEADER_BYTES);
        for part in &self.parts {
            if part.offset != offset {
                return Err("its parts do not follow each other".into());
            }
            offset = offset.saturating_add(part.length);
        }
        if offset != end {
            return Err("its contents do not follow its parts".into());
        }
        Ok(())
    }
}

impl Part {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            Kind::Payments => 1,
            Kind::Blocks => 2,
            Kind::Endpoints => 3,
            Kind::Kept => 4,
        });
        for number in [self.offset, self.length, self.plain, self.items, self.entries] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.first.uuid().into_bytes());
        out.extend(self.last.uuid().into_bytes());
        out.extend(self.hash);
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let kind = match fields.array()? {
            [1] => Kind::Payments,
            [2] => Kind::Blocks,
            [3] => Kind::Endpoints,
            [4] => Kind::Kept,
            _ => return None,
        };
        Some(Self {
            kind,
            offset: fields.u64()?,
            length: fields.u64()?,
            plain: fields.u64()?,
            items: fields.u64()?,
            entries: fields.u64()?,
            first: PaymentId::new(Uuid::from_bytes(fields.array()?)),
            last: PaymentId::new(Uuid::from_bytes(fields.array()?)),
            hash: fields.array()?,
        })
    }
}

/// What the figures add up to, if a number holds it.
fn sum(figures: impl IntoIterator<Item = u64>) -> Option<u64> {
    figures.into_iter().try_fold(0, u64::checked_add)
}

fn count(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn check_versions(header: &[u8]) -> Result<(), String> {
    let mut fields = Fields(header);
    let (magic, format) = (fields.array(), fields.u16());
    let (reader_min, codec) = (fields.u16(), fields.u16());
    if magic != Some(MAGIC) {
        return Err("it is no snapshot".into());
    }
    if reader_min > Some(READER_MIN) || codec != Some(entry::CODEC) {
        let format = format.unwrap_or_default();
        return Err(format!("it is of format {format}; this release knows format {FORMAT}"));
    }
    Ok(())
}

fn hash(header: &[u8], contents: &[u8], place: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    [header, contents, place].into_iter().for_each(|bytes| digest.update(bytes));
    digest.finalize().into()
}

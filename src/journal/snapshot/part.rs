//! A part of a snapshot: some of the payments, of the journal's blocks, or of the webhook endpoints, compressed and hashed on its own.
//!
//! ```text
//! payments part, decompressed: for each payment    u32 entries, and for each entry
//!                                                  u64 sequence, u64 time, the entry as in a batch
//! blocks part, decompressed:   for each block      u64 first sequence, 32 bytes hash
//! endpoints part, decompressed: for each webhook endpoint, in the codec of the entries, its state but for the count of
//!                              its events, which is counted anew
//! kept part, decompressed:     for each entry      u64 sequence, u64 time, the entry as in a batch
//! ```

use super::{
    Snapshot,
    contents::{Kind, Part},
};
use crate::{
    domain::{
        books::Placed,
        entry::{Entry, Hash, Record},
        id::{PaymentId, Sequence},
        time::Timestamp,
        webhook::Endpoint,
    },
    journal::{
        JournalError,
        buffer::{AlignedBuffer, Fields, bytes, index},
        compression::Compression,
        disk::Source,
        entry,
        new_file::NewFile,
    },
};
use sha2::{Digest, Sha256};
use std::io;
use uuid::Uuid;
use zstd::zstd_safe;

/// The next snapshot may well write most of it anew.
const COMPRESSION: Compression = Compression { level: 1, checksum: false };

/// About as many bytes as a part has, uncompressed: 1 to 2 times this.
const PLAIN_BYTES: usize = if cfg!(test) { 4096 } else { 2 * 1024 * 1024 };

/// The most bytes a part may have, uncompressed: one payment with all its refunds is far below.
const PLAIN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// All entries of one payment, oldest first.
pub(super) type Entries = Vec<Placed>;

/// Entries of one payment as they stand in a part, oldest first.
#[derive(Clone, Copy)]
pub(super) struct Encoded<'a> {
    count: u32,
    bytes: &'a [u8],
}

/// The same, as they come from the journal: held like this and not decoded, they take a fifth of the memory.
#[derive(Default)]
pub(super) struct Added {
    count: u32,
    bytes: Vec<u8>,
}

impl Added {
    /// Adds the next entry; `scratch` is overwritten.
    pub(super) fn push(
        &mut self,
        Placed { sequence, at, record }: Placed,
        scratch: &mut Vec<u8>,
    ) -> Result<(), JournalError> {
        scratch.clear();
        put(sequence, at, &Record::Payment(record), scratch)?;
        self.count += 1;
        self.bytes.reserve_exact(scratch.len());
        self.bytes.extend_from_slice(scratch);
        Ok(())
    }

    /// How many bytes they take in a part, uncompressed.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn encoded(&self) -> Encoded<'_> {
        Encoded { count: self.count, bytes: &self.bytes }
    }
}

/// A block of the journal: its first entry and its hash.
pub(super) type Block = (Sequence, Hash);

/// Puts items into parts and parts into the file.
pub(super) struct PartWriter<'a> {
    file: NewFile<'a>,
    parts: Vec<Part>,
    plain: Vec<u8>,
    items: u64,
    entries: u64,
    kind: Kind,
    ids: Option<(PaymentId, PaymentId)>,
    /// A part is closed when it has grown to this many bytes, uncompressed.
    target: usize,
    /// Called for every item, and after each piece of a part that is compressed.
    rest: &'a dyn Fn(),
}

impl<'a> PartWriter<'a> {
    pub(super) fn new(file: NewFile<'a>, rest: &'a dyn Fn()) -> Self {
        Self {
            file,
            parts: Vec::new(),
            plain: Vec::new(),
            items: 0,
            entries: 0,
            kind: Kind::Payments,
            ids: None,
            target: PLAIN_BYTES,
            rest,
        }
    }

    /// Closes the part that is being written, and prepares for `total` bytes, uncompressed: they are parted evenly, so
    /// that parts that grow leave no crumbs behind.
    pub(super) fn expect(&mut self, total: usize) -> Result<(), JournalError> {
        self.close()?;
        self.target = total.div_ceil((total / PLAIN_BYTES).max(1)).max(PLAIN_BYTES);
        Ok(())
    }

    /// Adds a payment, whose id is above those before it, and all its entries.
    pub(super) fn payment(
        &mut self,
        id: PaymentId,
        entries: &[Encoded<'_>],
    ) -> Result<(), JournalError> {
        self.room_for(Kind::Payments)?;
        let first = self.ids.map_or(id, |(first, _)| first);
        self.ids = Some((first, id));
        let count: u32 = entries.iter().map(|encoded| encoded.count).sum();
        self.plain.extend(count.to_le_bytes());
        self.items += 1;
        self.entries += u64::from(count);
        for encoded in entries {
            self.plain.extend_from_slice(encoded.bytes);
        }
        Ok(())
    }

    /// Adds a block of the journal, behind those before it.
    pub(super) fn block(&mut self, (first, hash): Block) -> Result<(), JournalError> {
        self.room_for(Kind::Blocks)?;
        self.plain.extend(first.to_le_bytes());
        self.plain.extend(hash.0);
        self.items += 1;
        Ok(())
    }

    /// Adds a webhook endpoint.
    pub(super) fn endpoint(&mut self, endpoint: &Endpoint) -> Result<(), JournalError> {
        self.room_for(Kind::Endpoints)?;
        entry::encode_endpoint_into(endpoint, &mut self.plain)?;
        self.items += 1;
        Ok(())
    }

    /// Adds an entry that is kept whole, behind those before it.
    pub(super) fn kept(&mut self, kept: &Entry) -> Result<(), JournalError> {
        self.room_for(Kind::Kept)?;
        put(kept.sequence, kept.at, &kept.record, &mut self.plain)?;
        self.items += 1;
        Ok(())
    }

    /// Adds a part of another snapshot as it is.
    pub(super) fn copy(&mut self, part: &Part, content: &[u8]) -> Result<(), JournalError> {
        self.close()?;
        (self.rest)();
        let part = Part { offset: self.file.length(), ..part.clone() };
        self.file.append(content).map_err(|error| self.file.failed("write", error))?;
        self.parts.push(part);
        Ok(())
    }

    /// The file and its parts.
    pub(super) fn finish(mut self) -> Result<(NewFile<'a>, Vec<Part>), JournalError> {
        self.close()?;
        Ok((self.file, self.parts))
    }

    fn room_for(&mut self, kind: Kind) -> Result<(), JournalError> {
        (self.rest)();
        if self.kind != kind || self.plain.len() >= self.target {
            self.close()?;
        }
        self.kind = kind;
        Ok(())
    }

    fn close(&mut self) -> Result<(), JournalError> {
        if self.items == 0 {
            return Ok(());
        }
        let (offset, mut content) = (self.file.length(), Vec::new());
        COMPRESSION
            .write(&self.plain, &mut content, self.rest)
            .and_then(|()| self.file.append(&content))
            .map_err(|error| self.file.failed("write", error))?;
        let nil = PaymentId::new(Uuid::nil());
        let (first, last) = self.ids.take().unwrap_or((nil, nil));
        self.parts.push(Part {
            kind: self.kind,
            offset,
            length: bytes(content.len()),
            plain: bytes(self.plain.len()),
            items: self.items,
            entries: self.entries,
            first,
            last,
            hash: Sha256::digest(&content).into(),
        });
        self.plain.clear();
        (self.items, self.entries) = (0, 0);
        Ok(())
    }
}

impl Snapshot<'_> {
    /// The part's bytes as they stand in the file, if they are what was written.
    pub(super) fn bytes_of(&self, part: &Part, source: Source) -> Result<AlignedBuffer, String> {
        let read =
            |error: io::Error| format!("its part at byte {} cannot be read: {error}", part.offset);
        let content = self.disk.read_part(&self.name, part.offset, index(part.length), source);
        let content = content.map_err(read)?;
        match part.hash == <[u8; 32]>::from(Sha256::digest(&*content)) {
            true => Ok(content),
            false => Err(format!("its part at byte {} does not match its hash", part.offset)),
        }
    }

    /// Gives every payment of a part with all its entries, and these as they stand there, to `visit`, in the order of their
    /// ids. It must hold as many payments and entries as it counts.
    pub(super) fn payments_of<E: From<String>>(
        &self,
        part: &Part,
        source: Source,
        mut visit: impl FnMut(PaymentId, Entries, Encoded<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let plain = expand(part, &self.bytes_of(part, source)?)?;
        let mut fields = Fields(&plain);
        let mut count = 0;
        for _ in 0..part.items {
            let (entries, encoded) = entries(&mut fields)?;
            count += bytes(entries.len());
            let id = entries.first().map(|placed| placed.record.payment);
            let id = id.ok_or_else(|| "a payment has no entries".to_owned())?;
            visit(id, entries, encoded)?;
        }
        match fields.0.is_empty() && count == part.entries {
            true => Ok(()),
            false => Err(format!("its part at byte {} is not as it counts", part.offset).into()),
        }
    }

    /// The webhook endpoints of a part.
    pub(super) fn endpoints_of(
        &self,
        part: &Part,
        source: Source,
    ) -> Result<Vec<Endpoint>, String> {
        let plain = expand(part, &self.bytes_of(part, source)?)?;
        let (mut rest, mut endpoints) = (plain.as_slice(), Vec::new());
        for _ in 0..part.items {
            let (endpoint, behind) = entry::decode_endpoint(rest)?;
            endpoints.push(endpoint);
            rest = behind;
        }
        match rest.is_empty() {
            true => Ok(endpoints),
            false => Err(format!("its part at byte {} is too long", part.offset)),
        }
    }

    /// All webhook endpoints.
    pub(super) fn endpoints(&self, source: Source) -> Result<Vec<Endpoint>, String> {
        let parts = self.contents.parts.iter().filter(|part| part.kind == Kind::Endpoints);
        let endpoints: Result<Vec<_>, _> =
            parts.map(|part| self.endpoints_of(part, source)).collect();
        Ok(endpoints?.concat())
    }

    /// The entries of a part that are kept whole, in order.
    pub(super) fn kept_of(&self, part: &Part, source: Source) -> Result<Vec<Entry>, String> {
        let plain = expand(part, &self.bytes_of(part, source)?)?;
        let mut fields = Fields(&plain);
        let mut kept = Vec::new();
        for _ in 0..part.items {
            let (sequence, at, record) = placed(&mut fields)?;
            kept.push(Entry { sequence, at, record });
        }
        match fields.0.is_empty() && kept.iter().all(|entry| entry.record.is_kept()) {
            true => Ok(kept),
            false => Err(format!("its part at byte {} is not as it counts", part.offset)),
        }
    }

    /// All entries that are kept whole, in order.
    pub(super) fn all_kept(&self, source: Source) -> Result<Vec<Entry>, String> {
        let parts = self.contents.parts.iter().filter(|part| part.kind == Kind::Kept);
        let kept: Result<Vec<_>, _> = parts.map(|part| self.kept_of(part, source)).collect();
        Ok(kept?.concat())
    }

    /// The blocks of a part, in order.
    pub(super) fn blocks_of(&self, part: &Part, source: Source) -> Result<Vec<Block>, String> {
        let plain = expand(part, &self.bytes_of(part, source)?)?;
        let mut fields = Fields(&plain);
        let blocks = (0..part.items)
            .map(|_| Some((fields.u64()?, Hash(fields.array()?))))
            .collect::<Option<Vec<_>>>();
        blocks
            .filter(|_| fields.0.is_empty())
            .ok_or_else(|| format!("its part at byte {} is not as long as it counts", part.offset))
    }
}

fn expand(part: &Part, content: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = || format!("its part at byte {} cannot be decompressed", part.offset);
    if part.plain > PLAIN_BYTES_MAX {
        return Err(wrong());
    }
    let mut plain = vec![0; index(part.plain)];
    match zstd_safe::decompress(plain.as_mut_slice(), content) {
        Ok(written) if bytes(written) == part.plain => Ok(plain),
        _ => Err(wrong()),
    }
}

const CUT_OFF: &str = "an entry is cut off";

/// Appends an entry in its place; [`placed`] reads it.
fn put(
    sequence: Sequence,
    at: Timestamp,
    record: &Record,
    out: &mut Vec<u8>,
) -> Result<(), JournalError> {
    out.extend(sequence.to_le_bytes());
    out.extend(at.millis().to_le_bytes());
    entry::encode_into(record, out)
}

/// An entry in its place.
fn placed(fields: &mut Fields<'_>) -> Result<(Sequence, Timestamp, Record), String> {
    let sequence = fields.u64().ok_or(CUT_OFF)?;
    let at = Timestamp::from_millis(fields.u64().ok_or(CUT_OFF)?);
    let (record, rest) = entry::decode(fields.0)?;
    fields.0 = rest;
    Ok((sequence, at, record))
}

fn entries<'a>(fields: &mut Fields<'a>) -> Result<(Entries, Encoded<'a>), String> {
    let count = fields.u32().ok_or(CUT_OFF)?;
    let start = fields.0;
    let mut entries = Entries::with_capacity(index(u64::from(count.min(1024))));
    for _ in 0..count {
        let (sequence, at, record) = placed(fields)?;
        let Record::Payment(record) = record else {
            return Err(format!("entry {sequence} is not a payment's"));
        };
        entries.push(Placed { sequence, at, record });
    }
    let bytes = start.get(..start.len() - fields.0.len()).unwrap_or_default();
    Ok((entries, Encoded { count, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_as_long_as_it_says_and_no_longer_than_any_may_be() {
        let nil = PaymentId::new(Uuid::nil());
        let expands = |held: u64, said: u64| {
            let content = zstd::bulk::compress(&vec![7; index(held)], COMPRESSION.level).unwrap();
            let part = Part {
                kind: Kind::Payments,
                offset: 16,
                length: bytes(content.len()),
                plain: said,
                items: 1,
                entries: 1,
                first: nil,
                last: nil,
                hash: Sha256::digest(&content).into(),
            };
            expand(&part, &content).map(|plain| bytes(plain.len())).ok()
        };
        for length in [5000, PLAIN_BYTES_MAX] {
            assert_eq!(expands(length, length), Some(length));
            assert_eq!(expands(length, length - 1), None, "it is longer");
            assert_eq!(
                expands(length, length + 1),
                None,
                "it is shorter, or larger than any may be"
            );
        }
        assert_eq!(expands(PLAIN_BYTES_MAX + 1, PLAIN_BYTES_MAX + 1), None);
        assert_eq!(PLAIN_BYTES_MAX, 67_108_864, "a start must read what earlier releases wrote");
    }
}

//! The door for fuzzing what stands on disk: its decoders, from bytes that nobody wrote.
//!
//! Hashes would keep nearly all such bytes from what is behind them; so there is a way in with a right hash, too.

use super::{
    archive, entry,
    frame::{self, HEADER_BYTES, Header, Place},
    segment,
    watermark::Watermark,
};
use crate::{
    domain::{
        entry::{Batch, Hash},
        id::Sequence,
        time::Timestamp,
    },
    journal::{
        buffer::{BLOCK_BYTES, bytes},
        disk::{Source, simulated::SimulatedDisk},
    },
};
use std::hint::black_box;
use uuid::Uuid;

const PLACE: Place = Place { store: Uuid::nil(), segment: 1, offset: 4096 };

/// Reads `bytes` as they are: as a frame, the header of a segment, a watermark, an archived segment.
pub fn raw(bytes: &[u8]) {
    drop(frame::open(bytes, &PLACE).map(|frame| frame.batch()));
    drop(segment::Header::decode(bytes));
    black_box(Watermark::decode(bytes));
    let disk = SimulatedDisk::default();
    disk.put(&archive::file_name(1), bytes);
    drop(archive::read(&disk, 1, Source::Cache));
}

/// The batch of a frame around `payload` whose hash is right and that counts `count` entries.
///
/// # Errors
/// What is wrong with the payload.
pub fn sealed(payload: &[u8], count: u32, first: Sequence) -> Result<Batch, String> {
    let header = Header {
        count,
        payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        epoch: 1,
        first,
        at: Timestamp::default(),
        previous: Hash::default(),
    };
    let mut content = vec![0; HEADER_BYTES];
    content.extend(payload);
    frame::seal(&mut content, &header, &PLACE);
    content.resize(content.len().next_multiple_of(BLOCK_BYTES), 0);
    let frame = frame::open(&content, &PLACE).map_err(|flaw| format!("{flaw:?}"))?;
    let batch = frame.batch()?;
    // What was read is written, and read the same again.
    let mut again = Vec::new();
    for entry in &batch.entries {
        entry::encode_into(&entry.record, &mut again).map_err(|error| error.to_string())?;
    }
    let decoded = decoded(&again);
    let records = batch.entries.iter().map(|entry| entry.record.clone());
    assert!(
        decoded == Ok(records.collect()),
        "{} bytes are read otherwise again",
        bytes(again.len())
    );
    Ok(batch)
}

fn decoded(mut payload: &[u8]) -> Result<Vec<crate::domain::entry::Record>, String> {
    let mut records = Vec::new();
    while !payload.is_empty() {
        let (record, rest) = entry::decode(payload)?;
        records.push(record);
        payload = rest;
    }
    Ok(records)
}

//! The codec of one entry: the only module that knows bincode.
//!
//! Whoever writes or reads a batch calls it. It judges no content; it only turns a [`Record`] into
//! bytes and back. Variant and field order of the record types are the format, held by the golden
//! files in `tests/golden/`.
//!
//! ```text
//!  u32 length   u16 version   length bytes
//! ┌────────────┬─────────────┬──────────────────────────────┐
//! │ of bincode │ of record   │ bincode of the Record        │
//! └────────────┴─────────────┴──────────────────────────────┘
//! ```

use super::{
    JournalError,
    buffer::{AlignedBuffer, Fields, index},
};
use crate::domain::{entry::Record, payment::Form, webhook::Endpoint};
use bincode::{
    config::{Configuration, Limit, LittleEndian, Varint},
    enc::write::{SizeWriter, Writer},
    error::EncodeError,
};

/// The codec's id in every segment header.
pub(super) const CODEC: u16 = 1;

/// The most bytes one encoded record may have. The server's own limits keep entries far below.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// The version of a record, which says of what form the answer is that was given to it.
fn version(record: &Record) -> u16 {
    match record {
        Record::Payment(payment) if payment.form == Form::Second => 2,
        Record::Opened { .. }
        | Record::Sealed
        | Record::Payment(_)
        | Record::Webhook(_)
        | Record::Stray(_)
        | Record::Access(_) => 1,
    }
}

/// What stands before the record: its length and its version.
const PREFIX_BYTES: usize = 6;

/// The decoder counts a one-byte number as up to 16 bytes, so its limit must lie that much above
/// the encoder's: what could be written can always be read.
const DECODE_BYTES_MAX: usize = 16 * RECORD_BYTES_MAX;

/// Frozen with codec id 1; a change needs a new id.
const CONFIG: Configuration<LittleEndian, Varint, Limit<DECODE_BYTES_MAX>> =
    bincode::config::standard().with_little_endian().with_variable_int_encoding().with_limit();

/// How many bytes of a batch's payload the record takes, so that a caller can keep a batch within
/// its bound.
pub fn encoded_bytes(record: &Record) -> Result<usize, JournalError> {
    let mut size = SizeWriter::default();
    bincode::serde::encode_into_writer(record, &mut size, CONFIG).map_err(|_| TOO_LARGE)?;
    if size.bytes_written > RECORD_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    Ok(PREFIX_BYTES + size.bytes_written)
}

const TOO_LARGE: JournalError = JournalError::TooLarge { bytes_max: RECORD_BYTES_MAX };

/// Appends the record to `buffer`. An error leaves a part of it there.
pub fn encode(record: &Record, buffer: &mut AlignedBuffer) -> Result<(), JournalError> {
    let start = buffer.len();
    let full = JournalError::TooLarge { bytes_max: buffer.capacity() };
    let mut sink = Sink(buffer);
    let written = sink
        .write(&[0; PREFIX_BYTES])
        .and_then(|()| bincode::serde::encode_into_writer(record, &mut sink, CONFIG));
    // The only other failures of the encoder are types that a record does not hold.
    written.map_err(|_| full)?;
    write_prefix(buffer.get_mut(start..).unwrap_or_default(), version(record))
}

/// Appends the record to `out`, as it stands in a batch.
pub(super) fn encode_into(record: &Record, out: &mut Vec<u8>) -> Result<(), JournalError> {
    let start = out.len();
    out.extend([0; PREFIX_BYTES]);
    bincode::serde::encode_into_std_write(record, out, CONFIG).map_err(|_| TOO_LARGE)?;
    write_prefix(out.get_mut(start..).unwrap_or_default(), version(record))
}

/// Writes length and version before the encoded record that stands in the rest of `entry`.
fn write_prefix(entry: &mut [u8], version: u16) -> Result<(), JournalError> {
    let length = entry.len() - PREFIX_BYTES;
    let prefix =
        u32::try_from(length).ok().filter(|_| length <= RECORD_BYTES_MAX).ok_or(TOO_LARGE)?;
    let fields = prefix.to_le_bytes().into_iter().chain(version.to_le_bytes());
    for (to, from) in entry.iter_mut().zip(fields) {
        *to = from;
    }
    Ok(())
}

/// Appends a webhook endpoint to `out`, as a snapshot holds it.
pub(super) fn encode_endpoint_into(
    endpoint: &Endpoint,
    out: &mut Vec<u8>,
) -> Result<(), JournalError> {
    let written = bincode::serde::encode_into_std_write(endpoint, out, CONFIG);
    written.map(drop).map_err(|_| TOO_LARGE)
}

/// The webhook endpoint at the front of `bytes`, and what stands behind it; the error says what is wrong with them.
pub(super) fn decode_endpoint(bytes: &[u8]) -> Result<(Endpoint, &[u8]), String> {
    let (endpoint, read) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|error| format!("a webhook endpoint cannot be decoded: {error}"))?;
    Ok((endpoint, bytes.get(read..).unwrap_or_default()))
}

/// The record at the front of `payload`, and what stands behind it. Never panics and never
/// allocates more than a fixed bound, whatever the bytes; the error says what is wrong with them.
pub fn decode(payload: &[u8]) -> Result<(Record, &[u8]), String> {
    let mut fields = Fields(payload);
    let length = fields.u32().ok_or("an entry's length is cut off")?;
    let stored = fields.u16().ok_or("an entry's version is cut off")?;
    let bytes =
        fields.slice(index(u64::from(length))).ok_or("an entry is longer than its batch")?;
    let (mut record, read) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|error| format!("an entry cannot be decoded: {error}"))?;
    if let Record::Payment(payment) = &mut record {
        payment.form = if stored == 1 { Form::First } else { Form::Second };
    }
    if version(&record) != stored {
        return Err(format!("an entry has version {stored}, which this release does not know"));
    }
    if read != bytes.len() {
        return Err(format!("an entry is {} bytes too long", bytes.len() - read));
    }
    Ok((record, fields.0))
}

/// Lets the encoder write straight into the batch.
struct Sink<'a>(&'a mut AlignedBuffer);

impl Writer for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.push(bytes).map_err(|_| EncodeError::UnexpectedEnd)
    }
}

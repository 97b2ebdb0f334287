//! The archive: segments that two snapshots cover, compressed.
//!
//! A sealed segment's bytes go into one zstd frame, as they are, so an archived segment is read by the same code and
//! held to the same hashes. It leaves the journal's folder only after what was written was read back from the device
//! and found equal.

use super::{
    JournalError, Options, backup,
    buffer::{AlignedBuffer, bytes, index},
    compression::{Compression, PIECE_BYTES},
    disk::{Disk, Source},
    folders::Folders,
    new_file::{self, NewFile},
    segment,
};
use crate::domain::id::Sequence;
use std::io::{self, BufWriter, Read, Write};
use zstd::zstd_safe;

/// Segments are compressed once and read seldom.
const COMPRESSION: Compression = Compression { level: 3, checksum: true };

const SUFFIX: &str = ".zst";

/// The file name of the archived segment that starts with this entry.
pub(super) fn file_name(first: Sequence) -> String {
    segment::file_name(first) + SUFFIX
}

/// Which entry an archived segment of this name starts with; `None` if this is no such name.
pub(super) fn first_of(name: &str) -> Option<Sequence> {
    segment::first_of(name.strip_suffix(SUFFIX)?)
}

/// The segment's bytes as they were before it was archived. That they are what was written is for its hashes to say.
pub(super) fn read(
    disk: &dyn Disk,
    first: Sequence,
    source: Source,
) -> Result<AlignedBuffer, JournalError> {
    let name = file_name(first);
    let compressed =
        disk.read(&name, source).map_err(JournalError::io("read", disk.path(&name)))?;
    expand(&compressed).ok_or_else(|| JournalError::Damaged {
        file: disk.path(&name),
        offset: 0,
        sequence: first,
        what: "the archived segment cannot be decompressed".into(),
    })
}

/// How long the segment was that was compressed; `None` if it is none, or longer than any may be.
fn length_of(compressed: &[u8]) -> Option<u64> {
    let length = zstd_safe::get_frame_content_size(compressed).ok()??;
    (length <= Options::SEGMENT_BYTES_MAX).then_some(length)
}

fn expand(compressed: &[u8]) -> Option<AlignedBuffer> {
    let length = length_of(compressed)?;
    let mut content = AlignedBuffer::zeroed(index(length));
    let place: &mut [u8] = &mut content;
    let written = zstd_safe::decompress(place, compressed).ok()?;
    (bytes(written) == length).then_some(content)
}

/// Moves a sealed segment from the journal's folder to the archive, if it is as it was written. Returns how many bytes it had and has.
/// `rest` is called between the pieces of the work.
///
/// On an error both folders are as good as before, at worst with the segment in both.
pub(super) fn put(
    folders: &Folders,
    first: Sequence,
    rest: &dyn Fn(),
) -> Result<(u64, u64), JournalError> {
    let (journal, archive) = (&*folders.journal, &*folders.archive);
    let (from, to) = (segment::file_name(first), file_name(first));
    let content = journal
        .read(&from, Source::Device)
        .map_err(JournalError::io("read", journal.path(&from)))?;
    // What has rotted since it was written stays where it is, for whoever investigates.
    backup::end_of(&content, first, Sequence::MAX, &journal.path(&from), rest)?;
    let failed = |error| JournalError::io("write", archive.path(&to))(error);
    let mut file = NewFile::begin(archive, &to).map_err(failed)?;
    // The compressor hands out less than the disk is to be given at once.
    let mut gathered = BufWriter::with_capacity(new_file::CHUNK_BYTES, &mut file);
    let compressed = COMPRESSION.write(&content, &mut gathered, rest);
    let flushed = compressed.and_then(|()| gathered.flush());
    // Not dropped: after a failure it would write once more.
    drop(gathered.into_parts());
    flushed.map_err(failed)?;
    let unpublished = file.finish().map_err(failed)?;
    let written = archive.read(&unpublished, Source::Device).map_err(failed)?;
    if !is_compressed(&content, &written, rest) {
        return Err(failed(io::Error::other("what was written cannot be read back")));
    }
    let length = file.length();
    file.publish().map_err(failed)?;
    let removed = journal.remove(&from).and_then(|()| journal.sync_folder());
    removed.map_err(JournalError::io("remove", journal.path(&from)))?;
    Ok((bytes(content.len()), length))
}

/// Whether `compressed` is one frame, of `content`.
fn is_compressed(content: &[u8], compressed: &[u8], rest: &dyn Fn()) -> bool {
    let Ok(decoder) = zstd::Decoder::with_buffer(compressed) else { return false };
    let mut decoder = decoder.single_frame();
    let mut piece = vec![0; PIECE_BYTES];
    let is_equal = content.chunks(PIECE_BYTES).all(|expected| {
        rest();
        let piece = piece.get_mut(..expected.len()).unwrap_or_default();
        decoder.read_exact(piece).is_ok() && piece == expected
    });
    is_equal
        && matches!(decoder.read(&mut [0]), Ok(0))
        && decoder.finish().is_empty()
        && length_of(compressed) == Some(bytes(content.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_compressed_in_pieces_is_one_frame_of_just_that() {
        let content: Vec<u8> =
            (0..PIECE_BYTES * 2 + 5).map(|place| u8::try_from(place % 251).unwrap()).collect();
        let compressed = |content: &[u8]| {
            let (mut compressed, rests) = (Vec::new(), Cell::new(0));
            COMPRESSION.write(content, &mut compressed, &|| rests.set(rests.get() + 1)).unwrap();
            assert_eq!(rests.get(), content.len().div_ceil(PIECE_BYTES));
            compressed
        };
        let whole = compressed(&content);
        assert_eq!(*expand(&whole).unwrap(), *content);
        let rests = Cell::new(0);
        let is_of = |content: &[u8], compressed: &[u8]| {
            is_compressed(content, compressed, &|| rests.set(rests.get() + 1))
        };
        assert!(is_of(&content, &whole));
        assert_eq!(rests.get(), 3);
        for other in [&content[1..], &content[..content.len() - 1]] {
            assert!(!is_of(other, &whole) && !is_of(&content, &compressed(other)));
        }
        let longer = [whole.as_slice(), &[0]].concat();
        let twice = [whole.as_slice(), &compressed(b"more")].concat();
        for wrong in [b"".as_slice(), b"no frame", &whole[..whole.len() - 1], &longer, &twice] {
            assert!(!is_of(&content, wrong));
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert!(!is_of(&content, &changed) || *expand(&changed).unwrap() == *content);
        }
        // As a stream, which does not say how long it is.
        let unsized_frame = zstd::encode_all(content.as_slice(), COMPRESSION.level).unwrap();
        assert!(!is_of(&content, &unsized_frame), "nobody could make room for it");
    }
}

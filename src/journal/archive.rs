//! The archive: segments that two snapshots cover, compressed.
//!
//! A sealed segment's bytes go into one zstd frame, as they are, so an archived segment is read by the same code and
//! held to the same hashes. It leaves the journal's folder only after what was written was read back from the device
//! and found equal.

use super::{
    JournalError, Options,
    buffer::{AlignedBuffer, bytes, index},
    disk::{Disk, Source},
    folders::Folders,
    new_file::NewFile,
    segment,
};
use crate::domain::id::Sequence;
use std::io;
use zstd::zstd_safe;

/// How hard the compressor tries: the segments are written once and read seldom.
const LEVEL: i32 = 3;

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

fn expand(compressed: &[u8]) -> Option<AlignedBuffer> {
    let length = zstd_safe::get_frame_content_size(compressed).ok()??;
    let mut content =
        (length <= Options::SEGMENT_BYTES_MAX).then(|| AlignedBuffer::zeroed(index(length)))?;
    let place: &mut [u8] = &mut content;
    let written = zstd_safe::decompress(place, compressed).ok()?;
    (bytes(written) == length).then_some(content)
}

/// Moves a sealed segment from the journal's folder to the archive. Returns how many bytes it had and has.
///
/// On an error both folders are as good as before, at worst with the segment in both.
pub(super) fn put(folders: &Folders, first: Sequence) -> Result<(u64, u64), JournalError> {
    let (journal, archive) = (&*folders.journal, &*folders.archive);
    let (from, to) = (segment::file_name(first), file_name(first));
    let content = journal
        .read(&from, Source::Device)
        .map_err(JournalError::io("read", journal.path(&from)))?;
    let compressed =
        compress(&content).map_err(JournalError::io("compress", journal.path(&from)))?;
    let failed = |error| JournalError::io("write", archive.path(&to))(error);
    let mut file = NewFile::begin(archive, &to).map_err(failed)?;
    file.append(&compressed).map_err(failed)?;
    let unpublished = file.finish().map_err(failed)?;
    let written = archive.read(&unpublished, Source::Device).map_err(failed)?;
    if expand(&written).is_none_or(|expanded| *expanded != *content) {
        return Err(failed(io::Error::other("what was written cannot be read back")));
    }
    file.publish().map_err(failed)?;
    let removed = journal.remove(&from).and_then(|()| journal.sync_folder());
    removed.map_err(JournalError::io("remove", journal.path(&from)))?;
    Ok((bytes(content.len()), bytes(compressed.len())))
}

fn compress(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.set_parameter(zstd_safe::CParameter::ChecksumFlag(true))?;
    compressor.compress(content)
}

//! Compression in pieces, for work that is to hold up nobody.

use super::buffer::bytes;
use std::io::{self, Write};

/// How much is compressed, or compared with what was, in one piece.
pub(super) const PIECE_BYTES: usize = 128 * 1024;

/// How something is compressed.
#[derive(Clone, Copy)]
pub(super) struct Compression {
    /// How hard the compressor tries.
    pub(super) level: i32,
    /// Whether the frame has a checksum of its content.
    pub(super) checksum: bool,
}

impl Compression {
    /// Writes `content` as one zstd frame that says how long it is. `rest` is called after each piece.
    pub(super) fn write(self, content: &[u8], to: impl Write, rest: &dyn Fn()) -> io::Result<()> {
        let mut encoder = zstd::Encoder::new(to, self.level)?;
        encoder.include_checksum(self.checksum)?;
        encoder.set_pledged_src_size(Some(bytes(content.len())))?;
        for piece in content.chunks(PIECE_BYTES) {
            encoder.write_all(piece)?;
            rest();
        }
        encoder.finish()?;
        Ok(())
    }
}

//! Bytes at an address that direct I/O takes, and the reading of fixed fields out of bytes.
//!
//! Every part of the journal uses it; it touches no file.

use memmap2::MmapMut;
use std::{
    alloc::{Layout, handle_alloc_error},
    fmt,
    ops::{Deref, DerefMut},
};

/// The unit of writing, in bytes: every write to a segment starts at a multiple of it and is a
/// multiple of it long. No disk in use has larger physical sectors, so a write never touches bytes
/// of an earlier one.
pub const BLOCK_BYTES: usize = 4096;

/// A byte vector of fixed capacity whose first byte lies at a multiple of [`BLOCK_BYTES`], as
/// `O_DIRECT` demands.
///
/// It is a mapping of its own: whoever drops it gives its memory back, then and there. Freed to the allocator, a segment's
/// 64 MiB would be given back later, in one go of some 10 ms, by whichever thread comes by, as those that answer clients do.
/// Not for what is made with every payment: a mapping takes some microseconds.
pub struct AlignedBuffer {
    /// As long as the buffer's capacity. It begins with a page, which is a whole block.
    memory: MmapMut,
    length: usize,
}

/// The buffer cannot take what was written to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl AlignedBuffer {
    /// An empty buffer for up to `capacity` bytes. Memory is only used as it fills.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { length: 0, ..Self::zeroed(capacity) }
    }

    /// A buffer of `length` zero bytes, which is also its capacity.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        let memory = MmapMut::map_anon(length).unwrap_or_else(|_| {
            let wanted = Layout::from_size_align(length, BLOCK_BYTES);
            handle_alloc_error(wanted.unwrap_or(Layout::new::<[u8; BLOCK_BYTES]>()))
        });
        Self { memory, length }
    }

    /// A buffer that holds `content` and zeros up to the next whole block.
    #[must_use]
    pub fn blocks_of(content: &[u8]) -> Self {
        let mut buffer = Self::zeroed(content.len().next_multiple_of(BLOCK_BYTES));
        if let Some(front) = buffer.get_mut(..content.len()) {
            front.copy_from_slice(content);
        }
        buffer
    }

    /// The most bytes it takes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Appends `bytes`, or leaves the buffer as it was if they do not fit.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.length.checked_add(bytes.len()).ok_or(Full)?;
        self.memory.get_mut(self.length..end).ok_or(Full)?.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    /// Appends zeros up to the next whole block, or leaves the buffer as it was if they do not fit.
    pub fn pad_to_block(&mut self) -> Result<(), Full> {
        let end = self.length.next_multiple_of(BLOCK_BYTES);
        self.memory.get_mut(self.length..end).ok_or(Full)?.fill(0);
        self.length = end;
        Ok(())
    }

    /// Forgets all bytes from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(..self.length).unwrap_or_default()
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} of {} bytes)", self.len(), self.capacity())
    }
}

/// Takes little-endian fields off the front of bytes; `None` when they run out.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }
}

/// Whether every byte is zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    bytes.chunks(BLOCK_BYTES).all(|chunk| ZEROS.get(..chunk.len()) == Some(chunk))
}

/// A file offset as an index into the file's bytes in memory.
pub(super) fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// A length in memory as a number of bytes on disk.
pub(super) fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_stays_aligned_and_refuses_what_does_not_fit() {
        let mut buffer = AlignedBuffer::with_capacity(2 * BLOCK_BYTES);
        buffer.push(&[1; BLOCK_BYTES]).unwrap();
        buffer.push(&[2]).unwrap();
        buffer.pad_to_block().unwrap();
        assert_eq!(buffer.len(), 2 * BLOCK_BYTES);
        assert_eq!(buffer.push(&[3]), Err(Full));
        assert_eq!(buffer.as_ptr().align_offset(BLOCK_BYTES), 0);
        buffer.truncate(2 * BLOCK_BYTES - 1);
        buffer.push(&[3]).expect("the last byte that fits");
        assert_eq!((buffer.len(), buffer.capacity()), (2 * BLOCK_BYTES, 2 * BLOCK_BYTES));
        buffer.truncate(1);
        assert_eq!(&*buffer, [1]);
        assert_eq!(AlignedBuffer::blocks_of(&[7])[..2], [7, 0]);
    }

    #[test]
    fn zeros_are_told_from_anything_else() {
        let mut bytes = vec![0; BLOCK_BYTES * 2 + 5];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for place in [0, BLOCK_BYTES, BLOCK_BYTES * 2 + 4] {
            bytes[place] = 1;
            assert!(!is_zero(&bytes));
            bytes[place] = 0;
        }
    }
}

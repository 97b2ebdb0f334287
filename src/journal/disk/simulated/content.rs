//! What a simulated file holds: on the device, in the cache, and what is on its way.

use super::SECTOR_BYTES;
use crate::journal::buffer::BLOCK_BYTES;
use std::{collections::BTreeSet, ops::Range};

#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) cached: Vec<u8>,
    pub(super) device: Vec<u8>,
    pub(super) dirty: BTreeSet<usize>,
}

impl Content {
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        if let Some(place) = self.cached.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        self.dirty.extend(offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES));
    }

    /// Makes these blocks durable, as `O_DSYNC` does: no others.
    pub(super) fn sync(&mut self, blocks: Range<usize>) {
        for block in blocks {
            if self.dirty.remove(&block) {
                let start = block * BLOCK_BYTES;
                let end = self.cached.len().min(start + BLOCK_BYTES);
                self.reach_device(start..end);
            }
        }
    }

    pub(super) fn sync_all(&mut self) {
        self.sync(0..self.cached.len().div_ceil(BLOCK_BYTES));
    }

    pub(super) fn reach_device(&mut self, range: Range<usize>) {
        if self.device.len() < range.end {
            self.device.resize(range.end, 0);
        }
        if let (Some(to), Some(from)) = (self.device.get_mut(range.clone()), self.cached.get(range))
        {
            to.copy_from_slice(from);
        }
    }

    /// The sectors of dirty blocks that differ from what the device holds.
    pub(super) fn unsynced(&self) -> impl Iterator<Item = Range<usize>> {
        let of_block = |block: &usize| {
            let start = block * BLOCK_BYTES;
            (start..start + BLOCK_BYTES).step_by(SECTOR_BYTES)
        };
        let sector = |start: usize| start..(start + SECTOR_BYTES).min(self.cached.len());
        let differs = |sector: &Range<usize>| {
            !sector.is_empty() && self.cached.get(sector.clone()) != self.device.get(sector.clone())
        };
        self.dirty.iter().flat_map(of_block).map(sector).filter(differs)
    }

    /// What the device holds after any sectors of the dirty blocks got there.
    pub(super) fn crash(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut after = self.clone();
        let sectors: Vec<Range<usize>> = self.unsynced().collect();
        for block in
            sectors.chunk_by(|one, other| one.start / BLOCK_BYTES == other.start / BLOCK_BYTES)
        {
            // None, all, those before or behind a cut, or any.
            let fate = if block.len() > 1 { choose(5) } else { choose(2) };
            let cut = if (2..4).contains(&fate) { 1 + choose(block.len() - 1) } else { 0 };
            for (number, sector) in block.iter().enumerate() {
                let reached = match fate {
                    0 => false,
                    1 => true,
                    2 => number < cut,
                    3 => number >= cut,
                    _ => choose(2) == 1,
                };
                if reached {
                    after.reach_device(sector.clone());
                }
            }
        }
        after.dirty.clear();
        after.cached = after.device.clone();
        after
    }
}

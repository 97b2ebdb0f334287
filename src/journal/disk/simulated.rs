//! A disk in memory that loses what was not synced, and fails when it is told to.
//!
//! Only compiled for tests. It knows three states of a block: what the device holds, what the page
//! cache shows, and whether the two are to become one (dirty). A crash leaves of every dirty block
//! any of its sectors, and of every change of a name that was not synced either the old or the new.
//! A failed sync leaves the block *clean*, as Linux does: the cache goes on showing bytes that the
//! device does not hold.

mod content;

use self::content::Content;
use super::{Disk, DiskFile, Fill, Source, Writes};
use crate::journal::buffer::{AlignedBuffer, BLOCK_BYTES, bytes, index};
use rustix::io::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const SECTOR_BYTES: usize = 512;

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power fails while the call is under way: it and all later ones fail, and its effect may
    /// be lost.
    PowerFails,
    /// A write reaches the cache, not the device, and is never tried again.
    SyncFails,
    /// The call does nothing and says `EIO`.
    Refused,
    /// The call does nothing and says `EINTR`.
    Interrupted,
    /// Some sectors of a write reach the cache, or none, and then there is no room.
    CutShort,
}

/// A folder in memory. Clones share it.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    files: Vec<Content>,
    /// As the operating system shows them; the number is an index into `files`.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the folder was last synced.
    changes: Vec<Change>,
    calls: u64,
    /// The call at which it strikes, counted from 1.
    fault: Option<(u64, Fault)>,
    off: bool,
    full: bool,
    /// As many bytes are free as nobody counts, if not this many.
    free: Option<u64>,
}

#[derive(Clone)]
enum Change {
    Created(String, usize),
    Renamed(String, String, usize),
    Removed(String),
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State::default())))
    }
}

impl SimulatedDisk {
    /// Lets `fault` strike at the `call`th call from now on, counted from 1.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        let mut state = self.lock();
        state.fault = Some((state.calls + call, fault));
    }

    /// How many calls have been made that change something.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Whether there is no room for a new file.
    pub fn set_full(&self, full: Fullness) {
        self.lock().full = full == Fullness::Full;
    }

    /// How many bytes are said to be free from now on. New files fail no sooner for it.
    pub fn set_free(&self, bytes: u64) {
        self.lock().free = Some(bytes);
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// The disk after a power failure. `choose(n)` decides, with a number below n, what became of
    /// each thing that was not synced.
    #[must_use]
    pub fn crash(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let state = self.lock();
        let mut after = State { names: state.durable_names.clone(), ..State::default() };
        for change in &state.changes {
            if choose(2) == 1 {
                change.apply(&mut after.names);
            }
        }
        after.files = state.files.iter().map(|content| content.crash(choose)).collect();
        after.durable_names = after.names.clone();
        Self(Arc::new(Mutex::new(after)))
    }

    /// How many things are not synced: changes of names, and sectors that differ from what the device holds.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        let state = self.lock();
        let sectors = state.files.iter().map(|content| content.unsynced().count());
        state.changes.len() + sectors.sum::<usize>()
    }

    /// The disk after a power failure. `reached` says of each thing that was not synced, by its number, whether it got
    /// to the device.
    #[must_use]
    pub fn crash_with(&self, mut reached: impl FnMut(usize) -> bool) -> Self {
        let state = self.lock();
        let mut after = State { names: state.durable_names.clone(), ..State::default() };
        let mut number = 0;
        let mut next = || {
            number += 1;
            reached(number - 1)
        };
        for change in &state.changes {
            if next() {
                change.apply(&mut after.names);
            }
        }
        for content in &state.files {
            let mut kept = Content { device: content.device.clone(), ..Content::default() };
            kept.cached.clone_from(&content.cached);
            for sector in content.unsynced() {
                if next() {
                    kept.reach_device(sector);
                }
            }
            kept.cached.clone_from(&kept.device);
            after.files.push(kept);
        }
        after.durable_names = after.names.clone();
        Self(Arc::new(Mutex::new(after)))
    }

    /// Flips bits of a byte, on the device and in the cache. Whether there is such a byte.
    pub fn flip(&self, name: &str, place: usize, bits: u8) -> bool {
        let mut state = self.lock();
        let Ok((_, content)) = state.file(name) else { return false };
        for side in [&mut content.cached, &mut content.device] {
            match side.get_mut(place) {
                Some(byte) => *byte ^= bits,
                None => return false,
            }
        }
        true
    }

    /// A copy to try something on. Faults are not copied.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut state = self.lock().clone();
        (state.fault, state.off) = (None, false);
        Self(Arc::new(Mutex::new(state)))
    }

    /// A file's bytes as readers see them; `None` if there is no such file.
    #[must_use]
    pub fn bytes_of(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = *state.names.get(name)?;
        Some(state.files.get(file)?.cached.clone())
    }

    /// Puts a file there, durable, in place of one of that name.
    pub fn put(&self, name: &str, content: &[u8]) {
        let mut state = self.lock();
        let file = state.files.len();
        state.files.push(Content {
            cached: content.into(),
            device: content.into(),
            dirty: BTreeSet::new(),
        });
        state.names.insert(name.into(), file);
        state.durable_names.insert(name.into(), file);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a disk has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fullness {
    /// New files fail with `ENOSPC`.
    Full,
    /// New files can be made.
    Room,
}

impl State {
    /// Counts a call and says which fault strikes it, if any.
    fn call(&mut self) -> io::Result<Option<Fault>> {
        if self.off {
            return Err(Errno::IO.into());
        }
        self.calls += 1;
        match self.fault {
            Some((call, Fault::Refused)) if call == self.calls => Err(Errno::IO.into()),
            Some((call, Fault::Interrupted)) if call == self.calls => Err(Errno::INTR.into()),
            Some((call, fault)) if call == self.calls => {
                self.off = fault == Fault::PowerFails;
                Ok(Some(fault))
            }
            _ => Ok(None),
        }
    }

    fn file(&mut self, name: &str) -> io::Result<(usize, &mut Content)> {
        let missing = || io::Error::from(Errno::NOENT);
        let file = *self.names.get(name).ok_or_else(missing)?;
        Ok((file, self.files.get_mut(file).ok_or_else(missing)?))
    }

    fn create(&mut self, name: &str, content: Content) -> usize {
        let file = self.files.len();
        self.files.push(content);
        self.change(Change::Created(name.into(), file));
        file
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Created(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Renamed(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Removed(name) => {
                names.remove(name);
            }
        }
    }
}

impl Disk for SimulatedDisk {
    fn path(&self, name: &str) -> PathBuf {
        Path::new("simulated").join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn read(&self, name: &str, source: Source) -> io::Result<AlignedBuffer> {
        let mut state = self.lock();
        let (_, content) = state.file(name)?;
        let mut bytes = content.cached.clone();
        if source == Source::Device {
            // A direct read finds what is dirty, for that is written back first. What a failed sync
            // left clean it does not find.
            for (block, shown) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
                let held = content.device.get(block * BLOCK_BYTES..).unwrap_or_default();
                if let Some(held) = held.get(..shown.len())
                    && !content.dirty.contains(&block)
                {
                    shown.copy_from_slice(held);
                }
            }
        }
        let mut buffer = AlignedBuffer::blocks_of(&bytes);
        buffer.truncate(bytes.len());
        Ok(buffer)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(bytes(self.lock().file(name)?.1.cached.len()))
    }

    fn read_part(
        &self,
        name: &str,
        offset: u64,
        length: usize,
        source: Source,
    ) -> io::Result<AlignedBuffer> {
        let whole = self.read(name, source)?;
        let part = whole.get(index(offset)..).and_then(|rest| rest.get(..length));
        let part = part.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut buffer = AlignedBuffer::blocks_of(part);
        buffer.truncate(length);
        Ok(buffer)
    }

    fn free(&self) -> io::Result<u64> {
        let state = self.lock();
        Ok(if state.full { 0 } else { state.free.unwrap_or(u64::MAX) })
    }

    fn create_zeroed(&self, name: &str, length: u64, _fill: Fill<'_>) -> io::Result<()> {
        let mut state = self.lock();
        let fault = state.call()?;
        if state.names.contains_key(name) {
            return Err(Errno::EXIST.into());
        }
        let length = index(length);
        if state.full || fault.is_some() {
            let mut half = Content { cached: vec![0; length / 2], ..Content::default() };
            half.dirty.extend(0..half.cached.len() / BLOCK_BYTES);
            state.create(name, half);
            let full = state.full;
            return Err(if full { Errno::NOSPC } else { Errno::IO }.into());
        }
        let whole =
            Content { cached: vec![0; length], device: vec![0; length], dirty: BTreeSet::new() };
        state.create(name, whole);
        Ok(())
    }

    fn open(&self, name: &str, writes: Writes) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        let file = match state.file(name) {
            Ok((file, _)) => file,
            Err(_) if writes == Writes::Cached => {
                if state.call()?.is_some() {
                    return Err(Errno::IO.into());
                }
                state.create(name, Content::default())
            }
            Err(error) => return Err(error),
        };
        Ok(Box::new(SimulatedFile { disk: self.clone(), file, writes }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        let fault = state.call()?;
        let (file, _) = state.file(from)?;
        state.change(Change::Renamed(from.into(), to.into(), file));
        failed(fault)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        let fault = state.call()?;
        state.file(name)?;
        state.change(Change::Removed(name.into()));
        failed(fault)
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.lock();
        failed(state.call()?)?;
        state.changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

fn failed(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None => Ok(()),
        Some(Fault::CutShort) => Err(Errno::NOSPC.into()),
        Some(_) => Err(Errno::IO.into()),
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
    writes: Writes,
}

impl SimulatedFile {
    fn change(&self, change: impl FnOnce(&mut Content, Option<Fault>)) -> io::Result<()> {
        let mut state = self.disk.lock();
        let fault = state.call()?;
        let content = state.files.get_mut(self.file).ok_or(Errno::BADF)?;
        change(content, fault);
        failed(fault)
    }
}

impl DiskFile for SimulatedFile {
    fn write(&self, offset: u64, bytes: &AlignedBuffer) -> io::Result<()> {
        let durable = self.writes == Writes::Durable;
        let whole = |number: usize| number.is_multiple_of(BLOCK_BYTES);
        if durable && !(whole(index(offset)) && whole(bytes.len())) {
            return Err(Errno::INVAL.into());
        }
        let start = index(offset);
        let blocks = start / BLOCK_BYTES..(start + bytes.len()).div_ceil(BLOCK_BYTES);
        self.change(|content, fault| {
            let reaches = match fault {
                Some(Fault::CutShort) => bytes.len() / 2 / SECTOR_BYTES * SECTOR_BYTES,
                _ => bytes.len(),
            };
            content.write(start, bytes.get(..reaches).unwrap_or_default());
            match fault {
                None if durable => content.sync(blocks),
                Some(Fault::SyncFails) => content.dirty.retain(|block| !blocks.contains(block)),
                _ => {}
            }
        })
    }

    fn hurry(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.change(|content, fault| match fault {
            None => content.sync_all(),
            Some(Fault::SyncFails) => content.dirty.clear(),
            _ => {}
        })
    }
}

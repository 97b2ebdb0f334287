//! A disk of which one call fails, once. Only compiled for tests.

use super::{Disk, DiskFile, Fill, Source, Writes};
use crate::journal::buffer::AlignedBuffer;
use rustix::io::Errno;
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The calls of all disks that share it, and which of them fails.
#[derive(Clone)]
pub(super) struct Calls {
    made: Arc<AtomicU64>,
    fails: u64,
}

impl Calls {
    pub(super) fn failing_at(number: u64) -> Self {
        Self { made: Arc::default(), fails: number }
    }

    /// The disk whose calls are counted with these.
    pub(super) fn of(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(OneFails { disk, calls: self.clone() })
    }

    fn next(&self, what: &str, name: &str) -> io::Result<()> {
        if self.made.fetch_add(1, Ordering::SeqCst) + 1 != self.fails {
            return Ok(());
        }
        tracing::warn!(what, name, "a call to the disk that was to fail");
        Err(Errno::IO.into())
    }
}

struct OneFails {
    disk: Arc<dyn Disk>,
    calls: Calls,
}

struct FileOfIt {
    file: Box<dyn DiskFile>,
    name: String,
    calls: Calls,
}

impl Disk for OneFails {
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.calls.next("list", "")?;
        self.disk.list()
    }

    fn read(&self, name: &str, source: Source) -> io::Result<AlignedBuffer> {
        self.calls.next("read", name)?;
        self.disk.read(name, source)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.calls.next("length", name)?;
        self.disk.length(name)
    }

    fn read_part(
        &self,
        name: &str,
        offset: u64,
        length: usize,
        source: Source,
    ) -> io::Result<AlignedBuffer> {
        self.calls.next("read a part of", name)?;
        self.disk.read_part(name, offset, length, source)
    }

    fn free(&self) -> io::Result<u64> {
        self.calls.next("free room", "")?;
        self.disk.free()
    }

    fn create_zeroed(&self, name: &str, bytes: u64, fill: Fill<'_>) -> io::Result<()> {
        self.calls.next("create", name)?;
        self.disk.create_zeroed(name, bytes, fill)
    }

    fn open(&self, name: &str, writes: Writes) -> io::Result<Box<dyn DiskFile>> {
        self.calls.next("open", name)?;
        let file = self.disk.open(name, writes)?;
        Ok(Box::new(FileOfIt { file, name: name.into(), calls: self.calls.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.calls.next("rename", from)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.calls.next("remove", name)?;
        self.disk.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.calls.next("sync folder", "")?;
        self.disk.sync_folder()
    }
}

impl DiskFile for FileOfIt {
    fn write(&self, offset: u64, bytes: &AlignedBuffer) -> io::Result<()> {
        self.calls.next("write", &self.name)?;
        self.file.write(offset, bytes)
    }

    fn hurry(&self, offset: u64, length: u64) -> io::Result<()> {
        self.calls.next("hurry", &self.name)?;
        self.file.hurry(offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.calls.next("sync", &self.name)?;
        self.file.sync()
    }
}

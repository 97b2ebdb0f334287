//! A file that gets its name only when all of it is durable.
//!
//! The archive and the snapshots are written with it. Until it has its name, a crash leaves at most a file whose name
//! ends in `.tmp`, which the next writer of that name, or of the next snapshot, removes.

use super::{
    JournalError,
    buffer::{AlignedBuffer, bytes},
    disk::{Disk, DiskFile, Writes},
};
use std::io::{self, Write};

/// How much goes to the disk in one call. The device gets it at once, so that there is never so much to write that the
/// journal's next batch has to wait for it.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// How much may be on its way to the device before it is waited for: given gigabytes a second without a pause, a device
/// took 7.6 ms for a batch of the journal that else takes it 0.16.
const AHEAD_BYTES: u64 = 16 * 1024 * 1024;

/// The file while it is written. Dropped before [`NewFile::publish`], it is removed.
pub(super) struct NewFile<'a> {
    disk: &'a dyn Disk,
    name: String,
    file: Box<dyn DiskFile>,
    length: u64,
    synced: u64,
    published: bool,
}

/// The name of the file `name` while it is written.
fn tmp(name: &str) -> String {
    format!("{name}.tmp")
}

impl<'a> NewFile<'a> {
    /// Begins a file that will be called `name`.
    pub(super) fn begin(disk: &'a dyn Disk, name: &str) -> io::Result<Self> {
        match disk.remove(&tmp(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(&tmp(name), Writes::Cached)?;
        Ok(Self { disk, name: name.into(), file, length: 0, synced: 0, published: false })
    }

    /// Writes `content` behind what was written so far.
    pub(super) fn append(&mut self, content: &[u8]) -> io::Result<()> {
        for chunk in content.chunks(CHUNK_BYTES) {
            let mut buffer = AlignedBuffer::blocks_of(chunk);
            buffer.truncate(chunk.len());
            self.file.write(self.length, &buffer)?;
            self.file.hurry(self.length, bytes(chunk.len()))?;
            self.length += bytes(chunk.len());
            if self.length - self.synced >= AHEAD_BYTES {
                self.sync()?;
            }
        }
        Ok(())
    }

    /// What to tell of an error with the file.
    pub(super) fn failed(&self, action: &'static str, error: io::Error) -> JournalError {
        JournalError::io(action, self.disk.path(&self.name))(error)
    }

    /// How much was written.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Makes durable what was written, and says under which name it can be read until it is published.
    pub(super) fn finish(&mut self) -> io::Result<String> {
        self.sync()?;
        Ok(tmp(&self.name))
    }

    /// Gives the file its name. On return name and content are durable.
    pub(super) fn publish(mut self) -> io::Result<()> {
        self.sync()?;
        self.disk.rename(&tmp(&self.name), &self.name)?;
        self.published = true;
        self.disk.sync_folder()
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.synced < self.length {
            self.file.sync()?;
            self.synced = self.length;
        }
        Ok(())
    }
}

impl Write for NewFile<'_> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        match self.append(content) {
            Ok(()) => Ok(content.len()),
            // Who is told that will try again, and a part of it may have been written.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                Err(io::Error::other(error))
            }
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.disk.remove(&tmp(&self.name))
        {
            let file = self.disk.path(&tmp(&self.name));
            tracing::warn!(file = %file.display(), %error, "an unfinished file is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::simulated::{Fault, SimulatedDisk};

    #[test]
    fn a_long_file_is_waited_for_every_16_mib_and_when_it_is_finished() {
        let disk = SimulatedDisk::default();
        let mut file = NewFile::begin(&disk, "file").unwrap();
        let content = vec![7; 40 * 1024 * 1024];
        let before = disk.calls();
        file.append(&content).unwrap();
        assert_eq!(disk.calls() - before, 160 + 2, "pieces of 256 KiB, and the first 32 MiB");
        assert_eq!(disk.unsynced(), 1 + 8 * 1024 * 1024 / 512, "its name, and the last 8 MiB");
        file.finish().unwrap();
        assert_eq!((disk.calls() - before, disk.unsynced()), (160 + 3, 1));
        file.publish().unwrap();
        assert_eq!((disk.calls() - before, disk.unsynced()), (160 + 5, 0));
        assert_eq!(disk.bytes_of("file"), Some(content));
    }

    #[test]
    fn who_writes_to_a_file_is_not_told_to_try_again() {
        struct Interrupted;
        impl DiskFile for Interrupted {
            fn write(&self, _: u64, _: &AlignedBuffer) -> io::Result<()> {
                Err(io::ErrorKind::Interrupted.into())
            }

            fn hurry(&self, _: u64, _: u64) -> io::Result<()> {
                Ok(())
            }

            fn sync(&self) -> io::Result<()> {
                Ok(())
            }
        }
        let disk = SimulatedDisk::default();
        let mut file = NewFile::begin(&disk, "file").unwrap();
        file.write_all(b"half").unwrap();
        file.file = Box::new(Interrupted);
        assert_eq!(file.write_all(b"more").unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(disk.bytes_of("file.tmp"), Some(b"half".to_vec()));
    }

    #[test]
    fn a_file_that_is_not_published_has_a_name_that_says_so_and_leaves_nothing() {
        let disk = SimulatedDisk::default();
        let mut file = NewFile::begin(&disk, "file").unwrap();
        file.append(b"half").unwrap();
        assert_eq!(file.finish().unwrap(), "file.tmp");
        assert_eq!(disk.list().unwrap(), ["file.tmp"]);
        drop(file);
        assert!(disk.list().unwrap().is_empty());
        // What stands in the way is not written over.
        disk.put("file.tmp", b"a longer one that cannot be removed");
        disk.fail_at(1, Fault::Refused);
        assert!(NewFile::begin(&disk, "file").is_err());
    }
}

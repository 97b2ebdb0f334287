//! The door to the disk: every access of the journal to a file goes through [`Disk`].
//!
//! The trait exists because it has a test double: the simulated disk, which loses what was not
//! synced. The journal knows its files by name; the disk knows the folder. Nothing here knows what
//! the bytes mean.

#[cfg(feature = "fault-injection")]
mod failing;
#[cfg(feature = "fault-injection")]
pub mod faulty;
#[cfg(feature = "fault-injection")]
pub mod simulated;

use super::buffer::{AlignedBuffer, BLOCK_BYTES, bytes, index};
use rustix::{
    fs::{Advice, Mode, OFlags, fadvise, fstatvfs},
    io::Errno,
};
use std::{
    fs::{DirBuilder, File},
    io,
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The journal's folder. Names are plain file names in it.
pub trait Disk: Send + Sync {
    /// The whole path, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The file's whole content.
    fn read(&self, name: &str, source: Source) -> io::Result<AlignedBuffer>;

    /// How long the file is.
    fn length(&self, name: &str) -> io::Result<u64>;

    /// `length` bytes of the file, from `offset` on; fewer are an error.
    fn read_part(
        &self,
        name: &str,
        offset: u64,
        length: usize,
        source: Source,
    ) -> io::Result<AlignedBuffer>;

    /// How many bytes can still be written to the disk.
    fn free(&self) -> io::Result<u64>;

    /// Makes a file of `bytes` zeros. On return its content and size are durable and its blocks
    /// allocated; its name is not durable before [`Disk::sync_folder`]. Fails if the file exists;
    /// after an error a part of it may be left.
    fn create_zeroed(&self, name: &str, bytes: u64, fill: Fill<'_>) -> io::Result<()>;

    /// Opens a file for writing. One for [`Writes::Cached`] is made if it is missing.
    fn open(&self, name: &str, writes: Writes) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, at once or not at all; durable after [`Disk::sync_folder`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; durable after [`Disk::sync_folder`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// On return all names are durable.
    fn sync_folder(&self) -> io::Result<()>;
}

/// A file that is open for writing.
pub trait DiskFile: Send {
    /// Writes all bytes at `offset`. For [`Writes::Durable`] both are multiples of the block size,
    /// and on `Ok` the bytes are durable; on an error any part of them may be, now or later.
    fn write(&self, offset: u64, bytes: &AlignedBuffer) -> io::Result<()>;

    /// Has the device begin with bytes that were written for [`Writes::Cached`], and waits for nothing.
    fn hurry(&self, offset: u64, length: u64) -> io::Result<()>;

    /// On `Ok` whatever the file shows to readers is durable.
    fn sync(&self) -> io::Result<()>;
}

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Whatever the operating system shows.
    Cache,
    /// What is really on the device. After a failed sync the cache shows bytes as written that are
    /// not.
    Device,
}

/// How a new file is filled.
#[derive(Clone, Copy)]
pub enum Fill<'a> {
    /// As fast as the device can: somebody waits for the file.
    AtOnce,
    /// With a rest after each piece as long as this holds, so that half of the device is left to the batches. Only on the
    /// way past the cache, where a piece that was written is on the device.
    WithRestsWhile(&'a dyn Fn() -> bool),
}

/// What a returned write is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It is on the disk and survives a power failure.
    Durable,
    /// It survives the end of the process, not a power failure.
    Cached,
}

/// Whether to go past the page cache, which is faster for durable writes and surer for reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectIo {
    /// Where the file system can; else through the cache with an fdatasync after each write.
    WhereAvailable,
    /// Through the cache with an fdatasync after each write.
    Never,
}

/// A folder of the operating system.
pub struct RealDisk {
    folder: PathBuf,
    /// Open for life: a change of segments must not fail because somebody holds all descriptors. `None` for a folder
    /// that is not there, which is only read.
    handle: Option<File>,
    direct: DirectIo,
    told_fallback: AtomicBool,
}

/// How much is asked of the device at once, so that the journal's next batch never waits for long behind a reader.
const READ_BYTES: usize = 256 * 1024;

/// How much is written at once to fill a new file: little, since a batch that is written meanwhile may have to wait until
/// the device is done with it.
const FILL_BYTES: usize = 64 * 1024;

/// The longest rest after that. A device that takes longer is slow, and whoever waits for the file would wait twice.
const FILL_REST_MAX: Duration = Duration::from_millis(1);

impl RealDisk {
    /// The disk door of `folder`, which is made (mode 0700, its name durable) if it is missing.
    pub fn open(folder: &Path, direct: DirectIo) -> io::Result<Self> {
        create_folder(folder)?;
        Self::of_existing(folder, direct)
    }

    /// The disk door of a folder, for reading; makes nothing. One that is not there is empty.
    pub fn of_existing(folder: &Path, direct: DirectIo) -> io::Result<Self> {
        let handle = match File::open(folder) {
            Ok(handle) => Some(handle),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let told_fallback = AtomicBool::new(false);
        Ok(Self { folder: folder.into(), handle, direct, told_fallback })
    }

    /// Opens with `O_DIRECT` and `extra` where that works, else without; says which it was.
    fn open_file(&self, name: &str, flags: OFlags, extra: OFlags) -> io::Result<(File, Route)> {
        let open = |flags| {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::open(self.path(name), flags | OFlags::CLOEXEC, mode).map(File::from)
        };
        if self.direct == DirectIo::WhereAvailable {
            match open(flags | extra | OFlags::DIRECT) {
                Ok(file) => return Ok((file, Route::Direct)),
                Err(Errno::INVAL) => self.tell_fallback(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((open(flags)?, Route::ThroughCache))
    }

    fn open_to_read(&self, name: &str, source: Source) -> io::Result<File> {
        if source == Source::Cache {
            return File::open(self.path(name));
        }
        let (file, route) = self.open_file(name, OFlags::RDONLY, OFlags::empty())?;
        if route == Route::ThroughCache {
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(file)
    }

    fn handle(&self) -> io::Result<&File> {
        self.handle.as_ref().ok_or(io::ErrorKind::NotFound.into())
    }

    fn tell_fallback(&self) {
        if !self.told_fallback.swap(true, Ordering::Relaxed) {
            tracing::info!(
                folder = %self.folder.display(),
                "no direct I/O on this file system; the journal writes through the cache and syncs"
            );
        }
    }
}

/// The way bytes take to the device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Direct,
    ThroughCache,
}

impl Disk for RealDisk {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        if self.handle.is_none() {
            return Ok(names);
        }
        for item in std::fs::read_dir(&self.folder)? {
            // A name that is not UTF-8 is none of the journal's.
            names.extend(item?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&self, name: &str, source: Source) -> io::Result<AlignedBuffer> {
        let file = self.open_to_read(name, source)?;
        let length = index(file.metadata()?.len());
        read_blocks(&file, 0, length)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.path(name))?.len())
    }

    fn read_part(
        &self,
        name: &str,
        offset: u64,
        length: usize,
        source: Source,
    ) -> io::Result<AlignedBuffer> {
        let file = self.open_to_read(name, source)?;
        if source == Source::Cache {
            let mut content = AlignedBuffer::zeroed(length);
            file.read_exact_at(&mut content, offset)?;
            return Ok(content);
        }
        // Whole blocks: the device has no other, and the cache lets go of no less.
        let before = index(offset % bytes(BLOCK_BYTES));
        let mut content =
            read_blocks(&file, offset - bytes(before), length.saturating_add(before))?;
        content.copy_within(before.., 0);
        content.truncate(length);
        Ok(content)
    }

    fn free(&self) -> io::Result<u64> {
        let space = fstatvfs(self.handle()?)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn create_zeroed(&self, name: &str, length: u64, fill: Fill<'_>) -> io::Result<()> {
        // Not the last bytes of the file system, to give them back a moment later.
        if self.free()? < length {
            return Err(Errno::NOSPC.into());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let (file, _) = self.open_file(name, flags, OFlags::empty())?;
        let zeros = AlignedBuffer::zeroed(FILL_BYTES);
        let mut offset = 0;
        while offset < length {
            let count = (length - offset).min(bytes(FILL_BYTES));
            let begun = Instant::now();
            file.write_all_at(zeros.get(..index(count)).unwrap_or_default(), offset)?;
            offset += count;
            if let Fill::WithRestsWhile(may_rest) = fill
                && may_rest()
            {
                thread::sleep(begun.elapsed().min(FILL_REST_MAX));
            }
        }
        file.sync_all()
    }

    fn open(&self, name: &str, writes: Writes) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(match writes {
            Writes::Cached => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                RealFile {
                    file: rustix::fs::open(self.path(name), flags, mode)?.into(),
                    sync_after_write: false,
                }
            }
            Writes::Durable => {
                let (file, route) = self.open_file(name, OFlags::WRONLY, OFlags::DSYNC)?;
                RealFile { file, sync_after_write: route == Route::ThroughCache }
            }
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.handle()?.sync_all()
    }
}

/// Reads `length` bytes from `offset`, a multiple of the block size, on.
fn read_blocks(file: &File, offset: u64, length: usize) -> io::Result<AlignedBuffer> {
    // Direct reads want whole blocks, so the last one may ask for bytes past the end.
    let mut buffer = AlignedBuffer::zeroed(length.next_multiple_of(BLOCK_BYTES));
    let mut read = 0;
    while read < length {
        let end = buffer.len().min(read.saturating_add(READ_BYTES));
        let rest = buffer.get_mut(read..end).unwrap_or_default();
        match file.read_at(rest, offset.saturating_add(bytes(read))) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(length);
    Ok(buffer)
}

struct RealFile {
    file: File,
    /// Without `O_DSYNC` a write is durable only after an fdatasync.
    sync_after_write: bool,
}

impl DiskFile for RealFile {
    fn write(&self, offset: u64, bytes: &AlignedBuffer) -> io::Result<()> {
        // One pwrite; goes on after a signal or a short write.
        self.file.write_all_at(bytes, offset)?;
        if self.sync_after_write {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn hurry(&self, offset: u64, length: u64) -> io::Result<()> {
        // The pages are dirty, so they are not dropped: their writing begins.
        Ok(fadvise(&self.file, offset, NonZeroU64::new(length), Advice::DontNeed)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Makes the folder and those above it, mode 0700, and their names durable. One that exists is left
/// as it is.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    create_folder(above(folder))?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result?,
    }
    File::open(above(folder))?.sync_all()
}

/// The folder that `path` stands in.
pub(super) fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, os::unix::fs::PermissionsExt, sync::Barrier, thread};

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_on_the_device_and_nobody_elses_business() {
        let folder = tempfile::tempdir().unwrap();
        for direct in [DirectIo::WhereAvailable, DirectIo::Never] {
            let path = folder.path().join(format!("{direct:?}/journal"));
            let disk = RealDisk::open(&path, direct).unwrap();
            disk.create_zeroed("file", 3 * 4096, Fill::AtOnce).unwrap();
            let file = disk.open("file", Writes::Durable).unwrap();
            file.write(4096, &AlignedBuffer::blocks_of(&[7; 4096])).unwrap();
            file.sync().unwrap();
            for source in [Source::Device, Source::Cache] {
                let content = disk.read("file", source).unwrap();
                assert_eq!(content.len(), 3 * 4096);
                assert!(content[4096..8192].iter().all(|byte| *byte == 7));
                for (offset, length) in [(4096, 4096), (4096, 100), (4100, 5000), (0, 12_288)] {
                    let part = disk.read_part("file", offset, length, source).unwrap();
                    let start = usize::try_from(offset).unwrap();
                    assert_eq!(*part, content[start..start + length], "{offset} {length}");
                }
                assert!(disk.read_part("file", 8192, 4097, source).is_err(), "past the end");
            }
            assert_eq!((mode(&path), mode(&disk.path("file"))), (0o700, 0o600));
            let mut note = AlignedBuffer::blocks_of(&[1, 2, 3]);
            note.truncate(3);
            disk.open("note", Writes::Cached).unwrap().write(0, &note).unwrap();
            assert_eq!(*disk.read("note", Source::Device).unwrap(), [1, 2, 3]);
            assert_eq!(mode(&disk.path("note")), 0o600);
        }
    }

    #[test]
    fn names_change_and_a_file_that_exists_is_never_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path(), DirectIo::WhereAvailable).unwrap();
        disk.create_zeroed("a", 4096, Fill::AtOnce).unwrap();
        let again = disk.create_zeroed("a", 4096, Fill::AtOnce).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.length("a").unwrap(), 4096, "it is left as it is");
        for length in [0, 4096, bytes(FILL_BYTES), bytes(FILL_BYTES) * 2 + 4096] {
            let asked = Cell::new(0);
            let may_rest = || {
                asked.set(asked.get() + 1);
                asked.get() < 2
            };
            for fill in [Fill::AtOnce, Fill::WithRestsWhile(&may_rest)] {
                disk.create_zeroed("zeros", length, fill).unwrap();
                assert_eq!(disk.length("zeros").unwrap(), length);
                disk.remove("zeros").unwrap();
            }
            assert_eq!(asked.get(), length.div_ceil(bytes(FILL_BYTES)), "after each piece");
        }
        disk.rename("a", "b").unwrap();
        disk.sync_folder().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        disk.remove("b").unwrap();
        assert!(disk.list().unwrap().is_empty());
    }

    #[test]
    fn a_folder_that_is_missing_is_empty_and_one_that_cannot_be_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let missing = RealDisk::of_existing(&place.path().join("x"), DirectIo::Never).unwrap();
        assert!(missing.list().unwrap().is_empty());
        assert_eq!(missing.free().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(missing.sync_folder().unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = place.path().join("file");
        File::create(&file).unwrap();
        let within = file.join("x");
        assert!(RealDisk::of_existing(&within, DirectIo::Never).is_err(), "it is no folder");
        assert!(create_folder(&within).is_err());
        assert_eq!(
            (above(Path::new("a/x")), above(Path::new("x"))),
            (Path::new("a"), Path::new("."))
        );
    }

    #[test]
    fn what_there_is_no_room_for_is_not_even_begun() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path(), DirectIo::Never).unwrap();
        // No file can be begun in a folder that is not there.
        let begin =
            |length| disk.create_zeroed("missing/file", length, Fill::AtOnce).unwrap_err().kind();
        assert_eq!(begin(4096), io::ErrorKind::NotFound);
        assert_eq!(begin(u64::MAX), io::ErrorKind::StorageFull);
    }

    #[test]
    fn whoever_makes_the_same_folder_at_the_same_time_has_it() {
        let place = tempfile::tempdir().unwrap();
        for round in 0..100 {
            let folder = place.path().join(format!("{round}/journal"));
            let all = Barrier::new(4);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        all.wait();
                        create_folder(&folder).unwrap();
                        assert!(folder.is_dir());
                    });
                }
            });
        }
    }
}

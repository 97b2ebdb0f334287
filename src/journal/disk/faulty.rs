//! Faults for tests of the real program: a real disk that fails when it is told to.
//!
//! Only compiled for tests. The environment variable `STRONGROOM_FAULT` says which fault:
//!
//! | value | what fails in the journal's folder |
//! |---|---|
//! | `sync-fails-after:N` | the Nth durable write of the process and all after it, with `EIO` |
//! | `writes-lost-after:N` | the Nth durable write and every write after it is reported as done and is not |
//! | `write-panics-after:N` | the Nth durable write of the process panics, as a bug would |
//! | `write-hangs-while:PATH` | a durable write waits while the file `PATH` exists |
//! | `read-hangs-while:PATH` | a read from the device waits while the file `PATH` exists |
//! | `read-panics-while:PATH` | a read from the device panics, as a bug would, while the file `PATH` exists |
//! | `full-while:PATH` | making a new segment, with `ENOSPC`, while the file `PATH` exists |
//! | `call-fails:N` | the Nth call of any kind to any of the three folders, with `EIO`, and no other |

use super::{Disk, DiskFile, Fill, Source, Writes, failing::Calls};
use crate::journal::{buffer::AlignedBuffer, folders::Folders};
use rustix::io::Errno;
use std::{
    env, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The environment variable that names the fault.
pub const VARIABLE: &str = "STRONGROOM_FAULT";

/// `folders` with the fault that the environment asks for in the journal's; as they are if it asks for none. A value
/// that names no fault is an error, so that no test passes because its fault was misspelt.
pub fn faults_from_environment(folders: Folders) -> io::Result<Folders> {
    match env::var(VARIABLE) {
        Ok(value) => {
            if let Some(number) = value.strip_prefix("call-fails:") {
                let calls = Calls::failing_at(number.parse().map_err(io::Error::other)?);
                let Folders { journal, archive, snapshots } = folders;
                let [journal, archive, snapshots] =
                    [journal, archive, snapshots].map(|disk| calls.of(disk));
                return Ok(Folders { journal, archive, snapshots });
            }
            let journal = with_fault(Arc::clone(&folders.journal), &value)?;
            Ok(Folders { journal, ..folders })
        }
        Err(env::VarError::NotPresent) => Ok(folders),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn with_fault(disk: Arc<dyn Disk>, value: &str) -> io::Result<Arc<dyn Disk>> {
    let fault = match value.split_once(':') {
        Some(("sync-fails-after", count)) => {
            let count = count.parse().map_err(io::Error::other)?;
            Fault::SyncFails(Arc::new(Countdown(AtomicU64::new(count))))
        }
        Some(("writes-lost-after", count)) => {
            let count = count.parse().map_err(io::Error::other)?;
            Fault::WritesLost(Arc::new(Countdown(AtomicU64::new(count))))
        }
        Some(("write-panics-after", count)) => {
            let count = count.parse().map_err(io::Error::other)?;
            Fault::WritePanics(Arc::new(Countdown(AtomicU64::new(count))))
        }
        Some(("write-hangs-while", path)) => Fault::WriteHangsWhile(path.into()),
        Some(("read-hangs-while", path)) => Fault::ReadHangsWhile(path.into()),
        Some(("read-panics-while", path)) => Fault::ReadPanicsWhile(path.into()),
        Some(("full-while", path)) => Fault::FullWhile(path.into()),
        _ => return Err(io::Error::other(format!("{VARIABLE}={value} is no fault"))),
    };
    Ok(Arc::new(FaultyDisk { disk, fault }))
}

struct FaultyDisk {
    disk: Arc<dyn Disk>,
    fault: Fault,
}

enum Fault {
    SyncFails(Arc<Countdown>),
    WritesLost(Arc<Countdown>),
    WritePanics(Arc<Countdown>),
    WriteHangsWhile(PathBuf),
    ReadHangsWhile(PathBuf),
    ReadPanicsWhile(PathBuf),
    FullWhile(PathBuf),
}

/// How many durable writes are left, the failing one included.
struct Countdown(AtomicU64);

impl Countdown {
    fn pass(&self) -> io::Result<()> {
        let left = |left: u64| (left > 1).then(|| left - 1);
        let passed = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        passed.map(drop).map_err(|_| Errno::IO.into())
    }
}

impl Disk for FaultyDisk {
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn read(&self, name: &str, source: Source) -> io::Result<AlignedBuffer> {
        self.fault.before_read(source);
        self.disk.read(name, source)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.disk.length(name)
    }

    fn read_part(
        &self,
        name: &str,
        offset: u64,
        length: usize,
        source: Source,
    ) -> io::Result<AlignedBuffer> {
        self.fault.before_read(source);
        self.disk.read_part(name, offset, length, source)
    }

    fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }

    fn create_zeroed(&self, name: &str, bytes: u64, fill: Fill<'_>) -> io::Result<()> {
        match &self.fault {
            Fault::FullWhile(path) if path.exists() => Err(Errno::NOSPC.into()),
            _ => self.disk.create_zeroed(name, bytes, fill),
        }
    }

    fn open(&self, name: &str, writes: Writes) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(name, writes)?;
        let Some(before_write) = self.fault.before_write(writes) else { return Ok(file) };
        Ok(Box::new(FaultyFile { file, before_write }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.disk.sync_folder()
    }
}

/// Says whether a write is to be done; one that is not is reported as done all the same.
type BeforeWrite = Box<dyn Fn() -> io::Result<bool> + Send>;

fn wait_while(path: &Path) {
    while path.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Fault {
    fn before_read(&self, source: Source) {
        match (self, source) {
            (Self::ReadHangsWhile(path), Source::Device) => wait_while(path),
            (Self::ReadPanicsWhile(path), Source::Device) => {
                assert!(!path.exists(), "a seeded bug in a read");
            }
            _ => {}
        }
    }

    /// What goes wrong with the writes of a file, if anything does.
    fn before_write(&self, writes: Writes) -> Option<BeforeWrite> {
        match (self, writes) {
            (Self::SyncFails(left), Writes::Durable) => {
                let left = Arc::clone(left);
                Some(Box::new(move || left.pass().map(|()| true)))
            }
            (Self::WritesLost(left), Writes::Durable) => {
                let left = Arc::clone(left);
                Some(Box::new(move || Ok(left.pass().is_ok())))
            }
            (Self::WritesLost(left), Writes::Cached) => {
                let left = Arc::clone(left);
                Some(Box::new(move || Ok(left.0.load(Ordering::SeqCst) > 1)))
            }
            (Self::WritePanics(left), Writes::Durable) => {
                let left = Arc::clone(left);
                Some(Box::new(move || {
                    assert!(left.pass().is_ok(), "a seeded bug in a write");
                    Ok(true)
                }))
            }
            (Self::WriteHangsWhile(path), Writes::Durable) => {
                let path = path.clone();
                Some(Box::new(move || {
                    wait_while(&path);
                    Ok(true)
                }))
            }
            (
                Self::SyncFails(_) | Self::WritePanics(_) | Self::WriteHangsWhile(_),
                Writes::Cached,
            )
            | (Self::FullWhile(_) | Self::ReadHangsWhile(_) | Self::ReadPanicsWhile(_), _) => None,
        }
    }
}

struct FaultyFile {
    file: Box<dyn DiskFile>,
    before_write: BeforeWrite,
}

impl DiskFile for FaultyFile {
    fn write(&self, offset: u64, bytes: &AlignedBuffer) -> io::Result<()> {
        if (self.before_write)()? { self.file.write(offset, bytes) } else { Ok(()) }
    }

    fn hurry(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.hurry(offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{DirectIo, RealDisk};

    #[test]
    fn durable_writes_fail_from_the_nth_on() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::open(folder.path(), DirectIo::WhereAvailable).unwrap());
        let disk = with_fault(disk, "sync-fails-after:3").unwrap();
        disk.create_zeroed("file", 4096, Fill::AtOnce).unwrap();
        let file = disk.open("file", Writes::Durable).unwrap();
        let block = AlignedBuffer::zeroed(4096);
        let results = [(); 4].map(|()| file.write(0, &block).is_ok());
        assert_eq!(results, [true, true, false, false]);
    }

    #[test]
    fn the_disk_is_full_while_the_file_exists() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::open(folder.path(), DirectIo::WhereAvailable).unwrap());
        let sign = folder.path().join("full");
        let disk = with_fault(disk, &format!("full-while:{}", sign.display())).unwrap();
        std::fs::write(&sign, "").unwrap();
        let full = disk.create_zeroed("segment", 4096, Fill::AtOnce).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        std::fs::remove_file(&sign).unwrap();
        disk.create_zeroed("segment", 4096, Fill::AtOnce).unwrap();
    }

    #[test]
    fn a_misspelt_fault_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(folder.path(), DirectIo::Never).unwrap());
        for value in ["", "sync-fails", "sync-fails-after:x", "full:x"] {
            assert!(with_fault(Arc::clone(&disk), value).is_err(), "{value}");
        }
    }
}

//! The lock that keeps a second process out of the data folder.
//!
//! Taken first of all at a start and held for life. The operating system gives it back when the
//! process ends, however it ends, so it is never stale.

use super::{JournalError, disk::create_folder};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How often a lock that is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The data folder, held by this process until the value is dropped.
#[derive(Debug)]
pub struct DataLock {
    /// The lock lives as long as this file is open.
    _file: File,
}

impl DataLock {
    /// Takes `{folder}/LOCK`, making the folder if it is missing. Does not wait: held by another
    /// process is [`JournalError::Locked`].
    pub fn take(folder: &Path) -> Result<Self, JournalError> {
        prepare(folder)?;
        Self::try_take(folder)
    }

    fn try_take(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join("LOCK");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(JournalError::io("open", path.clone()))?;
        lock(&mut file, &path, FlockOperation::NonBlockingLockExclusive)?;
        name_holder(&mut file).map_err(JournalError::io("write", path))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock as [`Self::take`] does, waiting for another process to let go of it for as long as `patience`.
    pub fn take_within(folder: &Path, patience: Duration) -> Result<Self, JournalError> {
        prepare(folder)?;
        let began = Instant::now();
        let mut told = false;
        loop {
            match Self::try_take(folder) {
                Err(JournalError::Locked { holder, .. }) if began.elapsed() < patience => {
                    if !told {
                        tracing::info!(%holder, "waiting for the process that holds the data folder");
                        told = true;
                    }
                    thread::sleep(LOOK_AGAIN);
                }
                taken => return taken,
            }
        }
    }

    /// Keeps writers out for as long as the value lives, and makes and changes nothing: for whoever
    /// only reads, of whom there may be many. `None` if there is no lock, as in a copy without it.
    pub fn share(folder: &Path) -> Result<Option<Self>, JournalError> {
        let path = folder.join("LOCK");
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(JournalError::io("open", path)(error)),
        };
        lock(&mut file, &path, FlockOperation::NonBlockingLockShared)?;
        Ok(Some(Self { _file: file }))
    }
}

/// Sees to it that the folder is there, and the server's own.
fn prepare(folder: &Path) -> Result<(), JournalError> {
    create_folder(folder).map_err(JournalError::io("create", folder.into()))?;
    if let Err(error) = keep_to_oneself(folder) {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "others may list the data folder; no file in it can be read by them");
    }
    Ok(())
}

/// Takes the folder's content from all other users, if it was made by somebody else than the server.
fn keep_to_oneself(folder: &Path) -> io::Result<()> {
    let mut permissions = folder.metadata()?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(permissions.mode() & !0o077);
        std::fs::set_permissions(folder, permissions)?;
    }
    Ok(())
}

fn lock(file: &mut File, path: &Path, operation: FlockOperation) -> Result<(), JournalError> {
    match flock(&*file, operation) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            Err(JournalError::Locked { holder: holder(file).into(), file: path.into() })
        }
        Err(error) => Err(JournalError::io("lock", path.into())(error.into())),
    }
}

/// Leaves a note for the operator who finds the folder held.
fn name_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "process {}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut note = String::new();
    match file.take(100).read_to_string(&mut note) {
        Ok(_) if !note.trim().is_empty() => note.trim().into(),
        _ => "unnamed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let lock = DataLock::take(&data).unwrap();
        let refused = DataLock::take(&data).unwrap_err();
        assert!(matches!(refused, JournalError::Locked { .. }));
        let named = format!("process {}", std::process::id());
        assert!(refused.to_string().contains(&named), "{refused}");
        drop(lock);
        DataLock::take(&data).unwrap();
    }

    #[test]
    fn a_lock_is_waited_for_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let lock = DataLock::take(folder.path()).unwrap();
        let began = Instant::now();
        let refused = DataLock::take_within(folder.path(), 3 * LOOK_AGAIN).unwrap_err();
        assert!(matches!(refused, JournalError::Locked { .. }));
        assert!(began.elapsed() >= 3 * LOOK_AGAIN, "{:?}", began.elapsed());
        thread::scope(|scope| {
            let next =
                scope.spawn(|| DataLock::take_within(folder.path(), Duration::from_secs(60)));
            drop(lock);
            next.join().unwrap().unwrap();
        });
    }

    #[test]
    fn readers_share_the_folder_among_themselves_and_with_no_writer() {
        let folder = tempfile::tempdir().unwrap();
        assert!(DataLock::share(folder.path()).unwrap().is_none());
        assert!(!folder.path().join("LOCK").exists(), "a reader makes nothing");
        let file = folder.path().join("file");
        File::create(&file).unwrap();
        assert!(DataLock::share(&file).is_err(), "it is no folder");
        let writer = DataLock::take(folder.path()).unwrap();
        assert!(matches!(DataLock::share(folder.path()), Err(JournalError::Locked { .. })));
        drop(writer);
        let readers = [(); 2].map(|()| DataLock::share(folder.path()).unwrap().unwrap());
        assert!(matches!(DataLock::take(folder.path()), Err(JournalError::Locked { .. })));
        drop(readers);
        DataLock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_list_is_closed_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let mode = || folder.path().metadata().unwrap().permissions().mode() & 0o777;
        for (found, left) in [(0o755, 0o700), (0o701, 0o700), (0o500, 0o500)] {
            std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(found)).unwrap();
            drop(DataLock::take(folder.path()).unwrap());
            assert_eq!(mode(), left);
        }
    }

    #[test]
    fn a_holder_that_left_no_note_is_unnamed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("LOCK"), "\n").unwrap();
        let _reader = DataLock::share(folder.path()).unwrap().unwrap();
        let refused = DataLock::take(folder.path()).unwrap_err();
        assert!(refused.to_string().contains("unnamed"), "{refused}");
    }
}

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
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

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
        let path = folder.join("LOCK");
        create_folder(folder).map_err(JournalError::io("create", folder.into()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(JournalError::io("open", path.clone()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(JournalError::Locked { holder: holder(&mut file).into(), file: path });
            }
            Err(error) => return Err(JournalError::io("lock", path)(error.into())),
        }
        name_holder(&mut file).map_err(JournalError::io("write", path))?;
        Ok(Self { _file: file })
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
}

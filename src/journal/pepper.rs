//! `data/pepper`: the secret without which the digests of API keys in the journal are worth nothing. It stands beside the
//! journal and never in it, in a file of its own that only its owner can read, and is part of no backup.

use super::JournalError;
use rand::{TryRng, rngs::SysRng};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

const FILE: &str = "pepper";
const FILE_NEW: &str = "pepper.new";
/// For its owner alone.
const MODE: u32 = 0o600;

/// What is mixed into every digest of a key. It has no `Debug`, so that it is logged by nobody.
pub struct Pepper {
    bytes: [u8; 32],
    /// Whether it was made just now, since there was none.
    pub is_new: bool,
}

impl Pepper {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }
}

/// The pepper of a data folder, if it has one.
fn read(data: &Path) -> Result<Option<Pepper>, JournalError> {
    let path = data.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(JournalError::io("read", path.clone()))?,
    };
    let mut bytes = [0; 32];
    let wrong = |_| {
        let why = "it must hold 64 hexadecimal digits; without it no key that was made by the API opens anything: \
                   put the right one back";
        JournalError::io("read", path.clone())(io::Error::new(io::ErrorKind::InvalidData, why))
    };
    hex::decode_to_slice(text.trim_end(), &mut bytes).map_err(wrong)?;
    // Whoever put it back from elsewhere may have left it open to others.
    fs::set_permissions(&path, Permissions::from_mode(MODE))
        .map_err(JournalError::io("close to others", path))?;
    Ok(Some(Pepper { bytes, is_new: false }))
}

/// The pepper of a data folder, which is made if there is none. On return it is durable.
///
/// # Errors
/// It is there and can't be read, or is not what was written; or it can't be written, or the system gives no random bytes.
pub fn read_or_make(data: &Path) -> Result<Pepper, JournalError> {
    if let Some(pepper) = read(data)? {
        return Ok(pepper);
    }
    let (path, new) = (data.join(FILE), data.join(FILE_NEW));
    let make = || {
        let mut bytes = [0; 32];
        SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(MODE).open(&new)?;
        writeln!(file, "{}", hex::encode(bytes))?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(data)?.sync_all()?;
        Ok(Pepper { bytes, is_new: true })
    };
    make().map_err(JournalError::io("make", path.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pepper_is_made_once_for_its_owner_alone_and_a_broken_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap().is_none());
        let made = read_or_make(folder.path()).unwrap();
        let again = read_or_make(folder.path()).unwrap();
        assert_eq!(made.expose(), again.expose());
        assert_eq!((made.is_new, again.is_new), (true, false));
        let path = folder.path().join(FILE);
        assert_eq!(fs::read_to_string(&path).unwrap(), hex::encode(made.expose()) + "\n");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(read_or_make(other.path()).unwrap().expose(), made.expose());
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        read_or_make(folder.path()).unwrap();
        assert_eq!(mode(), 0o600, "it is closed again");
        fs::write(&path, "not a secret").unwrap();
        assert!(read_or_make(folder.path()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a secret", "it is not written over");
        fs::write(&path, [0xff]).unwrap();
        assert!(read_or_make(folder.path()).is_err());
        assert_eq!(fs::read(&path).unwrap(), [0xff], "nor one that is no text");
    }
}

//! A data folder that gets its name only when all that is to be in it has been proven.
//!
//! Until then it is called `{name}.partial`, beside its place, so that nobody serves from half a restore.

use super::disk::{above, create_folder};
use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// The folder while it is filled. Dropped before [`NewFolder::publish`], it is removed with all that is in it.
pub struct NewFolder {
    name: PathBuf,
    partial: PathBuf,
    published: bool,
}

impl NewFolder {
    /// Begins the folder `name`. An empty one of this name is removed.
    ///
    /// # Errors
    /// [`io::ErrorKind::DirectoryNotEmpty`] or [`io::ErrorKind::NotADirectory`] if something is there;
    /// [`io::ErrorKind::AlreadyExists`] if an unfinished folder is left from a process that was killed.
    pub fn begin(name: &Path) -> io::Result<Self> {
        match fs::remove_dir(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let partial = Self::partial(name);
        create_folder(above(name))?;
        DirBuilder::new().mode(0o700).create(&partial)?;
        Ok(Self { name: name.into(), partial, published: false })
    }

    /// What the folder `name` is called until it is finished.
    #[must_use]
    pub fn partial(name: &Path) -> PathBuf {
        let mut partial = OsString::from(name.components().as_path());
        partial.push(".partial");
        partial.into()
    }

    /// Where it is now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Gives the folder its name. On return that is durable, as is what was synced in it.
    pub fn publish(mut self) -> io::Result<()> {
        File::open(&self.partial)?.sync_all()?;
        fs::rename(&self.partial, &self.name)?;
        self.published = true;
        File::open(above(&self.name))?.sync_all()
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_dir_all(&self.partial)
        {
            let folder = self.partial.display();
            tracing::warn!(%folder, %error, "an unfinished folder is left behind: remove it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_its_name_only_when_it_is_finished_and_leaves_nothing_otherwise() {
        let place = tempfile::tempdir().unwrap();
        let name = place.path().join("a/new/");
        let begun = NewFolder::begin(&name).unwrap();
        fs::write(begun.path().join("file"), "content").unwrap();
        assert!(!name.exists() && place.path().join("a/new.partial").is_dir());
        let twice = NewFolder::begin(&name).err().unwrap();
        assert_eq!(twice.kind(), io::ErrorKind::AlreadyExists);
        drop(begun);
        assert_eq!(fs::read_dir(place.path().join("a")).unwrap().count(), 0);
        // An empty folder gives way, one with something in it does not.
        fs::create_dir(&name).unwrap();
        let begun = NewFolder::begin(&name).unwrap();
        fs::write(begun.path().join("file"), "content").unwrap();
        begun.publish().unwrap();
        assert_eq!(fs::read(name.join("file")).unwrap(), b"content");
        let taken = NewFolder::begin(&name).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::DirectoryNotEmpty);
        let file = NewFolder::begin(&name.join("file")).err().unwrap();
        assert_eq!(file.kind(), io::ErrorKind::NotADirectory);
    }
}

//! A data folder that no server holds, opened for reading: what `verify`, `journal print` and `export` share.
//!
//! Nothing here makes or changes a file. While the folder is open no server starts on it: a batch in flight would look
//! like one that a crash cut off.

use crate::{
    config::Config,
    journal::{DataLock, DirectIo, Folders, JournalError, Reader},
};
use clap::Args;
use std::path::{Path, PathBuf};

/// Which data folder.
#[derive(Args)]
pub(super) struct Folder {
    /// Configuration file, for its `data_dir` [default: config.toml in the working directory, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder to read, instead of `data_dir`; no configuration is needed then.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data: Option<PathBuf>,
}

/// There is nothing to read in the folder: most likely it is not the one that was meant.
#[derive(Debug, thiserror::Error)]
#[error("there is no journal in {}: name the data folder with --data", folder.display())]
pub(super) struct NoJournal {
    folder: PathBuf,
}

/// The folder, held so that nobody writes to it.
pub(super) struct Offline {
    folder: PathBuf,
    folders: Folders,
    _held: Option<DataLock>,
}

impl Folder {
    /// Opens the folder for as long as the value lives.
    pub(super) fn open(&self) -> anyhow::Result<Offline> {
        let folder = match &self.data {
            Some(folder) => folder.clone(),
            None => Config::load(self.config.as_deref(), std::env::vars_os())?.data_dir,
        };
        let journal = folder.join("journal");
        if !journal.is_dir() {
            return Err(NoJournal { folder }.into());
        }
        let held = DataLock::share(&folder)?;
        let folders = Folders::of_existing(&folder, DirectIo::WhereAvailable)
            .map_err(JournalError::io("open", journal))?;
        Ok(Offline { folder, folders, _held: held })
    }
}

impl Offline {
    /// Which folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads from the first batch on. Every batch is checked against the chain of hashes before it is given out; the
    /// error behind the last good one is [`crate::journal::JournalError::Damaged`].
    pub(super) fn read(&self) -> anyhow::Result<Reader> {
        let reader = Reader::open(&self.folders)?;
        Ok(reader.ok_or_else(|| NoJournal { folder: self.folder.clone() })?)
    }
}

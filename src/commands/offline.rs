//! A data folder that is only read: what `verify`, `journal print`, `export`, `backup`, `restore` and `serve --read-only`
//! share.
//!
//! Nothing here makes or changes a file. If no server holds the folder, none starts on it while it is open: a batch in
//! flight would look like one that a crash cut off. If one does, it is read up to what was durable when it was opened.

use crate::{
    config::Config,
    domain::{id::Sequence, time::Timestamp},
    journal::{DataLock, DirectIo, Folders, JournalError, Reader, backup::durable_through},
};
use clap::Args;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

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

/// The folder is most likely not the one that was meant. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongFolder {
    /// There is nothing to read in it.
    #[error("there is no journal in {}: name the data folder with --data", folder.display())]
    NoJournal {
        /// Which folder.
        folder: PathBuf,
    },
    /// What is to be kept apart from the data would lie among it.
    #[error(
        "{} lies in the data folder {}, and would be lost with it: name a folder elsewhere, best on another disk",
        folder.display(), data.display()
    )]
    Inside {
        /// Which folder.
        folder: PathBuf,
        /// Where it must not lie.
        data: PathBuf,
    },
    /// Something is in the way.
    #[error("{} is not empty, and nothing is ever written over: name a folder that does not exist", folder.display())]
    NotEmpty {
        /// Which folder.
        folder: PathBuf,
    },
    /// A server would write there, and the next backup would be refused.
    #[error(
        "{0} is a backup, and a server writes to its folder: make a data folder of it with `strongroom restore {0} --data \
         NEW`, or look at it with `serve --read-only`",
        folder.display()
    )]
    Backup {
        /// Which folder.
        folder: PathBuf,
    },
    /// A process was killed over it, or another one is at work there.
    #[error(
        "{} is there already: another restore is at work, or one was cut off; if none runs, remove it and start again",
        folder.display()
    )]
    Unfinished {
        /// Which folder.
        folder: PathBuf,
    },
}

/// A folder whose journal is read.
pub(super) struct Offline {
    folder: PathBuf,
    folders: Folders,
    /// The last entry to read: beyond it a server may be writing.
    through: Sequence,
    held: Option<DataLock>,
}

impl Folder {
    /// Opens the folder for as long as the value lives.
    pub(super) fn open(&self) -> anyhow::Result<Offline> {
        Offline::open(match &self.data {
            Some(folder) => folder.clone(),
            None => Config::load(self.config.as_deref(), std::env::vars_os())?.data_dir,
        })
    }
}

impl Offline {
    /// Opens a folder for as long as the value lives. Says on stderr if a server holds it.
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Self> {
        let journal = folder.join("journal");
        if !journal.is_dir() {
            return Err(WrongFolder::NoJournal { folder }.into());
        }
        let held = DataLock::share(&folder);
        let folders = Folders::of_existing(&folder, DirectIo::WhereAvailable)
            .map_err(JournalError::io("open", journal))?;
        match held {
            Ok(held) => Ok(Self { folder, folders, through: Sequence::MAX, held }),
            Err(locked @ JournalError::Locked { .. }) => {
                let through = durable_through(&folders)?.ok_or(locked)?;
                let name = folder.display();
                // Whoever does not read it loses nothing.
                drop(writeln!(
                    io::stderr(),
                    "{name} is in use: reading it as it stood now, through entry {through}"
                ));
                Ok(Self { folder, folders, through, held: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A folder that this process holds.
    pub(super) fn own(folder: PathBuf, folders: Folders, lock: DataLock) -> Self {
        Self { folder, folders, through: Sequence::MAX, held: Some(lock) }
    }

    /// Lets a server start: what is wanted of the folder never changes any more.
    pub(super) fn let_go(&mut self) {
        self.held = None;
    }

    /// Which folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its files.
    pub(super) fn folders(&self) -> &Folders {
        &self.folders
    }

    /// The last entry that is read; [`Sequence::MAX`] if nobody writes, and all is.
    pub(super) fn through(&self) -> Sequence {
        self.through
    }

    /// Reads from the first batch on. Every batch is checked against the chain of hashes before it is given out; the
    /// error behind the last good one is [`crate::journal::JournalError::Damaged`].
    pub(super) fn read(&self) -> anyhow::Result<Reader> {
        let reader = Reader::follow(&self.folders, self.through)?;
        Ok(reader.ok_or_else(|| self.no_journal())?)
    }

    /// The error for a folder that holds none.
    pub(super) fn no_journal(&self) -> WrongFolder {
        WrongFolder::NoJournal { folder: self.folder.clone() }
    }
}

/// A place in the journal's time.
#[derive(Clone, Copy)]
pub(super) enum Moment {
    Sequence(Sequence),
    Time(Timestamp),
}

impl Moment {
    /// Whether it is not before the moment.
    pub(super) fn is_reached_by(self, sequence: Sequence, at: Timestamp) -> bool {
        match self {
            Self::Sequence(moment) => moment <= sequence,
            Self::Time(moment) => moment <= at,
        }
    }

    /// Whether it is not behind the moment.
    pub(super) fn holds(self, sequence: Sequence, at: Timestamp) -> bool {
        match self {
            Self::Sequence(moment) => sequence <= moment,
            Self::Time(moment) => at <= moment,
        }
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sequence(sequence) => write!(f, "entry {sequence}"),
            Self::Time(time) => time.fmt(f),
        }
    }
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(sequence) => Ok(Self::Sequence(sequence)),
            Err(_) => Timestamp::parse(text)
                .map(Self::Time)
                .ok_or("neither an entry's sequence nor a time such as 2026-11-22T15:04:05Z"),
        }
    }
}

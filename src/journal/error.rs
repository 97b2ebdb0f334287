//! What can go wrong with the journal, in words for the operator who is called at 3 a.m.
//!
//! Every message says what happened, where, and what to do; the caller adds only the exit code.

use crate::domain::id::Sequence;
use std::{io, path::PathBuf};

/// Why the journal could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Bytes that were acknowledged are no longer what was written, or files are missing. Nothing
    /// was changed on disk.
    #[error(
        "the journal is damaged: {what} (file {}, byte {offset}, entry {sequence} expected there). \
         Nothing was changed. Keep this folder as it is and go on from a backup (`strongroom \
         restore`); what that does not hold must be reconciled with the providers",
        file.display()
    )]
    Damaged {
        /// The file that is damaged, or whose successor is missing.
        file: PathBuf,
        /// Where in the file the first bad bytes stand.
        offset: u64,
        /// The first entry that cannot be read.
        sequence: Sequence,
        /// What is wrong there.
        what: Box<str>,
    },
    /// The operating system refused; on a write this leaves open what is on disk.
    #[error("cannot {action} {}: {cause}. Check the disk and the kernel's log, then start again: \
             every start checks the whole journal", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        file: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Another process holds the data folder.
    #[error("{} is held by another process ({holder}, or a command that only reads, which leaves \
             no name). Nobody may write a journal that another one reads or writes: stop that one \
             first, or use another data folder", file.display())]
    Locked {
        /// The lock's file.
        file: PathBuf,
        /// What the other process wrote into it about itself.
        holder: Box<str>,
    },
    /// There is no room for the next segment. Nothing was written, and the journal is well: try
    /// again later.
    #[error(
        "no room for the journal's next segment: {why}. Free space on its disk: a server that runs goes on by itself, one that does not start will then"
    )]
    NoSpace {
        /// What the operating system said when it was last tried.
        why: Box<str>,
    },
    /// The file was written by a release whose format this one cannot read.
    #[error("{} was written in another format: {what}. Start the release that wrote it, or a newer \
             one; nothing was changed", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// Which part of the format is unknown.
        what: Box<str>,
    },
    /// A snapshot could not be made. The journal is well, and the snapshots before are as they were.
    #[error(
        "no snapshot was made in {}: {why}. No money is touched; the next start reads more of the journal. Check the disk",
        folder.display()
    )]
    Snapshot {
        /// Where it was to be.
        folder: PathBuf,
        /// What was found wrong with what was written.
        why: Box<str>,
    },
    /// More than one batch may hold. Nothing was written.
    #[error("a batch or entry is too large for the journal: {bytes_max} bytes is the most")]
    TooLarge {
        /// The most there may be.
        bytes_max: usize,
    },
    /// An earlier write failed, so nothing may be appended before a recovery.
    #[error(
        "the journal takes no more entries because an earlier write failed: restart the server"
    )]
    Stopped,
    /// The options cannot work.
    #[error("the journal's options cannot work: {why}")]
    Options {
        /// Which, and why.
        why: Box<str>,
    },
}

impl JournalError {
    pub(crate) fn io(action: &'static str, file: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { action, file, cause }
    }
}

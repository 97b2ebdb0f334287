//! What the program can be told to do, one file a command. Results go to stdout, diagnostics to stderr.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | a finding or failure |
//! | 2 | wrong usage or configuration |
//! | 3 | the data is damaged: do not restart automatically |
//! | 4 | an I/O error or full disk: a restart may help |
//! | 5 | another process holds the data folder |

mod backup;
mod check_config;
mod demo;
pub mod export;
mod journal;
mod key;
mod listen;
mod offline;
mod read_only;
mod restore;
mod serve;
mod systemd;
mod verdict;
mod verify;

use crate::{
    app::Stopped,
    config::ConfigError,
    journal::{JournalError, backup::CopyError},
};
use anyhow::Context;
use clap::{Parser, Subcommand};
use offline::WrongFolder;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io;
use systemd::WrongSocket;

/// A payment core: charges once, books every cent twice, forgets nothing it has answered.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Take payments over HTTP (the default command).
    Serve(serve::Serve),
    /// Check the configuration as a start would, and say where it comes from. Touches no data.
    CheckConfig(check_config::CheckConfig),
    /// Drive a server, kill it, start it again, and audit what is left.
    Demo(demo::Demo),
    /// Receive webhooks on this machine: verify and print them.
    Listen(listen::Listen),
    /// API keys.
    #[command(subcommand)]
    Key(key::Key),
    /// Check the whole journal, from its first byte, against its hashes and against every rule. Changes nothing.
    Verify(verify::Verify),
    /// The journal itself.
    #[command(subcommand)]
    Journal(journal::Journal),
    /// Write the ledger out for other accounting programs. Changes nothing.
    Export(export::Export),
    /// Copy the journal to another folder, also while the server runs, and verify the copy. Copies only what is new.
    Backup(backup::Backup),
    /// Make a data folder of a backup, as it stands or stood, and verify it.
    Restore(restore::Restore),
}

impl CommandLine {
    /// Does what the program was told.
    ///
    /// # Errors
    /// Why not; [`exit_code`] gives the code to end with.
    pub fn run(self) -> anyhow::Result<()> {
        no_core_dumps()?;
        let done = match self.command {
            None => serve::run(self.serve),
            Some(Command::Serve(arguments)) => serve::run(arguments),
            Some(Command::CheckConfig(arguments)) => check_config::run(&arguments),
            Some(Command::Demo(arguments)) => demo::run(&arguments),
            Some(Command::Listen(arguments)) => listen::run(arguments),
            Some(Command::Key(key)) => key::run(&key),
            Some(Command::Verify(arguments)) => verify::run(&arguments),
            Some(Command::Journal(journal)) => journal::run(&journal),
            Some(Command::Export(arguments)) => export::run(&arguments),
            Some(Command::Backup(arguments)) => backup::run(&arguments),
            Some(Command::Restore(arguments)) => restore::run(&arguments),
        };
        match done {
            // Whoever reads the output has seen enough, as `head` has.
            Err(error) if is_closed_pipe(&error) => Ok(()),
            done => done,
        }
    }
}

/// A core dump would write what is only in memory to disk: keys, secrets, customers.
fn no_core_dumps() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(io::Error::from).context("cannot forbid core dumps")
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The exit code that tells the operator, or its supervisor, what kind of failure it was.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || error.is::<WrongFolder>() || error.is::<WrongSocket>() {
        return 2;
    }
    match error.downcast_ref::<CopyError>() {
        Some(CopyError::Journal(error)) => return exit_code_of_journal(error),
        Some(CopyError::OtherStore { .. }) => return 2,
        Some(CopyError::NotItsHistory { .. }) | None => {}
    }
    if error.is::<io::Error>() {
        return 4;
    }
    if let Some(error) = error.downcast_ref::<JournalError>() {
        return exit_code_of_journal(error);
    }
    match error.downcast_ref::<Stopped>() {
        Some(Stopped::Journal(error)) => exit_code_of_journal(error),
        Some(Stopped::Io(_) | Stopped::Cut) => 4,
        Some(Stopped::LedgerDied | Stopped::DrainTimeout) | None => 1,
    }
}

fn exit_code_of_journal(error: &JournalError) -> u8 {
    match error {
        JournalError::Damaged { .. } | JournalError::Unsupported { .. } => 3,
        JournalError::Io { .. }
        | JournalError::Snapshot { .. }
        | JournalError::NoSpace { .. }
        | JournalError::Stopped => 4,
        JournalError::Locked { .. } => 5,
        JournalError::Options { .. } => 2,
        JournalError::TooLarge { .. } => 1,
    }
}

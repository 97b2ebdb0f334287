//! The program: reads the command line, does what it says, and ends with an exit code that says how it went.

use clap::Parser;
use mimalloc::MiMalloc;
use std::{
    io::{self, Write},
    process::ExitCode,
};
use strongroom::commands::{CommandLine, exit_code};

/// Millions of small values that stay: it packs them closer than the system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match CommandLine::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if the terminal is gone too.
            drop(writeln!(io::stderr(), "strongroom: {error:#}"));
            ExitCode::from(exit_code(&error))
        }
    }
}

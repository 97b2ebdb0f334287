//! `strongroom demo`: the restart-recovery demo. Drives a real server over HTTP, kills it at random moments, starts it
//! again, and at the end compares what is there with its own record of what was acknowledged.
//!
//! It shares nothing with the server but the program file: `server` is a child process, `clients` ask it over HTTP and
//! keep the record, `audit` compares.

mod audit;
mod clients;
mod server;

use anyhow::{Context, bail};
use audit::Findings;
use clap::Args;
use clients::Record;
use indicatif::{ProgressBar, ProgressStyle};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use server::Server;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// What `demo` is told.
#[derive(Args)]
pub struct Demo {
    /// How often the server is killed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Requests per second, over all clients.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// What the clients do and when the server is killed follows from this number [default: random].
    #[arg(long)]
    seed: Option<u64>,
    /// Folder for the server's data, kept afterwards [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs the demo and prints what came of it.
///
/// # Errors
/// The server did not start, or something that was acknowledged is lost, doubled, changed or unbalanced.
pub fn run(demo: &Demo) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
    let data = demo.data.clone().unwrap_or_else(|| temporary.path().join("data"));
    let data = std::path::absolute(data)?;
    if data.join("journal").exists() {
        bail!(
            "{} holds books already; the demo makes its own, give it a new folder",
            data.display()
        );
    }
    let seed = demo.seed.unwrap_or_else(rand::random);
    let mut out = io::stdout();
    writeln!(
        out,
        "{} rounds at {} requests/s, seed {seed}: work, kill -9, start again",
        demo.rounds, demo.rate
    )?;
    let findings = actix_rt::System::new().block_on(drive(demo, seed, temporary.path(), &data))?;
    writeln!(out, "{findings}")?;
    out.flush()?;
    if !findings.is_clean() {
        bail!("the books do not hold what was acknowledged; the data is in {}", data.display());
    }
    Ok(())
}

async fn drive(demo: &Demo, seed: u64, folder: &Path, data: &Path) -> anyhow::Result<Findings> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut record = Record::default();
    let mut recoveries = Vec::new();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rounds, {msg}")?;
    let progress = ProgressBar::new(u64::from(demo.rounds)).with_style(style);
    let mut server = Server::start(folder, data).await?;
    for round in 0..demo.rounds {
        let lives = Duration::from_millis(random.random_range(300..1_200));
        clients::work(server, &mut record, &mut random, (round, demo.rate, lives)).await?;
        server = Server::start(folder, data).await?;
        recoveries.push(server.took);
        progress.set_message(format!("{} acknowledged", record.acknowledged()));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let findings = audit::audit(&server, &mut record, recoveries).await?;
    server.stop()?;
    Ok(findings)
}

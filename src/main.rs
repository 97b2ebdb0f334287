//! The command line: reads what is wanted, does it, and ends with an exit code that says how it went.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | a failure |
//! | 2 | wrong usage or configuration |
//! | 3 | the data is damaged: do not restart automatically |
//! | 4 | an I/O error or full disk: a restart may help |
//! | 5 | another process holds the data folder |

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};
use strongroom::{
    app::{self, Started, Stopped},
    clock::SystemClock,
    config::Config,
    credentials::{KeyKind, new_key},
    journal::JournalError,
    telemetry,
};

/// A payment core: charges once, books every cent twice, forgets nothing it has answered.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Take payments over HTTP (the default command).
    Serve(Serve),
    /// API keys.
    #[command(subcommand)]
    Key(Key),
}

#[derive(Args)]
struct Serve {
    /// Configuration file [default: config.toml in the working directory, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on, instead of `http.listen`. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Folder for everything that is written, instead of `data_dir`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Key {
    /// Make a new API key. Prints the key, which is stored nowhere, and the line for the configuration.
    New {
        /// For an admin, who sees all merchants.
        #[arg(long, conflicts_with = "live")]
        admin: bool,
        /// For live payments (`sk_live_…`) instead of test payments (`sk_test_…`).
        #[arg(long)]
        live: bool,
        /// What the key is called in the audit trail.
        #[arg(long, default_value = "default", value_name = "NAME")]
        name: String,
    },
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let done = match command_line.command {
        None => serve(command_line.serve),
        Some(Command::Serve(arguments)) => serve(arguments),
        Some(Command::Key(Key::New { admin, live, name })) => {
            print_new_key(admin, live, &name).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        // Nothing is left to do if the terminal is gone too.
        drop(writeln!(io::stderr(), "strongroom: {error:#}"));
        ExitCode::from(exit_code(&error))
    })
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<strongroom::config::ConfigError>().is_some() {
        return 2;
    }
    match error.downcast_ref::<Stopped>() {
        Some(Stopped::Journal(error)) => match error {
            JournalError::Damaged { .. } | JournalError::Unsupported { .. } => 3,
            JournalError::Io { .. } | JournalError::NoSpace { .. } | JournalError::Stopped => 4,
            JournalError::Locked { .. } => 5,
            JournalError::Options { .. } => 2,
            JournalError::TooLarge { .. } => 1,
        },
        Some(Stopped::Io(_)) => 4,
        Some(Stopped::LedgerDied | Stopped::DrainTimeout) | None => 1,
    }
}

fn serve(arguments: Serve) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(arguments.config.as_deref(), std::env::vars_os())?;
    config.http.listen = arguments.listen.unwrap_or(config.http.listen);
    config.data_dir = arguments.data.unwrap_or(config.data_dir);
    config.exposure(config.http.listen)?;
    let _log = telemetry::init(&config.log)?;
    let address = config.http.listen;
    let listener = TcpListener::bind(address)
        .map_err(Stopped::Io)
        .with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr().map_err(Stopped::Io)?;
    let data_dir = config.data_dir.display().to_string();
    let clock = Arc::new(SystemClock::default());
    actix_rt::System::new().block_on(async {
        let shutdown = shutdown_signal().map_err(Stopped::Io)?;
        let started = |started: &Started| {
            // A terminal that is gone is no reason not to take payments.
            drop(announce(started, &data_dir, address));
        };
        app::run(config, clock, listener, started, shutdown).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn announce(started: &Started, data_dir: &str, address: SocketAddr) -> io::Result<()> {
    let Started { report, payments, took } = started;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "recovered {payments} payments from {} journal entries ({} bytes) in {data_dir}/ in {} ms",
        report.entries,
        report.bytes,
        took.as_millis()
    )?;
    if let Some(torn) = &report.torn {
        writeln!(
            out,
            "set {} bytes aside in {}: a batch that a crash cut off and nobody was told of",
            torn.bytes,
            torn.set_aside_as.display()
        )?;
    }
    writeln!(out, "chain head {} at entry {}", report.chain_head, report.last_sequence)?;
    writeln!(out, "listening on http://{address}")?;
    out.flush()
}

/// Resolves at the first SIGTERM or SIGINT.
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn print_new_key(admin: bool, live: bool, name: &str) -> anyhow::Result<()> {
    let kind = if admin { KeyKind::Admin } else { KeyKind::Merchant { live } };
    let key = new_key(kind)?;
    let place =
        if admin { "a line of its own under `[[admins]]`" } else { "the merchant's `keys`" };
    let mut out = io::stdout().lock();
    writeln!(out, "key:    {}", key.secret.expose())?;
    writeln!(out, "config: {{ name = \"{name}\", sha256 = \"{}\" }}", key.sha256)?;
    writeln!(io::stderr(), "The key is shown this once. Put the config part into {place}.")?;
    Ok(())
}

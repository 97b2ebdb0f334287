//! `strongroom serve`: takes payments over HTTP until it is told to stop.

use crate::{
    app::{self, Started, Stopped},
    clock::SystemClock,
    config::Config,
    telemetry,
};
use anyhow::Context;
use clap::Args;
use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

/// What `serve` is told.
#[derive(Args)]
pub struct Serve {
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

/// Runs the server. On `Ok` it was told to stop and everything is written and sealed.
///
/// # Errors
/// A [`crate::config::ConfigError`], or [`Stopped`] with why it did not start or go on.
pub fn run(arguments: Serve) -> anyhow::Result<()> {
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
    Ok(())
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

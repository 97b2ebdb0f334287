//! `strongroom serve`: takes payments over HTTP until it is told to stop.

use super::{
    offline::{Moment, WrongFolder},
    read_only, systemd,
};
use crate::{
    app::{self, Held, Signal, Socket, Started, Stopped},
    clock::{Clock, SystemClock},
    config::{Config, Http},
    http::Certificate,
    journal::{DataLock, backup},
    telemetry,
};
use anyhow::Context;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Mutex,
};

/// What a server would go by.
#[derive(Args)]
pub(super) struct Settings {
    /// Configuration file [default: config.toml in the working directory, if there is one].
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Address to listen on, instead of `http.listen`. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Folder for everything that is written, instead of `data_dir`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What `serve` is told.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// Only show the books, also beside a server that runs, and change nothing on disk.
    #[arg(long)]
    read_only: bool,
    /// Show the books as they stood at this time or entry, instead of now.
    #[arg(long, value_name = "TIME|SEQ", requires = "read_only")]
    at: Option<Moment>,
}

/// What a start goes by.
pub(super) struct Loaded {
    pub(super) config: Config,
    /// The socket that was handed over.
    pub(super) inherited: Option<TcpListener>,
    /// The certificate that the configuration names.
    pub(super) certificate: Option<Certificate>,
}

impl Settings {
    /// The configuration, under what the command line says and the socket that was handed over. Touches no data.
    ///
    /// # Errors
    /// A start with it would be refused.
    pub(super) fn load(&self) -> anyhow::Result<Loaded> {
        let mut config = Config::load(self.config.as_deref(), std::env::vars_os())?;
        config.http.listen = self.listen.unwrap_or(config.http.listen);
        config.data_dir = self.data.clone().unwrap_or(config.data_dir);
        let inherited = systemd::inherited()?;
        if let Some(listener) = &inherited {
            config.http.listen = listener.local_addr()?;
        }
        config.exposure(config.http.listen)?;
        // A certificate that is none is wrong configuration, whatever else may stop the start.
        let certificate = config.http.tls.as_ref().map(Certificate::load).transpose()?;
        Ok(Loaded { config, inherited, certificate })
    }
}

/// Whether a server may write to the configured folder.
pub(super) fn not_a_backup(config: &Config) -> Result<(), WrongFolder> {
    if config.data_dir.join(backup::NOTE).exists() {
        return Err(WrongFolder::Backup { folder: config.data_dir.clone() });
    }
    Ok(())
}

/// Runs the server. On `Ok` it was told to stop and everything is written and sealed.
///
/// # Errors
/// A [`crate::config::ConfigError`], or [`Stopped`] with why it did not start or go on.
pub fn run(arguments: Serve) -> anyhow::Result<()> {
    let Loaded { mut config, inherited, certificate } = arguments.settings.load()?;
    let _log = telemetry::init(&config.log, &config.telemetry)?;
    config.http.connections_max = connections_max(config.http.connections_max);
    if arguments.read_only {
        return read_only::run(&config, inherited, certificate, arguments.at);
    }
    not_a_backup(&config)?;
    if config.webhooks.allow_loopback && !config.http.listen.ip().is_loopback() {
        tracing::warn!(
            "webhooks.allow_loopback is on and the server listens beyond loopback: merchants can have webhooks sent to \
             programs on this machine; set it to false"
        );
    }
    // First the lock: a second process is told so, whatever its address.
    let socket = if inherited.is_some() { Socket::Inherited } else { Socket::Own };
    let lock = DataLock::take_within(&config.data_dir, patience(&config, socket));
    let lock = lock.map_err(Stopped::Journal)?;
    let (listener, address) = listen(config.http.listen, inherited)?;
    let data_dir = config.data_dir.display().to_string();
    let url = url(&config.http, address);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    #[cfg(feature = "fault-injection")]
    let clock = match crate::clock::MovedClock::from_environment() {
        Some(moved) => Arc::new(moved),
        None => clock,
    };
    actix_rt::System::new().block_on(async {
        let shutdown = shutdown_signal().map_err(Stopped::Io)?;
        let started = |started: &Started| {
            small_pages();
            // A terminal that is gone is no reason not to take payments.
            drop(announce(started, &data_dir, &url));
            systemd::notify(systemd::READY);
        };
        app::run(config, clock, Held { lock, listener, socket, certificate }, started, shutdown)
            .await
    })?;
    Ok(())
}

/// How long another process is waited for that holds the data folder. Whoever was given a socket may be the next process
/// on it: requests wait there, and the one before ends within the time that a stop may take.
fn patience(config: &Config, socket: Socket) -> Duration {
    let stop_ms = config.http.drain_grace_ms.saturating_add(config.http.drain_timeout_ms);
    match socket {
        Socket::Own => Duration::ZERO,
        Socket::Inherited => Duration::from_millis(stop_ms).saturating_add(Duration::from_secs(5)),
    }
}

/// How many clients may wait to be let in; the operating system may allow fewer (`net.core.somaxconn`). Whoever finds no
/// place tries again a second later, and the library's 128 are soon taken by clients that come at once, as after a restart.
const BACKLOG: i32 = 4096;

/// The listener that was handed over, or a new one; and its address.
pub(super) fn listen(
    address: SocketAddr,
    inherited: Option<TcpListener>,
) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = inherited
        .map_or_else(|| bind(address), Ok)
        .map_err(Stopped::Io)
        .with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr().map_err(Stopped::Io)?;
    Ok((listener, address))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Asks the operating system for as many descriptors as it allows, and keeps some of them from connections: whoever
/// opens a great many must not keep the journal from its files.
fn connections_max(wanted: usize) -> usize {
    const KEPT: u64 = 64;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let room = allowed.map_or(usize::MAX, |all| {
        usize::try_from(all.saturating_sub(KEPT).max(1)).unwrap_or(usize::MAX)
    });
    if room < wanted {
        tracing::warn!(
            wanted,
            connections_max = room,
            "the operating system allows fewer open files than http.connections_max needs; raise the limit (ulimit -n)"
        );
    }
    wanted.min(room)
}

/// Has new memory given out in small pages from now on. A huge one is cleared in a pause of up to milliseconds, in which
/// whoever waits for that thread or the books' lock waits, too: under load several times a second, as the books grow.
/// What the start has read keeps its huge pages.
fn small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::info!(%error, "memory is given out in huge pages: answers may pause for some milliseconds");
    }
}

/// Where clients find the server.
pub(super) fn url(http: &Http, address: SocketAddr) -> String {
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{address}")
}

fn announce(started: &Started, data_dir: &str, url: &str) -> io::Result<()> {
    let Started { report, snapshot, damaged_snapshots, payments, took } = started;
    let mut out = io::stdout().lock();
    let from = match snapshot {
        0 => String::new(),
        through => format!("a snapshot through entry {through} and "),
    };
    writeln!(
        out,
        "recovered {payments} payments from {from}{} journal entries ({} bytes) in {data_dir}/ in {} ms",
        report.replayed,
        report.bytes,
        took.as_millis()
    )?;
    for damaged in damaged_snapshots {
        writeln!(
            out,
            "passed over a damaged snapshot, now {}: {}; no money is touched, check the disk",
            damaged.file.display(),
            damaged.why
        )?;
    }
    if let Some(torn) = &report.torn {
        writeln!(
            out,
            "set {} bytes aside in {}: a batch that a crash cut off and nobody was told of",
            torn.bytes,
            torn.set_aside_as.display()
        )?;
    }
    writeln!(out, "chain head {} at entry {}", report.chain_head, report.last_sequence)?;
    writeln!(out, "listening on {url}")?;
    out.flush()
}

/// Each call resolves at the next SIGTERM or SIGINT.
pub(super) fn shutdown_signal() -> io::Result<impl FnMut() -> Signal> {
    let terminate = Arc::new(Mutex::new(signal(SignalKind::terminate())?));
    let interrupt = Arc::new(Mutex::new(signal(SignalKind::interrupt())?));
    Ok(move || -> Signal {
        let (terminate, interrupt) = (terminate.clone(), interrupt.clone());
        Box::pin(async move {
            let (mut terminate, mut interrupt) = (terminate.lock().await, interrupt.lock().await);
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            systemd::notify(systemd::STOPPING);
        })
    })
}

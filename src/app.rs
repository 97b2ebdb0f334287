//! Start and stop. Up: lock → listen → recover → actors → open the door. Down: the reverse.

use crate::{
    actors::{
        Engine,
        admission::Admission,
        idempotency::IdempotencyHandle,
        ledger::{Fatal, LedgerHandle, Pace},
        reconciliation::Reconciliations,
        registry::Registry,
        scheduler::Scheduler,
    },
    clock::Clock,
    config::Config,
    credentials::Credentials,
    domain::books::Books,
    http::{self, Core, Door, Limits},
    journal::{
        DataLock, DirectIo, Disk, JournalError, Options, RealDisk, Recovered, Report, recover,
    },
    provider::Sandbox,
};
use actix::Actor;
use actix_rt::Arbiter;
use actix_web::web;
use std::{
    io,
    net::TcpListener,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// How long answers may take to leave before a failed process ends.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Why the server did not start, or did not go on.
#[derive(Debug, Error)]
pub enum Stopped {
    /// The journal could not be opened or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A network or thread failure.
    #[error("the server cannot go on: {0}")]
    Io(#[from] io::Error),
    /// The ledger actor died of a bug. Everything acknowledged is in the journal.
    #[error(
        "the ledger died of a bug and the server ends: start it again, it recovers all that was acknowledged; report \
         the log lines above"
    )]
    LedgerDied,
    /// Requests were still being worked on when the time to drain was over.
    #[error(
        "requests were still running after http.drain_timeout_ms; their outcome is in the journal or nowhere"
    )]
    DrainTimeout,
}

/// What a start has to say.
#[derive(Clone, Debug)]
pub struct Started {
    /// What recovery found.
    pub report: Report,
    /// How many payments are on the books.
    pub payments: usize,
    /// How long recovery took.
    pub took: Duration,
}

/// Runs the server on `listener` until `shutdown` comes or it can't go on. Calls `started` when it takes payments.
///
/// # Errors
/// Why it did not end well. On `Ok` everything is written and sealed.
pub async fn run(
    config: Config,
    clock: Arc<dyn Clock>,
    listener: TcpListener,
    started: impl FnOnce(&Started),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Stopped> {
    let lock = DataLock::take(&config.data_dir)?;
    let door = web::Data::new(door(&config));
    let server = http::serve(listener, door.clone())?;
    let handle = server.handle();
    actix_rt::spawn(server);

    let began = Instant::now();
    let (journal, books, report) = recover_books(&config, clock.clone()).await?;
    let took = began.elapsed();
    let payments = books.payment_count();
    let space = journal.space();

    let (fatal, mut failed) = mpsc::unbounded_channel();
    let ledger_thread = Arbiter::new();
    let (ledger, books) = start_ledger(&ledger_thread, &config, journal, books, fatal).await?;
    let admission = Arc::new(Admission::new(u32_of(config.http.in_flight_max), space));
    let idempotency = IdempotencyHandle::new(
        books.clone(),
        clock.clone(),
        config.idempotency.retention,
        mailbox_max(&config),
    );
    let engine = Arc::new(Engine {
        books: books.clone(),
        ledger: ledger.clone(),
        idempotency,
        registry: Arc::new(Registry::default()),
        admission: admission.clone(),
        provider: Arc::new(Sandbox::new(config.provider.sandbox.decline_at)),
        clock: clock.clone(),
        answer_within: Duration::from_millis(config.provider.answer_within_ms),
        retention: config.idempotency.retention,
    });
    let scheduler_thread = Arbiter::new();
    let scheduler = Scheduler::new(
        engine.clone(),
        Duration::from_millis(config.provider.inquire_after_ms),
    );
    scheduler_thread.spawn_fn(|| drop(scheduler.start()));
    let reconciliations = Reconciliations::new(books, clock, config.reconciliation.runs_kept);
    let core = Core {
        engine,
        reconciliations: Arc::new(reconciliations),
    };
    drop(door.core.set(core));
    started(&Started {
        report,
        payments,
        took,
    });

    let failure = tokio::select! {
        () = shutdown => None,
        failure = failed.recv() => failure,
    };
    admission.close();
    if let Some(failure) = failure {
        // The waiters are told to ask again; only recovery can say what became of their requests.
        tokio::time::sleep(LAST_WORDS).await;
        handle.stop(false).await;
        return Err(match failure {
            Fatal::Journal(error) => Stopped::Journal(error),
            Fatal::LedgerDied => Stopped::LedgerDied,
        });
    }
    tracing::info!("stopping: no more payments are taken, those in flight are finished");
    let drain = Duration::from_millis(config.http.drain_timeout_ms);
    let drained = tokio::time::timeout(drain, admission.idle()).await;
    handle.stop(true).await;
    scheduler_thread.stop();
    let sealed = ledger.close().await;
    ledger_thread.stop();
    drop(lock);
    match (drained, failed.try_recv()) {
        (_, Ok(Fatal::Journal(error))) => Err(error.into()),
        (_, Ok(Fatal::LedgerDied)) => Err(Stopped::LedgerDied),
        _ if !sealed => Err(Stopped::LedgerDied),
        (Err(_), _) => Err(Stopped::DrainTimeout),
        (Ok(()), _) => Ok(()),
    }
}

fn door(config: &Config) -> Door {
    let http = &config.http;
    Door {
        credentials: Credentials::new(config),
        merchants: config
            .merchants
            .iter()
            .map(|merchant| merchant.id.as_str().into())
            .collect(),
        limits: Limits {
            workers: http.worker_threads(),
            connections_max: http.connections_max,
            body_bytes_max: http.body_bytes_max,
            body_read_timeout: Duration::from_millis(http.body_read_timeout_ms),
            request_deadline: Duration::from_millis(http.request_deadline_ms),
        },
        hold_ms: config.payments.authorization_ttl_ms,
        core: OnceLock::new(),
    }
}

/// Folds the journal into the books, on a thread of its own, so that `/health` and `/ready` answer meanwhile.
async fn recover_books(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Result<(crate::journal::Writer, Books, Report), Stopped> {
    let folder = config.data_dir.join("journal");
    let direct = if config.journal.direct_io {
        DirectIo::WhereAvailable
    } else {
        DirectIo::Never
    };
    let options = Options {
        segment_bytes: config.journal.segment_bytes,
        batch_bytes_max: config.journal.batch_bytes_max,
        software: env!("CARGO_PKG_VERSION").into(),
    };
    let recovering = move || {
        let disk = RealDisk::open(&folder, direct).map_err(|source| JournalError::Io {
            action: "open",
            file: folder,
            source,
        })?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        #[cfg(feature = "fault-injection")]
        let disk = crate::journal::disk::faulty::faults_from_environment(disk);
        let mut books = Books::default();
        let recovered = recover(disk, options, clock.now(), &mut |batch| books.replay(batch))?;
        let Recovered { writer, report } = recovered;
        Ok::<_, JournalError>((writer, books, report))
    };
    let recovered = web::block(recovering).await;
    Ok(recovered.map_err(|error| io::Error::other(error.to_string()))??)
}

async fn start_ledger(
    thread: &Arbiter,
    config: &Config,
    journal: crate::journal::Writer,
    books: Books,
    fatal: mpsc::UnboundedSender<Fatal>,
) -> Result<(LedgerHandle, crate::actors::BooksReader), Stopped> {
    let pace = Pace {
        batch_entries_max: config.journal.batch_entries_max,
        batch_bytes_max: config.journal.batch_bytes_max,
        seal_after: Duration::from_millis(config.journal.seal_after_ms),
        mailbox_max: mailbox_max(config),
        retention: config.idempotency.retention,
    };
    let (tell, told) = oneshot::channel();
    thread.spawn_fn(move || drop(tell.send(LedgerHandle::start(journal, books, pace, fatal))));
    told.await.map_err(|_| Stopped::LedgerDied)
}

/// Every command in flight, and the scheduler, sends at most a few messages at once.
fn mailbox_max(config: &Config) -> usize {
    config
        .http
        .in_flight_max
        .saturating_mul(4)
        .saturating_add(1024)
}

fn u32_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

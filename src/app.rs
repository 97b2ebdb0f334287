//! Start and stop. Up: lock → listen → recover → actors → open the door. Down, in `drain`: the reverse.

mod drain;
pub mod recovery;

use crate::{
    actors::{
        BooksReader, Engine,
        admission::Admission,
        alarms::Alarms,
        alerts::{Alerts, Destination},
        calls::Calls,
        idempotency::IdempotencyHandle,
        ledger::{Fatal, LedgerHandle, Pace},
        reconciliation::{self, Reconciliations, Subject},
        registry::Registry,
        scheduler::{self, Scheduler},
        snapshots::{self, Rhythm, Snapshots},
        webhooks::{
            self, WebhooksHandle,
            guard::{Guard, SystemNames},
        },
    },
    clock::{Clock, StoppedClock, SystemClock},
    config::{Config, ProviderKind, SANDBOX},
    credentials::Credentials,
    domain::{books::Books, id::Sequence, time::Timestamp},
    http::{self, Certificate, Core, Door, Limits, Rates, Writing},
    journal::{
        DataLock, JournalError, Report, Writer,
        pepper::{self, Pepper},
        snapshot::Refused,
    },
    meters::meters,
    provider::{Line, Lines, Pace as LinePace, Routes, Rule, Sandbox, Stripe, stripe},
    trust,
};
use actix::Actor;
use actix_rt::Arbiter;
use actix_web::web;
use recovery::{Recovery, recover_books};
use std::{
    io,
    mem::ManuallyDrop,
    net::TcpListener,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::{SetOnce, mpsc, oneshot};

/// How long answers may take to leave before a failed process ends.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// The alarm that says that keys can't be told from wrong ones.
const PEPPER_LOST: &str = "keys.pepper_lost";

/// Why the server did not start, or did not go on.
#[derive(Debug, Error)]
pub enum Stopped {
    /// The journal could not be opened or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A network or thread failure.
    #[error("the operating system refused")]
    Io(#[from] io::Error),
    /// The ledger actor died of a bug. Everything acknowledged is in the journal.
    #[error(
        "the ledger died of a bug and the server ends: start it again, it recovers all that was acknowledged; report \
         the log lines above"
    )]
    LedgerDied,
    /// The disk did not take the last write in time, or the operator did not want to wait for it.
    #[error(
        "the journal could not be sealed in time; what was acknowledged is in it, the next start checks all of it"
    )]
    Cut,
    /// Requests were still being worked on when the time to drain was over.
    #[error(
        "requests were still running after http.drain_timeout_ms; their outcome is in the journal or nowhere"
    )]
    DrainTimeout,
}

/// What a server holds before it starts.
pub struct Held {
    /// The data folder.
    pub lock: DataLock,
    /// Where it listens.
    pub listener: TcpListener,
    /// Whose the listener is.
    pub socket: Socket,
    /// What it proves itself with; none where it speaks plain HTTP.
    pub certificate: Option<Certificate>,
}

/// Whose a listening socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// This process made it.
    Own,
    /// It was handed over, and outlives the process: the next one goes on with it.
    Inherited,
}

/// Resolves when the process is told to stop.
pub type Signal = Pin<Box<dyn Future<Output = ()>>>;

/// What a start has to say.
#[derive(Clone, Debug)]
pub struct Started {
    /// What recovery found.
    pub report: Report,
    /// Through which entry a snapshot told it all; 0 if the journal alone did.
    pub snapshot: Sequence,
    /// Newer snapshots that are damaged.
    pub damaged_snapshots: Vec<Refused>,
    /// How many payments are on the books.
    pub payments: usize,
    /// How long recovery took.
    pub took: Duration,
}

/// Runs the server on a listener and a data folder that it holds, until `shutdown` comes or it can't go on. Calls
/// `started` when it takes payments. A second `shutdown` ends the grace, if there is one, and then the wait for
/// a disk that hangs.
///
/// # Errors
/// Why it did not end well. On `Ok` everything is written and sealed.
pub async fn run(
    config: Config,
    clock: Arc<dyn Clock>,
    Held { lock, listener, socket, certificate }: Held,
    started: impl FnOnce(&Started),
    mut shutdown: impl FnMut() -> Signal,
) -> Result<(), Stopped> {
    // Not let go of before the process is gone, and with it every thread that might still write.
    let _lock = ManuallyDrop::new(lock);
    let door = web::Data::new(door(&config, certificate));
    let drained_listener = listener.try_clone()?;
    let server = http::serve(listener, door.clone())?;
    let handle = server.handle();
    actix_rt::spawn(server);
    show_metrics(&config, &door)?;

    let pepper = pepper::read_or_make(&config.data_dir)?;
    let began = Instant::now();
    let recovery = tokio::select! {
        recovery = recover_books(&config, clock.clone()) => recovery?,
        // Nothing was taken yet, and recovery may be cut off at any moment.
        () = shutdown() => return Ok(()),
    };
    let started_with = recovery.started(began.elapsed());
    let (mut crew, core) = Crew::start(&config, clock, recovery).await?;
    season(&door.credentials, &pepper, &core);
    drop(door.core.set(core));
    started(&started_with);

    tokio::select! {
        () = shutdown() => {}
        Some(failure) = crew.failed.recv() => {
            crew.admission.close();
            // The waiters are told to ask again; only recovery can say what became of their requests.
            tokio::time::sleep(LAST_WORDS).await;
            handle.stop(false).await;
            return Err(failure.into());
        }
    }
    let pace = drain::Pace {
        grace: Duration::from_millis(config.http.drain_grace_ms),
        rest: Duration::from_millis(config.http.drain_timeout_ms),
    };
    let entrance =
        drain::Entrance { server: handle, listener: drained_listener, socket, drain: &door.drain };
    drain::stop(entrance, crew, pace, &mut shutdown).await
}

/// Tells the door the pepper, and the operator if it can't be the one that the keys on the books were made with.
fn season(credentials: &Credentials, pepper: &Pepper, core: &Core) {
    credentials.season(*pepper.expose());
    if pepper.is_new && core.books.read().access().has_keys() {
        let detail = "the file `pepper` was not in the data folder and has been made anew, so no key that was made by \
                      the API opens anything: stop the server and put the right one back, or make those keys anew";
        core.alarms.raise(PEPPER_LOST, detail);
    }
}

/// Serves `/metrics` without a key until the process ends, where the configuration says so.
fn show_metrics(config: &Config, door: &web::Data<Door>) -> io::Result<()> {
    drop(meters().data_dir.set(config.data_dir.clone()));
    let Some(address) = config.metrics.listen else { return Ok(()) };
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    actix_rt::spawn(http::serve_metrics(listener, door.clone())?);
    tracing::info!(%address, "metrics are shown without a key");
    Ok(())
}

/// Shows books that nobody writes, as of the time `now` there, until `shutdown` comes. Calls `started` when it does.
///
/// # Errors
/// The listener can't be used.
pub async fn show(
    config: &Config,
    (books, now): (Books, Timestamp),
    (listener, certificate): (TcpListener, Option<Certificate>),
    started: impl FnOnce(),
    mut shutdown: impl FnMut() -> Signal,
) -> Result<(), Stopped> {
    let books = BooksReader::of(books);
    // A count is dated by the machine's clock, whatever the books' time is.
    let counted_at: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let alarms = Arc::new(Alarms::new(counted_at.clone(), None));
    let subject =
        Subject { books: books.clone(), folders: None, clock: counted_at, alarms: alarms.clone() };
    let core = Core {
        books,
        clock: Arc::new(StoppedClock(now)),
        retention: config.idempotency.retention,
        reconciliations: Arc::new(start_reconciliations(config, subject)?),
        alarms,
        writing: None,
    };
    // Without the pepper, so that only keys of the configuration open it: whose key has been revoked since, or lost its
    // time, is not on these books.
    let door = web::Data::new(door(config, certificate));
    drop(door.core.set(core));
    let server = http::serve(listener, door.clone())?;
    let handle = server.handle();
    actix_rt::spawn(server);
    started();
    shutdown().await;
    door.drain.begin();
    handle.stop(true).await;
    Ok(())
}

/// The actors' threads, and what is needed to stop them in order.
struct Crew {
    ledger: LedgerHandle,
    admission: Arc<Admission>,
    reconciliations: Arc<Reconciliations>,
    snapshots: Snapshots,
    ledger_thread: Arbiter,
    scheduler_thread: Arbiter,
    webhooks: WebhooksHandle,
    failed: mpsc::UnboundedReceiver<Fatal>,
}

impl Crew {
    async fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        recovery: Recovery,
    ) -> Result<(Self, Core), Stopped> {
        let Recovery { journal, books, report, folders, damaged_snapshots, .. } = recovery;
        let space = journal.space();
        let (fatal, failed) = mpsc::unbounded_channel();
        let ledger_thread = Arbiter::new();
        let (ledger, books) = start_ledger(&ledger_thread, config, journal, books, fatal).await?;
        #[cfg(feature = "fault-injection")]
        crate::actors::faulty::faults_from_environment(&books)?;
        let in_flight_max = u32::try_from(config.http.in_flight_max).unwrap_or(u32::MAX);
        let admission = Arc::new(Admission::new(in_flight_max, space.clone()));
        let retention = config.idempotency.retention;
        let scheduler_thread = Arbiter::new();
        let alarms = Arc::new(start_alarms(&scheduler_thread, config, &clock));
        let engine = Arc::new(Engine {
            books: books.clone(),
            ledger: ledger.clone(),
            idempotency: IdempotencyHandle::new(
                books.clone(),
                clock.clone(),
                retention,
                mailbox_max(config),
            ),
            stall_max: Duration::from_millis(config.http.request_deadline_ms),
            registry: Arc::new(Registry::default()),
            admission: admission.clone(),
            lines: Arc::new(lines(config)),
            calls: Calls::new(clock.clone()),
            alarms: alarms.clone(),
            clock: clock.clone(),
            answer_within: Duration::from_millis(config.provider.answer_within_ms),
            retention,
        });
        let inquire_after = Duration::from_millis(config.provider.inquire_after_ms);
        let scheduler = Scheduler::new(engine.clone(), inquire_after, scheduler::TICK);
        scheduler_thread.spawn_fn(|| drop(scheduler.start()));
        let rhythm = Rhythm {
            every: Duration::from_millis(config.snapshots.every_ms),
            every_bytes: config.snapshots.every_bytes,
        };
        let subject = snapshots::Subject {
            folders: folders.clone(),
            books: books.clone(),
            space,
            clock: clock.clone(),
            alarms: alarms.clone(),
        };
        let snapshots = Snapshots::start(subject, rhythm, report.bytes, &damaged_snapshots)?;
        let subject = Subject {
            books: books.clone(),
            folders: Some(folders),
            clock: clock.clone(),
            alarms: alarms.clone(),
        };
        let reconciliations = Arc::new(start_reconciliations(config, subject)?);
        let webhooks = start_webhooks(&engine, config, &alarms).await?;
        let crew = Self {
            ledger,
            admission,
            reconciliations: reconciliations.clone(),
            snapshots: snapshots.clone(),
            ledger_thread,
            scheduler_thread,
            webhooks: webhooks.clone(),
            failed,
        };
        let writing = Some(Writing { engine, snapshots, webhooks });
        Ok((crew, Core { books, clock, retention, reconciliations, alarms, writing }))
    }

    /// Ends the actors, the ledger last: on `Ok` everything is written and sealed.
    async fn stop(mut self) -> Result<(), Stopped> {
        self.scheduler_thread.stop();
        self.webhooks.close().await;
        let sealed = self.ledger.close().await;
        self.ledger_thread.stop();
        match self.failed.try_recv() {
            Ok(failure) => Err(failure.into()),
            Err(_) if sealed => Ok(()),
            Err(_) => Err(Stopped::LedgerDied),
        }
    }
}

impl From<Fatal> for Stopped {
    fn from(failure: Fatal) -> Self {
        match failure {
            Fatal::Journal(error) => Self::Journal(error),
            Fatal::LedgerDied => Self::LedgerDied,
        }
    }
}

fn door(config: &Config, certificate: Option<Certificate>) -> Door {
    let http = &config.http;
    Door {
        credentials: Credentials::new(config),
        merchants: config.merchants.iter().map(|merchant| merchant.id.as_str().into()).collect(),
        limits: Limits {
            workers: http.worker_threads(),
            connections_max: http.connections_max,
            connections_per_address: http.connections_per_address,
            head_read_timeout: Duration::from_millis(http.head_read_timeout_ms),
            body_bytes_max: http.body_bytes_max,
            body_read_timeout: Duration::from_millis(http.body_read_timeout_ms),
            request_deadline: Duration::from_millis(http.request_deadline_ms),
        },
        rates: Rates::new(&config.limits),
        trusted_proxies: http.trusted_proxies.clone(),
        tls: certificate.map(Arc::new),
        hold_ms: config.payments.authorization_ttl_ms,
        core: SetOnce::new(),
        drain: Arc::default(),
    }
}

async fn start_ledger(
    thread: &Arbiter,
    config: &Config,
    journal: Writer,
    books: Books,
    fatal: mpsc::UnboundedSender<Fatal>,
) -> Result<(LedgerHandle, BooksReader), Stopped> {
    let pace = Pace {
        batch_entries_max: config.journal.batch_entries_max,
        batch_bytes_max: config.journal.batch_bytes_max,
        seal_after: Duration::from_millis(config.journal.seal_after_ms),
        mailbox_max: mailbox_max(config),
        retention: config.idempotency.retention,
        endpoints_max: config.webhooks.endpoints_per_merchant,
    };
    let (tell, told) = oneshot::channel();
    thread.spawn_fn(move || drop(tell.send(LedgerHandle::start(journal, books, pace, fatal))));
    told.await.map_err(|_| Stopped::LedgerDied)
}

/// Makes the endpoints of the configuration those on the books, then starts the couriers on a thread of their own.
async fn start_webhooks(
    engine: &Arc<Engine>,
    config: &Config,
    alarms: &Arc<Alarms>,
) -> Result<WebhooksHandle, Stopped> {
    if webhooks::endpoints::configure(engine, &config.merchants).await.is_err() {
        tracing::error!(
            "the webhook endpoints of the configuration could not be written to the journal; they stay as they were \
             until the next start"
        );
    }
    let guard = Guard::new(&config.webhooks, Arc::new(SystemNames));
    let started = WebhooksHandle::start(engine, &config.webhooks, guard, alarms.clone()).await;
    Ok(started.map_err(io::Error::other)?)
}

/// The lines to the sandbox and to the configured providers, which have a thread each, and the routes to them.
fn lines(config: &Config) -> Lines {
    let sandbox = Box::new(Sandbox::new(config.provider.sandbox.decline_at));
    #[cfg(feature = "fault-injection")]
    let sandbox = crate::provider::faulty::faults_from_environment(sandbox);
    let sandbox = (Arc::from(SANDBOX), Arc::new(Line::Inside(sandbox)));
    let outside = config.providers.iter().map(|provider| {
        let pace = LinePace {
            in_flight_max: provider.in_flight_max,
            deadline: Duration::from_millis(provider.deadline_ms),
            slow_after: Duration::from_millis(provider.slow_after_ms),
            failures_max: provider.failures_max,
            rest: Duration::from_millis(provider.rest_ms),
        };
        let line = match provider.kind {
            ProviderKind::Stripe => {
                let settings = stripe::Settings {
                    url: provider.url.clone(),
                    secret_key: provider.secret_key.expose().into(),
                    webhook_secret: provider.webhook_secret.as_ref().map(|it| it.expose().into()),
                };
                // Looking something up may take a second connection beside the call's.
                let connections_max = provider.in_flight_max.saturating_add(16);
                Line::outside(provider.name.as_str().into(), Stripe::TERMS, pace, move || {
                    Stripe::new(settings, trust::tls(), connections_max)
                })
            }
        };
        (Arc::from(provider.name.as_str()), Arc::new(line))
    });
    let rules = config.routes.iter().map(|route| Rule {
        mode: route.mode,
        merchant: route.merchant.as_deref().map(Arc::from),
        currency: route.currency,
        amount_min: route.amount_min,
        amount_max: route.amount_max,
        providers: route.providers.iter().map(|name| Arc::from(name.as_str())).collect(),
    });
    let routes = Routes { rules: rules.collect(), otherwise: SANDBOX.into() };
    Lines::new([sandbox].into_iter().chain(outside).collect(), routes)
}

fn start_alarms(thread: &Arbiter, config: &Config, clock: &Arc<dyn Clock>) -> Alarms {
    let alerts = config.alerts.webhook.clone().map(|webhook| {
        let destination = Destination { url: webhook.url, secret: webhook.secret };
        // A message is signed at the machine's time: one from a journal that is ahead of it would not be believed.
        Alerts::start(thread, destination, Arc::new(SystemClock::default()))
    });
    Alarms::new(clock.clone(), alerts)
}

fn start_reconciliations(config: &Config, subject: Subject) -> io::Result<Reconciliations> {
    let pace = reconciliation::Pace {
        every: Duration::from_millis(config.reconciliation.every_ms),
        full_every: Duration::from_millis(config.reconciliation.full_every_ms),
        runs_kept: config.reconciliation.runs_kept,
    };
    Reconciliations::start(subject, pace)
}

/// Every command in flight, and the scheduler, sends at most a few messages at once.
fn mailbox_max(config: &Config) -> usize {
    config.http.in_flight_max.saturating_mul(4).saturating_add(1024)
}

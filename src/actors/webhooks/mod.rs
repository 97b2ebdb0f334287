//! Tells merchants what happened: a supervisor, and one courier for each endpoint, on a thread of their own.
//!
//! ```text
//!   ledger ──news──► supervisor ──wake, refresh──► courier ──POST──► endpoint
//!      ▲                 │                            │
//!      └───progress──────┴──────────report────────────┘
//! ```
//!
//! Couriers read durable events from the books and nothing else, so nobody is told of what did not happen, and nothing
//! is lost while they are away. Their progress goes to the journal now and then; after a crash what was sent since then
//! is sent again, under the same id.

mod courier;
pub mod endpoints;
pub mod guard;
mod log;
pub mod places;
mod post;

pub use log::{DeliveryLog, Logged};
pub use post::Sent;

use super::{
    BooksReader, Engine,
    admission::Admission,
    alarms::Alarms,
    ledger::{LedgerHandle, NotRecorded},
};
use crate::{
    clock::Clock,
    config,
    domain::{
        id::EndpointId,
        webhook::{
            Change, DisabledBecause, Endpoint, Schedule, Terms, Upcoming, WebhookEvent,
            WebhookRecord,
        },
    },
};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture};
use actix_rt::{Arbiter, ArbiterHandle};
use courier::{Close, Courier, Redeliver, Refresh, Report, TakeBack, Test, Wake};
use guard::Guard;
use rustls::ClientConfig;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::sync::oneshot;

/// Who books deliveries and disables endpoints, in the journal.
pub const ACTOR: &str = "system/webhooks";

/// The alarm that stands while an endpoint is disabled that nobody switched off.
pub const ENDPOINT_DISABLED: &str = "endpoint.disabled";

/// The least time between two looks at what is new: what comes meanwhile is looked at together.
const PACE: Duration = Duration::from_millis(1);
/// How long a stopping server waits for the tries under way. What is cut off is sent again after the next start.
const LAST_TRIES: Duration = Duration::from_secs(1);
/// The most rows of a journal entry about progress, which keeps it far below the bound of an entry.
const ROWS_MAX: usize = 1000;
/// Room on disk for a row of such an entry.
const ROW_BYTES: usize = 512;

/// What all couriers share.
struct Office {
    books: BooksReader,
    ledger: LedgerHandle,
    admission: Arc<Admission>,
    clock: Arc<dyn Clock>,
    guard: Guard,
    tls: Arc<ClientConfig>,
    terms: Terms,
    timeout: Duration,
    /// The most tries under way, over all endpoints.
    in_flight_max: usize,
    log: Arc<DeliveryLog>,
    alarms: Arc<Alarms>,
    /// How many tries are under way: to endpoints that were known to be healthy, and to others.
    in_flight: [Cell<usize>; 2],
    /// The endpoints with progress to report.
    reporting: RefCell<BTreeSet<EndpointId>>,
}

impl Office {
    fn mark(&self, endpoint: EndpointId) {
        self.reporting.borrow_mut().insert(endpoint);
    }

    /// How many more tries may begin now. Half of the places are for endpoints that are known to be healthy.
    fn places(&self, is_healthy: bool) -> usize {
        let free = self.in_flight_max.saturating_sub(self.in_flight());
        let [_, others] = &self.in_flight;
        match is_healthy {
            true => free,
            false => (self.in_flight_max / 2).saturating_sub(others.get()).min(free),
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight.iter().map(Cell::get).sum()
    }

    /// Takes a place, until what is returned is called.
    fn take_place(self: &Rc<Self>, is_healthy: bool) -> impl FnOnce() + use<> {
        let office = self.clone();
        let count = move |change: fn(usize, usize) -> usize| {
            let [healthy, others] = &office.in_flight;
            let places = if is_healthy { healthy } else { others };
            places.set(change(places.get(), 1));
        };
        count(usize::saturating_add);
        move || count(usize::saturating_sub)
    }

    /// Writes what concerns webhooks, unless the room on disk is needed for payments.
    async fn record(&self, event: WebhookEvent, bytes: usize) -> Result<(), String> {
        let room = self.admission.reserve(bytes, &self.books);
        let _room = room.map_err(|unavailable| unavailable.to_string())?;
        let record = WebhookRecord { actor: ACTOR.into(), event };
        match self.ledger.record_webhook(record, self.clock.now()).await {
            Ok(_) => Ok(()),
            Err(NotRecorded::Breach(breach)) => Err(breach.to_string()),
            Err(NotRecorded::Unavailable(unavailable)) => Err(unavailable.to_string()),
        }
    }

    async fn disable(&self, endpoint: EndpointId, reason: DisabledBecause) -> Result<(), String> {
        self.record(WebhookEvent::Disabled { endpoint, reason }, 0).await
    }
}

/// Raises the alarm `endpoint.disabled`: a merchant is told nothing more until somebody acts.
fn alert_endpoint_disabled(
    alarms: &Alarms,
    endpoint: EndpointId,
    merchant: &str,
    reason: DisabledBecause,
) {
    let why = match reason {
        DisabledBecause::Gone => "answered 410 Gone",
        DisabledBecause::Failing => "failed for longer than webhooks.disable_after",
        DisabledBecause::Asked => "was switched off",
    };
    alarms.raise(
        ENDPOINT_DISABLED,
        &format!(
            "the webhook endpoint {endpoint} of {merchant} {why} and gets nothing more: tell the merchant, who has to \
             repair it and enable it again with PATCH {{\"enabled\": true}}, or delete it; nothing is lost meanwhile"
        ),
    );
}

/// Why no `endpoint.test` was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTested {
    /// The endpoint is gone, or the server stops.
    NobodyThere,
    /// The endpoint has not answered the one before.
    UnderWay,
}

/// How others reach the couriers.
#[derive(Clone)]
pub struct WebhooksHandle {
    supervisor: Addr<Supervisor>,
    thread: ArbiterHandle,
    /// Where webhooks may go.
    pub guard: Guard,
    /// The last tries.
    pub log: Arc<DeliveryLog>,
}

impl WebhooksHandle {
    /// Starts the supervisor and its couriers on a thread of their own.
    ///
    /// # Errors
    /// The thread is gone.
    pub async fn start(
        engine: &Engine,
        config: &config::Webhooks,
        guard: Guard,
        alarms: Arc<Alarms>,
    ) -> Result<Self, oneshot::error::RecvError> {
        let log = Arc::new(DeliveryLog::default());
        let terms = Terms {
            schedule: Schedule {
                waits_ms: config.schedule_ms.clone(),
                jitter_percent: config.jitter_percent,
            },
            concurrency: config.concurrency_per_endpoint,
            backlog: config.backlog_per_endpoint,
            disable_after_ms: config.disable_after_ms,
        };
        let (books, ledger) = (engine.books.clone(), engine.ledger.clone());
        let (admission, clock) = (engine.admission.clone(), engine.clock.clone());
        let (for_office, their_log) = (guard.clone(), log.clone());
        let timeout = Duration::from_millis(config.timeout_ms);
        let in_flight_max = config.in_flight_max;
        let report_every = Duration::from_millis(config.progress_every_ms);
        let (tell, told) = oneshot::channel();
        let thread = Arbiter::new();
        thread.spawn_fn(move || {
            let office = Office {
                books,
                ledger,
                admission,
                clock,
                guard: for_office,
                tls: crate::trust::tls(),
                terms,
                timeout,
                in_flight_max,
                log: their_log,
                alarms,
                in_flight: Default::default(),
                reporting: RefCell::default(),
            };
            let supervisor = Supervisor {
                office: Rc::new(office),
                report_every,
                couriers: BTreeMap::new(),
                seen: None,
                is_closing: false,
            };
            drop(tell.send(supervisor.start()));
        });
        Ok(Self { supervisor: told.await?, thread: thread.handle(), guard, log })
    }

    /// Sends an `endpoint.test` at once, and says what came back.
    ///
    /// # Errors
    /// Nothing was sent.
    pub async fn test(&self, endpoint: EndpointId) -> Result<Sent, NotTested> {
        self.supervisor.send(TestEndpoint(endpoint)).await.unwrap_or(Err(NotTested::NobodyThere))
    }

    /// Has an event sent again that the books have open again.
    pub fn redeliver(&self, endpoint: EndpointId, number: u64, next: Upcoming) {
        self.supervisor.do_send(RedeliverTo { endpoint, number, next });
    }

    /// Ends deliveries: begins nothing more, waits a moment for what is under way, journals the progress, and ends the
    /// thread.
    pub async fn close(&self) {
        if self.supervisor.send(CloseAll).await.is_err() {
            tracing::warn!("the webhook couriers had ended; what they did last may be sent again");
        }
        self.thread.stop();
    }
}

/// Employs the couriers.
pub struct Supervisor {
    office: Rc<Office>,
    report_every: Duration,
    couriers: BTreeMap<EndpointId, Employed>,
    /// The revision of the books that was looked at.
    seen: Option<u64>,
    is_closing: bool,
}

struct Employed {
    courier: Addr<Courier>,
    revision: u64,
    admitted: u64,
}

impl Supervisor {
    /// Looks at what is new on the books: employs, tells and dismisses couriers.
    fn look(&mut self) {
        let office = self.office.clone();
        let books = office.books.read();
        let webhooks = books.webhooks();
        if self.is_closing || self.seen == Some(webhooks.revision()) {
            return;
        }
        for endpoint in webhooks.endpoints() {
            let (revision, admitted) = (endpoint.revision, endpoint.admitted);
            match self.couriers.get_mut(&endpoint.id).filter(|known| known.courier.connected()) {
                Some(known) => {
                    if known.revision != revision {
                        known.courier.do_send(Refresh(Box::new(endpoint.clone())));
                    } else if known.admitted != admitted {
                        known.courier.do_send(Wake);
                    }
                    (known.revision, known.admitted) = (revision, admitted);
                }
                // A new endpoint, or a courier that died of a bug: the next one goes on from the books.
                None => {
                    let courier = Courier::new(office.clone(), endpoint.clone(), &books).start();
                    self.couriers.insert(endpoint.id, Employed { courier, revision, admitted });
                }
            }
        }
        let has_failed = |endpoint: &Endpoint| {
            endpoint.disabled.is_some_and(|(reason, _)| reason != DisabledBecause::Asked)
        };
        match self.seen.replace(webhooks.revision()) {
            // What stood before the start still stands.
            None => webhooks.endpoints().for_each(|endpoint| {
                if let Some((reason, _)) = endpoint.disabled.filter(|_| has_failed(endpoint)) {
                    let Endpoint { id, merchant, .. } = endpoint;
                    alert_endpoint_disabled(&office.alarms, *id, merchant, reason);
                }
            }),
            Some(_) if webhooks.endpoints().any(has_failed) => {}
            Some(_) => office.alarms.clear(ENDPOINT_DISABLED),
        }
        self.couriers.retain(|id, employed| {
            let is_there = webhooks.endpoint(*id).is_some();
            if !is_there {
                employed.courier.do_send(Close { is_gone: true });
                office.log.forget(*id);
            }
            is_there
        });
    }

    /// Collects what couriers have to report and journals it; what cannot be journaled goes back to them.
    fn report(&self) -> impl Future<Output = ()> + use<> {
        let office = self.office.clone();
        let reporting = office.reporting.take();
        let couriers: Vec<Addr<Courier>> = reporting
            .iter()
            .filter_map(|id| Some(self.couriers.get(id)?.courier.clone()))
            .collect();
        async move {
            let mut changes: Vec<(Addr<Courier>, Change)> = Vec::new();
            for courier in couriers {
                let change = courier.send(Report).await.ok().flatten();
                changes.extend(change.map(|change| (courier, change)));
            }
            for (entry, bytes) in packed(changes.iter().map(|(_, change)| change.clone())) {
                if let Err(why) = office.record(WebhookEvent::Progressed(entry), bytes).await {
                    tracing::warn!(%why, "the progress of webhooks could not be journaled; tried again");
                    // What did get written is written again with it, which changes nothing.
                    for (courier, change) in changes {
                        courier.do_send(TakeBack(change));
                    }
                    return;
                }
            }
        }
    }
}

/// Reports in as few journal entries as hold them, each with the room that it may take.
fn packed(changes: impl Iterator<Item = Change>) -> Vec<(Vec<Change>, usize)> {
    let mut entries: Vec<(Vec<Change>, usize)> = Vec::new();
    let mut rows_in_last = usize::MAX;
    for change in changes.flat_map(|change| change.split(ROWS_MAX)) {
        let rows = change.open.len() + change.died.len() + 1 + change.closed.len() / 32;
        match entries.last_mut().filter(|_| rows_in_last.saturating_add(rows) <= ROWS_MAX) {
            Some((entry, bytes)) => {
                entry.push(change);
                *bytes = bytes.saturating_add(rows.saturating_mul(ROW_BYTES));
                rows_in_last = rows_in_last.saturating_add(rows);
            }
            None => {
                entries.push((vec![change], rows.saturating_mul(ROW_BYTES)));
                rows_in_last = rows;
            }
        }
    }
    entries
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look();
        let mut news = self.office.ledger.webhook_news();
        let supervisor = ctx.address();
        actix_rt::spawn(async move {
            while news.changed().await.is_ok() && supervisor.send(Look).await.is_ok() {
                tokio::time::sleep(PACE).await;
            }
        });
        let supervisor = ctx.address();
        let report_every = self.report_every;
        actix_rt::spawn(async move {
            // One after the other: a slow disk is not asked for more.
            while supervisor.send(ReportAll).await.is_ok() {
                tokio::time::sleep(report_every).await;
            }
        });
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Look;

impl Handler<Look> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Look, _: &mut Context<Self>) {
        self.look();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct ReportAll;

impl Handler<ReportAll> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: ReportAll, _: &mut Context<Self>) -> Self::Result {
        Box::pin(self.report())
    }
}

#[derive(Message)]
#[rtype(result = "Result<Sent, NotTested>")]
struct TestEndpoint(EndpointId);

impl Handler<TestEndpoint> for Supervisor {
    type Result = ResponseFuture<Result<Sent, NotTested>>;

    fn handle(&mut self, TestEndpoint(id): TestEndpoint, _: &mut Context<Self>) -> Self::Result {
        self.look();
        let courier = self.couriers.get(&id).map(|employed| employed.courier.clone());
        Box::pin(async move {
            let courier = courier.ok_or(NotTested::NobodyThere)?;
            courier.send(Test).await.unwrap_or(Err(NotTested::NobodyThere))
        })
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct RedeliverTo {
    endpoint: EndpointId,
    number: u64,
    next: Upcoming,
}

impl Handler<RedeliverTo> for Supervisor {
    type Result = ();

    fn handle(&mut self, wish: RedeliverTo, _: &mut Context<Self>) {
        self.look();
        if let Some(employed) = self.couriers.get(&wish.endpoint) {
            employed.courier.do_send(Redeliver { number: wish.number, next: wish.next });
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct CloseAll;

impl Handler<CloseAll> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: CloseAll, ctx: &mut Context<Self>) -> Self::Result {
        self.is_closing = true;
        for employed in self.couriers.values() {
            employed.courier.do_send(Close { is_gone: false });
        }
        let (office, supervisor) = (self.office.clone(), ctx.address());
        Box::pin(async move {
            let idle = async {
                while office.in_flight() > 0 {
                    tokio::time::sleep(PACE).await;
                }
            };
            drop(tokio::time::timeout(LAST_TRIES, idle).await);
            if supervisor.send(ReportAll).await.is_err() {
                tracing::warn!(
                    "the last progress of webhooks was not journaled; some is sent again"
                );
            }
        })
    }
}

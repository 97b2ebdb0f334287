//! Delivers to one endpoint: takes events from the books, sends what is due, and books what came of it.
//!
//! All rules stand in [`Queue`]; this is its hands. It lives on the couriers' own thread, so whatever an endpoint does,
//! neither payments nor the other endpoints wait for it.

use super::{
    NotTested, Office,
    guard::Target,
    post::{self, Parcel, Sent},
};
use crate::{
    clock,
    domain::{
        books::Books,
        id::{EndpointId, PaymentId, Sequence},
        payment::Payment,
        webhook::{Change, DisabledBecause, Due, Endpoint, Queue, Upcoming, Verdict},
    },
    meters::meters,
    telemetry::traces::{self, span},
    wire::{EventBody, Text, Time, Told},
};
use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle,
};
use actix_web::web::Bytes;
use awc::Client;
use serde::Serialize;
use std::{
    rc::{Rc, Weak},
    time::{Duration, Instant},
};
use tracing::Instrument;

/// How many events of a merchant are looked at while the books are held.
const SLICE: usize = 512;
/// How many such slices are looked at before others get a turn.
const SLICES_MAX: usize = 32;
/// When it is looked again while all places for tries are taken.
const FULL: Duration = Duration::from_millis(20);
/// After how long without a try connections are given up.
const IDLE: Duration = Duration::from_secs(5);

/// The actor.
pub(super) struct Courier {
    office: Rc<Office>,
    /// Its settings; the progress in it is not used.
    endpoint: Endpoint,
    queue: Queue,
    /// Connections, while there is something to send.
    client: Option<(Target, Client)>,
    last_sent: Instant,
    alarm: Option<SpawnHandle>,
    /// Held by the test that is under way.
    testing: Weak<()>,
    is_closing: bool,
}

impl Courier {
    /// A courier that goes on where the books say the endpoint is.
    pub(super) fn new(office: Rc<Office>, endpoint: Endpoint, books: &Books) -> Self {
        let (id, progress) = (endpoint.id, endpoint.progress.clone());
        let queue = Queue::new(id, office.terms.clone(), progress, payment_of(books));
        Self {
            office,
            endpoint,
            queue,
            client: None,
            last_sent: Instant::now(),
            alarm: None,
            testing: Weak::new(),
            is_closing: false,
        }
    }

    /// Sends what is due, and sees to it that it is looked again when something is.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.is_closing || self.endpoint.disabled.is_some() {
            return;
        }
        for slice in 0..=SLICES_MAX {
            let places = self.office.places(self.queue.is_healthy());
            if places == 0 {
                self.alarm(FULL, ctx);
                return;
            }
            let (due, looked) = self.look(places);
            let is_idle = due.is_empty() && !looked;
            for (due, told, payment) in due {
                self.send(due, told, &payment, ctx);
            }
            if is_idle {
                break;
            }
            if slice == SLICES_MAX {
                ctx.notify(Wake);
            }
        }
        self.set_alarm(ctx);
    }

    /// Takes a slice of the journal and finds what is to be sent, at most as much as there are `places`. Returns that, and
    /// whether it got on at all.
    fn look(&mut self, places: usize) -> (Vec<(Due, Told, Payment)>, bool) {
        let now = self.office.clock.now();
        let books = self.office.books.read();
        let got_on = books.feed_into(&mut self.queue, self.endpoint.id, now, SLICE);
        let due = std::iter::from_fn(|| self.queue.next(now)).take(places);
        let due = due.filter_map(|due| {
            let event = books.event(due.sequence)?;
            Some((due, Told::of(&event), event.payment()))
        });
        (due.collect(), got_on)
    }

    fn send(&mut self, due: Due, told: Told, payment: &Payment, ctx: &mut Context<Self>) {
        let body = serde_json::to_vec(&EventBody::of(&told, payment, Some(due.number)));
        let Ok(body) = body else {
            tracing::error!(event = %told.id, "an event could not be written as JSON");
            return;
        };
        let sending = self.post(Parcel { id: told.id.to_string(), body: body.into() });
        let courier = ctx.address();
        let span = span!(
            "webhook delivery",
            otel.kind = "client",
            event = %told.id,
            endpoint = %self.endpoint.id,
            attempt = due.attempt,
        );
        traces::go_on(&span, due.sequence);
        let sending = sending.instrument(span);
        let leave_place = self.office.take_place(self.queue.is_healthy());
        actix_rt::spawn(async move {
            let sent = sending.await;
            leave_place();
            courier.do_send(Tried { due, sent });
        });
    }

    /// Posts a parcel, signed with what signs now.
    fn post(&mut self, parcel: Parcel) -> impl Future<Output = Sent> + use<> {
        let office = self.office.clone();
        let now = office.clock.now();
        let secrets = self.endpoint.signing_secrets(now);
        self.last_sent = Instant::now();
        // An address that stands in the URL is checked here, a name at each connection.
        let client = match office.guard.target(&self.endpoint.url) {
            Err(_) => None,
            Ok(target) => {
                let known = self.client.take().filter(|(known, _)| known.uri == target.uri);
                let (target, client) = known.unwrap_or_else(|| {
                    let limits = (office.terms.concurrency, office.timeout);
                    let client = post::client(&office.guard, &target, office.tls.clone(), limits);
                    (target, client)
                });
                let uri = target.uri.clone();
                self.client = Some((target, client.clone()));
                Some((client, uri))
            }
        };
        async move {
            match client {
                Some((client, uri)) => {
                    let limits = (office.clock.clone(), office.timeout);
                    post::send(client, uri, parcel, secrets, limits).await
                }
                None => Sent::forbidden(now),
            }
        }
    }

    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let now = self.office.clock.now();
        let wake = self.queue.wakes_at(now).map(|at| Duration::from_millis(at.millis_since(now)));
        let idle = self.client.is_some().then_some(IDLE);
        match wake.into_iter().chain(idle).min() {
            Some(wait) => self.alarm(wait, ctx),
            None => self.quiet(ctx),
        }
    }

    /// Has it looked again after `wait`, and not at the time that was set before.
    fn alarm(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        self.quiet(ctx);
        self.alarm = Some(ctx.run_later(wait, |courier, ctx| {
            courier.alarm = None;
            if courier.queue.in_flight() == 0 && courier.last_sent.elapsed() >= IDLE {
                courier.client = None;
            }
            courier.pump(ctx);
        }));
    }

    fn quiet(&mut self, ctx: &mut Context<Self>) {
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
    }

    /// Has the endpoint disabled on the books. Until that is written nothing more is sent.
    fn disable(&mut self, reason: DisabledBecause, ctx: &mut Context<Self>) {
        if self.endpoint.disabled.is_some() {
            return;
        }
        self.endpoint.disabled = Some((reason, self.office.clock.now()));
        let (office, courier) = (self.office.clone(), ctx.address());
        let (id, merchant) = (self.endpoint.id, self.endpoint.merchant.clone());
        actix_rt::spawn(async move {
            match office.disable(id, reason).await {
                Ok(()) => {
                    super::alert_endpoint_disabled(&office.alarms, id, &merchant, reason);
                }
                Err(why) => {
                    tracing::warn!(endpoint = %id, %why, "the endpoint could not be disabled; tried again");
                    courier.do_send(NotDisabled);
                }
            }
        });
    }
}

/// Whose event a journal entry makes.
fn payment_of(books: &Books) -> impl Fn(Sequence) -> Option<PaymentId> {
    |sequence| books.event(sequence).map(|event| event.history.details.id)
}

impl Actor for Courier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.pump(ctx);
    }
}

/// There is something new for the endpoint.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Wake;

impl Handler<Wake> for Courier {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.pump(ctx);
    }
}

/// The endpoint was changed on the books.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Refresh(pub(super) Box<Endpoint>);

impl Handler<Refresh> for Courier {
    type Result = ();

    fn handle(&mut self, Refresh(endpoint): Refresh, ctx: &mut Context<Self>) {
        let is_back = self.endpoint.disabled.is_some() && endpoint.disabled.is_none();
        self.endpoint = *endpoint;
        let (known, now) = (self.queue.progress().generation, &self.endpoint.progress);
        if now.generation != known {
            let office = self.office.clone();
            let books = office.books.read();
            match now.replayed.filter(|_| known.wrapping_add(1) == now.generation) {
                Some(replay) => self.queue.rewind(replay, payment_of(&books)),
                None => self.queue.load(now.clone(), payment_of(&books)),
            }
            self.office.mark(self.endpoint.id);
        }
        if is_back {
            self.queue.bring_forward();
            self.office.mark(self.endpoint.id);
        }
        self.pump(ctx);
    }
}

/// One event is to be sent again.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Redeliver {
    pub(super) number: u64,
    pub(super) next: Upcoming,
}

impl Handler<Redeliver> for Courier {
    type Result = ();

    fn handle(&mut self, Redeliver { number, next }: Redeliver, ctx: &mut Context<Self>) {
        self.queue.reopen(number, next);
        self.office.mark(self.endpoint.id);
        self.pump(ctx);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct NotDisabled;

impl Handler<NotDisabled> for Courier {
    type Result = ();

    fn handle(&mut self, _: NotDisabled, ctx: &mut Context<Self>) {
        self.endpoint.disabled = None;
        self.set_alarm(ctx);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Tried {
    due: Due,
    sent: Sent,
}

impl Handler<Tried> for Courier {
    type Result = ();

    fn handle(&mut self, Tried { due, sent }: Tried, ctx: &mut Context<Self>) {
        let (id, now) = (self.endpoint.id, self.office.clock.now());
        self.office.log.note(id, (due.sequence, due.attempt), sent.tried);
        let result = sent.tried.result.error().unwrap_or("delivered");
        let took = Duration::from_millis(sent.tried.latency_ms.into());
        meters().tries.note_time(result, took);
        let dice = rand::random();
        match self.queue.finish(due, sent.tried, sent.retry_after_ms, (now, dice)) {
            Verdict::Delivered | Verdict::Again(_) | Verdict::Stale => {}
            Verdict::Dead => tracing::warn!(
                endpoint = %id, number = due.number, payment = %due.payment,
                "a webhook was given up after its last try; it can be redelivered"
            ),
            Verdict::Gone => self.disable(DisabledBecause::Gone, ctx),
            Verdict::FailingTooLong => self.disable(DisabledBecause::Failing, ctx),
        }
        self.office.mark(id);
        self.pump(ctx);
    }
}

/// What is to be journaled.
#[derive(Message)]
#[rtype(result = "Option<Change>")]
pub(super) struct Report;

impl Handler<Report> for Courier {
    type Result = Option<Change>;

    fn handle(&mut self, _: Report, _: &mut Context<Self>) -> Option<Change> {
        self.queue.report()
    }
}

/// A report could not be journaled.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct TakeBack(pub(super) Change);

impl Handler<TakeBack> for Courier {
    type Result = ();

    fn handle(&mut self, TakeBack(change): TakeBack, _: &mut Context<Self>) {
        self.queue.take_back(change);
        self.office.mark(self.endpoint.id);
    }
}

/// Begin nothing more; for good, if the endpoint is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Close {
    pub(super) is_gone: bool,
}

impl Handler<Close> for Courier {
    type Result = ();

    fn handle(&mut self, Close { is_gone }: Close, ctx: &mut Context<Self>) {
        self.is_closing = true;
        if is_gone {
            ctx.stop();
        }
    }
}

#[derive(Serialize)]
struct TestBody {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Time,
    data: TestData,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TestData {
    endpoint_id: Text<EndpointId>,
}

/// Send an `endpoint.test`, whatever the endpoint's state, and say what came back. One at a time, so that tests, which
/// take no place of deliveries, take up little.
#[derive(Message)]
#[rtype(result = "Result<Sent, NotTested>")]
pub(super) struct Test;

impl Handler<Test> for Courier {
    type Result = ResponseFuture<Result<Sent, NotTested>>;

    fn handle(&mut self, _: Test, _: &mut Context<Self>) -> Self::Result {
        if self.testing.strong_count() > 0 {
            return Box::pin(std::future::ready(Err(NotTested::UnderWay)));
        }
        let under_way = Rc::new(());
        self.testing = Rc::downgrade(&under_way);
        let now = self.office.clock.now();
        let id = format!("evt_{}", clock::new_uuid(now).simple());
        let data = TestData { endpoint_id: Text(self.endpoint.id) };
        let body = TestBody { id: id.clone(), kind: "endpoint.test", timestamp: Time(now), data };
        let body = serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default();
        let sending = self.post(Parcel { id, body });
        Box::pin(async move {
            let sent = sending.await;
            drop(under_way);
            Ok(sent)
        })
    }
}

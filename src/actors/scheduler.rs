//! What happens to payments because time passes: holds lapse, and provider answers that are out are asked for again.
//!
//! It finds its work in the books, so nothing is lost when the process ends. It has no say of its own: it sends the same
//! kind of wish to the payment's actor as a client does. It also sees to it that the operator hears of providers that
//! fail and of payments that a person has to look at.

use super::{
    Engine, Unavailable, inquiry,
    payment::{NotPerformed, Perform, Wish},
};
use crate::domain::{
    id::{PaymentId, Sequence},
    payment::{Payment, Status},
};
use crate::{
    provider::{Line, line::Outside},
    tasks,
};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Who lets holds lapse, in a payment's history.
pub const EXPIRY: &str = "system/expiry";

/// The alarm of a provider that fails.
const PROVIDER_FAILING: &str = "provider.failing";
/// The alarm of payments that a person has to look at.
const NEEDS_REVIEW: &str = "payment.needs_review";

/// How long the server's own work waits after it was told "not now".
const REST: Duration = Duration::from_secs(1);
/// How often it looks.
pub const TICK: Duration = Duration::from_millis(100);
const INQUIRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// The most payments of one provider that are asked about at once, and as many whose holds lapse: a great many due
/// together do not crowd out clients, and a provider that hangs holds up nobody else's.
const PLACES: usize = 64;
/// The most lapsed holds that are looked at in one tick.
const LAPSED_MAX: usize = 4096;
/// How long a hold waits that a provider would not let go of.
const PUT_OFF: Duration = Duration::from_secs(30);

/// The actor.
pub struct Scheduler {
    engine: Arc<Engine>,
    inquire_after: Duration,
    tick: Duration,
    /// When to ask next about each payment whose answer is out, and how long to wait after that.
    inquiries: HashMap<PaymentId, Inquiry>,
    /// What is being looked after right now, and at which provider.
    under_way: HashMap<PaymentId, (Arc<str>, Due)>,
    /// Told "not now": until then nothing is begun.
    rests_until: Option<Instant>,
    /// Holds that could not lapse because of their provider, and until when they wait.
    put_off: HashMap<PaymentId, Instant>,
    /// How many payments the operator was told of that need a person.
    told_in_review: usize,
    /// Which providers the operator was told of that fail.
    told_failing: Vec<Arc<str>>,
}

/// What is due for a payment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    /// A provider is asked what became of what was out after entry `seen`.
    Inquiry { seen: Sequence },
    /// The hold lapses.
    Expiry,
}

/// How many more payments of a provider may be looked after. One that is not configured any more has one of each.
struct Places {
    inquiries: usize,
    expiries: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self { inquiries: 1, expiries: 1 }
    }
}

#[derive(Clone, Copy)]
struct Inquiry {
    due: Instant,
    delay: Duration,
}

impl Scheduler {
    /// A scheduler that asks for an unknown outcome after `inquire_after`, then at growing intervals of at most a
    /// minute. It looks every `tick`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, inquire_after: Duration, tick: Duration) -> Self {
        Self {
            engine,
            inquire_after,
            tick,
            inquiries: HashMap::new(),
            under_way: HashMap::new(),
            rests_until: None,
            put_off: HashMap::new(),
            told_in_review: 0,
            told_failing: Vec::new(),
        }
    }

    fn look_again(&self, ctx: &mut Context<Self>) {
        let waiting = tasks::sleep(self.tick).into_actor(self);
        ctx.spawn(waiting.map(|(), scheduler, ctx| {
            scheduler.tick(ctx);
            scheduler.look_again(ctx);
        }));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.watch();
        if self.rests_until.is_some_and(|until| tasks::now() < until) {
            return;
        }
        self.engine.calls.forget_the_old();
        for (payment, provider, due) in self.due() {
            self.under_way.insert(payment, (provider, due));
            let engine = self.engine.clone();
            // A task of its own: one that panics ends nothing else.
            let work = tasks::spawn(async move {
                match due {
                    Due::Inquiry { seen } => {
                        inquiry::inquire(&engine, payment, seen).await.map(|()| false)
                    }
                    Due::Expiry => expire(&engine, payment).await,
                }
            });
            let done = work.into_actor(self).map(move |done, scheduler, _| {
                scheduler.under_way.remove(&payment);
                match done {
                    Ok(Err(Unavailable::ProviderUnavailable)) | Ok(Ok(true)) => {
                        scheduler.put_off.insert(payment, tasks::now() + PUT_OFF);
                    }
                    Ok(Ok(false)) => scheduler.note(Ok(())),
                    Ok(Err(unavailable)) => scheduler.note(Err(unavailable)),
                    Err(error) => {
                        tracing::error!(%payment, %error, "looking after a payment died of a bug; tried again");
                    }
                }
            });
            ctx.spawn(done);
        }
    }

    /// Raises and clears the alarms of what only time shows.
    fn watch(&mut self) {
        let alarms = &self.engine.alarms;
        let in_review = self.engine.books.read().in_review_count();
        if in_review > self.told_in_review {
            let detail = format!(
                "{in_review} payments need a person: list them by GET /api/payments?needsReview=true, find out at the \
                 provider what is true, and tell it by POST /api/payments/{{id}}/resolve"
            );
            alarms.raise(NEEDS_REVIEW, &detail);
        } else if in_review == 0 && self.told_in_review > 0 {
            alarms.clear(NEEDS_REVIEW);
        }
        self.told_in_review = in_review;
        let failing = |line: &Line| line.as_outside().is_some_and(Outside::is_failing);
        let failing = self.engine.lines.all().filter(|(_, line)| failing(line));
        let failing: Vec<Arc<str>> = failing.map(|(name, _)| name.clone()).collect();
        if failing == self.told_failing {
            return;
        }
        if failing.is_empty() {
            alarms.clear(PROVIDER_FAILING);
        } else {
            let detail = format!(
                "{} fails: new payments go to another provider or get 503 until it answers again; what is in doubt is \
                 asked for on and on",
                failing.join(", ")
            );
            alarms.raise(PROVIDER_FAILING, &detail);
        }
        self.told_failing = failing;
    }

    /// One line when it begins and one when it is over, however many payments wait.
    fn note(&mut self, done: Result<(), Unavailable>) {
        match (done, self.rests_until) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                tracing::info!("holds lapse and providers are asked again as before");
                self.rests_until = None;
            }
            (Err(unavailable), before) => {
                if before.is_none() {
                    tracing::warn!(
                        %unavailable,
                        "holds that lapse and answers of providers wait; tried again every second"
                    );
                }
                self.rests_until = Some(tasks::now() + REST);
            }
        }
    }

    /// How many more payments of each provider may be looked after.
    fn places(&self) -> HashMap<Arc<str>, Places> {
        let places_of = |line: &Line| {
            let half = line.as_outside().map_or(PLACES, |outside| outside.in_flight_max() / 2);
            Places { inquiries: half.clamp(1, PLACES), expiries: PLACES }
        };
        let all = self.engine.lines.all();
        let mut places: HashMap<_, _> =
            all.map(|(name, line)| (name.clone(), places_of(line))).collect();
        for (provider, due) in self.under_way.values() {
            let place = places.entry(provider.clone()).or_default();
            match due {
                Due::Inquiry { .. } => place.inquiries = place.inquiries.saturating_sub(1),
                Due::Expiry => place.expiries = place.expiries.saturating_sub(1),
            }
        }
        places
    }

    fn due(&mut self) -> Vec<(PaymentId, Arc<str>, Due)> {
        let mut places = self.places();
        let books = self.engine.books.read();
        let seen = books.position().sequence;
        let mut due = Vec::new();
        let now = tasks::now();
        let mut still_out = HashMap::new();
        for history in books.in_doubt() {
            let id = history.details.id;
            let first = Inquiry { due: now + self.inquire_after, delay: self.inquire_after };
            let mut inquiry = self.inquiries.get(&id).copied().unwrap_or(first);
            // While a client's command is at work, its call may be the only one of its attempt so far.
            let is_due = inquiry.due <= now
                && !self.under_way.contains_key(&id)
                && !self.engine.registry.is_awake(id);
            if is_due {
                let provider = history.provider();
                let inquiries = &mut places.entry(provider.clone()).or_default().inquiries;
                if *inquiries > 0 {
                    *inquiries -= 1;
                    due.push((id, provider, Due::Inquiry { seen }));
                    inquiry.delay = inquiry.delay.saturating_mul(2).min(INQUIRY_DELAY_MAX);
                    inquiry.due = now + inquiry.delay;
                }
            }
            still_out.insert(id, inquiry);
        }
        self.inquiries = still_out;
        self.put_off.retain(|_, until| now < *until);
        let waits =
            |id: &PaymentId| self.under_way.contains_key(id) || self.put_off.contains_key(id);
        let lapsed = books.lapsed(self.engine.clock.now());
        for history in lapsed.filter(|it| !waits(&it.details.id)).take(LAPSED_MAX) {
            let provider = history.provider();
            let expiries = &mut places.entry(provider.clone()).or_default().expiries;
            if *expiries > 0 {
                *expiries -= 1;
                due.push((history.details.id, provider, Due::Expiry));
            }
        }
        due
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look_again(ctx);
    }
}

/// Lets a hold lapse, and says whether it holds still. Says "not now" as an error; all else is settled or is found again
/// at a later tick.
async fn expire(engine: &Arc<Engine>, id: PaymentId) -> Result<bool, Unavailable> {
    // A hold waits until there is room to book its end.
    let _room = engine.admission.reserve(0, &engine.books)?;
    match engine.perform(id, Perform::by_system(Wish::Expire, EXPIRY)).await {
        Ok(Some(Payment { status, .. })) => {
            tracing::info!(payment = %id, status = status.name(), by = EXPIRY, "payment looked after");
            return Ok(status == Status::Authorized);
        }
        Ok(None) => tracing::error!(payment = %id, "a payment on the schedule is not on the books"),
        // A client was faster, and the payment stands where its command left it.
        Err(NotPerformed::Refused(refusal)) => {
            tracing::debug!(payment = %id, %refusal, "nothing left to do");
            return Ok(true);
        }
        Err(NotPerformed::Breach(breach)) => {
            tracing::warn!(payment = %id, %breach, "another writer was faster; looked at again");
        }
        Err(NotPerformed::Unavailable(unavailable)) => {
            return Err(unavailable);
        }
    }
    Ok(false)
}

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
    id::PaymentId,
    payment::{Payment, Status},
};
use crate::provider::{Line, line::Outside};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// Who lets holds lapse, in a payment's history.
pub const EXPIRY: &str = "system/expiry";

/// The alarm of a provider that fails.
const PROVIDER_FAILING: &str = "provider.failing";
/// The alarm of payments that a person has to look at.
const NEEDS_REVIEW: &str = "payment.needs_review";

/// How long the server's own work waits after it was told "not now".
const REST: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);
const INQUIRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// The most payments that are looked after at once, so that a great many due together do not crowd out clients.
const UNDER_WAY_MAX: usize = 256;
/// How many of those places only inquiries may take.
const INQUIRY_PLACES: usize = 64;
/// How long a hold waits that a provider would not let go of.
const PUT_OFF: Duration = Duration::from_secs(30);

/// The actor.
pub struct Scheduler {
    engine: Arc<Engine>,
    inquire_after: Duration,
    /// When to ask next about each payment whose answer is out, and how long to wait after that.
    inquiries: HashMap<PaymentId, Inquiry>,
    /// What is being looked after right now; a slow provider holds up nobody else's payments.
    under_way: HashSet<PaymentId>,
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
    /// A provider is asked what became of what is out.
    Inquiry,
    /// The hold lapses.
    Expiry,
}

#[derive(Clone, Copy)]
struct Inquiry {
    due: Instant,
    delay: Duration,
}

impl Scheduler {
    /// A scheduler that asks for an unknown outcome after `inquire_after`, then at growing intervals of at most a
    /// minute.
    #[must_use]
    pub fn new(engine: Arc<Engine>, inquire_after: Duration) -> Self {
        Self {
            engine,
            inquire_after,
            inquiries: HashMap::new(),
            under_way: HashSet::new(),
            rests_until: None,
            put_off: HashMap::new(),
            told_in_review: 0,
            told_failing: Vec::new(),
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.watch();
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        for (payment, due) in self.due() {
            self.under_way.insert(payment);
            let engine = self.engine.clone();
            // A task of its own: one that panics ends nothing else.
            let work = actix_rt::spawn(async move {
                match due {
                    Due::Inquiry => inquiry::inquire(&engine, payment).await.map(|()| None),
                    Due::Expiry => expire(&engine, payment).await,
                }
            });
            let done = work.into_actor(self).map(move |done, scheduler, _| {
                scheduler.under_way.remove(&payment);
                match done {
                    Ok(Err(Unavailable::ProviderUnavailable)) | Ok(Ok(Some(Status::Authorized))) => {
                        scheduler.put_off.insert(payment, Instant::now() + PUT_OFF);
                    }
                    Ok(Ok(_)) => scheduler.note(Ok(())),
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
                self.rests_until = Some(Instant::now() + REST);
            }
        }
    }

    fn due(&mut self) -> Vec<(PaymentId, Due)> {
        let free = UNDER_WAY_MAX.saturating_sub(self.under_way.len());
        let books = self.engine.books.read();
        let mut due = Vec::new();
        let now = Instant::now();
        let mut still_out = HashMap::new();
        for history in books.in_doubt() {
            let id = history.details.id;
            let first = Inquiry { due: now + self.inquire_after, delay: self.inquire_after };
            let mut inquiry = self.inquiries.get(&id).copied().unwrap_or(first);
            // While a client's command is at work, its call may be the only one of its attempt so far.
            let is_free = !self.under_way.contains(&id) && !self.engine.registry.is_awake(id);
            if inquiry.due <= now && due.len() < free && is_free {
                due.push((id, Due::Inquiry));
                inquiry.delay = inquiry.delay.saturating_mul(2).min(INQUIRY_DELAY_MAX);
                inquiry.due = now + inquiry.delay;
            }
            still_out.insert(id, inquiry);
        }
        self.inquiries = still_out;
        // Money in doubt comes first: holds that lapse never take the last places.
        let left = free.saturating_sub(due.len()).saturating_sub(INQUIRY_PLACES);
        self.put_off.retain(|_, until| now < *until);
        let waits = |id: &PaymentId| self.under_way.contains(id) || self.put_off.contains_key(id);
        let lapsed = books.lapsed(self.engine.clock.now()).filter(|id| !waits(id));
        due.extend(lapsed.take(left).map(|id| (id, Due::Expiry)));
        due
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, Self::tick);
    }
}

/// Lets a hold lapse, and says in which status that left the payment. Says "not now" as an error; all else is settled or
/// is found again at a later tick.
async fn expire(engine: &Arc<Engine>, id: PaymentId) -> Result<Option<Status>, Unavailable> {
    // A hold waits until there is room to book its end.
    let _room = engine.admission.reserve(0, &engine.books)?;
    match engine.perform(id, Perform::by_system(Wish::Expire, EXPIRY)).await {
        Ok(Some(Payment { status, .. })) => {
            tracing::info!(payment = %id, status = status.name(), by = EXPIRY, "payment looked after");
            return Ok(Some(status));
        }
        Ok(None) => tracing::error!(payment = %id, "a payment on the schedule is not on the books"),
        // A client was faster, and the payment stands where its command left it.
        Err(NotPerformed::Refused(refusal)) => {
            tracing::debug!(payment = %id, %refusal, "nothing left to do");
        }
        Err(NotPerformed::Breach(breach)) => {
            tracing::warn!(payment = %id, %breach, "another writer was faster; looked at again");
        }
        Err(NotPerformed::Unavailable(unavailable)) => {
            return Err(unavailable);
        }
    }
    Ok(None)
}

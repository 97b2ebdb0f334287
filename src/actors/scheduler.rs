//! What happens to payments because time passes: holds lapse, and provider answers that are out are asked for again.
//!
//! It finds its work in the books, so nothing is lost when the process ends. It has no say of its own: it sends the same
//! kind of wish to the payment's actor as a client does.

use super::{
    Engine, Unavailable,
    payment::{NotPerformed, Perform, Wish},
};
use crate::domain::{id::PaymentId, payment::Payment};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// Who lets holds lapse, in a payment's history.
pub const EXPIRY: &str = "system/expiry";
/// Who asks providers again, in a payment's history.
pub const INQUIRY: &str = "system/inquiry";

/// How long the server's own work waits after it was told "not now".
const REST: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);
const INQUIRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// The most payments that are looked after at once, so that a great many due together do not crowd out clients.
const UNDER_WAY_MAX: usize = 256;
/// How many of those places only inquiries may take.
const INQUIRY_PLACES: usize = 64;

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
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        for (payment, wish) in self.due() {
            self.under_way.insert(payment);
            let engine = self.engine.clone();
            let work = async move { carry_out(&engine, payment, wish).await };
            let done = work.into_actor(self).map(move |done, scheduler, _| {
                scheduler.under_way.remove(&payment);
                scheduler.note(done);
            });
            ctx.spawn(done);
        }
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

    fn due(&mut self) -> Vec<(PaymentId, Wish)> {
        let free = UNDER_WAY_MAX.saturating_sub(self.under_way.len());
        let books = self.engine.books.read();
        let mut due = Vec::new();
        let now = Instant::now();
        let mut still_out = HashMap::new();
        for history in books.processing() {
            let id = history.details.id;
            let first = Inquiry { due: now + self.inquire_after, delay: self.inquire_after };
            let mut inquiry = self.inquiries.get(&id).copied().unwrap_or(first);
            if inquiry.due <= now && due.len() < free && !self.under_way.contains(&id) {
                due.push((id, Wish::Inquire));
                inquiry.delay = inquiry.delay.saturating_mul(2).min(INQUIRY_DELAY_MAX);
                inquiry.due = now + inquiry.delay;
            }
            still_out.insert(id, inquiry);
        }
        self.inquiries = still_out;
        // Money in doubt comes first: holds that lapse never take the last places.
        let left = free.saturating_sub(due.len()).saturating_sub(INQUIRY_PLACES);
        let lapsed = books.lapsed(self.engine.clock.now());
        let lapsed = lapsed.filter(|id| !self.under_way.contains(id));
        due.extend(lapsed.take(left).map(|id| (id, Wish::Expire)));
        due
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, Self::tick);
    }
}

/// Says "not now" as an error; all else is settled or is found again at a later tick.
async fn carry_out(engine: &Arc<Engine>, id: PaymentId, wish: Wish) -> Result<(), Unavailable> {
    let lapses = matches!(wish, Wish::Expire);
    let part = if lapses { EXPIRY } else { INQUIRY };
    // For an answer that is out the room is set aside already. A hold waits until there is room to book its end.
    let _room = lapses.then(|| engine.admission.reserve(0, &engine.books)).transpose()?;
    match engine.perform(id, Perform::by_system(wish, part)).await {
        Ok(Some(Payment { status, .. })) => {
            tracing::info!(payment = %id, status = status.name(), by = part, "payment looked after");
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
    Ok(())
}

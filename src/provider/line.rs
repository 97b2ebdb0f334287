//! The line to one provider: what bounds the harm that a slow or failing one does to everything else.
//!
//! A provider that acts outside has a thread of its own, with its connections. At most so many calls are under way at
//! once, none takes longer than its deadline, and after some failures in a row nothing new is begun but one attempt now
//! and then, until a call succeeds. What has begun is never cut short by that, and looking for what became of it always
//! goes through; that says nothing about whether the provider takes new payments, and does not count.

use super::{Answer, Call, Message, News, NotRead, Provider, Terms, ask};
use crate::{
    config::SANDBOX,
    domain::payment::operation,
    meters::{self, meters},
    tasks,
    telemetry::traces::span,
};
use std::{
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tracing::{Instrument, Span, field::Empty};

/// How much a provider is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The most calls at once.
    pub in_flight_max: usize,
    /// How long a call may take before its answer counts as unknown.
    pub deadline: Duration,
    /// A call that takes longer is a failure for the breaker, whatever it says.
    pub slow_after: Duration,
    /// After how many failures in a row the breaker opens.
    pub failures_max: u32,
    /// How long an open breaker waits before it lets one new attempt through.
    pub rest: Duration,
}

/// The way to a provider.
pub enum Line {
    /// To one that acts nowhere outside: it needs no thread and no bounds, and what it does is on record by being booked.
    Inside(Box<dyn Provider + Send + Sync>),
    /// To one that moves money elsewhere.
    Outside(Outside),
}

/// The way to a provider that moves money elsewhere.
pub struct Outside {
    name: Arc<str>,
    calls: mpsc::UnboundedSender<(Task, Span)>,
    terms: Terms,
    pace: Pace,
    places: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
}

/// The right to make one call. Dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Nothing new is begun with this provider now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

thread_local! {
    /// The name of the one provider inside, on each thread for itself: its count of owners is nobody else's to change.
    static INSIDE: Arc<str> = Arc::from(SANDBOX);
}

enum Task {
    Ask(Call, oneshot::Sender<Answer>),
    LookUp(Call, oneshot::Sender<Answer>),
    Read(Message, oneshot::Sender<Result<Vec<News>, NotRead>>),
}

impl Line {
    /// A line to the provider that `make` makes, on a thread of its own.
    #[must_use]
    pub fn outside<P: Provider + 'static>(
        name: Arc<str>,
        terms: Terms,
        pace: Pace,
        make: impl FnOnce() -> P + Send + 'static,
    ) -> Self {
        let (calls, mut asked) = mpsc::unbounded_channel();
        let deadline = pace.deadline;
        tasks::beside(move || {
            let provider = Rc::new(make());
            async move {
                while let Some((task, span)) = asked.recv().await {
                    let provider = provider.clone();
                    let carrying = async move { carry_out(&*provider, task, deadline).await };
                    tasks::spawn(carrying.instrument(span));
                }
            }
        });
        let places = Arc::new(Semaphore::new(pace.in_flight_max));
        let breaker = Mutex::default();
        Self::Outside(Outside { name, calls, terms, pace, places, breaker })
    }

    /// What the provider promises.
    #[must_use]
    pub fn terms(&self) -> Terms {
        match self {
            Self::Inside(provider) => provider.terms(),
            Self::Outside(outside) => outside.terms,
        }
    }

    /// The line, if the provider moves money elsewhere.
    #[must_use]
    pub fn as_outside(&self) -> Option<&Outside> {
        match self {
            Self::Inside(_) => None,
            Self::Outside(outside) => Some(outside),
        }
    }

    /// Asks for what an attempt is about. Returns within the deadline.
    pub async fn ask(&self, call: &Call) -> Answer {
        let asking = async {
            match self {
                Self::Inside(provider) => ask(&**provider, call).await,
                Self::Outside(outside) => outside.ask(call).await,
            }
        };
        self.observed(operation(call.action, call.details.capture), asking).await
    }

    /// Asks what is on record about an attempt. Returns within the deadline.
    pub async fn look_up(&self, call: &Call) -> Answer {
        let asking = async {
            match self {
                Self::Inside(provider) => provider.look_up(call).await,
                Self::Outside(line) => line.call(|reply| Task::LookUp(call.clone(), reply)).await,
            }
        };
        self.observed("look_up", asking).await
    }

    /// Counts a call, and makes it a span of the trace that is followed.
    async fn observed(
        &self,
        operation: &'static str,
        asking: impl Future<Output = Answer>,
    ) -> Answer {
        let began = tasks::now();
        let mut counting = Counting { line: self, operation, began, outcome: "not_awaited" };
        let span = span!(
            "provider call",
            otel.kind = "client",
            provider = self.name(),
            operation,
            outcome = Empty
        );
        let answer = asking.instrument(span.clone()).await;
        counting.outcome = answer.name();
        span.record("outcome", counting.outcome);
        answer
    }

    fn name(&self) -> &str {
        match self {
            Self::Inside(_) => SANDBOX,
            Self::Outside(outside) => &outside.name,
        }
    }

    /// Checks and reads a message of the provider's own.
    ///
    /// # Errors
    /// Why it was not read.
    pub async fn read(&self, message: Message) -> Result<Vec<News>, NotRead> {
        match self {
            Self::Inside(provider) => provider.read(&message).await,
            Self::Outside(outside) => {
                let (reply, read) = oneshot::channel();
                outside.send(Task::Read(message, reply));
                read.await.unwrap_or(Err(NotRead::Unavailable))
            }
        }
    }
}

/// A call that is counted when it ends, also if nobody waits for that any more.
struct Counting<'a> {
    line: &'a Line,
    operation: &'static str,
    began: Instant,
    outcome: &'static str,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        let provider = match self.line {
            Line::Inside(_) => INSIDE.with(Arc::clone),
            Line::Outside(outside) => outside.name.clone(),
        };
        let call = meters::Call { provider, operation: self.operation, outcome: self.outcome };
        let took = tasks::now().saturating_duration_since(self.began);
        meters().calls.note_time(call, took);
    }
}

impl Outside {
    /// Lets a new attempt begin.
    ///
    /// # Errors
    /// Not now: too many calls are under way, or the provider fails.
    pub fn admit(&self) -> Result<Place, Closed> {
        let permit = self.places.clone().try_acquire_owned().map_err(|_| Closed)?;
        self.breaker().admit(tasks::now(), self.pace.rest)?;
        Ok(Place { _permit: permit })
    }

    /// A place for a call about an attempt that has begun; waits for one.
    pub async fn place(&self) -> Option<Place> {
        let permit = self.places.clone().acquire_owned().await.ok()?;
        Some(Place { _permit: permit })
    }

    /// Whether the breaker is open: new attempts are refused, or let through one at a time.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.breaker().opened.is_some()
    }

    /// The most calls at once.
    #[must_use]
    pub fn in_flight_max(&self) -> usize {
        self.pace.in_flight_max
    }

    /// How many calls are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.pace.in_flight_max.saturating_sub(self.places.available_permits())
    }

    async fn call(&self, task: impl FnOnce(oneshot::Sender<Answer>) -> Task) -> Answer {
        let (reply, answered) = oneshot::channel();
        self.send(task(reply));
        let lost = || Answer::unknown("the call was lost to a bug; see the log");
        answered.await.unwrap_or_else(|_| lost())
    }

    async fn ask(&self, call: &Call) -> Answer {
        let began = tasks::now();
        let answer = self.call(|reply| Task::Ask(call.clone(), reply)).await;
        let slow = tasks::now().saturating_duration_since(began) > self.pace.slow_after;
        let failed = match &answer {
            Answer::Done { .. } | Answer::Declined { .. } | Answer::Absent | Answer::Working => {
                slow
            }
            Answer::NotProcessed { .. } | Answer::Unknown { .. } => true,
        };
        self.breaker().note(failed, self.pace.failures_max, tasks::now() + self.pace.rest);
        answer
    }

    fn send(&self, task: Task) {
        if self.calls.send((task, Span::current())).is_err() {
            tracing::error!(
                "the thread of a provider has ended; start the server again and report it"
            );
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn carry_out(provider: &dyn Provider, task: Task, deadline: Duration) {
    let late = || Answer::unknown("the provider did not answer before the deadline");
    // Whoever asked has gone only if its task died; the attempt is looked after later.
    match task {
        Task::Ask(call, reply) => {
            let answer = tasks::timeout(deadline, ask(provider, &call)).await;
            drop(reply.send(answer.unwrap_or_else(|_| late())));
        }
        Task::LookUp(call, reply) => {
            let answer = tasks::timeout(deadline, provider.look_up(&call)).await;
            drop(reply.send(answer.unwrap_or_else(|_| late())));
        }
        Task::Read(message, reply) => {
            let read = tasks::timeout(deadline, provider.read(&message)).await;
            drop(reply.send(read.unwrap_or(Err(NotRead::Unavailable))));
        }
    }
}

/// Counts failures in a row.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// Since it has been open: when the next new attempt is let through.
    opened: Option<Instant>,
}

impl Breaker {
    fn admit(&mut self, now: Instant, rest: Duration) -> Result<(), Closed> {
        match self.opened {
            None => Ok(()),
            Some(until) if now < until => Err(Closed),
            Some(_) => {
                self.opened = Some(now + rest);
                Ok(())
            }
        }
    }

    fn note(&mut self, failed: bool, failures_max: u32, rests_until: Instant) {
        if !failed {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= failures_max && self.opened.is_none() {
            self.opened = Some(rests_until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_opens_after_failures_in_a_row_lets_one_through_at_a_time_and_closes_on_success() {
        let (now, rest) = (Instant::now(), Duration::from_secs(5));
        let mut breaker = Breaker::default();
        for _ in 0..2 {
            breaker.note(true, 3, now + rest);
        }
        breaker.note(false, 3, now + rest);
        for _ in 0..2 {
            breaker.note(true, 3, now + rest);
            assert_eq!(breaker.admit(now, rest), Ok(()), "not three in a row");
        }
        breaker.note(true, 3, now + rest);
        assert_eq!(breaker.admit(now + rest - Duration::from_millis(1), rest), Err(Closed));
        assert_eq!(breaker.admit(now + rest, rest), Ok(()));
        assert_eq!(breaker.admit(now + rest, rest), Err(Closed), "one at a time");
        breaker.note(true, 3, now + rest);
        assert_eq!(breaker.admit(now + rest, rest), Err(Closed));
        breaker.note(false, 3, now + rest);
        assert_eq!(breaker.admit(now, rest), Ok(()));
    }
}

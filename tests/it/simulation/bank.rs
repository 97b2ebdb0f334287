//! The provider, and its own record of what it did. It outlives the server, forgets keys when their window is over, and
//! does whatever it is asked that it has not done under that key: how often and how much is for the audit to judge.

use super::world::Time;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use strongroom::{
    domain::{
        event::{Action, CaptureMode, Decline},
        id::{DerivedId, PaymentId, Sequence},
        money::Amount,
    },
    provider::{
        Answer, Answering, Call, ChargeState, Fact, Message, News, NotRead, Provider, Reading,
        RefundState, Terms,
    },
};
use tokio::sync::oneshot;

/// How long the bank knows keys.
pub const KEY_WINDOW: Duration = Duration::from_secs(24 * 60);
/// The longest that a call is on its way: less than after what time the terms say that it is on record.
const ON_ITS_WAY_MAX: u64 = 50_000;

/// What was done with money.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The client's own name for the payment.
    pub who: Box<str>,
    pub payment: PaymentId,
    pub attempt: DerivedId,
    pub action: Action,
    pub amount: i64,
    pub manual: bool,
    pub reference: Box<str>,
}

/// What became of a key, and when it was first used.
#[derive(Clone)]
struct Known {
    answer: Answer,
    since: u64,
    /// Until then the bank says that it is working on it.
    working_until: u64,
}

enum Due {
    /// A call gets there.
    Arrival(Arc<str>, Box<Call>, Option<oneshot::Sender<Answer>>),
    /// An answer gets back.
    Reply(Box<Call>, Answer, oneshot::Sender<Answer>),
}

/// An answer that reached the server.
#[derive(Clone, Copy)]
pub struct Told {
    pub payment: PaymentId,
    pub attempt: Sequence,
    /// When it did, in steady milliseconds: a machine that slept hears nothing before it wakes.
    pub at: u64,
}

/// How the bank behaves.
#[derive(Clone, Copy)]
pub struct Mood {
    /// Per mille of calls that are slow, lost, declined, and not processed.
    pub slow: u32,
    /// How long one that is not slow is on its way, each way, in milliseconds.
    pub fast: (u64, u64),
    pub lost: u32,
    pub declines: u32,
    pub refuses: u32,
    pub looks_up: bool,
    /// Whether it forgets keys when their window is over.
    pub forgets: bool,
}

impl Mood {
    /// Nothing goes wrong any more.
    pub fn calm(&mut self) {
        (self.slow, self.lost, self.refuses, self.looks_up) = (0, 0, 0, true);
    }
}

pub struct Ledger {
    time: Arc<Time>,
    /// When what is being done happens.
    now: u64,
    dice: SmallRng,
    pub mood: Mood,
    pub effects: Vec<Effect>,
    keys: HashMap<DerivedId, Known>,
    due: BTreeMap<(u64, u64), Due>,
    number: u64,
    news: Vec<(Arc<str>, News)>,
    /// Answers that are certain, reached the server and have not been seen on the books.
    pub told: Vec<Told>,
}

/// The bank, under one of its names. Clones share it.
#[derive(Clone)]
pub struct Bank {
    ledger: Arc<Mutex<Ledger>>,
    name: Arc<str>,
}

impl Bank {
    pub fn new(time: Arc<Time>, mood: Mood, seed: u64) -> Self {
        let ledger = Ledger {
            time,
            now: 0,
            dice: SmallRng::seed_from_u64(seed),
            mood,
            effects: Vec::new(),
            keys: HashMap::new(),
            due: BTreeMap::new(),
            number: 0,
            news: Vec::new(),
            told: Vec::new(),
        };
        Self { ledger: Arc::new(Mutex::new(ledger)), name: "".into() }
    }

    /// The same bank under another name: to the server, another provider.
    pub fn named(&self, name: &str) -> Self {
        Self { ledger: self.ledger.clone(), name: name.into() }
    }

    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    pub fn terms(&self) -> Terms {
        Terms { key_window: KEY_WINDOW, looks_up: self.lock().mood.looks_up }
    }

    /// Does what is due by now.
    pub fn work(&self) {
        loop {
            let mut ledger = self.lock();
            let now = ledger.time.steady();
            let first = ledger.due.first_entry();
            let Some(entry) = first.filter(|entry| entry.key().0 <= now) else { return };
            let at = entry.key().0;
            let due = entry.remove();
            ledger.now = at;
            match due {
                Due::Arrival(name, call, reply) => ledger.arrive(name, call, reply),
                Due::Reply(call, answer, reply) => ledger.answer(&call, answer, reply),
            }
        }
    }

    /// One message that the bank sends by itself: about anything that it has on record, any number of times.
    pub fn tell(&self) -> Option<(Arc<str>, News)> {
        let mut ledger = self.lock();
        let count = ledger.news.len();
        let place = (count > 0).then(|| ledger.dice.random_range(0..count))?;
        ledger.news.get(place).cloned()
    }

    fn ask(&self, call: &Call) -> Answering<'static> {
        let mut ledger = self.lock();
        ledger.now = ledger.time.steady();
        let answered = ledger.take(&self.name, call);
        Box::pin(async move {
            match answered.await {
                Ok(answer) => answer,
                // Its answer is lost: the line's deadline ends the wait.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Ledger {
    fn chance(&mut self, per_mille: u32) -> bool {
        self.dice.random_range(0..1000) < per_mille
    }

    pub fn next_due(&self) -> Option<u64> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    fn plan(&mut self, after: u64, due: Due) {
        self.number += 1;
        self.due.insert((self.now + after, self.number), due);
    }

    fn delay(&mut self) -> u64 {
        match self.chance(self.mood.slow) {
            true => self.dice.random_range(0..ON_ITS_WAY_MAX),
            false => self.dice.random_range(self.mood.fast.0..=self.mood.fast.1),
        }
    }

    fn take(&mut self, name: &Arc<str>, call: &Call) -> oneshot::Receiver<Answer> {
        let (reply, answered) = oneshot::channel();
        if self.chance(self.mood.lost) {
            // It never gets there.
            return answered;
        }
        let after = self.delay();
        self.plan(after, Due::Arrival(name.clone(), Box::new(call.clone()), Some(reply)));
        answered
    }

    fn arrive(&mut self, name: Arc<str>, call: Box<Call>, reply: Option<oneshot::Sender<Answer>>) {
        let answer = self.process(&name, &call);
        if self.keys.contains_key(&call.attempt) && self.chance(self.mood.lost) {
            // It gets there twice.
            let again = self.delay();
            self.plan(again, Due::Arrival(name, call.clone(), None));
        }
        let is_lost = self.chance(self.mood.lost);
        if let Some(reply) = reply.filter(|_| !is_lost) {
            let after = self.delay();
            self.plan(after, Due::Reply(call, answer, reply));
        }
    }

    fn answer(&mut self, call: &Call, answer: Answer, reply: oneshot::Sender<Answer>) {
        let is_certain = matches!(answer, Answer::Done { .. });
        let is_heard = reply.send(answer).is_ok();
        if is_certain && is_heard {
            let attempt = call.attempt.sequence;
            let at = self.time.steady();
            self.told.push(Told { payment: call.details.id, attempt, at });
        }
    }

    /// What the bank does, once per key as long as it knows the key.
    fn process(&mut self, name: &Arc<str>, call: &Call) -> Answer {
        let now = self.now;
        let window = u64::try_from(KEY_WINDOW.as_millis()).unwrap();
        if let Some(known) = self.keys.get(&call.attempt)
            && (now - known.since < window || !self.mood.forgets)
        {
            return known.now(now);
        }
        if self.chance(self.mood.refuses) {
            return Answer::NotProcessed { code: "busy".into() };
        }
        let answer = if self.chance(self.mood.declines) {
            Answer::Declined { decline: Decline::CardDeclined, code: "51".into() }
        } else {
            self.act(name, call)
        };
        let working = if self.chance(self.mood.slow / 4) { 60_000 } else { 0 };
        let known = Known { answer, since: now, working_until: now + working };
        self.keys.insert(call.attempt, known.clone());
        known.now(now)
    }

    fn act(&mut self, name: &Arc<str>, call: &Call) -> Answer {
        let manual = call.details.capture == CaptureMode::Manual;
        let amount = match call.action {
            Action::Authorize => call.details.amount.minor_units(),
            Action::Capture { amount, .. } | Action::Refund { amount } => amount.minor_units(),
            Action::Void | Action::Expire => 0,
        };
        let letting = matches!(call.action, Action::Void | Action::Expire | Action::Capture { .. });
        let is_gone = |effect: &Effect| {
            effect.payment == call.details.id
                && matches!(effect.action, Action::Void | Action::Expire | Action::Capture { .. })
        };
        if letting && self.effects.iter().any(is_gone) {
            return Answer::Declined { decline: Decline::AuthorizationGone, code: "gone".into() };
        }
        let reference = match call.action {
            Action::Authorize => format!("ch_{}", self.effects.len()).into(),
            Action::Refund { .. } => format!("re_{}", self.effects.len()).into(),
            _ => call.reference.clone(),
        };
        let effect = Effect {
            who: call.details.description.clone().unwrap_or_default(),
            payment: call.details.id,
            attempt: call.attempt,
            action: call.action,
            amount,
            manual,
            reference,
        };
        self.announce(name, &effect, call);
        let reference = effect.reference.clone();
        self.effects.push(effect);
        Answer::Done { reference, amount }
    }

    fn announce(&mut self, name: &Arc<str>, effect: &Effect, call: &Call) {
        let (attempt, reference) = (Some(effect.attempt), effect.reference.clone());
        let charge = |state| Fact::Charge { attempt: None, reference: reference.clone(), state };
        let fact = match effect.action {
            Action::Authorize if effect.manual => Fact::Charge {
                attempt,
                reference: reference.clone(),
                state: ChargeState::Held(effect.amount),
            },
            Action::Authorize => Fact::Charge {
                attempt,
                reference: reference.clone(),
                state: ChargeState::Taken(effect.amount),
            },
            Action::Capture { .. } => charge(ChargeState::Taken(effect.amount)),
            Action::Void | Action::Expire => charge(ChargeState::Released),
            Action::Refund { .. } => {
                Fact::Refund { attempt, reference, amount: effect.amount, state: RefundState::Done }
            }
        };
        let news = News {
            event: format!("evt_{}", self.news.len()).into(),
            payment: Some(effect.payment),
            currency: Some(call.details.currency),
            fact,
        };
        self.news.push((name.clone(), news));
    }

    /// What is on record of an attempt.
    fn on_record(&self, call: &Call) -> Answer {
        let now = self.time.steady();
        if let Some(known) = self.keys.get(&call.attempt)
            && now < known.working_until
        {
            return Answer::Working;
        }
        let done = self.effects.iter().rev().find(|effect| effect.attempt == call.attempt);
        match (done, self.keys.get(&call.attempt)) {
            (Some(effect), _) => {
                Answer::Done { reference: effect.reference.clone(), amount: effect.amount }
            }
            (None, Some(known)) => known.now(now),
            (None, None) => Answer::Absent,
        }
    }
}

impl Known {
    fn now(&self, now: u64) -> Answer {
        if now < self.working_until { Answer::Working } else { self.answer.clone() }
    }
}

impl Provider for Bank {
    fn terms(&self) -> Terms {
        Self::terms(self)
    }

    fn authorize<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        self.ask(call)
    }

    fn capture<'a>(&'a self, call: &'a Call, _: Amount) -> Answering<'a> {
        self.ask(call)
    }

    fn void<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        self.ask(call)
    }

    fn refund<'a>(&'a self, call: &'a Call, _: Amount) -> Answering<'a> {
        self.ask(call)
    }

    fn look_up<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        let mut ledger = self.lock();
        let lost = ledger.mood.lost;
        if ledger.chance(lost) {
            return Box::pin(async { Answer::unknown("the connection was reset") });
        }
        let answer = ledger.on_record(call);
        Box::pin(async move { answer })
    }

    fn read<'a>(&'a self, _: &'a Message) -> Reading<'a> {
        Box::pin(async { Err(NotRead::Unproven) })
    }
}

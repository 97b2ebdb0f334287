//! The merchant's side: what was asked for, what was answered, and what must be true if the answers are.
//!
//! It knows the server's answers and nothing else of it. Every amount is used once, so that an amount at the bank says
//! whose wish it was.

use super::server::OUTSIDE;
use rand::{RngExt, rngs::SmallRng};
use std::sync::Arc;
use strongroom::{
    actors::{
        Unavailable,
        payment::{Perform, Wish},
    },
    domain::{
        event::{CaptureMode, Details},
        id::PaymentId,
        idempotency::{Fingerprint, Key, Request},
        money::{Amount, Currency},
        payment::{Payment, Status},
    },
    pipeline::{Done, NotDone, Task},
    wire::PaymentBody,
};
use uuid::Uuid;

pub const MERCHANT: &str = "shop";

/// What a client wants.
#[derive(Clone, Copy, Debug)]
pub enum Want {
    Charge { amount: i64, manual: bool, outside: bool },
    Capture { of: usize, amount: Option<i64> },
    Void { of: usize },
    Refund { of: usize, amount: i64 },
}

/// Something a client asks for under a key until it is answered.
#[derive(Debug)]
pub struct Operation {
    pub want: Want,
    /// The first answer, byte for byte; every later one has to be the same.
    pub answer: Option<Answered>,
    /// A rule said no, last time.
    pub refused: bool,
    /// Since it was last asked for, one of its requests ended and the client does not know how.
    pub unheard: bool,
    pub in_flight: usize,
}

impl Operation {
    fn new(want: Want) -> Self {
        Self { want, answer: None, refused: false, unheard: false, in_flight: 0 }
    }

    /// Whether the client knows what became of it. A refusal uses up no key: of two requests under one key, one may be
    /// refused and the other one, which is judged after it, be granted. So a refusal is the last word only if every
    /// request under the key was answered; else the client has to ask again.
    pub fn is_known(&self) -> bool {
        self.answer.is_some() || (self.refused && !self.unheard && self.in_flight == 0)
    }

    /// A request ended, and its answer was lost.
    pub fn lose_answer(&mut self) {
        self.in_flight -= 1;
        self.unheard = true;
    }
}

#[derive(Debug)]
pub struct Answered {
    pub body: String,
    pub payment: PaymentId,
    /// What the body shows.
    pub shown: Payment,
}

/// How a request differs from the operation that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Same,
    /// Under the same key, something else.
    Other,
}

#[derive(Default)]
pub struct Clients {
    pub operations: Vec<Operation>,
    /// Answers that came.
    pub answers: u64,
    pub replays: u64,
    pub mismatches: u64,
    /// No payment goes to the bank.
    pub inside_only: bool,
}

pub fn key_of(number: usize) -> Key {
    Key::new(&format!("key-{number}")).unwrap()
}

pub fn rendered(payment: &Payment) -> String {
    serde_json::to_string(&PaymentBody::of(payment)).unwrap()
}

impl Clients {
    /// Something new to ask for.
    pub fn invent(&mut self, dice: &mut SmallRng) -> usize {
        let number = self.operations.len();
        let step = i64::try_from(number).unwrap();
        let charges: Vec<usize> = (0..number).filter(|it| self.payment_of(*it).is_some()).collect();
        let of = if charges.is_empty() { 0 } else { charges[dice.random_range(0..charges.len())] };
        let want = match dice.random_range(0..10) {
            _ if charges.is_empty() => self.charge(step, dice),
            0..4 => self.charge(step, dice),
            4 => Want::Capture { of, amount: None },
            5 => Want::Capture { of, amount: Some(1 + self.amount_of(of) / 2 + step) },
            6 => Want::Void { of },
            7 if dice.random_bool(0.3) => Want::Refund { of, amount: self.amount_of(of) + 1 },
            7 => Want::Refund { of, amount: self.amount_of(of) - step },
            _ => Want::Refund { of, amount: self.amount_of(of) / 3 + step },
        };
        self.operations.push(Operation::new(want));
        number
    }

    /// A charge.
    pub fn invent_charge(&mut self, outside: bool) -> usize {
        let want = Want::Charge { amount: 10_000, manual: false, outside };
        self.operations.push(Operation::new(want));
        self.operations.len() - 1
    }

    /// A refund of a part of a charge.
    pub fn invent_refund(&mut self, of: usize) -> usize {
        let number = self.operations.len();
        let amount = 1_000 + i64::try_from(number).unwrap();
        let want = Want::Refund { of, amount };
        self.operations.push(Operation::new(want));
        number
    }

    fn charge(&self, step: i64, dice: &mut SmallRng) -> Want {
        let (manual, outside) = (dice.random_bool(0.4), dice.random_bool(0.7));
        let outside = outside && !self.inside_only;
        Want::Charge { amount: 10_000 + 100 * step, manual, outside }
    }

    fn amount_of(&self, charge: usize) -> i64 {
        match self.operations[charge].want {
            Want::Charge { amount, .. } => amount,
            _ => 0,
        }
    }

    /// The payment that a charge made, as far as the client knows.
    pub fn payment_of(&self, number: usize) -> Option<PaymentId> {
        let operation = self.operations.get(number)?;
        let is_charge = matches!(operation.want, Want::Charge { .. });
        operation.answer.as_ref().filter(|_| is_charge).map(|answer| answer.payment)
    }

    /// The request that asks for it.
    pub fn request(&mut self, number: usize, body: Body, dice: &mut SmallRng) -> Task {
        let operation = &mut self.operations[number];
        operation.in_flight += 1;
        (operation.refused, operation.unheard) = (false, false);
        let want = operation.want;
        tracing::info!(number, ?body, ?want, "asked");
        let amount = |units| Amount::new(units);
        let (payment, wish) = match want {
            Want::Charge { amount, manual, outside } => {
                let high = u128::from(dice.random::<u64>()) << 64;
                let id = PaymentId::new(Uuid::from_u128(high | u128::from(dice.random::<u64>())));
                (Some(id), Wish::Submit(details(id, number, (amount, manual, outside))))
            }
            Want::Capture { of, amount: part } => {
                (self.payment_of(of), Wish::Capture(part.and_then(amount)))
            }
            Want::Void { of } => (self.payment_of(of), Wish::Void),
            Want::Refund { of, amount: part } => (
                self.payment_of(of),
                Wish::Refund { amount: amount(part), reason: long_reason(number) },
            ),
        };
        let text = format!("{want:?}{body:?}");
        let request = Request {
            key: key_of(number),
            fingerprint: Fingerprint::of("POST", "/api/payments", text.as_bytes()),
            operation: wish.operation().unwrap(),
        };
        Task {
            merchant: MERCHANT.into(),
            payment: payment.unwrap(),
            perform: Perform::new(wish, "shop/key".into(), Some(request)),
            body_bytes: 100,
            wait_max: std::time::Duration::from_secs(4),
        }
    }

    /// An answer came: it has to be one that may be given.
    pub fn hear(&mut self, (number, body): (usize, Body), result: Result<Done, NotDone>) {
        let said = result.as_ref().map(|done| (done.replayed, done.payment.version));
        tracing::info!(number, ?body, ?said, "heard");
        let operation = &mut self.operations[number];
        operation.in_flight -= 1;
        self.answers += 1;
        match (body, result) {
            (Body::Other, Err(NotDone::KeyReused)) => self.mismatches += 1,
            (Body::Same, Err(NotDone::Unavailable(Unavailable::OutcomeUnknown))) => {
                operation.unheard = true;
            }
            (_, Err(NotDone::Unavailable(_) | NotDone::KeyInProgress)) => {}
            (Body::Other, result) => {
                let said = result.map(|done| rendered(&done.payment));
                panic!("another request under key {number} was not turned down: {said:?}");
            }
            (Body::Same, Ok(done)) => {
                let (body, payment) = (rendered(&done.payment), done.payment.details.id);
                let answered = Answered { body, payment, shown: done.payment };
                self.replays += u64::from(done.replayed);
                match &operation.answer {
                    Some(first) => assert_eq!(
                        first.body, answered.body,
                        "key {number} ({:?}): another answer than before",
                        operation.want
                    ),
                    None => {
                        fits(operation.want, &answered.shown);
                        operation.answer = Some(answered);
                    }
                }
            }
            (Body::Same, Err(NotDone::Refused(refusal))) => {
                assert!(operation.answer.is_none(), "key {number}: taken back by {refusal}");
                operation.refused = true;
            }
            (Body::Same, Err(why)) => panic!("key {number} ({:?}): {why:?}", operation.want),
        }
    }

    /// The connection broke: nobody knows.
    pub fn lose(&mut self) {
        for operation in &mut self.operations {
            operation.unheard |= operation.in_flight > 0;
            operation.in_flight = 0;
        }
    }
}

fn long_reason(number: usize) -> Option<Box<str>> {
    number.is_multiple_of(2).then(|| "r".repeat(450).into())
}

fn details(id: PaymentId, number: usize, wanted: (i64, bool, bool)) -> Arc<Details> {
    let (amount, manual, outside) = wanted;
    Arc::new(Details {
        id,
        merchant: MERCHANT.into(),
        amount: Amount::new(amount).unwrap(),
        currency: Currency::for_payment(if outside { OUTSIDE } else { "USD" }).unwrap(),
        capture: if manual { CaptureMode::Manual } else { CaptureMode::Automatic },
        payment_method: "tok_visa".into(),
        customer: number.is_multiple_of(3).then(|| "customer".into()),
        description: Some(format!("charge-{number}").into()),
        // Entries of one sector, and of several, which a crash may tear.
        metadata: match number % 5 {
            long @ 2.. => Box::new([("note".into(), "n".repeat(long * 400).into())]),
            _ => Box::default(),
        },
        provider: if outside { "first".into() } else { "sandbox".into() },
        hold_ms: if number.is_multiple_of(4) { 90_000 } else { 7 * 24 * 3_600_000 },
    })
}

/// Whether an answer is one to what was asked for.
fn fits(want: Want, payment: &Payment) {
    let amount = payment.details.amount.minor_units();
    match want {
        Want::Charge { amount: asked, manual, .. } => {
            assert_eq!(amount, asked);
            let is_known = payment.status != Status::Processing;
            let taken = if manual || payment.failure.is_some() { 0 } else { asked };
            assert!(!is_known || payment.captured == taken, "{payment:?}");
        }
        Want::Capture { amount: part, .. } => {
            let taken = part.unwrap_or(amount);
            assert!(payment.captured == taken || payment.captured == 0, "{payment:?}");
        }
        Want::Void { .. } => assert_eq!(payment.captured, 0, "{payment:?}"),
        Want::Refund { amount: part, .. } => {
            let is_own =
                |refund: &&strongroom::domain::payment::Refund| refund.amount.minor_units() == part;
            assert_eq!(payment.refunds.iter().filter(is_own).count(), 1, "{payment:?}");
        }
    }
    let within = payment.captured <= amount && payment.refunded <= payment.captured;
    assert!(within && payment.refunded + payment.refunds_out() <= payment.captured, "{payment:?}");
}

//! The rules and the books against a naive model of them, over any sequence of requests, provider answers and retries.
//!
//! `PROPTEST_CASES=n` tries n sequences instead of 256.

mod linearizable;
mod reference;

use proptest::prelude::*;
use reference::{Balances, HOLD_MS, Model, Reply, Said, View, Wish};
use std::sync::Arc;
use strongroom::domain::{
    books::{Books, Cut, Direction, EventFilter},
    command::Command,
    entry::{Batch, Entry, Hash, PaymentRecord, Record},
    event::{CaptureMode, Decline, Details, Event, Evidence, Outcome, Standing},
    id::PaymentId,
    idempotency::{Fingerprint, Key, Operation, Request, Retention},
    ledger,
    money::{Amount, Currency},
    payment::{self, Form, Payment},
    refusal::Refusal,
    time::Timestamp,
};
use uuid::Uuid;

/// The rules and the books, used as the server's actors use them.
#[derive(Default)]
struct Desk {
    books: Books,
    now: u64,
}

fn id(number: usize) -> PaymentId {
    PaymentId::new(Uuid::from_u128(u128::try_from(number).unwrap() + 1))
}

/// A third of the payments name their customer.
fn customer(number: usize) -> String {
    if number.is_multiple_of(3) {
        "customer:anna".into()
    } else {
        format!("customer:{}", id(number))
    }
}

fn outcome(said: Said) -> Option<Outcome> {
    match said {
        Said::Done => Some(Outcome::Approved { reference: "ref".into() }),
        Said::Declined => Some(Outcome::Declined(Decline::CardDeclined)),
        Said::Nothing => None,
    }
}

fn code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::InvalidTransition { .. } => "invalid_transition",
        Refusal::OverCapture { .. } => "amount_exceeds_capturable",
        Refusal::OverRefund { .. } => "amount_exceeds_refundable",
        Refusal::AnswerOut { .. } => "operation_pending",
        Refusal::StillHeld { .. } => "still_authorized",
        other => panic!("{other}"),
    }
}

fn view(payment: &Payment) -> View {
    let details = &payment.details;
    let attempts = payment.attempts.iter().map(|it| {
        let amount = it.amount(details).minor_units();
        (it.operation(details), amount, it.standing.name())
    });
    let refunds = payment.refunds.iter().map(|it| (it.amount.minor_units(), it.standing.name()));
    View {
        status: payment.status.name(),
        captured: payment.captured,
        refunded: payment.refunded,
        capturable: payment.capturable(),
        refunds: refunds.collect(),
        attempts: attempts.collect(),
    }
}

impl Desk {
    fn at(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000 + self.now)
    }

    fn payment(&self, number: usize) -> Payment {
        self.books.history(id(number)).expect("a payment").payment()
    }

    fn write(&mut self, before: &Payment, event: Event, request: Option<Request>) {
        let record = PaymentRecord {
            payment: before.details.id,
            version: before.version + 1,
            actor: "m/test".into(),
            transaction: ledger::transaction(&before.details, &event),
            event,
            request,
            form: Form::default(),
        };
        let at = self.at();
        self.books.check(&record, at).expect("what was decided is allowed");
        let sequence = self.books.position().sequence + 1;
        let entry = Entry { sequence, at, record: Record::Payment(record) };
        self.books.apply(Batch { entries: vec![entry], hash: Hash::default() });
    }

    fn request(
        &mut self,
        (merchant, key): (usize, Option<u8>),
        about: usize,
        wish: Wish,
        said: Said,
    ) -> Reply {
        let fingerprint =
            Fingerprint::of("POST", &format!("/{about}"), format!("{wish:?}").as_bytes());
        let merchant: Arc<str> = format!("m{merchant}").into();
        let request = key.map(|key| Request {
            key: Key::new(&format!("key-{key}")).unwrap(),
            fingerprint,
            operation: Operation::Create,
        });
        if let Some(request) = &request
            && let Some(answered) =
                self.books.answered(&merchant, &request.key, Retention::Forever, self.at())
        {
            return match answered.request.fingerprint == fingerprint {
                true => Reply::Answer(view(&answered.history.payment_at(answered.version))),
                false => Reply::Refused("idempotency_key_reused"),
            };
        }
        match self.carry_out(merchant, about, wish, (said, request)) {
            Ok(()) => Reply::Answer(view(&self.payment(about))),
            Err(refusal) => Reply::Refused(code(refusal)),
        }
    }

    fn carry_out(
        &mut self,
        merchant: Arc<str>,
        about: usize,
        wish: Wish,
        (said, request): (Said, Option<Request>),
    ) -> Result<(), Refusal> {
        let amount = |amount: Option<i64>| amount.map(|units| Amount::new(units).unwrap());
        let before = match wish {
            Wish::Create { amount, manual, outside } => {
                let details = details(about, merchant, amount, manual, outside);
                Payment::pending(details, request.as_ref().map(|request| request.key.clone()))
            }
            _ => self.payment(about),
        };
        let (details, is_outside) = (before.details.clone(), &*before.provider == "outside");
        let change = match wish {
            Wish::Create { .. } if is_outside => Command::Initiate(details),
            Wish::Create { .. } => {
                let said = if said == Said::Declined { said } else { Said::Done };
                Command::Submit { details, outcome: outcome(said) }
            }
            Wish::Capture(units) => Command::Capture(amount(units)),
            Wish::Void => Command::Void,
            Wish::Expire => Command::Expire,
            Wish::Refund(units) => Command::Refund { amount: amount(units), reason: None },
        };
        let command = match (is_outside, wish) {
            (true, Wish::Create { .. }) | (false, _) => change,
            (true, _) => Command::Ask { provider: "outside".into(), change: Box::new(change) },
        };
        let event = payment::decide(&before, command, self.at())?;
        self.write(&before, event, request);
        if let Some(outcome) = outcome(said).filter(|_| is_outside) {
            let asked = self.payment(about);
            let attempt = asked.attempts.last().unwrap().sequence;
            let answer = Command::Answer { attempt, outcome, evidence: Evidence::Reply };
            let event = payment::decide(&asked, answer, self.at())?;
            self.write(&asked, event, None);
        }
        Ok(())
    }

    fn late(&mut self, about: usize, place: usize, done: bool) -> bool {
        let payment = self.payment(about);
        let attempt = payment.attempts[place].sequence;
        let outcome = outcome(if done { Said::Done } else { Said::Declined }).unwrap();
        let evidence = Evidence::Webhook("evt".into());
        let command = Command::Answer { attempt, outcome, evidence };
        let Ok(event) = payment::decide(&payment, command, self.at()) else { return false };
        self.write(&payment, event, None);
        true
    }

    fn balances(&self) -> Balances {
        let named = ["merchant:m0", "merchant:m1", "in_doubt:outside", "customer:anna"];
        let own = self.books.histories(0).map(|it| format!("customer:{}", it.details.id));
        let mut balances = Balances::new();
        for name in named.map(str::to_owned).into_iter().chain(own) {
            for account in self.books.accounts_named(&name, None) {
                for balance in self.books.balances(&account, Cut::Now).values() {
                    let sum = balances.entry(name.clone()).or_insert((0, 0));
                    sum.0 += i64::try_from(balance.posted).unwrap();
                    sum.1 += i64::try_from(balance.pending).unwrap();
                }
            }
        }
        balances.retain(|_, balance| *balance != (0, 0));
        balances
    }

    /// The types of each payment's events, oldest first.
    fn events(&self, number: usize) -> Vec<&'static str> {
        let all = Direction::OldestFirst { after: 0 };
        let (events, _) = self.books.events(&EventFilter::default(), all, (10_000, 10_000));
        let own = events.iter().filter(|event| event.payment().details.id == id(number));
        own.map(|event| event.kind.name()).collect()
    }
}

fn details(
    number: usize,
    merchant: Arc<str>,
    amount: i64,
    manual: bool,
    outside: bool,
) -> Arc<Details> {
    Arc::new(Details {
        id: id(number),
        merchant,
        amount: Amount::new(amount).unwrap(),
        currency: Currency::for_payment("EUR").unwrap(),
        capture: if manual { CaptureMode::Manual } else { CaptureMode::Automatic },
        payment_method: "tok_visa".into(),
        customer: number.is_multiple_of(3).then(|| "anna".into()),
        description: None,
        metadata: Box::default(),
        provider: if outside { "outside" } else { "sandbox" }.into(),
        hold_ms: HOLD_MS,
    })
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Request {
        merchant: usize,
        key: Option<u8>,
        about: usize,
        wish: Wish,
        said: Said,
    },
    /// The same again as an earlier request.
    Retry(usize),
    /// The key of an earlier request, for something else.
    Reuse(usize, Wish),
    Late {
        about: usize,
        place: usize,
        done: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let some = || prop::option::of(1i64..=12);
    let said =
        prop_oneof![3 => Just(Said::Done), 1 => Just(Said::Declined), 2 => Just(Said::Nothing)];
    let create = (1i64..=10, any::<bool>(), any::<bool>())
        .prop_map(|(amount, manual, outside)| Wish::Create { amount, manual, outside });
    let change = prop_oneof![
        3 => some().prop_map(Wish::Capture),
        1 => Just(Wish::Void),
        1 => Just(Wish::Expire),
        4 => some().prop_map(Wish::Refund),
    ];
    let wish = prop_oneof![1 => create, 4 => change.clone()];
    let key = prop::option::weighted(0.8, any::<u8>());
    let request =
        (0usize..2, key, 0usize..8, wish, said).prop_map(|(merchant, key, about, wish, said)| {
            Step::Request { merchant, key, about, wish, said }
        });
    let step = prop_oneof![
        6 => request,
        2 => any::<usize>().prop_map(Step::Retry),
        1 => (any::<usize>(), change).prop_map(|(earlier, wish)| Step::Reuse(earlier, wish)),
        3 => (0usize..8, 0usize..8, any::<bool>())
            .prop_map(|(about, place, done)| Step::Late { about, place, done }),
    ];
    prop::collection::vec((step, prop_oneof![3 => 0u64..5, 1 => Just(HOLD_MS)]), 1..60)
}

/// A request as it was made: by whom under which key, about which payment, for what, and what the provider said.
type Made = ((usize, Option<u8>), usize, Wish, Said);

/// What the step asks for, if it asks for something that there is.
fn made(step: &Step, made: &[Made], model: &Model) -> Option<Made> {
    let earlier = |number: usize| made.get(number % made.len().max(1));
    match *step {
        Step::Request { merchant, key, wish: wish @ Wish::Create { .. }, said, .. } => {
            Some(((merchant, key), model.payments.len(), wish, said))
        }
        Step::Request { key, about, wish, said, .. } => {
            let about = about % model.payments.len().max(1);
            let merchant = model.payments.get(about)?.merchant;
            Some(((merchant, key), about, wish, said))
        }
        Step::Retry(number) => earlier(number).filter(|it| it.0.1.is_some()).copied(),
        Step::Reuse(number, wish) => {
            let (by, about, ..) = *earlier(number).filter(|it| it.0.1.is_some())?;
            model.payments.get(about)?;
            Some((by, about, wish, Said::Done))
        }
        Step::Late { .. } => None,
    }
}

proptest! {
    #[test]
    fn rules_and_books_do_what_a_naive_model_of_them_does(steps in steps()) {
        let (mut model, mut desk, mut all) = (Model::default(), Desk::default(), Vec::new());
        for (step, waited) in steps {
            model.now += waited;
            desk.now = model.now;
            if let Step::Late { about, place, done } = step {
                let about = about % model.payments.len().max(1);
                if let Some(payment) = model.payments.get(about) {
                    let place = place % payment.view().attempts.len();
                    prop_assert_eq!(desk.late(about, place, done), model.late(about, place, done));
                }
            } else if let Some(made) = made(&step, &all, &model) {
                let (by, about, wish, said) = made;
                let expected = model.request(by, about, wish, said);
                prop_assert_eq!(desk.request(by, about, wish, said), expected, "{:?}", made);
                all.push(made);
            }
            prop_assert_eq!(desk.balances(), model.balances(customer));
        }
        for (number, payment) in model.payments.iter().enumerate() {
            prop_assert_eq!(view(&desk.payment(number)), payment.view());
            prop_assert_eq!(desk.events(number), payment.events.clone());
            let out = desk.payment(number).attempts.iter().any(|it| it.standing == Standing::Out);
            let history = desk.books.in_doubt().any(|it| it.details.id == id(number));
            prop_assert_eq!(history, out);
        }
    }
}

//! What the targets share.

use std::time::Duration;
use strongroom::{
    config::{Config, fuzzing},
    credentials::Credentials,
    http::{Door, Limits, Rates},
};

/// A door as a start makes it from the shipped configuration, with proxies on the same machine; nobody listens.
pub fn door() -> Door {
    let text = "[http]\ntrusted_proxies = \"127.0.0.0/8, 10.0.0.0/8\"";
    let config: Config = fuzzing::load(text, &[]).expect("the shipped configuration");
    Door {
        credentials: Credentials::new(&config),
        merchants: vec!["north".into()],
        limits: Limits {
            workers: 1,
            connections_max: 1,
            connections_per_address: 1,
            head_read_timeout: Duration::from_secs(1),
            body_bytes_max: config.http.body_bytes_max,
            body_read_timeout: Duration::from_secs(1),
            request_deadline: Duration::from_secs(1),
        },
        rates: Rates::new(&config.limits),
        trusted_proxies: config.http.trusted_proxies.clone(),
        tls: None,
        hold_ms: config.payments.authorization_ttl_ms,
        core: Default::default(),
        drain: Default::default(),
    }
}

use arbitrary::Arbitrary;
use std::sync::Arc;
use strongroom::domain::books::Books;
use strongroom::domain::{
    command::Command,
    entry::{Batch, Entry, Hash, PaymentRecord, Record},
    event::{CaptureMode, Decline, Details, Evidence, Note, Outcome},
    id::PaymentId,
    idempotency::{Fingerprint, Key, Operation, Request},
    ledger,
    money::{Amount, Currency},
    payment::{Form, Payment, decide},
    time::Timestamp,
};
use uuid::Uuid;

/// One thing that somebody wants, as a fuzzer makes it.
#[derive(Arbitrary, Debug)]
pub struct Wish<'a> {
    payment: u8,
    kind: u8,
    amount: u64,
    attempt: u8,
    text: &'a str,
    waited_ms: u16,
    first_form: bool,
}

const CURRENCIES: [&str; 5] = ["EUR", "JPY", "KWD", "CLF", "USD"];

/// Books, and the batches that made them.
#[derive(Default)]
pub struct Desk {
    /// As they were made live.
    pub books: Books,
    /// One entry each.
    pub batches: Vec<Batch>,
    now: u64,
}

impl Desk {
    /// Does what is wished, if the rules allow it.
    pub fn take(&mut self, wish: &Wish<'_>) {
        self.now += u64::from(wish.waited_ms);
        let at = Timestamp::from_millis(1_763_823_845_000 + self.now);
        let id = PaymentId::new(Uuid::from_u128(u128::from(wish.payment) + 1));
        let before = match self.books.history(id) {
            Some(history) => history.payment(),
            None => Payment::pending(Arc::new(details(id, wish)), None),
        };
        let Ok(event) = decide(&before, command(&before, wish), at) else { return };
        let version = before.version + 1;
        let key = Key::new(&format!("{id}-{version}")).expect("a key");
        let fingerprint = Fingerprint::of("POST", "/", wish.text.as_bytes());
        let record = PaymentRecord {
            payment: id,
            version,
            actor: "north/main".into(),
            transaction: ledger::transaction(&before.details, &event),
            event,
            request: Some(Request { key, fingerprint, operation: Operation::Create }),
            form: if wish.first_form { Form::First } else { Form::Second },
        };
        self.books.check(&record, at).expect("what the rules made is judged to be so");
        let sequence = self.books.position().sequence + 1;
        let mut hash = Hash::default();
        hash.0[..8].copy_from_slice(&sequence.to_be_bytes());
        let entry = Entry { sequence, at, record: Record::Payment(record) };
        let batch = Batch { entries: vec![entry], hash };
        self.batches.push(batch.clone());
        self.books.apply(batch);
    }
}

fn details(id: PaymentId, wish: &Wish<'_>) -> Details {
    let currency = CURRENCIES[usize::from(wish.attempt) % CURRENCIES.len()];
    let most = u64::try_from(Amount::MAX).expect("positive");
    let amount = i64::try_from(wish.amount % most + 1).expect("in range");
    Details {
        id,
        merchant: if wish.payment.is_multiple_of(2) { "north" } else { "south" }.into(),
        amount: Amount::new(amount).expect("in range"),
        currency: Currency::for_payment(currency).expect("a currency"),
        capture: match wish.kind & 64 {
            0 => CaptureMode::Automatic,
            _ => CaptureMode::Manual,
        },
        payment_method: "tok_visa".into(),
        customer: (!wish.text.is_empty()).then(|| wish.text.into()),
        description: Some(wish.text.into()),
        metadata: [(wish.text.into(), wish.text.into())].into(),
        provider: if wish.attempt.is_multiple_of(2) { "one" } else { "two" }.into(),
        hold_ms: 1000,
    }
}

fn command(before: &Payment, wish: &Wish<'_>) -> Command {
    let approved = || Outcome::Approved { reference: wish.text.into() };
    let declined = |decline| Outcome::DeclinedBy { decline, code: wish.text.into() };
    let amount = i64::try_from(wish.amount).ok().and_then(Amount::new);
    let attempts = &before.attempts;
    let place = usize::from(wish.attempt) % attempts.len().max(1);
    let attempt = attempts.get(place).map_or(0, |attempt| attempt.sequence);
    let evidence = match wish.attempt / 64 {
        0 => Evidence::Reply,
        1 => Evidence::LookUp,
        2 => Evidence::Webhook(wish.text.into()),
        _ => Evidence::Person(wish.text.into()),
    };
    let change = match wish.kind % 4 {
        0 => Command::Capture(amount),
        1 => Command::Void,
        2 => Command::Expire,
        _ => Command::Refund { amount, reason: Some(wish.text.into()) },
    };
    let details = before.details.clone();
    match wish.kind / 4 % 12 {
        0 => Command::Submit { details, outcome: Some(approved()) },
        1 => Command::Submit { details, outcome: Some(declined(Decline::CardDeclined)) },
        2 => Command::Submit { details, outcome: None },
        3 => Command::Initiate(details),
        4 => Command::Settle(approved()),
        5 => Command::Ask { provider: before.provider.clone(), change: Box::new(change) },
        6 => Command::Answer { attempt, outcome: approved(), evidence },
        7 => Command::Answer { attempt, outcome: declined(Decline::InsufficientFunds), evidence },
        8 => {
            let (outcome, next) = (declined(Decline::ProcessingError), "three".into());
            Command::Reroute { attempt, outcome, evidence, next }
        }
        9 => Command::Note(Note::Contradicted { evidence, what: wish.text.into() }),
        _ => change,
    }
}

//! The writer's own judgement: what it refuses though everybody before it let it pass.

use super::*;
use crate::{
    actors::BooksReader,
    domain::{
        entry::PaymentRecord,
        event::{CaptureMode, Details, Event, Outcome},
        id::PaymentId,
        idempotency::{Fingerprint, Key, Operation, Request},
        ledger as rules,
        money::{Amount, Currency},
        payment::{self, Form, Payment},
    },
    journal::{DirectIo, Folders, Options, RealDisk, Recovered, recover},
};
use uuid::Uuid;

fn at() -> Timestamp {
    Timestamp::from_millis(1_000)
}

struct Desk {
    ledger: LedgerHandle,
    books: BooksReader,
    fatal: mpsc::UnboundedReceiver<Fatal>,
    _folder: tempfile::TempDir,
}

fn desk() -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(folder.path(), DirectIo::Never).unwrap());
    let options =
        Options { segment_bytes: 1 << 20, batch_bytes_max: 1 << 18, software: "test".into() };
    let mut books = Books::default();
    let recovered =
        recover(&Folders::all_in(disk), options, at(), Default::default(), &mut |batch| {
            books.replay(batch)
        })
        .unwrap();
    let Recovered { writer, .. } = recovered;
    let pace = Pace {
        batch_entries_max: 100,
        batch_bytes_max: 1 << 18,
        seal_after: Duration::from_secs(3600),
        mailbox_max: 100,
        retention: Retention::Forever,
        endpoints_max: 2,
    };
    let (sender, fatal) = mpsc::unbounded_channel();
    let (ledger, books) = LedgerHandle::start(writer, books, pace, sender);
    Desk { ledger, books, fatal, _folder: folder }
}

fn details(number: u128) -> Arc<Details> {
    Arc::new(Details {
        id: PaymentId::new(Uuid::from_u128(number)),
        merchant: "m".into(),
        amount: Amount::new(100).unwrap(),
        currency: Currency::for_payment("EUR").unwrap(),
        capture: CaptureMode::Automatic,
        payment_method: "tok_visa".into(),
        customer: None,
        description: None,
        metadata: Box::default(),
        provider: "sandbox".into(),
        hold_ms: 1,
    })
}

fn record(payment: &Payment, event: Event, key: &str) -> PaymentRecord {
    PaymentRecord {
        payment: payment.details.id,
        version: payment.version + 1,
        actor: "m/test".into(),
        transaction: rules::transaction(&payment.details, &event),
        event,
        request: Some(Request {
            key: Key::new(key).unwrap(),
            fingerprint: Fingerprint::of("POST", "/", b"{}"),
            operation: Operation::Create,
        }),
        form: Form::default(),
    }
}

fn charge(number: u128, key: &str) -> PaymentRecord {
    let details = details(number);
    let outcome = Some(Outcome::Approved { reference: "r".into() });
    record(&Payment::pending(details.clone(), None), Event::Submitted { details, outcome }, key)
}

fn refund(payment: &Payment, units: i64, key: &str) -> PaymentRecord {
    let command =
        crate::domain::command::Command::Refund { amount: Amount::new(units), reason: None };
    record(payment, payment::decide(payment, command, at()).unwrap(), key)
}

#[test]
fn of_two_payments_under_one_key_in_one_batch_the_second_is_refused() {
    actix_rt::System::new().block_on(async {
        let desk = desk();
        // Both are sent before the ledger looks at either.
        let (first, second) = tokio::join!(
            desk.ledger.record("m".into(), charge(1, "k"), at()),
            desk.ledger.record("m".into(), charge(2, "k"), at()),
        );
        assert!(first.is_ok());
        let taken = Breach::KeyTaken { payment: PaymentId::new(Uuid::from_u128(1)) };
        assert_eq!(second, Err(NotRecorded::Breach(taken.clone())));
        let later = desk.ledger.record("m".into(), charge(3, "k"), at()).await;
        assert_eq!(later, Err(NotRecorded::Breach(taken)));
        assert_eq!(desk.books.read().payment_count(), 1);
    });
}

#[test]
fn of_two_writers_of_one_version_in_one_batch_the_second_is_refused() {
    actix_rt::System::new().block_on(async {
        let desk = desk();
        desk.ledger.record("m".into(), charge(1, "k"), at()).await.unwrap();
        let id = PaymentId::new(Uuid::from_u128(1));
        let payment = desk.books.read().history(id).unwrap().payment();
        // Two actors that each saw nothing refunded.
        let (first, second) = tokio::join!(
            desk.ledger.record("m".into(), refund(&payment, 60, "a"), at()),
            desk.ledger.record("m".into(), refund(&payment, 60, "b"), at()),
        );
        assert!(first.is_ok());
        let found = Breach::Version { payment: id, version: 2, found: 2 };
        assert_eq!(second, Err(NotRecorded::Breach(found)));
        assert_eq!(desk.books.read().history(id).unwrap().payment().refunded, 60);
    });
}

#[test]
fn what_comes_together_is_one_batch_in_the_order_it_came() {
    actix_rt::System::new().block_on(async {
        let desk = desk();
        let (a, b, c) = tokio::join!(
            desk.ledger.record("m".into(), charge(1, "a"), at()),
            desk.ledger.record("m".into(), charge(2, "b"), at()),
            desk.ledger.record("m".into(), charge(3, "c"), at()),
        );
        let sequences = [a, b, c].map(|recorded| recorded.unwrap().sequence);
        assert_eq!(sequences, [2, 3, 4], "entry 1 is the start's own");
        let books = desk.books.read();
        assert_eq!(books.block_hash(2), books.block_hash(4));
        assert_ne!(books.block_hash(1), books.block_hash(2));
    });
}

#[test]
fn a_ledger_that_was_closed_takes_nothing_more_and_dies_in_peace() {
    actix_rt::System::new().block_on(async {
        let mut desk = desk();
        desk.ledger.record("m".into(), charge(1, "k"), at()).await.unwrap();
        assert!(desk.ledger.close().await, "sealed");
        assert_eq!(desk.books.read().position().sequence, 3, "the seal is the last entry");
        let late = desk.ledger.record("m".into(), charge(2, "l"), at()).await;
        assert_eq!(late, Err(NotRecorded::Unavailable(Unavailable::NotServing)));
        assert!(desk.fatal.try_recv().is_err());
    });
}

//! What the rules cost without disk, network or actors: deciding, judging and booking one payment.
//!
//! `cargo bench --bench rules`

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark may stop where a server may not")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::{hint::black_box, sync::Arc};
use strongroom::domain::{
    books::Books,
    command::Command,
    entry::{Batch, Entry, Hash, PaymentRecord, Record},
    event::{CaptureMode, Details, Event, Outcome},
    id::PaymentId,
    idempotency::{Fingerprint, Key, Operation, Request},
    ledger,
    money::{Amount, Currency},
    payment::{self, Form, Payment},
    time::Timestamp,
};
use uuid::Uuid;

const AT: u64 = 1_763_823_845_123;

fn details(number: u128) -> Arc<Details> {
    Arc::new(Details {
        id: PaymentId::new(Uuid::from_u128(number)),
        merchant: "merchant_1".into(),
        amount: Amount::new(4999).unwrap(),
        currency: Currency::for_payment("USD").unwrap(),
        capture: CaptureMode::Automatic,
        payment_method: "tok_visa".into(),
        customer: None,
        description: Some("Order #12345".into()),
        metadata: Box::default(),
        provider: "sandbox".into(),
        hold_ms: 604_800_000,
    })
}

fn submit(details: Arc<Details>) -> Command {
    let reference = format!("sbx_{}", details.id.uuid().simple()).into_boxed_str();
    Command::Submit { details, outcome: Some(Outcome::Approved { reference }) }
}

fn record(payment: &Payment, event: Event, number: u128) -> PaymentRecord {
    PaymentRecord {
        payment: payment.details.id,
        version: payment.version + 1,
        actor: "merchant_1/test".into(),
        transaction: ledger::transaction(&payment.details, &event),
        event,
        request: Some(Request {
            key: Key::new(&format!("order_{number}_payment")).unwrap(),
            fingerprint: Fingerprint::of("POST", "/api/payments", b"{}"),
            operation: Operation::Create,
        }),
        form: Form::default(),
    }
}

fn charge(number: u128, at: Timestamp) -> PaymentRecord {
    let details = details(number);
    let payment = Payment::pending(details.clone(), None);
    let event = payment::decide(&payment, submit(details), at).unwrap();
    record(&payment, event, number)
}

fn batch(record: PaymentRecord, sequence: u64, at: Timestamp) -> Batch {
    let record = Record::Payment(record);
    Batch { entries: vec![Entry { sequence, at, record }], hash: Hash::default() }
}

fn rules(criterion: &mut Criterion) {
    let at = Timestamp::from_millis(AT);
    criterion.bench_function("decide a charge", |bench| {
        let details = details(1);
        let payment = Payment::pending(details.clone(), None);
        bench.iter_batched(
            || submit(details.clone()),
            |command| payment::decide(black_box(&payment), command, at),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("book a charge's double entry", |bench| {
        let record = charge(1, at);
        let details = details(1);
        bench.iter(|| ledger::transaction(black_box(&details), black_box(&record.event)));
    });
    let mut books = Books::default();
    let mut number = 0u128;
    criterion.bench_function("judge and apply a charge, on growing books", |bench| {
        bench.iter_batched(
            || {
                number += 1;
                let sequence = u64::try_from(number).unwrap();
                batch(charge(number, at), sequence, at)
            },
            |batch| books.replay(black_box(&batch)).unwrap(),
            BatchSize::SmallInput,
        );
    });
    let id = PaymentId::new(Uuid::from_u128(1));
    criterion.bench_function("fold a payment from its history", |bench| {
        bench.iter(|| books.history(black_box(id)).unwrap().payment());
    });
}

criterion_group!(benches, rules);
criterion_main!(benches);

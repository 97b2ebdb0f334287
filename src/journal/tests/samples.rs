//! Records of every kind. The golden files hold their bytes: only append.

use crate::domain::{
    entry::{PaymentRecord, Record},
    event::{CaptureMode, Decline, Details, Event, Outcome},
    id::PaymentId,
    idempotency::{Fingerprint, Key, Operation, Request},
    ledger,
    money::{Amount, Currency},
};
use std::sync::Arc;
use uuid::Uuid;

/// One record of every variant, every field in use.
pub(super) fn all() -> Vec<Record> {
    let opened = Record::Opened { epoch: 300, software: "0.1.0".into() };
    let payments = events().into_iter().zip(1..);
    [opened, Record::Sealed]
        .into_iter()
        .chain(payments.map(|((details, event, operation), version)| {
            Record::Payment(PaymentRecord {
                payment: details.id,
                version,
                actor: "acme/main".into(),
                transaction: ledger::transaction(&details, &event),
                event,
                request: operation.map(|operation| Request {
                    key: Key::new(&format!("key-{version}")).unwrap(),
                    fingerprint: Fingerprint::of("POST", "/api/payments", b"{}"),
                    operation,
                }),
            })
        }))
        .collect()
}

/// An authorization of a named customer, and a charge with as little as there can be.
fn payments() -> [Arc<Details>; 2] {
    let authorization = Details {
        id: PaymentId::new(Uuid::from_u128(0x019a_abcd_0000_7000_8000_0000_0000_0001)),
        merchant: "acme".into(),
        amount: Amount::new(1_999).unwrap(),
        currency: Currency::for_payment("EUR").unwrap(),
        capture: CaptureMode::Manual,
        payment_method: "pm_visa".into(),
        customer: Some("customer-7".into()),
        description: Some("größer".into()),
        metadata: [("order".into(), "4711".into()), ("z".into(), "".into())].into(),
        provider: "sandbox".into(),
        hold_ms: 604_800_000,
    };
    let charge = Details {
        capture: CaptureMode::Automatic,
        customer: None,
        description: None,
        metadata: [].into(),
        ..authorization.clone()
    };
    [authorization.into(), charge.into()]
}

/// Every event, of which payment, and what it was asked for as.
fn events() -> Vec<(Arc<Details>, Event, Option<Operation>)> {
    let [hold, charge] = payments();
    let approved = || Outcome::Approved { reference: "ref-1".into() };
    let submitted = |details: &Arc<Details>, outcome| Event::Submitted {
        details: Arc::clone(details),
        outcome,
    };
    let declines = [
        Decline::CardDeclined,
        Decline::InsufficientFunds,
        Decline::ExpiredCard,
        Decline::AmountTooLarge,
        Decline::PaymentMethodUnknown,
    ];
    let captured = Event::Captured { amount: Amount::new(500).unwrap(), released: 1_499 };
    let refunded = |reason: Option<&str>| Event::Refunded {
        amount: Amount::new(500).unwrap(),
        reason: reason.map(Into::into),
    };
    let mut events = vec![
        (&hold, submitted(&hold, None), Some(Operation::Create)),
        (&charge, submitted(&charge, Some(approved())), Some(Operation::Create)),
        (&hold, Event::Settled(approved()), None),
    ];
    events.extend(declines.map(|why| (&hold, Event::Settled(Outcome::Declined(why)), None)));
    events.extend([
        (&hold, captured, Some(Operation::Capture)),
        (&hold, Event::Voided, Some(Operation::Void)),
        (&hold, Event::Expired, None),
        (&hold, refunded(Some("returned")), Some(Operation::Refund)),
        (&hold, refunded(None), None),
    ]);
    events
        .into_iter()
        .map(|(details, event, operation)| (Arc::clone(details), event, operation))
        .collect()
}

/// A record whose encoding takes somewhat more than `bytes`.
pub(super) fn large(bytes: usize) -> Record {
    Record::Opened { epoch: 1, software: "x".repeat(bytes).into() }
}

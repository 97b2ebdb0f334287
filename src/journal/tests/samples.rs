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
    let payment = PaymentId::new(Uuid::from_u128(0x019a_abcd_0000_7000_8000_0000_0000_0001));
    let details = Arc::new(Details {
        id: payment,
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
    });
    let charge = Arc::new(Details {
        capture: CaptureMode::Automatic,
        customer: None,
        description: None,
        metadata: [].into(),
        ..(*details).clone()
    });
    let approved = || Outcome::Approved {
        reference: "ref-1".into(),
    };
    let amount = Amount::new(500).unwrap();
    let declines = [
        Decline::CardDeclined,
        Decline::InsufficientFunds,
        Decline::ExpiredCard,
        Decline::AmountTooLarge,
        Decline::PaymentMethodUnknown,
    ];
    let submitted = |details: &Arc<Details>, outcome| Event::Submitted {
        details: Arc::clone(details),
        outcome,
    };
    let mut events = vec![
        (submitted(&details, None), Some(Operation::Create)),
        (
            submitted(&charge, Some(approved())),
            Some(Operation::Create),
        ),
        (Event::Settled(approved()), None),
    ];
    events.extend(declines.map(|why| (Event::Settled(Outcome::Declined(why)), None)));
    events.extend([
        (
            Event::Captured {
                amount,
                released: 1_499,
            },
            Some(Operation::Capture),
        ),
        (Event::Voided, Some(Operation::Void)),
        (Event::Expired, None),
        (
            Event::Refunded {
                amount,
                reason: Some("returned".into()),
            },
            Some(Operation::Refund),
        ),
        (
            Event::Refunded {
                amount,
                reason: None,
            },
            None,
        ),
    ]);
    let payments = events
        .into_iter()
        .zip(1..)
        .map(|((event, operation), version)| {
            let details = if version == 2 { &charge } else { &details };
            Record::Payment(PaymentRecord {
                payment,
                version,
                actor: "acme/main".into(),
                transaction: ledger::transaction(details, &event),
                event,
                request: operation.map(|operation| Request {
                    key: Key::new(&format!("key-{version}")).unwrap(),
                    fingerprint: Fingerprint::of("POST", "/api/payments", b"{}"),
                    operation,
                }),
            })
        });
    let opened = Record::Opened {
        epoch: 300,
        software: "0.1.0".into(),
    };
    [opened, Record::Sealed]
        .into_iter()
        .chain(payments)
        .collect()
}

/// A record whose encoding takes somewhat more than `bytes`.
pub(super) fn large(bytes: usize) -> Record {
    Record::Opened {
        epoch: 1,
        software: "x".repeat(bytes).into(),
    }
}

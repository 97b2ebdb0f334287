//! How things look on the wire, in answers and in webhooks alike: JSON, camelCase, times in RFC 3339. Saved answers are rendered again from the books by
//! this code, so **what it writes for an old payment must never change**; a golden test holds that.

pub mod requests;
pub mod schema;

use crate::domain::{
    access,
    books::Happened,
    event::{Details, Failure, Note},
    id::DerivedId,
    payment::{Attempt, Form, Noted, Payment, Refund},
    time::{Rfc3339, Timestamp},
    webhook::EventType,
};
use schema::{
    AmountUnits, AskedOperation, AttemptIdText, CaptureText, CurrencyText, DeclineCode,
    EventIdText, EventTypeText, EvidenceKind, MetadataPairs, NoteKind, Outcome, PaymentIdText,
    PaymentStatus, RefundIdText, SumUnits, TimeText,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use utoipa::ToSchema;

/// A time as RFC 3339 with milliseconds.
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Rfc3339::from(self.0).as_str())
    }
}

/// Anything by its display form.
pub struct Text<T>(pub T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = Page)]
pub struct PageBody<T> {
    /// What it shows.
    pub data: Vec<T>,
    /// The cursor to go on with, as `after`; null at the end.
    #[schema(required)]
    pub next: Option<String>,
}

/// A payment as clients see it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Payment)]
pub struct PaymentBody<'a> {
    #[schema(value_type = PaymentIdText)]
    id: Text<crate::domain::id::PaymentId>,
    merchant_id: &'a str,
    /// `test` for a payment that was made with a key for test payments.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^test$")]
    mode: Option<&'static str>,
    #[schema(value_type = AmountUnits)]
    amount: i64,
    #[schema(value_type = CurrencyText)]
    currency: &'a str,
    #[schema(value_type = PaymentStatus)]
    status: &'a str,
    #[schema(value_type = CaptureText)]
    capture: &'a str,
    #[schema(value_type = SumUnits)]
    amount_capturable: i64,
    #[schema(value_type = SumUnits)]
    amount_captured: i64,
    #[schema(value_type = SumUnits)]
    amount_refunded: i64,
    payment_method: &'a str,
    #[schema(required)]
    customer_id: Option<&'a str>,
    provider: &'a str,
    #[schema(required)]
    provider_reference: Option<&'a str>,
    #[schema(required)]
    failure: Option<FailureBody<'a>>,
    #[schema(required)]
    idempotency_key: Option<&'a str>,
    #[schema(required)]
    description: Option<&'a str>,
    #[schema(value_type = MetadataPairs)]
    metadata: Metadata<'a>,
    refunds: Vec<RefundBody<'a>>,
    #[schema(value_type = Option<TimeText>, required)]
    expires_at: Option<Time>,
    #[schema(value_type = TimeText)]
    created_at: Time,
    #[schema(value_type = TimeText)]
    updated_at: Time,
    /// What was asked of providers; not in answers of the first form.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    attempts: Option<Vec<AttemptBody<'a>>>,
    /// Not in answers of the first form.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    needs_review: Option<bool>,
    /// What was found out, if anything was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<NoteBody<'a>>,
}

/// Something that was asked of a provider.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Attempt)]
struct AttemptBody<'a> {
    #[schema(value_type = AttemptIdText)]
    id: Text<DerivedId>,
    #[schema(value_type = AskedOperation)]
    operation: &'static str,
    provider: &'a str,
    #[schema(value_type = AmountUnits)]
    amount: i64,
    #[schema(value_type = Outcome)]
    status: &'static str,
    #[schema(required)]
    provider_reference: Option<&'a str>,
    #[schema(required)]
    failure: Option<FailureBody<'a>>,
    #[schema(value_type = TimeText)]
    created_at: Time,
    #[schema(value_type = TimeText)]
    updated_at: Time,
}

impl<'a> AttemptBody<'a> {
    fn of(attempt: &'a Attempt, details: &Details) -> Self {
        Self {
            id: Text(attempt.id()),
            operation: attempt.operation(details),
            provider: &attempt.ask.provider,
            amount: attempt.amount(details).minor_units(),
            status: attempt.standing.name(),
            provider_reference: attempt.reference.as_deref(),
            failure: attempt.failure.as_ref().map(FailureBody::of),
            created_at: Time(attempt.created_at),
            updated_at: Time(attempt.updated_at),
        }
    }
}

/// Something that was found out about a payment.
#[derive(Serialize, ToSchema)]
#[schema(as = Note)]
struct NoteBody<'a> {
    #[schema(value_type = TimeText)]
    at: Time,
    #[schema(value_type = NoteKind)]
    note: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EvidenceKind, nullable = false)]
    source: Option<&'static str>,
    what: &'a str,
    settled: bool,
}

impl<'a> NoteBody<'a> {
    fn of(noted: &'a Noted) -> Self {
        let source = match &noted.note {
            Note::Contradicted { evidence, .. } => Some(evidence.name()),
            Note::Undecided { .. } | Note::Reviewed { .. } => None,
        };
        Self {
            at: Time(noted.at),
            note: noted.note.name(),
            source,
            what: noted.note.what(),
            settled: noted.settled,
        }
    }
}

/// Why nothing was done.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Failure)]
pub struct FailureBody<'a> {
    #[schema(value_type = DeclineCode)]
    code: &'static str,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    provider_code: Option<&'a str>,
}

impl<'a> FailureBody<'a> {
    /// As clients see it.
    #[must_use]
    pub fn of(failure: &'a Failure) -> Self {
        Self {
            code: failure.decline.code(),
            message: failure.decline.message(),
            provider_code: failure.code.as_deref(),
        }
    }
}

/// A refund, or one that was tried.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Refund)]
struct RefundBody<'a> {
    #[schema(value_type = RefundIdText)]
    id: Text<crate::domain::id::DerivedId>,
    #[schema(value_type = AmountUnits)]
    amount: i64,
    #[schema(required)]
    reason: Option<&'a str>,
    #[schema(value_type = TimeText)]
    created_at: Time,
    /// Not in answers of the first form.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Outcome, nullable = false)]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<FailureBody<'a>>,
}

struct Metadata<'a>(&'a Details);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.metadata.len()))?;
        for (key, value) in &self.0.metadata {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'a> PaymentBody<'a> {
    /// The payment as it stands in `payment`.
    #[must_use]
    pub fn of(payment: &'a Payment) -> Self {
        let details = &payment.details;
        let shows_attempts = payment.form > Form::First;
        let attempts = payment.attempts.iter().map(|it| AttemptBody::of(it, details));
        Self {
            id: Text(details.id),
            merchant_id: access::name_outside(&details.merchant),
            mode: access::is_test(&details.merchant).then_some("test"),
            amount: details.amount.minor_units(),
            currency: details.currency.code(),
            status: payment.status.name(),
            capture: details.capture.name(),
            amount_capturable: payment.capturable(),
            amount_captured: payment.captured,
            amount_refunded: payment.refunded,
            payment_method: &details.payment_method,
            customer_id: details.customer.as_deref(),
            provider: &payment.provider,
            provider_reference: payment.provider_reference.as_deref(),
            failure: payment.failure.as_ref().map(FailureBody::of),
            idempotency_key: payment.created_under.as_ref().map(|key| key.as_str()),
            description: details.description.as_deref(),
            metadata: Metadata(details),
            refunds: payment.refunds.iter().map(|it| RefundBody::of(it, payment.form)).collect(),
            expires_at: payment.expires_at.map(Time),
            created_at: Time(payment.created_at),
            updated_at: Time(payment.updated_at),
            attempts: shows_attempts.then(|| attempts.collect()),
            needs_review: shows_attempts.then(|| payment.unsettled_notes().next().is_some()),
            notes: payment.notes.iter().map(NoteBody::of).collect(),
        }
    }
}

/// An event as merchants are told of it, pulled or sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventBody<'a> {
    #[schema(value_type = EventIdText)]
    id: Text<DerivedId>,
    #[serde(rename = "type")]
    #[schema(value_type = EventTypeText)]
    kind: &'static str,
    #[schema(value_type = TimeText)]
    timestamp: Time,
    /// The event's number at the endpoint that it is sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sequence: Option<u64>,
    /// The payment as it was right after the event.
    data: PaymentBody<'a>,
}

impl<'a> EventBody<'a> {
    /// The event that happened, whose payment is `payment`.
    #[must_use]
    pub fn of(event: &Told, payment: &'a Payment, sequence: Option<u64>) -> Self {
        Self {
            id: Text(event.id),
            kind: event.kind.name(),
            timestamp: Time(event.at),
            sequence,
            data: PaymentBody::of(payment),
        }
    }
}

/// An event without its payment.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// What it is called.
    pub id: DerivedId,
    /// What kind of thing happened.
    pub kind: EventType,
    /// When.
    pub at: Timestamp,
}

impl Told {
    /// What happened.
    #[must_use]
    pub fn of(event: &Happened<'_>) -> Self {
        Self { id: event.id(), kind: event.kind, at: event.step.at }
    }
}

impl<'a> RefundBody<'a> {
    fn of(refund: &'a Refund, form: Form) -> Self {
        Self {
            status: (form > Form::First).then(|| refund.standing.name()),
            failure: refund.failure.as_ref().map(FailureBody::of),
            id: Text(refund.id),
            amount: refund.amount.minor_units(),
            reason: refund.reason.as_deref(),
            created_at: Time(refund.created_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{Action, Answered, Ask, CaptureMode, Decline, Event, Evidence, Outcome, Standing},
        id::PaymentId,
        idempotency::Key,
        money::{Amount, Currency},
    };
    use std::sync::Arc;
    use uuid::Uuid;

    fn details(capture: CaptureMode, full: bool) -> Arc<Details> {
        let pair = |key: &str, value: &str| (key.into(), value.into());
        Arc::new(Details {
            id: PaymentId::new(Uuid::from_u128(0x0199_aabb_ccdd_7abc_8def_0123_4567_89ab)),
            merchant: "merchant_1".into(),
            amount: Amount::new(4999).unwrap(),
            currency: Currency::for_payment("USD").unwrap(),
            capture,
            payment_method: "tok_visa".into(),
            customer: full.then(|| "cust_7".into()),
            description: full.then(|| "Größe \"M\"\n".into()),
            metadata: if full {
                Box::new([pair("a", "1"), pair("ü", "")])
            } else {
                Box::default()
            },
            provider: "sandbox".into(),
            hold_ms: 604_800_000,
        })
    }

    fn payment(details: Arc<Details>, key: &str, events: &[Event]) -> Payment {
        let mut payment = Payment::pending(details, Key::new(key));
        for (step, event) in (1u64..).zip(events) {
            payment.apply(event, Timestamp::from_millis(1_763_823_845_000 + step), step);
        }
        payment
    }

    fn submitted(details: &Arc<Details>, outcome: Option<Outcome>) -> Event {
        Event::Submitted { details: details.clone(), outcome }
    }

    #[test]
    fn an_answer_that_was_given_once_is_rendered_the_same_for_ever() {
        let approved = Outcome::Approved { reference: "sbx_1".into() };
        let refund = |units, reason: Option<&str>| Event::Refunded {
            amount: Amount::new(units).unwrap(),
            reason: reason.map(Into::into),
        };
        let charge = details(CaptureMode::Automatic, true);
        let held = details(CaptureMode::Manual, false);
        let declined = Outcome::Declined(Decline::InsufficientFunds);
        let mut payments = [
            payment(
                charge.clone(),
                "order_\"1\"",
                &[
                    submitted(&charge, Some(approved.clone())),
                    refund(1000, Some("damaged")),
                    refund(3999, None),
                ],
            ),
            payment(held.clone(), "k", &[submitted(&held, Some(approved))]),
            payment(held.clone(), "k", &[submitted(&held, None)]),
            payment(held.clone(), "k", &[submitted(&held, Some(declined))]),
        ];
        let first = include_str!("../tests/golden/answers-v1/payments.jsonl");
        let second = include_str!("../tests/golden/answers-v2/payments.jsonl");
        for (form, golden) in [(Form::First, first), (Form::Second, second)] {
            payments.iter_mut().for_each(|payment| payment.form = form);
            assert_eq!(rendered(&payments), golden.lines().collect::<Vec<_>>());
        }
    }

    fn rendered(payments: &[Payment]) -> Vec<String> {
        let text = |payment| serde_json::to_string(&PaymentBody::of(payment)).unwrap();
        payments.iter().map(text).collect()
    }

    #[test]
    fn an_answer_about_attempts_that_was_given_once_is_rendered_the_same_for_ever() {
        let charge = details(CaptureMode::Automatic, false);
        let ask = |action| Ask { provider: "stripe".into(), action };
        let answered = |attempt, action, outcome, evidence| {
            let was = Standing::Out;
            Box::new(Answered { attempt, ask: ask(action), was, outcome, evidence })
        };
        let approved = |reference: &str| Outcome::Approved { reference: reference.into() };
        let by = |decline, code: &str| Outcome::DeclinedBy { decline, code: code.into() };
        let refund = Action::Refund { amount: Amount::new(1000).unwrap() };
        let asked = || Event::Asked { ask: Box::new(ask(refund)), reason: Some("damaged".into()) };
        let down = by(Decline::ProviderUnavailable, "connection_failed");
        let unreached = answered(1, Action::Authorize, down, Evidence::Reply);
        let contradicted = Note::Contradicted {
            evidence: Evidence::Webhook("evt_1".into()),
            what: "stripe took 5".into(),
        };
        let events = [
            Event::Initiated(charge.clone()),
            Event::Rerouted { answered: unreached, next: "other".into() },
            Event::Answered(answered(2, Action::Authorize, approved("pi_1"), Evidence::LookUp)),
            asked(),
            Event::Answered(answered(4, refund, approved("re_1"), Evidence::Reply)),
            asked(),
            Event::Answered(answered(
                6,
                refund,
                by(Decline::ProcessingError, "x"),
                Evidence::Reply,
            )),
            asked(),
            Event::Noted(Box::new(contradicted)),
            Event::Noted(Box::new(Note::Reviewed { what: "it is right".into() })),
        ];
        let payments: Vec<Payment> = (1..=events.len())
            .map(|steps| payment(charge.clone(), "k", &events[..steps]))
            .collect();
        let golden = include_str!("../tests/golden/answers-v2/attempts.jsonl");
        assert_eq!(rendered(&payments), golden.lines().collect::<Vec<_>>());
    }
}

//! Records of every kind. The golden files hold their bytes: only append.

use crate::domain::{
    access::{self, AccessEvent, AccessRecord, Holder, Mode, Scope},
    entry::Stray,
    entry::{PaymentRecord, Record},
    event::{
        Action, Answered, Ask, CaptureMode, Decline, Details, Event, Evidence, Note, Outcome,
        Standing,
    },
    id::{EndpointId, KeyId, PaymentId},
    idempotency::{Fingerprint, Key, Operation, Request},
    ledger,
    money::{Amount, Currency},
    payment::Form,
    time::Timestamp,
    webhook::{
        Change, Created, DisabledBecause, EventType, Filter, Open, Origin, Pattern, Secret,
        Settings, Try, TryResult, WebhookEvent, WebhookRecord,
    },
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
                form: Form::First,
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

/// Every kind of record that came with providers that act outside, every field in use.
pub(super) fn attempts() -> Vec<Record> {
    let [hold, charge] = payments();
    let events = asks().into_iter().chain(answers()).chain(notes());
    let payment = |(version, (details, event)): (u32, (Arc<Details>, Event))| {
        Record::Payment(PaymentRecord {
            payment: details.id,
            version,
            actor: "system/provider".into(),
            transaction: ledger::transaction(&details, &event),
            event,
            request: (version == 1).then(|| Request {
                key: Key::new("key").unwrap(),
                fingerprint: Fingerprint::of("POST", "/api/payments", b"{}"),
                operation: Operation::Resolve,
            }),
            form: Form::Second,
        })
    };
    let initiated =
        [&hold, &charge].map(|details| (details.clone(), Event::Initiated(details.clone())));
    let of_hold = events.map(|event| (hold.clone(), event));
    let stray = Record::Stray(Stray {
        provider: "stripe".into(),
        event: "evt_1".into(),
        reference: "pi_9".into(),
        what: "took 5".into(),
    });
    let payments = (1..).zip(initiated.into_iter().chain(of_hold)).map(payment);
    payments.chain([stray]).collect()
}

/// Every kind of record about who may come in, every field in use.
pub(super) fn access() -> Vec<Record> {
    let key = |byte: u8, holder, mode| {
        AccessEvent::KeyMade(Box::new(access::Key {
            id: KeyId::new(Uuid::from_u128(u128::from(byte))),
            holder,
            mode,
            label: "till".into(),
            scopes: Scope::ALL.into(),
            expires_at: (byte == 1).then_some(Timestamp::from_millis(1_763_823_845_123)),
            digest: [byte; 32],
        }))
    };
    let shop = || Holder::Merchant("shop".into());
    let changed = |enabled| {
        let (id, name) = ("shop".into(), Some("größer".into()));
        AccessEvent::MerchantChanged { id, name, enabled }
    };
    let set = |name, enabled| AccessEvent::MerchantSet { id: "shop".into(), name, enabled };
    let events = [
        AccessEvent::MerchantMade { id: "shop".into(), name: Some("The Shop".into()) },
        AccessEvent::MerchantMade { id: "other".into(), name: None },
        changed(true),
        changed(false),
        key(1, shop(), Mode::Live),
        key(2, shop(), Mode::Test),
        key(3, Holder::Admin, Mode::Live),
        AccessEvent::KeyRevoked { id: KeyId::new(Uuid::from_u128(1)), holder: shop() },
        AccessEvent::Asked("snapshot asked for".into()),
        set(None, Some(true)),
        set(Some("größer".into()), Some(false)),
        set(Some("kleiner".into()), None),
    ];
    let record = |event| Record::Access(AccessRecord { actor: "admin/test".into(), event });
    events.into_iter().map(record).collect()
}

fn asked(action: Action) -> Ask {
    Ask { provider: "stripe".into(), action }
}

fn actions() -> [Action; 5] {
    let amount = Amount::new(500).unwrap();
    [
        Action::Authorize,
        Action::Capture { amount, released: 1_499 },
        Action::Void,
        Action::Expire,
        Action::Refund { amount },
    ]
}

fn asks() -> Vec<Event> {
    let asks = actions().map(|action| Event::Asked { ask: Box::new(asked(action)), reason: None });
    let refund =
        Event::Asked { ask: Box::new(asked(actions()[4])), reason: Some("returned".into()) };
    asks.into_iter().chain([refund]).collect()
}

/// Every decline of later releases, way of knowing, and standing.
fn answers() -> Vec<Event> {
    let answered = |action, was, outcome, evidence| {
        let attempt = 300;
        Box::new(Answered { attempt, ask: asked(action), was, outcome, evidence })
    };
    let approved = || Outcome::Approved { reference: "pi_1".into() };
    let declines = [
        Decline::IncorrectCardData,
        Decline::AuthenticationRequired,
        Decline::ProcessingError,
        Decline::ProviderUnavailable,
        Decline::ProviderRejected,
        Decline::AmountUnsupported,
        Decline::AuthorizationGone,
        Decline::NotProcessed,
        Decline::ResolvedByHand,
    ];
    let by = |decline| Outcome::DeclinedBy { decline, code: "lost_card".into() };
    let mut events: Vec<Event> = actions()
        .map(|action| Event::Answered(answered(action, Standing::Out, approved(), Evidence::Reply)))
        .into();
    let declined = declines.map(|decline| {
        Event::Answered(answered(Action::Void, Standing::Out, by(decline), Evidence::LateReply))
    });
    events.extend(declined);
    let refund = actions()[4];
    let taken_back = by(Decline::ProcessingError);
    let told = Evidence::Webhook("evt_2".into());
    events.push(Event::Answered(answered(refund, Standing::Succeeded, taken_back, told)));
    let person = Evidence::Person("seen at the bank".into());
    events.push(Event::Answered(answered(refund, Standing::Failed, approved(), person)));
    let failed =
        answered(Action::Authorize, Standing::Out, by(Decline::ProcessingError), Evidence::LookUp);
    events.push(Event::Rerouted { answered: failed, next: "other".into() });
    events
}

fn notes() -> Vec<Event> {
    let evidence = Evidence::Webhook("evt_3".into());
    [
        Note::Undecided { attempt: 300, what: "nobody knows".into() },
        Note::Contradicted { evidence, what: "took 6".into() },
        Note::Reviewed { what: "done".into() },
    ]
    .map(|note| Event::Noted(Box::new(note)))
    .into()
}

/// Every kind of webhook record, every field in use.
pub(super) fn webhooks() -> Vec<Record> {
    let endpoint = EndpointId::new(Uuid::from_u128(0x019a_abcd_0000_7000_8000_0000_0000_0002));
    let at = Timestamp::from_millis;
    let secret = |byte: u8| Secret::new(&[byte; 32]).unwrap();
    let patterns = EventType::ALL.into_iter().take(7).map(Pattern::Exactly);
    let patterns = [Pattern::Everything, Pattern::Payments].into_iter().chain(patterns);
    let settings = Settings {
        url: "https://shop.example/hook?a=1".into(),
        filter: Filter::new(patterns.collect()).unwrap(),
        description: Some("größer".into()),
    };
    let created = |origin| {
        let (merchant, settings) = ("acme".into(), settings.clone());
        let created = Created { endpoint, merchant, settings, secret: secret(7), origin };
        WebhookEvent::Created(Box::new(created))
    };
    let disabled = |reason| WebhookEvent::Disabled { endpoint, reason };
    let updated = Settings { description: None, ..settings.clone() };
    let events = [
        created(Origin::Api),
        created(Origin::Config),
        WebhookEvent::Updated { endpoint, settings: updated },
        WebhookEvent::Rotated { endpoint, secret: secret(8), old_until: at(90_000) },
        disabled(DisabledBecause::Asked),
        disabled(DisabledBecause::Gone),
        disabled(DisabledBecause::Failing),
        WebhookEvent::Enabled { endpoint },
        WebhookEvent::Deleted { endpoint },
        WebhookEvent::Replayed { endpoint, from: 300, cursor: 70_000 },
        WebhookEvent::Redelivered { endpoint, number: 300, sequence: 70_001 },
        WebhookEvent::Progressed(vec![progress(endpoint)]),
    ];
    let record = |event| Record::Webhook(WebhookRecord { actor: "acme/main".into(), event });
    events.into_iter().map(record).collect()
}

/// A report with every result that a try can have.
fn progress(endpoint: EndpointId) -> Change {
    let at = Timestamp::from_millis;
    let results = [
        TryResult::Answered(503),
        TryResult::AnsweredInPart(200),
        TryResult::TimedOut,
        TryResult::Unresolved,
        TryResult::Forbidden,
        TryResult::NotConnected,
        TryResult::NotSecured,
        TryResult::Disconnected,
        TryResult::Garbage,
    ];
    let tries = results.map(|result| Try { at: at(1_763_823_845_123), latency_ms: 300, result });
    let open = |sequence| Open { sequence, due: at(1_763_823_850_123), tries: tries.to_vec() };
    Change {
        endpoint,
        generation: 2,
        through: 300,
        cursor: 70_000,
        open: vec![(299, open(69_998)), (300, Open::new(70_000))],
        closed: vec![298, 297],
        died: vec![(12, open(400))],
        delivered: 280,
        failed: 65_536,
        failing_since: Some(at(1_763_823_845_123)),
    }
}

/// A record whose encoding takes somewhat more than `bytes`.
pub(super) fn large(bytes: usize) -> Record {
    Record::Opened { epoch: 1, software: "x".repeat(bytes).into() }
}

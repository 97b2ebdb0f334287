//! How the texts on the wire are spelled, for the OpenAPI document: ids, times, names out of a list. Only the document
//! asks these types; what they describe is written and read elsewhere. Lists come from the domain where it has them.

use crate::domain::{
    access::{Mode, Scope},
    event::{CaptureMode, Decline},
    money::{Amount, Currency},
    payment::Status,
    webhook::EventType,
};
use serde_json::{Value, json};
use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Object, ObjectBuilder, RefOr, Schema, schema::Type},
};

/// A type that stands for a schema that is built by hand.
macro_rules! schemas {
    ($($(#[doc = $doc:literal])+ $name:ident = $wire:literal $schema:expr;)*) => {
        $($(#[doc = $doc])+
        pub struct $name;

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                $wire.into()
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let description = [$($doc.trim()),+].join(" ");
                ObjectBuilder::from($schema).description(Some(description)).build().into()
            }
        })*
    };
}

schemas! {
    /// A payment's id.
    PaymentIdText = "PaymentId" id("pay_");
    /// A refund's id.
    RefundIdText = "RefundId" derived_id("ref_", 3);
    /// The id of an attempt at a provider; its idempotency key there.
    AttemptIdText = "AttemptId" derived_id("att_", 5);
    /// An event's id, the `webhook-id` of its deliveries, and a cursor in lists of events.
    EventIdText = "EventId" derived_id("evt_", 4);
    /// A webhook endpoint's id, and a cursor in lists of them.
    EndpointIdText = "WebhookEndpointId" id("we_");
    /// The id of a ledger transaction.
    TransactionIdText = "LedgerTransactionId" derived_id("txn_", 1);
    /// The id of one leg of a ledger transaction, and a cursor in an account's entries.
    LedgerEntryIdText = "LedgerEntryId" derived_id("ent_", 2);
    /// The id of a reconciliation run, and a cursor in their list.
    RunIdText = "ReconciliationRunId" id("rec_");
    /// An API key's id, and a cursor in lists of them.
    KeyIdText = "ApiKeyId" id("key_");
    /// Whether payments made with the key are for real, or tests that move no money.
    ModeText = "Mode" names(Mode::ALL.map(Mode::name), "live");
    /// Something that a merchant's key may do.
    ScopeText = "Scope" names(Scope::ALL.map(Scope::name), "payments:write");
    /// A time in UTC, RFC 3339 with milliseconds.
    TimeText = "Time" text(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", "2026-11-22T15:04:05.123Z");
    /// The SHA-256 of a block of the journal.
    HashText = "Hash" text("^[0-9a-f]{64}$", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    /// The code of a currency, ISO 4217.
    CurrencyText = "Currency" text("^[A-Z]{3}$", "USD");
    /// A currency that payments can be made in: on the current list of ISO 4217, and with a minor unit.
    PaymentCurrency = "PaymentCurrency" names(currencies(), "USD");
    /// Whole minor units of the currency: 4999 is 49.99 USD, 4999 JPY, 4.999 KWD. A fraction, such as `1.0`, is refused.
    AmountUnits = "Amount" units(1);
    /// Whole minor units of the currency, or 0.
    SumUnits = "Sum" units(0);
    /// Where a payment stands.
    PaymentStatus = "PaymentStatus" names(Status::ALL.map(Status::name), "completed");
    /// `automatic`: charge at once; `manual`: authorize, to be captured or voided later.
    CaptureText = "CaptureMode"
        names([CaptureMode::Automatic, CaptureMode::Manual].map(CaptureMode::name), "automatic");
    /// How something that was asked of a provider came out; what is `pending` is in doubt.
    Outcome = "Outcome" names(["pending", "succeeded", "failed"], "succeeded");
    /// What was asked of a provider.
    AskedOperation = "AskedOperation" names(["charge", "authorization", "capture", "void", "expiry", "refund"], "capture");
    /// What kind of thing was found out: an outcome that nobody could tell, a contradiction of the books, or a person's word.
    NoteKind = "NoteKind" names(["undecided", "contradicted", "reviewed"], "contradicted");
    /// Where it was seen.
    EvidenceKind = "EvidenceKind" names(["reply", "late_reply", "look_up", "webhook", "person"], "webhook");
    /// What went wrong with a try.
    DeliveryError = "DeliveryError" names(TRY_ERRORS, "timed_out");
    /// Where an event stands at an endpoint.
    DeliveryState = "DeliveryState" names(["pending", "retrying", "delivered", "dead"], "delivered");
    /// Where an endpoint was made.
    EndpointOrigin = "EndpointOrigin" names(["api", "config"], "api");
    /// Why an endpoint is disabled: it was asked for, the endpoint answered 410, or it failed for too long.
    DisabledReason = "DisabledReason" names(["requested", "gone", "failing"], "failing");
    /// A client's own name of a request: 1 to 255 visible ASCII characters, bare or as a quoted string.
    IdempotencyKeyText = "IdempotencyKey" text(IDEMPOTENCY_KEY, "order_12345");
    /// How far the request under a key is.
    KeyProgress = "KeyProgress" names(["completed", "in_progress"], "completed");
    /// What the request under a key asked for.
    KeyOperation = "KeyOperation" names(["create", "capture", "void", "refund", "resolve"], "create");
    /// Whether an entry takes from the account's holder or gives.
    Side = "Side" names(["debit", "credit"], "credit");
    /// Whose accounts.
    AccountKind = "AccountKind" names(["customer", "merchant", "in_doubt"], "merchant");
    /// What made a reconciliation run.
    Trigger = "Trigger" names(["request", "schedule", "commit"], "request");
    /// `ok`: it lives; `ready`: it takes payments, or shows books.
    ServerStatus = "ServerStatus" names(["ok", "ready"], "ready");
    /// What happened.
    EventTypeText = "EventType" names(EventType::ALL.map(EventType::name), "payment.completed");
    /// Which events: one type, all about payments, or everything.
    EventPattern = "EventPattern" names(patterns(), "payment.*");
    /// Why nothing was done.
    DeclineCode = "DeclineCode" names(Decline::ALL.map(Decline::code), "card_declined");
    /// Pairs of the client's own, in the order of their keys. No card number may stand in them.
    MetadataPairs = "Metadata" metadata();
    /// A time in RFC 3339, or the sequence of a journal entry.
    Moment = "Moment" text(MOMENT, "2026-11-22T15:04:05Z");
    /// A time in RFC 3339.
    TimeAsked = "AnyTime" text(TIME_ASKED, "2026-11-22T15:04:05Z");
    /// An event's id, its `sequence` at the endpoint, or a time in RFC 3339.
    ReplayFrom = "ReplayFrom" replay_from();
}

const IDEMPOTENCY_KEY: &str = r#"^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$"#;

/// A time that can be asked for: RFC 3339 with any offset, on a day that there is, from 1971 on.
macro_rules! any_time {
    () => {
        r"(((19(7[1-9]|[89]\d)|[2-8]\d{3})-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))|[2-8]\d(0[48]|[2468][048]|[13579][26])-02-29)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-](0\d|1[0-4]):[0-5]\d))"
    };
}

const TIME_ASKED: &str = concat!("^", any_time!(), "$");
const MOMENT: &str = concat!(r"^(0|[1-9]\d{0,17}|", any_time!(), ")$");
const REPLAY_FROM: &str = concat!(
    r"^(evt_[0-9a-d][0-9a-f]{11}74[0-9a-f]{2}[89ab][0-9a-f]{11}[048c]000|[1-9]\d{0,17}|",
    any_time!(),
    ")$"
);

/// What can go wrong with a try to deliver.
const TRY_ERRORS: [&str; 11] = [
    "redirect_not_followed",
    "gone",
    "status_not_2xx",
    "answer_cut_off",
    "timed_out",
    "name_not_resolved",
    "address_forbidden",
    "connection_failed",
    "tls_failed",
    "connection_closed",
    "not_http",
];

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn text(pattern: &str, example: &str) -> Object {
    string().pattern(Some(pattern)).examples([Value::from(example)]).build()
}

fn id(prefix: &str) -> Object {
    let example = format!("{prefix}0199aabbccdd7abc8def0123456789ab");
    text(&format!("^{prefix}[0-9a-f]{{32}}$"), &example)
}

/// See `domain::id`: nothing else is read as one.
fn derived_id(prefix: &str, kind: u8) -> Object {
    let tail = "[0-9a-f]{2}[89ab][0-9a-f]{11}[048c]000";
    let pattern = format!("^{prefix}[0-9a-d][0-9a-f]{{11}}7{kind}{tail}$");
    text(&pattern, &format!("{prefix}01a20596d1077{kind}00800000000000c000"))
}

fn names(names: impl IntoIterator<Item = &'static str>, example: &str) -> Object {
    string().enum_values(Some(names)).examples([Value::from(example)]).build()
}

fn units(least: i64) -> Object {
    let whole = ObjectBuilder::new().schema_type(Type::Integer);
    let format = utoipa::openapi::KnownFormat::Int64;
    let whole = whole.format(Some(utoipa::openapi::SchemaFormat::KnownFormat(format)));
    whole.minimum(Some(least)).maximum(Some(Amount::MAX)).examples([json!(4999)]).build()
}

fn currencies() -> Vec<&'static str> {
    let letters = || 'A'..='Z';
    let codes = letters().flat_map(|one| letters().map(move |two| (one, two)));
    let codes = codes.flat_map(|(one, two)| letters().map(move |three| [one, two, three]));
    let codes = codes.map(|code| code.iter().collect::<String>());
    codes.filter_map(|code| Currency::for_payment(&code)).map(Currency::code).collect()
}

fn patterns() -> Vec<&'static str> {
    ["*", "payment.*"].into_iter().chain(EventType::ALL.map(EventType::name)).collect()
}

fn metadata() -> Object {
    let key = string().min_length(Some(1)).max_length(Some(40)).build();
    let value = string().max_length(Some(500)).build();
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(Schema::Object(key)))
        .additional_properties(Some(Schema::Object(value)))
        .max_properties(Some(50))
        .examples([json!({"order": "12345"})])
        .build()
}

fn replay_from() -> Object {
    let kinds = utoipa::openapi::schema::SchemaType::from_iter([Type::String, Type::Integer]);
    let example = "evt_01a20596d1077400800000000000c000";
    ObjectBuilder::new()
        .schema_type(kinds)
        .minimum(Some(1))
        .maximum(Some(i64::MAX))
        .pattern(Some(REPLAY_FROM))
        .examples([Value::from(example), json!(7)])
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_currency_that_is_listed_can_be_paid_in_and_the_common_ones_are() {
        let all = currencies();
        for code in ["USD", "EUR", "JPY", "KWD", "CHF"] {
            assert!(all.contains(&code), "{code}");
        }
        for code in ["XXX", "XAU", "XTS"] {
            assert!(!all.contains(&code), "{code}");
        }
    }
}

//! What bodies and queries may hold, for the OpenAPI document. The handlers read bodies field by field, so that all faults
//! are told at once; `tests/openapi_check.sh` holds that they and these types agree, both ways.

use super::schema::{
    AmountUnits, AttemptIdText, CaptureText, EndpointIdText, EventIdText, EventPattern,
    IdempotencyKeyText, KeyIdText, MetadataPairs, ModeText, Moment, PaymentCurrency, PaymentIdText,
    PaymentStatus, ReplayFrom, ScopeText, TimeAsked,
};
use utoipa::{IntoParams, ToSchema};

/// What is to be charged or authorized.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct NewPayment {
    /// Whose payment: may be left out with a merchant's key, is required with an admin's.
    #[schema(max_length = 255, example = "merchant_1")]
    pub merchant_id: Option<String>,
    /// How much.
    pub amount: AmountUnits,
    /// In which currency.
    pub currency: PaymentCurrency,
    /// Whether to charge at once or to authorize; `automatic` if left out.
    pub capture: Option<CaptureText>,
    /// The provider's token of the customer's means of payment; the sandbox takes `tok_visa` if left out.
    #[schema(pattern = "^[!-~]{1,255}$", example = "tok_visa")]
    pub payment_method: Option<String>,
    /// The client's own name of its customer, who gets an account of this name in the ledger. Not a payment's id.
    #[schema(pattern = "^[!-~]{1,255}$", example = "customer_7")]
    pub customer_id: Option<String>,
    /// For people. No card number may stand in it.
    #[schema(max_length = 1000, example = "Order #12345")]
    pub description: Option<String>,
    /// Pairs of the client's own.
    pub metadata: Option<MetadataPairs>,
}

/// How much of an authorization is to be captured.
#[derive(ToSchema)]
pub struct NewCapture {
    /// All that is authorized if left out; less releases the rest. `null` is refused. Needs an idempotency key.
    #[schema(nullable = false)]
    pub amount: Option<AmountUnits>,
}

/// Nothing has to be said to void.
#[derive(ToSchema)]
pub struct NewVoid {}

/// How much is to be given back.
#[derive(ToSchema)]
pub struct NewRefund {
    /// All that is left if left out. `null` is refused. Needs an idempotency key.
    #[schema(nullable = false)]
    pub amount: Option<AmountUnits>,
    /// Why, for people. No card number may stand in it.
    #[schema(max_length = 500, example = "damaged")]
    pub reason: Option<String>,
}

/// What a person found out at the provider.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct NewResolution {
    /// What became of it.
    pub outcome: Finding,
    /// Which attempt; may be left out if one is in doubt.
    pub attempt_id: Option<AttemptIdText>,
    /// What the provider calls it, if it was done.
    #[schema(max_length = 255, example = "pi_3Nx")]
    pub provider_reference: Option<String>,
    /// How it was found out. No card number may stand in it.
    #[schema(min_length = 1, max_length = 500, example = "seen in the provider's dashboard")]
    pub reason: String,
}

/// What a person found.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Finding {
    /// It was done.
    Succeeded,
    /// It was not done.
    Failed,
    /// The payment is right as it stands.
    Dismissed,
}

/// A webhook endpoint to be made.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct NewWebhookEndpoint {
    /// Whose: may be left out with a merchant's key, is required with an admin's.
    #[schema(max_length = 255, example = "merchant_1")]
    pub merchant_id: Option<String>,
    /// Where to: https to a public address, or http to this machine where `webhooks.allow_loopback` lets it.
    #[schema(max_length = 2048, format = "uri", example = "https://shop.example/webhooks")]
    pub url: String,
    /// Which events; everything if left out.
    #[schema(min_items = 1, max_items = 20)]
    pub events: Option<Vec<EventPattern>>,
    /// For people. No card number may stand in it.
    #[schema(max_length = 1000, example = "the shop's own")]
    pub description: Option<String>,
    /// The signing secret, if the client brings one: `whsec_` and the base64 of 24 to 64 random bytes.
    #[schema(pattern = "^whsec_([A-Za-z0-9+/]{4}){8,21}$", write_only)]
    pub secret: Option<String>,
}

/// What is to be changed of a webhook endpoint; what is left out stays.
#[derive(ToSchema)]
pub struct WebhookEndpointChange {
    /// Where to.
    #[schema(max_length = 2048, format = "uri", example = "https://shop.example/webhooks")]
    pub url: Option<String>,
    /// Which events.
    #[schema(min_items = 1, max_items = 20)]
    pub events: Option<Vec<EventPattern>>,
    /// For people. No card number may stand in it.
    #[schema(max_length = 1000, example = "the shop's own")]
    pub description: Option<String>,
    /// Whether it gets anything; what happens meanwhile waits.
    pub enabled: Option<bool>,
}

/// The next signing secret.
#[derive(ToSchema)]
pub struct NewSecret {
    /// `whsec_` and the base64 of 24 to 64 random bytes; one is made if left out.
    #[schema(pattern = "^whsec_([A-Za-z0-9+/]{4}){8,21}$", write_only)]
    pub secret: Option<String>,
}

/// From where everything is to be sent again.
#[derive(ToSchema)]
pub struct NewReplay {
    /// The first one.
    pub from: ReplayFrom,
}

/// A merchant to be made.
#[derive(ToSchema)]
pub struct NewMerchant {
    /// Its id, which stays: it names the merchant's account in the ledger. Not `admin`.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$", example = "merchant_7")]
    pub id: String,
    /// For people. No card number may stand in it.
    #[schema(max_length = 200, example = "The corner shop")]
    pub name: Option<String>,
}

/// What is to be changed of a merchant; what is left out stays.
#[derive(ToSchema)]
pub struct MerchantChange {
    /// For people. No card number may stand in it.
    #[schema(max_length = 200, example = "The corner shop")]
    pub name: Option<String>,
    /// Whether its keys may change anything; they may always look.
    pub enabled: Option<bool>,
}

/// A merchant's key to be made.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct NewKey {
    /// What it is for, for people; the audit trail names the key by its id.
    #[schema(min_length = 1, max_length = 100, example = "checkout")]
    pub label: String,
    /// `live` if left out.
    pub mode: Option<ModeText>,
    /// What it may do; everything if left out.
    #[schema(min_items = 1, max_items = 20)]
    pub scopes: Option<Vec<ScopeText>>,
    /// Until when it opens the door: a time to come; for good if left out.
    pub expires_at: Option<TimeAsked>,
}

/// An admin's key to be made.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct NewAdminKey {
    /// Who it is for, for people; the audit trail names the key by its id.
    #[schema(min_length = 1, max_length = 100, example = "alice")]
    pub label: String,
    /// Until when it opens the door: a time to come; for good if left out.
    pub expires_at: Option<TimeAsked>,
}

/// Under which name of the client's own it is asked: the header of the IETF draft.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// 1 to 255 visible ASCII characters, bare or as a quoted string: the same request under the same key is done once,
    /// and gets the same answer.
    #[param(rename = "Idempotency-Key")]
    pub key: Option<IdempotencyKeyText>,
}

/// The same, where one must be sent.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct RequiredIdempotencyKey {
    /// 1 to 255 visible ASCII characters, bare or as a quoted string: the same request under the same key is done once,
    /// and gets the same answer. Required, unless `idempotencyKey` stands in the query instead.
    #[param(rename = "Idempotency-Key")]
    pub key: IdempotencyKeyText,
}

/// The same, for clients that cannot set a header.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct IdempotencyKeyInQuery {
    /// `Idempotency-Key`, for clients that cannot set a header; if both are sent they must be the same.
    #[param(rename = "idempotencyKey")]
    pub key: Option<IdempotencyKeyText>,
}

/// Which payment.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfPayment {
    /// The payment's id.
    pub id: PaymentIdText,
}

/// Which event.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfEvent {
    /// The event's id.
    pub id: EventIdText,
}

/// Which webhook endpoint.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfEndpoint {
    /// The webhook endpoint's id.
    pub id: EndpointIdText,
}

/// Which merchant.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfHolder {
    /// The merchant's id.
    #[param(example = "merchant_1")]
    pub id: String,
}

/// Which API key.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfApiKey {
    /// The key's id.
    pub key: KeyIdText,
}

/// How much of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Limit {
    /// The most items of the answer.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u32>,
}

/// Where a payment's audit trail goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AfterMove {
    /// The cursor from `next`.
    #[param(minimum = 0, maximum = 4294967295_i64, format = Int64)]
    pub after: Option<u32>,
}

/// Where the audit trail goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AfterEntry {
    /// The cursor from `next`.
    #[param(minimum = 0)]
    pub after: Option<u64>,
}

/// Whose list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct OfMerchant {
    /// Of which merchant; a merchant's key shows that merchant's only, an admin's all if left out. An admin names a
    /// merchant's live payments by its id, and its test payments by that and `~test`.
    #[param(example = "merchant_1")]
    pub merchant_id: Option<String>,
}

/// As of when.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AsOf {
    /// As it stood at this time (RFC 3339), or right after this entry of the journal; now if left out.
    pub at: Option<Moment>,
}

/// Which payments.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct PaymentFilter {
    /// The cursor from `next`.
    pub after: Option<PaymentIdText>,
    /// In this state.
    pub status: Option<PaymentStatus>,
    /// Of this customer.
    #[param(example = "customer_7")]
    pub customer_id: Option<String>,
    /// Made at this time (RFC 3339) or later.
    pub from: Option<TimeAsked>,
    /// Made before this time (RFC 3339).
    pub to: Option<TimeAsked>,
    /// Whether a person has to look at them.
    pub needs_review: Option<bool>,
}

/// Which events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// The cursor from `next`, or the last event that was seen.
    pub after: Option<EventIdText>,
    /// Of this type.
    #[param(rename = "type")]
    pub kind: Option<EventPattern>,
    /// Newest first, or oldest first to catch up.
    #[param(inline)]
    pub order: Option<Order>,
}

/// Which way round.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// Which idempotency key.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfIdempotencyKey {
    /// The key, bare or as a quoted string.
    pub key: IdempotencyKeyText,
}

//! The table of everything the door can say no with: code, status, title, and what the page at `/docs/errors/{code}`
//! tells. A problem can only be made from a row, and every row is a page: so codes and pages are the same.
//!
//! Codes are stable: clients switch on them. A new one is a row here; the operations that can answer it name it under
//! `x-problems` (see `openapi`).

use actix_web::http::StatusCode;

/// One kind of problem.
#[derive(Debug)]
pub(super) struct Code {
    /// What clients switch on.
    pub(super) code: &'static str,
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) effect: Effect,
    /// Why it is answered.
    pub(super) meaning: &'static str,
    /// What the client is to do.
    pub(super) remedy: &'static str,
}

/// Whether anything was done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// Nothing was done, and no idempotency key was used up.
    Nothing,
    /// The attempt is on record, no money moved, and the key is used up.
    Recorded,
    /// It may have been done or not.
    Unknown,
}

impl Effect {
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Nothing => "Nothing was done, and no idempotency key was used up.",
            Self::Recorded => {
                "No money moved. The attempt is on record, and its idempotency key is used up: the same request under \
                 the same key gets this answer again."
            }
            Self::Unknown => {
                "It may have been done or not. Whatever it was, it is done at most once under its idempotency key."
            }
        }
    }
}

macro_rules! codes {
    ($($name:ident = $status:ident $code:literal $title:literal $effect:ident $meaning:literal $remedy:literal;)*) => {
        $(pub(super) static $name: Code = Code {
            code: $code,
            status: StatusCode::$status,
            title: $title,
            effect: Effect::$effect,
            meaning: $meaning,
            remedy: $remedy,
        };)*

        /// Every row of the table.
        pub(super) static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    VALIDATION_FAILED = BAD_REQUEST "validation_failed"
        "The request is not valid" Nothing
        "Fields of the body or parameters of the query are missing, unknown, of the wrong type or out of range."
        "Correct every field that `errors` names: all faults are told at once. The request can be sent again under the same idempotency key.";
    MALFORMED_JSON = BAD_REQUEST "malformed_json"
        "The body is not a JSON object" Nothing
        "The body is not JSON, not an object, or names a field twice; `detail` says where."
        "Correct the body and send it again.";
    BODY_INCOMPLETE = BAD_REQUEST "body_incomplete"
        "The body did not arrive whole" Nothing
        "The connection ended, or its framing broke, before the whole body had arrived."
        "Send the request again under the same idempotency key.";
    IDEMPOTENCY_KEY_REQUIRED = BAD_REQUEST "idempotency_key_required"
        "Idempotency-Key is missing" Nothing
        "A payment, a partial capture and a partial refund need a name of the client's own, so that a retry cannot do it twice."
        "Send `Idempotency-Key` with a name that is unique to what you want done, such as your order's number, and the same in every retry of it.";
    IDEMPOTENCY_KEY_INVALID = BAD_REQUEST "idempotency_key_invalid"
        "Idempotency-Key is not a key" Nothing
        "A key is 1 to 255 visible ASCII characters, bare or as a quoted string."
        "Send another key.";
    IDEMPOTENCY_KEY_AMBIGUOUS = BAD_REQUEST "idempotency_key_ambiguous"
        "More than one idempotency key" Nothing
        "The header came twice, or the header and the query name different keys."
        "Send one key, once: in the header, or in the query, or the same in both.";
    SIGNATURE_INVALID = BAD_REQUEST "signature_invalid"
        "The signature is not valid" Nothing
        "A message to a provider's webhook is not signed by that provider, or is too old."
        "Only the provider can send such messages. If it did, compare `webhook_secret` in the configuration with what the provider shows, and the clocks.";
    MESSAGE_MALFORMED = BAD_REQUEST "message_malformed"
        "The message cannot be read" Nothing
        "A provider's message is signed, but it says something that is not understood here."
        "Look at the provider at what the message says, and report it; the provider sends it again for a while.";
    UNAUTHENTICATED = UNAUTHORIZED "unauthenticated"
        "No valid API key" Nothing
        "There is no `Authorization: Bearer <key>`, or its key is not one of this server."
        "Send a key of this server. If it worked before, ask whoever runs the server whether it was taken back.";
    CAPTURE_DECLINED = PAYMENT_REQUIRED "capture_declined"
        "The provider declined" Recorded
        "The provider did not capture the authorized amount; `failure` says why."
        "Read the payment: it stands as before. Capture again under a new key if `failure` lets it seem useful, or authorize anew.";
    VOID_DECLINED = PAYMENT_REQUIRED "void_declined"
        "The provider declined" Recorded
        "The provider did not release the hold; `failure` says why."
        "Read the payment: it stands as before. The hold lapses by itself at `expiresAt`.";
    REFUND_DECLINED = PAYMENT_REQUIRED "refund_declined"
        "The provider declined" Recorded
        "The provider did not give the amount back; `failure` says why."
        "Read the payment: what can be refunded is what it was before. Refund again under a new key, or give the money back in another way.";
    FORBIDDEN = FORBIDDEN "forbidden"
        "Not allowed with this key" Nothing
        "This call needs an admin key."
        "Use an admin's key, or ask an operator.";
    MERCHANT_FORBIDDEN = FORBIDDEN "merchant_forbidden"
        "Another merchant" Nothing
        "`merchantId` names another merchant than the one whose key this is."
        "Leave `merchantId` out, or use that merchant's key.";
    INSUFFICIENT_SCOPE = FORBIDDEN "insufficient_scope"
        "The key's scopes do not reach so far" Nothing
        "The key was made for less than this call needs; `detail` names the scope."
        "Use a key with that scope, or ask an admin for one.";
    MERCHANT_DISABLED = FORBIDDEN "merchant_disabled"
        "The merchant is disabled" Nothing
        "An operator has disabled the merchant: its keys may look, and change nothing."
        "Ask whoever runs the server.";
    READ_ONLY = FORBIDDEN "read_only"
        "This server only shows books" Nothing
        "The server was started with `--read-only` and changes nothing; `detail` says as of when its books stand."
        "Send the request to the server that takes payments.";
    NO_SUCH_ROUTE = NOT_FOUND "no_such_route"
        "No such route" Nothing
        "There is nothing at this path."
        "Compare the path with the list at `/docs`; a path has no slash at its end.";
    PAYMENT_NOT_FOUND = NOT_FOUND "payment_not_found"
        "No such payment" Nothing
        "No payment of this id is visible with this key; another merchant's is as unknown as one that is not there."
        "Check the id and whose key is used.";
    ACCOUNT_NOT_FOUND = NOT_FOUND "account_not_found"
        "No such account" Nothing
        "No ledger account of this name is visible with this key."
        "Accounts are `merchant:{merchantId}`, `customer:{customerId}`, `customer:{payment id}` and, for an admin, `in_doubt:{provider}`.";
    EVENT_NOT_FOUND = NOT_FOUND "event_not_found"
        "No such event" Nothing
        "No event of this id is visible with this key."
        "Check the id and whose key is used; `GET /api/events` lists them.";
    WEBHOOK_ENDPOINT_NOT_FOUND = NOT_FOUND "webhook_endpoint_not_found"
        "No such webhook endpoint" Nothing
        "No webhook endpoint of this id is visible with this key, or it has been deleted."
        "Check the id and whose key is used; `GET /api/webhook-endpoints` lists them.";
    MERCHANT_NOT_FOUND = NOT_FOUND "merchant_not_found"
        "No such merchant" Nothing
        "No merchant of this id is known."
        "Check the id; `GET /api/merchants` lists them.";
    API_KEY_NOT_FOUND = NOT_FOUND "api_key_not_found"
        "No such API key" Nothing
        "No API key of this id is known here: another holder's is as unknown as one that is not there."
        "Check the id and the path; the holder's list of keys shows them.";
    IDEMPOTENCY_KEY_NOT_FOUND = NOT_FOUND "idempotency_key_not_found"
        "No such key" Nothing
        "Nothing was done under this key, nor is anything being done."
        "Send the request: it has not been carried out.";
    PROVIDER_NOT_FOUND = NOT_FOUND "provider_not_found"
        "No such provider" Nothing
        "No provider of this name is configured."
        "The last but one part of the path is the provider's name in the configuration, `[providers.NAME]`.";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED "method_not_allowed"
        "Method not allowed" Nothing
        "The path exists, but not with this method; the header `Allow` lists those it takes."
        "Use one of those.";
    BODY_TOO_SLOW = REQUEST_TIMEOUT "body_too_slow"
        "The body did not arrive in time" Nothing
        "The body took longer to arrive than `http.body_read_timeout_ms` lets it."
        "Send the request again under the same idempotency key.";
    INVALID_TRANSITION = CONFLICT "invalid_transition"
        "The payment's state does not allow it" Nothing
        "The payment is in a state, `from`, from which there is no way to `to`: such as a capture of what was voided."
        "Read the payment to see what has become of it.";
    OPERATION_PENDING = CONFLICT "operation_pending"
        "The provider has not answered yet" Nothing
        "Something else was asked of the provider about this payment, and its outcome is out."
        "Wait for the payment's next event, or read it until no attempt is `pending`, and ask again.";
    NOTHING_TO_RESOLVE = CONFLICT "nothing_to_resolve"
        "Nothing to resolve" Nothing
        "The payment has no such attempt, or nothing about it is in doubt or in review."
        "Read the payment: `attempts` and `needsReview` show what there is.";
    ALREADY_ANSWERED = CONFLICT "already_answered"
        "The outcome is known" Nothing
        "The attempt has an outcome already, and nobody may overrule it."
        "Read the payment; `attempts` shows the outcome.";
    STILL_AUTHORIZED = CONFLICT "still_authorized"
        "The authorization still holds" Nothing
        "What was to be called done or not depends on a hold that has not lapsed yet."
        "Capture or void the payment, or wait until `expiresAt`.";
    IDEMPOTENCY_KEY_IN_PROGRESS = CONFLICT "idempotency_key_in_progress"
        "A request is outstanding for this Idempotency-Key" Unknown
        "The first request under this key is still being worked on, longer than this one could wait."
        "Send the same request again after `Retry-After` seconds: it gets the first one's answer.";
    MERCHANT_EXISTS = CONFLICT "merchant_exists"
        "The merchant exists" Nothing
        "There is a merchant of this id already, made here or in the server's configuration."
        "Read it; make the new one under another id.";
    MERCHANT_CONFIGURED = CONFLICT "merchant_configured"
        "The merchant is configured" Nothing
        "The merchant stands in the server's configuration, and is changed there."
        "Change the configuration; keys can be made and revoked here.";
    WEBHOOK_ENDPOINT_CONFIGURED = CONFLICT "webhook_endpoint_configured"
        "The webhook endpoint is configured" Nothing
        "The endpoint stands in the server's configuration, and its URL and secret are changed there."
        "Change `webhook_url` and `webhook_secret` of the merchant in the configuration; `enabled` can be changed here.";
    WEBHOOK_ENDPOINT_DISABLED = CONFLICT "webhook_endpoint_disabled"
        "The webhook endpoint is disabled" Nothing
        "A disabled endpoint gets nothing, so nothing can be replayed to it."
        "Enable it first, with `PATCH {\"enabled\": true}`.";
    WEBHOOK_TEST_UNDER_WAY = CONFLICT "webhook_test_under_way"
        "A test is under way" Nothing
        "The endpoint has not answered the test before yet, and there is one at a time."
        "Wait for that one's answer.";
    NO_WEBHOOK_ENDPOINT = CONFLICT "no_webhook_endpoint"
        "Nobody to deliver the event to" Nothing
        "No enabled webhook endpoint was there when the event happened, or none that wants its type."
        "Enable an endpoint, or widen its `events`; events from before can be read at `GET /api/events`.";
    BODY_TOO_LARGE = PAYLOAD_TOO_LARGE "body_too_large"
        "The body is too large" Nothing
        "The body has more bytes than `http.body_bytes_max` allows."
        "Send less; long texts belong into your own records.";
    URI_TOO_LONG = URI_TOO_LONG "uri_too_long"
        "The URL is too long" Nothing
        "The path or the query has more bytes than a request may have; `detail` says which, and how many it may."
        "Send a shorter one; what is long belongs into the body.";
    HEADERS_TOO_LARGE = REQUEST_HEADER_FIELDS_TOO_LARGE "headers_too_large"
        "The headers are too large" Nothing
        "The request has more headers, or more bytes of them, than it may."
        "Send fewer; cookies and the like are not needed here.";
    RATE_LIMITED = TOO_MANY_REQUESTS "rate_limited"
        "Too many requests" Nothing
        "The key or the address has asked more often than `[limits]` of the configuration lets it, or with too many wrong keys."
        "Ask again after `Retry-After` seconds; the headers `RateLimit-Policy` and `RateLimit` say how often is often enough.";
    AMOUNT_EXCEEDS_CAPTURABLE = UNPROCESSABLE_ENTITY "amount_exceeds_capturable"
        "More than is authorized" Nothing
        "The capture asks for more than `amountCapturable`."
        "Capture at most that much.";
    AMOUNT_EXCEEDS_REFUNDABLE = UNPROCESSABLE_ENTITY "amount_exceeds_refundable"
        "More than can be refunded" Nothing
        "The refund asks for more than `amountCaptured` less `amountRefunded`, with refunds that are out counted as given back."
        "Refund at most what is left.";
    TOO_MANY_REFUNDS = UNPROCESSABLE_ENTITY "too_many_refunds"
        "The payment has as many refunds as it can have" Nothing
        "A payment can have 100 refunds."
        "Refund fewer, larger amounts.";
    TOO_MUCH_ON_RECORD = UNPROCESSABLE_ENTITY "too_much_on_record"
        "The payment has as much on record as it can have" Nothing
        "The number of attempts and notes of one payment is bounded, and this one has reached it."
        "Look into why so many attempts were made; what must still be done, do at the provider and report it.";
    ATTEMPT_AMBIGUOUS = UNPROCESSABLE_ENTITY "attempt_ambiguous"
        "Say which attempt is resolved" Nothing
        "More than one attempt of the payment is in doubt."
        "Send `attemptId`; the payment's `attempts` lists those that are `pending`.";
    IDEMPOTENCY_KEY_REUSED = UNPROCESSABLE_ENTITY "idempotency_key_reused"
        "Idempotency-Key is already used" Nothing
        "The key was used for a request with another path or another body."
        "If this is another wish, send it under a key of its own. If it is a retry, send exactly what was sent the first time. `GET /api/idempotency/{key}` shows what became of the first.";
    TOO_MANY_WEBHOOK_ENDPOINTS = UNPROCESSABLE_ENTITY "too_many_webhook_endpoints"
        "Too many webhook endpoints" Nothing
        "The merchant has as many webhook endpoints as `webhooks.endpoints_per_merchant` allows."
        "Delete one, or let one endpoint get more types of events.";
    TOO_MANY_CHANGES = UNPROCESSABLE_ENTITY "too_many_changes"
        "Too many changes of what is wanted" Nothing
        "Every change of an endpoint's `events` is kept, and this one has had as many as can be."
        "Make a new endpoint and delete this one.";
    TOO_MANY = UNPROCESSABLE_ENTITY "too_many"
        "As many as there can be" Nothing
        "The number of merchants, and of one holder's keys, is bounded; revoked keys are kept."
        "Use one that is there.";
    INTERNAL_ERROR = INTERNAL_SERVER_ERROR "internal_error"
        "Internal error" Unknown
        "A fault of this server; its log tells more under the answer's `X-Request-Id`."
        "Send the same request again under the same idempotency key, and report the request id.";
    OVERLOADED = SERVICE_UNAVAILABLE "overloaded"
        "Too much to do" Nothing
        "As much is being worked on as may be at once."
        "Send the same request again after `Retry-After` seconds.";
    NOT_SERVING = SERVICE_UNAVAILABLE "not_serving"
        "Starting or stopping" Nothing
        "The server is reading its books or is about to stop."
        "Send the same request again after `Retry-After` seconds.";
    DRAINING = SERVICE_UNAVAILABLE "draining"
        "Stopping" Nothing
        "The server has been told to stop: it still answers, and should get no new connections."
        "Send further requests to another server, or again later.";
    PROVIDER_UNAVAILABLE = SERVICE_UNAVAILABLE "provider_unavailable"
        "The provider takes no new payments now" Nothing
        "Too many calls to the payment provider are under way, or it has failed too often lately."
        "Send the same request again after `Retry-After` seconds.";
    STORAGE_FULL = SERVICE_UNAVAILABLE "storage_full"
        "No room for new payments" Nothing
        "The disk is so full that an outcome could not be recorded with certainty."
        "Send the same request again after `Retry-After` seconds; the operator has to make room.";
    DISK_STALLED = SERVICE_UNAVAILABLE "disk_stalled"
        "The disk does not answer" Nothing
        "A write to the disk has been under way for too long."
        "Send the same request again after `Retry-After` seconds; the operator has to check the disk.";
    OUTCOME_UNKNOWN = SERVICE_UNAVAILABLE "outcome_unknown"
        "The outcome is unknown" Unknown
        "The request was being carried out when the server could no longer say what became of it."
        "Send the same request again under the same idempotency key after `Retry-After` seconds, or ask `GET /api/idempotency/{key}`.";
    SNAPSHOT_FAILED = SERVICE_UNAVAILABLE "snapshot_failed"
        "No snapshot could be made" Nothing
        "The disk refused, or a file was found damaged; `detail` says which. Payments are not affected."
        "Check the disk, and ask again.";
}

/// The row of this code.
pub(super) fn find(code: &str) -> Option<&'static Code> {
    ALL.iter().copied().find(|row| row.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_one_row_whose_status_is_an_errors_and_whose_texts_are_sentences() {
        let mut seen = BTreeSet::new();
        for row in ALL {
            assert!(seen.insert(row.code), "{} twice", row.code);
            assert!(row.status.is_client_error() || row.status.is_server_error(), "{}", row.code);
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(row.code.bytes().all(plain), "{}", row.code);
            assert!(!row.title.ends_with('.'), "{}", row.code);
            for text in [row.meaning, row.remedy] {
                assert!(text.ends_with('.'), "{}: {text}", row.code);
            }
        }
    }
}

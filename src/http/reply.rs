//! The one table from outcome to status, code and sentence: problem documents of RFC 9457.
//!
//! Codes are stable: clients switch on them. Sentences are for people and may change.

mod limits;

use super::{gate, rates::Standing};
use crate::{
    actors::{Unavailable, ledger::NotRecorded},
    domain::{
        books::{Breach, Position},
        event::{Details, Failure},
        payment::{Attempt, Status},
        refusal::Refusal,
        webhook::Misfit,
    },
    journal::JournalError,
    pipeline::NotDone,
    provider::NotRead,
    wire::FailureBody,
};
use actix_web::{
    HttpRequest, HttpResponse, Responder, ResponseError, body::BoxBody, http::StatusCode,
};
use serde::Serialize;
use std::fmt;

/// A no, ready to be told.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Box<str>,
    errors: Vec<Fault>,
    transition: Option<(Status, Status)>,
    failure: Option<Box<Failure>>,
    retry_after_s: Option<u32>,
    allow: Option<Box<str>>,
    standing: Option<Box<Standing>>,
}

/// What is wrong with one field.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Fault {
    field: String,
    message: String,
}

impl Fault {
    pub(super) fn new(field: &str, message: &str) -> Self {
        Self { field: field.to_owned(), message: message.to_owned() }
    }

    pub(super) fn is_of(&self, field: &str) -> bool {
        self.field == field
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureBody<'a>>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: &str) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
            errors: Vec::new(),
            transition: None,
            failure: None,
            retry_after_s: None,
            allow: None,
            standing: None,
        }
    }

    pub(super) fn invalid(errors: Vec<Fault>) -> Self {
        let detail = "Nothing was done. See `errors` for each fault.";
        let title = "The request is not valid";
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "validation_failed", title, detail) }
    }

    pub(super) fn malformed_json(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", "The body is not a JSON object", why)
    }

    pub(super) fn body_too_large(bytes_max: usize) -> Self {
        let detail = format!("A body may have at most {bytes_max} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large", &detail)
    }

    pub(super) fn body_too_slow() -> Self {
        let title = "The body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", title, "Nothing was done.")
    }

    pub(super) fn body_cut_off() -> Self {
        let title = "The body did not arrive whole";
        Self::new(StatusCode::BAD_REQUEST, "body_incomplete", title, "Nothing was done.")
    }

    pub(super) fn unauthenticated() -> Self {
        let detail = "Send `Authorization: Bearer <key>` with a key of this server.";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "No valid API key", detail)
    }

    pub(super) fn admin_only() -> Self {
        let detail = "This needs an admin key.";
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed with this key", detail)
    }

    pub(super) fn other_merchant() -> Self {
        let detail = "A merchant's key makes that merchant's payments only.";
        Self::new(StatusCode::FORBIDDEN, "merchant_forbidden", "Another merchant", detail)
    }

    pub(super) fn key_required() -> Self {
        let detail = "Send `Idempotency-Key` with a name of your own for this request, \
                      so that a retry cannot do it twice.";
        let title = "Idempotency-Key is missing";
        Self::new(StatusCode::BAD_REQUEST, "idempotency_key_required", title, detail)
    }

    pub(super) fn key_invalid() -> Self {
        let detail = "A key is 1 to 255 visible ASCII characters, bare or as a quoted string.";
        let title = "Idempotency-Key is not a key";
        Self::new(StatusCode::BAD_REQUEST, "idempotency_key_invalid", title, detail)
    }

    pub(super) fn key_ambiguous() -> Self {
        let detail = "Send one key, once: in one header, or in the query, or the same in both.";
        let title = "More than one idempotency key";
        Self::new(StatusCode::BAD_REQUEST, "idempotency_key_ambiguous", title, detail)
    }

    pub(super) fn no_such_route() -> Self {
        let detail = "There is nothing at this path.";
        Self::new(StatusCode::NOT_FOUND, "no_such_route", "No such route", detail)
    }

    pub(super) fn method_not_allowed(allowed: &str) -> Self {
        let title = "Method not allowed";
        let detail = format!("This path takes {allowed}.");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let problem = Self::new(status, "method_not_allowed", title, &detail);
        Self { allow: Some(allowed.into()), ..problem }
    }

    pub(super) fn no_such_payment() -> Self {
        let detail = "No payment of this id is visible with this key.";
        Self::new(StatusCode::NOT_FOUND, "payment_not_found", "No such payment", detail)
    }

    pub(super) fn no_such_account() -> Self {
        let detail = "No account of this name is visible with this key.";
        Self::new(StatusCode::NOT_FOUND, "account_not_found", "No such account", detail)
    }

    pub(super) fn no_such_event() -> Self {
        let detail = "No event of this id is visible with this key.";
        Self::new(StatusCode::NOT_FOUND, "event_not_found", "No such event", detail)
    }

    pub(super) fn no_such_endpoint() -> Self {
        let detail = "No webhook endpoint of this id is visible with this key.";
        let title = "No such webhook endpoint";
        Self::new(StatusCode::NOT_FOUND, "webhook_endpoint_not_found", title, detail)
    }

    pub(super) fn endpoint_of_config() -> Self {
        let detail =
            "Its URL and secret stand in the server's configuration and are changed there.";
        let title = "The webhook endpoint is configured";
        Self::new(StatusCode::CONFLICT, "webhook_endpoint_configured", title, detail)
    }

    pub(super) fn endpoint_disabled() -> Self {
        let detail = "Enable it first, with PATCH {\"enabled\": true}.";
        let title = "The webhook endpoint is disabled";
        Self::new(StatusCode::CONFLICT, "webhook_endpoint_disabled", title, detail)
    }

    pub(super) fn still_testing() -> Self {
        let detail = "The endpoint has not answered the test before yet. Nothing was sent.";
        let title = "A test is under way";
        Self::new(StatusCode::CONFLICT, "webhook_test_under_way", title, detail)
    }

    pub(super) fn no_endpoint_for_event() -> Self {
        let detail = "No enabled webhook endpoint was there for it, or none that wants its type.";
        let title = "Nobody to deliver the event to";
        Self::new(StatusCode::CONFLICT, "no_webhook_endpoint", title, detail)
    }

    pub(super) fn read_only(position: Position) -> Self {
        let Position { sequence, at, .. } = position;
        let detail = format!(
            "These are books to read, as they stood at entry {sequence}, {at}. Nothing was done."
        );
        Self::new(StatusCode::FORBIDDEN, "read_only", "This server only shows books", &detail)
    }

    pub(super) fn cursor_unknown() -> Self {
        Self::invalid(vec![Fault::new("after", "must be a cursor from `next`")])
    }

    pub(super) fn key_unknown() -> Self {
        let detail = "Nothing was done under this key.";
        Self::new(StatusCode::NOT_FOUND, "idempotency_key_not_found", "No such key", detail)
    }

    pub(super) fn not_serving() -> Self {
        Unavailable::NotServing.into()
    }

    /// The provider said no to a capture, void or refund. It is on record, and the key is used up.
    pub(super) fn change_declined(attempt: &Attempt, details: &Details) -> Self {
        let operation = attempt.operation(details);
        let message = attempt.failure.as_ref().map_or("", |failure| failure.decline.message());
        let detail = format!("Nothing was done about the {operation}. {message}");
        let code = match operation {
            "capture" => "capture_declined",
            "refund" => "refund_declined",
            _ => "void_declined",
        };
        let title = "The provider declined";
        let problem = Self::new(StatusCode::PAYMENT_REQUIRED, code, title, &detail);
        Self { failure: attempt.failure.clone().map(Box::new), ..problem }
    }

    pub(super) fn no_such_provider() -> Self {
        let detail = "No provider of this name is configured.";
        Self::new(StatusCode::NOT_FOUND, "provider_not_found", "No such provider", detail)
    }

    pub(super) fn no_snapshot(error: &JournalError) -> Self {
        let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "No snapshot could be made");
        let problem = Self::new(status, "snapshot_failed", title, &sentence(&error.to_string()));
        Self { retry_after_s: Some(5), ..problem }
    }

    fn document(&self) -> Document<'_> {
        Document {
            kind: format!("/docs/errors/{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            errors: &self.errors,
            from: self.transition.map(|(from, _)| from.name()),
            to: self.transition.map(|(_, to)| to.name()),
            failure: self.failure.as_deref().map(FailureBody::of),
        }
    }

    /// A bug: the task that carried the request out panicked.
    pub(super) fn internal() -> Self {
        let detail = "The outcome is unknown; ask again with the same idempotency key.";
        let title = "Internal error";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", title, detail)
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        let (code, title, retry_after_s) = match unavailable {
            Unavailable::Overloaded => ("overloaded", "Too much to do", 1),
            Unavailable::NotServing => ("not_serving", "Starting or stopping", 1),
            Unavailable::ProviderUnavailable => {
                ("provider_unavailable", "The provider takes no new payments now", 5)
            }
            Unavailable::StorageFull => ("storage_full", "No room for new payments", 5),
            Unavailable::DiskStalled => ("disk_stalled", "The disk does not answer", 5),
            Unavailable::OutcomeUnknown => ("outcome_unknown", "The outcome is unknown", 1),
        };
        let detail = match unavailable {
            Unavailable::OutcomeUnknown => {
                "It may have been done or not: ask again with the same idempotency key, which does it at most once."
            }
            Unavailable::Overloaded
            | Unavailable::NotServing
            | Unavailable::ProviderUnavailable
            | Unavailable::StorageFull
            | Unavailable::DiskStalled => {
                "Nothing was done and no key was used up. Ask again later."
            }
        };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { retry_after_s: Some(retry_after_s), ..Self::new(status, code, title, detail) }
    }
}

impl From<NotRecorded> for Problem {
    fn from(not_recorded: NotRecorded) -> Self {
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match not_recorded {
            NotRecorded::Unavailable(unavailable) => unavailable.into(),
            NotRecorded::Breach(Breach::Webhook(Misfit::NoSuchEndpoint(_))) => {
                Self::no_such_endpoint()
            }
            NotRecorded::Breach(Breach::Webhook(misfit @ Misfit::TooManyEndpoints { .. })) => {
                let (code, title) = ("too_many_webhook_endpoints", "Too many webhook endpoints");
                Self::new(unprocessable, code, title, &sentence(&misfit.to_string()))
            }
            NotRecorded::Breach(Breach::Webhook(misfit @ Misfit::TooManyFilters(_))) => {
                let (code, title) = ("too_many_changes", "Too many changes of what is wanted");
                Self::new(unprocessable, code, title, &sentence(&misfit.to_string()))
            }
            NotRecorded::Breach(_) => Self::internal(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = sentence(&refusal.to_string());
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match refusal {
            Refusal::InvalidTransition { from, to } => {
                let title = "The payment's state does not allow it";
                let problem = Self::new(StatusCode::CONFLICT, "invalid_transition", title, &detail);
                Self { transition: Some((from, to)), ..problem }
            }
            Refusal::OverCapture { .. } => {
                let title = "More than is authorized";
                Self::new(unprocessable, "amount_exceeds_capturable", title, &detail)
            }
            Refusal::OverRefund { .. } => {
                let title = "More than can be refunded";
                Self::new(unprocessable, "amount_exceeds_refundable", title, &detail)
            }
            Refusal::TooManyRefunds { .. } => {
                let title = "The payment has as many refunds as it can have";
                Self::new(unprocessable, "too_many_refunds", title, &detail)
            }
            Refusal::AnswerOut { .. } => {
                let title = "The provider has not answered yet";
                Self::new(StatusCode::CONFLICT, "operation_pending", title, &detail)
            }
            Refusal::TooMuchOnRecord { .. } => {
                let title = "The payment has as much on record as it can have";
                Self::new(unprocessable, "too_much_on_record", title, &detail)
            }
            Refusal::NoSuchAttempt { .. } | Refusal::NothingToResolve => {
                let title = "Nothing to resolve";
                Self::new(StatusCode::CONFLICT, "nothing_to_resolve", title, &detail)
            }
            Refusal::AnsweredAlready { .. } => {
                let title = "The outcome is known";
                Self::new(StatusCode::CONFLICT, "already_answered", title, &detail)
            }
            Refusal::SeveralOut { .. } => {
                let title = "Say which attempt is resolved";
                Self::new(unprocessable, "attempt_ambiguous", title, &detail)
            }
            Refusal::StillHeld { .. } => {
                let title = "The authorization still holds";
                Self::new(StatusCode::CONFLICT, "still_authorized", title, &detail)
            }
        }
    }
}

impl From<NotRead> for Problem {
    fn from(not_read: NotRead) -> Self {
        let detail = sentence(&not_read.to_string());
        let (status, code, title) = match not_read {
            NotRead::Unproven => {
                (StatusCode::BAD_REQUEST, "signature_invalid", "The signature is not valid")
            }
            NotRead::Malformed(_) => {
                (StatusCode::BAD_REQUEST, "message_malformed", "The message cannot be read")
            }
            NotRead::Unavailable => {
                return Unavailable::ProviderUnavailable.into();
            }
        };
        Self::new(status, code, title, &detail)
    }
}

impl From<NotDone> for Problem {
    fn from(not_done: NotDone) -> Self {
        match not_done {
            NotDone::Refused(refusal) => refusal.into(),
            NotDone::Unavailable(unavailable) => unavailable.into(),
            NotDone::NoSuchPayment => Self::no_such_payment(),
            NotDone::KeyReused => {
                let detail =
                    "The key was used for a request with another path or body. Nothing was done.";
                let title = "Idempotency-Key is already used";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", title, detail)
            }
            NotDone::KeyInProgress => {
                let detail = "The first request under this key is still being worked on.";
                let title = "A request is outstanding for this Idempotency-Key";
                let code = "idempotency_key_in_progress";
                let problem = Self::new(StatusCode::CONFLICT, code, title, detail);
                Self { retry_after_s: Some(1), ..problem }
            }
        }
    }
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).chain(['.']).collect(),
        None => String::new(),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.code)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status);
        response.content_type("application/problem+json");
        if let Some(seconds) = self.retry_after_s {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        if let Some(allowed) = &self.allow {
            response.insert_header(("Allow", &**allowed));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header(("WWW-Authenticate", "Bearer"));
        }
        let mut response = response.json(self.document());
        if let Some(standing) = &self.standing {
            gate::tell(standing, response.headers_mut());
        }
        response
    }
}

impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse<BoxBody> {
        self.error_response()
    }
}

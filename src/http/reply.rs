//! From outcome to problem document (RFC 9457): which row of the table in `codes`, and the sentence that tells this case.
//!
//! Codes are stable: clients switch on them. Sentences are for people and may change.

mod limits;

use super::{
    codes::{self, Code},
    gate,
    rates::Standing,
};
use crate::{
    actors::{Unavailable, ledger::NotRecorded},
    domain::{
        access::{self, Scope},
        books::{Breach, Position},
        event::{Details, Failure},
        payment::{Attempt, Status},
        refusal::Refusal,
        webhook::Misfit,
    },
    journal::JournalError,
    pipeline::NotDone,
    provider::NotRead,
    wire::{FailureBody, schema::PaymentStatus},
};
use actix_web::{
    HttpRequest, HttpResponse, Responder, ResponseError, body::BoxBody, http::StatusCode,
};
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;

/// A no, ready to be told.
#[derive(Debug)]
pub(super) struct Problem {
    code: &'static Code,
    detail: Box<str>,
    errors: Vec<Fault>,
    transition: Option<(Status, Status)>,
    failure: Option<Box<Failure>>,
    retry_after_s: Option<u32>,
    allow: Option<Box<str>>,
    standing: Option<Box<Standing>>,
}

/// What is wrong with one field.
#[derive(Debug, Serialize, PartialEq, Eq, ToSchema)]
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

/// Why not: a problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    /// The page that tells what it means and what to do.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem, for people.
    title: &'a str,
    status: u16,
    /// This case, for people.
    detail: &'a str,
    /// The kind of problem, for programs: stable.
    code: &'a str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    /// Every fault of the body or the query.
    errors: &'a [Fault],
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = PaymentStatus, required = false)]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = PaymentStatus, required = false)]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<FailureBody<'a>>,
}

impl Problem {
    fn new(code: &'static Code, detail: &str) -> Self {
        Self {
            code,
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
        Self { errors, ..Self::new(&codes::VALIDATION_FAILED, detail) }
    }

    pub(super) fn malformed_json(why: &str) -> Self {
        Self::new(&codes::MALFORMED_JSON, why)
    }

    pub(super) fn body_too_large(bytes_max: usize) -> Self {
        let detail = format!("A body may have at most {bytes_max} bytes.");
        Self::new(&codes::BODY_TOO_LARGE, &detail)
    }

    pub(super) fn body_too_slow() -> Self {
        Self::new(&codes::BODY_TOO_SLOW, "Nothing was done.")
    }

    pub(super) fn body_cut_off() -> Self {
        Self::new(&codes::BODY_INCOMPLETE, "Nothing was done.")
    }

    pub(super) fn unauthenticated() -> Self {
        let detail = "Send `Authorization: Bearer <key>` with a key of this server.";
        Self::new(&codes::UNAUTHENTICATED, detail)
    }

    pub(super) fn admin_only() -> Self {
        let detail = "This needs an admin key.";
        Self::new(&codes::FORBIDDEN, detail)
    }

    pub(super) fn other_merchant() -> Self {
        let detail = "A merchant's key makes that merchant's payments only.";
        Self::new(&codes::MERCHANT_FORBIDDEN, detail)
    }

    pub(super) fn key_required() -> Self {
        let detail = "Send `Idempotency-Key` with a name of your own for this request, \
                      so that a retry cannot do it twice.";
        Self::new(&codes::IDEMPOTENCY_KEY_REQUIRED, detail)
    }

    pub(super) fn key_invalid() -> Self {
        let detail = "A key is 1 to 255 visible ASCII characters, bare or as a quoted string.";
        Self::new(&codes::IDEMPOTENCY_KEY_INVALID, detail)
    }

    pub(super) fn key_ambiguous() -> Self {
        let detail = "Send one key, once: in one header, or in the query, or the same in both.";
        Self::new(&codes::IDEMPOTENCY_KEY_AMBIGUOUS, detail)
    }

    pub(super) fn no_such_route() -> Self {
        let detail = "There is nothing at this path.";
        Self::new(&codes::NO_SUCH_ROUTE, detail)
    }

    pub(super) fn method_not_allowed(allowed: &str) -> Self {
        let detail = format!("This path takes {allowed}.");
        let problem = Self::new(&codes::METHOD_NOT_ALLOWED, &detail);
        Self { allow: Some(allowed.into()), ..problem }
    }

    pub(super) fn no_such_payment() -> Self {
        let detail = "No payment of this id is visible with this key.";
        Self::new(&codes::PAYMENT_NOT_FOUND, detail)
    }

    pub(super) fn no_such_account() -> Self {
        let detail = "No account of this name is visible with this key.";
        Self::new(&codes::ACCOUNT_NOT_FOUND, detail)
    }

    pub(super) fn no_such_event() -> Self {
        let detail = "No event of this id is visible with this key.";
        Self::new(&codes::EVENT_NOT_FOUND, detail)
    }

    pub(super) fn no_such_endpoint() -> Self {
        let detail = "No webhook endpoint of this id is visible with this key.";
        Self::new(&codes::WEBHOOK_ENDPOINT_NOT_FOUND, detail)
    }

    pub(super) fn endpoint_of_config() -> Self {
        let detail =
            "Its URL and secret stand in the server's configuration and are changed there.";
        Self::new(&codes::WEBHOOK_ENDPOINT_CONFIGURED, detail)
    }

    pub(super) fn endpoint_disabled() -> Self {
        let detail = "Enable it first, with PATCH {\"enabled\": true}.";
        Self::new(&codes::WEBHOOK_ENDPOINT_DISABLED, detail)
    }

    pub(super) fn still_testing() -> Self {
        let detail = "The endpoint has not answered the test before yet. Nothing was sent.";
        Self::new(&codes::WEBHOOK_TEST_UNDER_WAY, detail)
    }

    pub(super) fn no_endpoint_for_event() -> Self {
        let detail = "No enabled webhook endpoint was there for it, or none that wants its type.";
        Self::new(&codes::NO_WEBHOOK_ENDPOINT, detail)
    }

    pub(super) fn read_only(position: Position) -> Self {
        let Position { sequence, at, .. } = position;
        let detail = format!(
            "These are books to read, as they stood at entry {sequence}, {at}. Nothing was done."
        );
        Self::new(&codes::READ_ONLY, &detail)
    }

    pub(super) fn cursor_unknown() -> Self {
        Self::invalid(vec![Fault::new("after", "must be a cursor from `next`")])
    }

    pub(super) fn key_unknown() -> Self {
        let detail = "Nothing was done under this key.";
        Self::new(&codes::IDEMPOTENCY_KEY_NOT_FOUND, detail)
    }

    pub(super) fn not_serving() -> Self {
        Unavailable::NotServing.into()
    }

    /// Told to stop: requests are still answered, and a load balancer should send no more.
    pub(super) fn draining() -> Self {
        let detail =
            "The server is about to stop. Send further requests to another one, or again later.";
        Self { retry_after_s: Some(1), ..Self::new(&codes::DRAINING, detail) }
    }

    /// The provider said no to a capture, void or refund. It is on record, and the key is used up.
    pub(super) fn change_declined(attempt: &Attempt, details: &Details) -> Self {
        let operation = attempt.operation(details);
        let message = attempt.failure.as_ref().map_or("", |failure| failure.decline.message());
        let detail = format!("Nothing was done about the {operation}. {message}");
        let code = match operation {
            "capture" => &codes::CAPTURE_DECLINED,
            "refund" => &codes::REFUND_DECLINED,
            _ => &codes::VOID_DECLINED,
        };
        let problem = Self::new(code, &detail);
        Self { failure: attempt.failure.clone().map(Box::new), ..problem }
    }

    pub(super) fn scope_missing(scope: Scope) -> Self {
        let detail = format!("This needs a key with the scope {}.", scope.name());
        Self::new(&codes::INSUFFICIENT_SCOPE, &detail)
    }

    pub(super) fn merchant_disabled() -> Self {
        let detail = "Its keys may look, and change nothing.";
        Self::new(&codes::MERCHANT_DISABLED, detail)
    }

    pub(super) fn no_such_merchant() -> Self {
        Self::new(&codes::MERCHANT_NOT_FOUND, "No merchant of this id is known.")
    }

    pub(super) fn merchant_exists() -> Self {
        let detail = "There is a merchant of this id already.";
        Self::new(&codes::MERCHANT_EXISTS, detail)
    }

    pub(super) fn merchant_of_config() -> Self {
        let detail = "It stands in the server's configuration and is changed there.";
        Self::new(&codes::MERCHANT_CONFIGURED, detail)
    }

    pub(super) fn no_such_key() -> Self {
        Self::new(&codes::API_KEY_NOT_FOUND, "No API key of this id is known here.")
    }

    pub(super) fn no_such_provider() -> Self {
        let detail = "No provider of this name is configured.";
        Self::new(&codes::PROVIDER_NOT_FOUND, detail)
    }

    pub(super) fn no_snapshot(error: &JournalError) -> Self {
        let problem = Self::new(&codes::SNAPSHOT_FAILED, &sentence(&error.to_string()));
        Self { retry_after_s: Some(5), ..problem }
    }

    fn document(&self) -> Document<'_> {
        Document {
            kind: format!("/docs/errors/{}", self.code.code),
            title: self.code.title,
            status: self.code.status.as_u16(),
            detail: &self.detail,
            code: self.code.code,
            errors: &self.errors,
            from: self.transition.map(|(from, _)| from.name()),
            to: self.transition.map(|(_, to)| to.name()),
            failure: self.failure.as_deref().map(FailureBody::of),
        }
    }

    /// A bug: the task that carried the request out panicked.
    pub(super) fn internal() -> Self {
        let detail = "The outcome is unknown; ask again with the same idempotency key.";
        Self::new(&codes::INTERNAL_ERROR, detail)
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        let (code, retry_after_s) = match unavailable {
            Unavailable::Overloaded => (&codes::OVERLOADED, 1),
            Unavailable::NotServing => (&codes::NOT_SERVING, 1),
            Unavailable::ProviderUnavailable => (&codes::PROVIDER_UNAVAILABLE, 5),
            Unavailable::StorageFull => (&codes::STORAGE_FULL, 5),
            Unavailable::DiskStalled => (&codes::DISK_STALLED, 5),
            Unavailable::OutcomeUnknown => (&codes::OUTCOME_UNKNOWN, 1),
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
        Self { retry_after_s: Some(retry_after_s), ..Self::new(code, detail) }
    }
}

impl From<NotRecorded> for Problem {
    fn from(not_recorded: NotRecorded) -> Self {
        match not_recorded {
            NotRecorded::Unavailable(unavailable) => unavailable.into(),
            NotRecorded::Breach(Breach::Webhook(Misfit::NoSuchEndpoint(_))) => {
                Self::no_such_endpoint()
            }
            NotRecorded::Breach(Breach::Webhook(misfit @ Misfit::TooManyEndpoints { .. })) => {
                Self::new(&codes::TOO_MANY_WEBHOOK_ENDPOINTS, &sentence(&misfit.to_string()))
            }
            NotRecorded::Breach(Breach::Webhook(misfit @ Misfit::TooManyFilters(_))) => {
                Self::new(&codes::TOO_MANY_CHANGES, &sentence(&misfit.to_string()))
            }
            NotRecorded::Breach(Breach::Access(misfit)) => match misfit {
                access::Misfit::MerchantExists(_) => Self::merchant_exists(),
                access::Misfit::NoSuchMerchant(_) => Self::no_such_merchant(),
                access::Misfit::NoSuchKey(_) => Self::no_such_key(),
                access::Misfit::TooManyMerchants(_) | access::Misfit::TooManyKeys(_) => {
                    Self::new(&codes::TOO_MANY, &sentence(&misfit.to_string()))
                }
                access::Misfit::KeyExists(_) => Self::internal(),
            },
            NotRecorded::Breach(_) => Self::internal(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = sentence(&refusal.to_string());
        match refusal {
            Refusal::InvalidTransition { from, to } => {
                let problem = Self::new(&codes::INVALID_TRANSITION, &detail);
                Self { transition: Some((from, to)), ..problem }
            }
            Refusal::OverCapture { .. } => Self::new(&codes::AMOUNT_EXCEEDS_CAPTURABLE, &detail),
            Refusal::OverRefund { .. } => Self::new(&codes::AMOUNT_EXCEEDS_REFUNDABLE, &detail),
            Refusal::TooManyRefunds { .. } => Self::new(&codes::TOO_MANY_REFUNDS, &detail),
            Refusal::AnswerOut { .. } => Self::new(&codes::OPERATION_PENDING, &detail),
            Refusal::TooMuchOnRecord { .. } => Self::new(&codes::TOO_MUCH_ON_RECORD, &detail),
            Refusal::NoSuchAttempt { .. } | Refusal::NothingToResolve => {
                Self::new(&codes::NOTHING_TO_RESOLVE, &detail)
            }
            Refusal::AnsweredAlready { .. } => Self::new(&codes::ALREADY_ANSWERED, &detail),
            Refusal::SeveralOut { .. } => Self::new(&codes::ATTEMPT_AMBIGUOUS, &detail),
            Refusal::StillHeld { .. } => Self::new(&codes::STILL_AUTHORIZED, &detail),
        }
    }
}

impl From<NotRead> for Problem {
    fn from(not_read: NotRead) -> Self {
        let detail = sentence(&not_read.to_string());
        match not_read {
            NotRead::Unproven => Self::new(&codes::SIGNATURE_INVALID, &detail),
            NotRead::Malformed(_) => Self::new(&codes::MESSAGE_MALFORMED, &detail),
            NotRead::Unavailable => Unavailable::ProviderUnavailable.into(),
        }
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
                Self::new(&codes::IDEMPOTENCY_KEY_REUSED, detail)
            }
            NotDone::KeyInProgress => {
                let detail = "The first request under this key is still being worked on.";
                let problem = Self::new(&codes::IDEMPOTENCY_KEY_IN_PROGRESS, detail);
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
        write!(f, "{} {}", self.code.status.as_u16(), self.code.code)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.code.status);
        response.content_type("application/problem+json");
        if let Some(seconds) = self.retry_after_s {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        if let Some(allowed) = &self.allow {
            response.insert_header(("Allow", &**allowed));
        }
        if self.code.status == StatusCode::UNAUTHORIZED {
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

//! What Stripe's reply to a call means (docs.stripe.com/api/errors, docs.stripe.com/error-low-level).
//!
//! The provider hands in what was heard; [`refusal`] is the whole judgement, and a function of that alone. Whatever is
//! not certain is unknown. Nothing here asks again.
//!
//! | reply | means |
//! |---|---|
//! | 2xx with an object | what the object says |
//! | 401, 403, 429 | not processed: they come before the idempotency layer |
//! | 429 `lock_timeout`, 409 | unknown: something is at work on the object, or under the key |
//! | 400 `idempotency_error` | unknown: the key was used for something else |
//! | 402 | declined, unless the PaymentIntent in it says otherwise |
//! | 400, 404 `invalid_request_error` | declined; for a capture or a void, as the PaymentIntent says |
//! | all else | unknown |
//!
//! `Stripe-Should-Retry` has the last word (as in Stripe's own libraries): a refusal that is to be asked for again is none,
//! and what is unknown is not called for again if that would tell nothing new.

use super::{
    client::{Heard, Reply},
    objects::{Failure, IntentStatus},
};
use crate::{
    domain::event::{Action, Decline},
    provider::Answer,
};
use serde::{Deserialize, de::DeserializeOwned};

/// Why there is no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// This says it all.
    Answer(Answer),
    /// Nothing was done, for this reason: the PaymentIntent was in no state for it. Which one it is in has to be asked.
    AsItStands(Box<str>),
}

#[derive(Deserialize)]
struct Failed {
    error: Failure,
}

/// The object that the reply to a call for `action` holds.
pub(super) fn object<T: DeserializeOwned>(action: Action, heard: Heard) -> Result<T, Refused> {
    let reply = match heard {
        Heard::NotSent(why) => return Err(not_processed(why.into())),
        Heard::Nothing(why) => return Err(Refused::Answer(Answer::unknown(why))),
        Heard::Reply(reply) => reply,
    };
    if reply.status.is_success() {
        return reply.read().ok_or_else(|| unknown(&reply, "unreadable"));
    }
    let error = reply.read::<Failed>().map(|failed| failed.error);
    Err(refusal(action, &reply, error.as_ref()))
}

fn refusal(action: Action, reply: &Reply, error: Option<&Failure>) -> Refused {
    let code = error.map(Failure::code).filter(|code| !code.is_empty());
    match (reply.status.as_u16(), error) {
        (status @ (401 | 403), _) => {
            tracing::warn!(status, code = code.as_deref(), "Stripe does not accept the secret key");
            not_processed(code.unwrap_or_else(|| "unauthorized".into()))
        }
        (409, _) => unknown(reply, "something is at work on it"),
        (429, Some(error)) if error.has_code("lock_timeout") => {
            unknown(reply, "something is at work on it")
        }
        (400 | 402 | 404, _) if reply.should_retry == Some(true) => {
            unknown(reply, "an error after which it is to be asked for again")
        }
        (429, _) => not_processed(code.unwrap_or_else(|| "rate_limited".into())),
        (_, Some(error)) if error.is("idempotency_error") => {
            let request = &*reply.request;
            tracing::error!(request, "a key was used for two different calls; please report it");
            unknown(reply, "the key of this attempt was used for another call")
        }
        (402, Some(error)) => declined(action, reply, error),
        (400 | 404, Some(error)) if error.is("invalid_request_error") => rejected(action, error),
        _ => unknown(reply, code.as_deref().unwrap_or("no error that can be read")),
    }
}

/// A request that was right, and failed.
fn declined(action: Action, reply: &Reply, error: &Failure) -> Refused {
    let code = error.code();
    match (action, error.intent_status()) {
        (Action::Refund { .. }, _) => decline(Decline::ProviderRejected, code),
        (
            Action::Authorize,
            None | Some(IntentStatus::RequiresPaymentMethod | IntentStatus::Canceled),
        ) => decline(error.decline(), code),
        (Action::Authorize, Some(_)) => {
            unknown(reply, "an error, and a payment that contradicts it")
        }
        (Action::Capture { .. } | Action::Void | Action::Expire, None) => {
            decline(error.decline(), code)
        }
        (Action::Capture { .. } | Action::Void | Action::Expire, Some(_)) => {
            Refused::AsItStands(code)
        }
    }
}

/// A request that can't be carried out.
fn rejected(action: Action, error: &Failure) -> Refused {
    let code = error.code();
    let missing = error.has_code("resource_missing");
    match action {
        Action::Authorize if missing && error.is_about("payment_method") => {
            decline(Decline::PaymentMethodUnknown, code)
        }
        Action::Authorize if error.has_code("amount_too_small") => {
            decline(Decline::AmountUnsupported, code)
        }
        Action::Authorize if error.has_code("amount_too_large") => {
            decline(Decline::AmountTooLarge, code)
        }
        Action::Authorize | Action::Refund { .. } => decline(Decline::ProviderRejected, code),
        Action::Capture { .. } | Action::Void | Action::Expire if missing => {
            decline(Decline::ProviderRejected, code)
        }
        Action::Capture { .. } | Action::Void | Action::Expire => Refused::AsItStands(code),
    }
}

fn decline(decline: Decline, code: Box<str>) -> Refused {
    Refused::Answer(Answer::Declined { decline, code })
}

fn not_processed(code: Box<str>) -> Refused {
    Refused::Answer(Answer::NotProcessed { code })
}

fn unknown(reply: &Reply, what: &str) -> Refused {
    let why = format!("{}: {what}", reply.what()).into();
    Refused::Answer(Answer::Unknown { why, repeat: reply.should_retry != Some(false) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::money::Amount, provider::stripe::objects::Intent};
    use actix_web::http::StatusCode;
    use serde_json::{Value, json};

    fn reply(status: u16, body: &str) -> Heard {
        let status = StatusCode::from_u16(status).unwrap();
        let body = Some(body.to_owned().into());
        Heard::Reply(Reply { status, body, request: "req_1".into(), should_retry: None })
    }

    fn advised(should_retry: bool, status: u16, body: &str) -> Heard {
        match reply(status, body) {
            Heard::Reply(reply) => {
                Heard::Reply(Reply { should_retry: Some(should_retry), ..reply })
            }
            other => other,
        }
    }

    /// The judgement, short enough for a table.
    fn judged(action: Action, heard: Heard) -> String {
        match object::<Intent>(action, heard) {
            Ok(intent) => format!("object {}", &*intent.id),
            Err(Refused::AsItStands(code)) => format!("as it stands {code}"),
            Err(Refused::Answer(Answer::Declined { decline, code })) => {
                format!("{} {code}", decline.code())
            }
            Err(Refused::Answer(Answer::NotProcessed { code })) => format!("not processed {code}"),
            Err(Refused::Answer(Answer::Unknown { .. })) => "unknown".to_owned(),
            Err(Refused::Answer(other)) => format!("{other:?}"),
        }
    }

    fn error(kind: &str, code: &str, rest: Value) -> String {
        let mut error = json!({"type": kind, "code": code, "message": "for people"});
        error.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        json!({ "error": error }).to_string()
    }

    const ERROR: &str = "invalid_request_error";

    #[test]
    fn a_reply_to_an_authorization_is_judged_by_its_status_and_error() {
        let card = |code, decline| error("card_error", code, json!({"decline_code": decline}));
        let with_intent = |status: &str| {
            error("card_error", "card_declined", json!({"payment_intent": {"status": status}}))
        };
        let missing = |param| error(ERROR, "resource_missing", json!({"param": param}));
        let plain = |kind, code| error(kind, code, json!({}));
        let intent = r#"{"id":"pi_1","status":"succeeded","currency":"eur","amount":1}"#;
        for (status, body, meaning) in [
            (200, intent.to_owned(), "object pi_1"),
            (200, "<html>".to_owned(), "unknown"),
            (200, r#"{"id":"pi_1","status":"succ"#.to_owned(), "unknown"),
            (302, String::new(), "unknown"),
            (400, plain("idempotency_error", ""), "unknown"),
            (400, plain("idempotency_error", "idempotency_key_reused"), "unknown"),
            (400, plain("api_error", "odd"), "unknown"),
            (400, "<html>".to_owned(), "unknown"),
            (400, missing("payment_method"), "payment_method_unknown resource_missing"),
            (404, missing("payment_method"), "payment_method_unknown resource_missing"),
            (404, missing("customer"), "provider_rejected resource_missing"),
            (400, plain(ERROR, "amount_too_small"), "amount_unsupported amount_too_small"),
            (400, plain(ERROR, "amount_too_large"), "amount_too_large amount_too_large"),
            (400, plain(ERROR, "parameter_unknown"), "provider_rejected parameter_unknown"),
            (400, plain(ERROR, ""), "provider_rejected invalid_request_error"),
            (401, String::new(), "not processed unauthorized"),
            (403, plain(ERROR, "account_invalid"), "not processed account_invalid"),
            (
                402,
                card("card_declined", "insufficient_funds"),
                "insufficient_funds insufficient_funds",
            ),
            (402, card("card_declined", "stolen_card"), "card_declined stolen_card"),
            (402, with_intent("requires_payment_method"), "card_declined card_declined"),
            (402, with_intent("canceled"), "card_declined card_declined"),
            (402, with_intent("succeeded"), "unknown"),
            (402, with_intent("requires_capture"), "unknown"),
            (402, with_intent("processing"), "unknown"),
            (402, "{}".to_owned(), "unknown"),
            (404, "<html>".to_owned(), "unknown"),
            (409, plain(ERROR, "idempotency_key_in_use"), "unknown"),
            (409, plain(ERROR, "lock_timeout"), "unknown"),
            (429, plain(ERROR, "lock_timeout"), "unknown"),
            (429, plain(ERROR, "rate_limit"), "not processed rate_limit"),
            (429, String::new(), "not processed rate_limited"),
            (500, plain("api_error", ""), "unknown"),
            (503, String::new(), "unknown"),
        ] {
            assert_eq!(judged(Action::Authorize, reply(status, &body)), meaning, "{status} {body}");
        }
    }

    #[test]
    fn stripe_has_the_last_word_on_whether_a_call_is_made_again() {
        let rejected = error(ERROR, "parameter_unknown", json!({}));
        let declined = error("card_error", "card_declined", json!({}));
        for (status, body, told, not_told) in [
            (400, &*rejected, "unknown", "provider_rejected parameter_unknown"),
            (402, &*declined, "unknown", "card_declined card_declined"),
            (429, "", "not processed rate_limited", "not processed rate_limited"),
        ] {
            assert_eq!(judged(Action::Authorize, advised(true, status, body)), told);
            assert_eq!(judged(Action::Authorize, advised(false, status, body)), not_told);
        }
        let repeats = |heard| match object::<Intent>(Action::Authorize, heard) {
            Err(Refused::Answer(Answer::Unknown { repeat, .. })) => repeat,
            other => panic!("{other:?}"),
        };
        for status in [409, 500, 503] {
            assert!(repeats(reply(status, "")) && repeats(advised(true, status, "")), "{status}");
            assert!(!repeats(advised(false, status, "")), "{status}");
        }
    }

    #[test]
    fn a_reply_to_a_change_is_judged_by_what_it_was_asked_for() {
        let amount = Amount::new(5).unwrap();
        let (capture, refund) =
            (Action::Capture { amount, released: 0 }, Action::Refund { amount });
        let state = error(ERROR, "payment_intent_unexpected_state", json!({}));
        let gone = error(ERROR, "resource_missing", json!({"param": "intent"}));
        let refunded = error(ERROR, "charge_already_refunded", json!({}));
        let captured = error(ERROR, "charge_already_captured", json!({}));
        let card = error("card_error", "expired_card", json!({}));
        let intent = json!({"payment_intent": {"status": "succeeded"}});
        let odd = error("card_error", "expired_card", intent);
        for (action, status, body, meaning) in [
            (capture, 400, &state, "as it stands payment_intent_unexpected_state"),
            (capture, 400, &captured, "as it stands charge_already_captured"),
            (Action::Void, 400, &state, "as it stands payment_intent_unexpected_state"),
            (Action::Expire, 404, &gone, "provider_rejected resource_missing"),
            (capture, 402, &card, "expired_card expired_card"),
            (capture, 402, &odd, "as it stands expired_card"),
            (refund, 400, &refunded, "provider_rejected charge_already_refunded"),
            (refund, 404, &gone, "provider_rejected resource_missing"),
            (refund, 402, &card, "provider_rejected expired_card"),
        ] {
            assert_eq!(judged(action, reply(status, body)), meaning, "{action:?} {body}");
        }
    }

    #[test]
    fn a_call_that_was_not_answered_is_not_processed_only_if_it_was_never_sent() {
        let lost = Heard::Nothing("no answer".into());
        assert_eq!(
            judged(Action::Void, Heard::NotSent("connection_failed")),
            "not processed connection_failed"
        );
        assert_eq!(judged(Action::Void, lost), "unknown");
        let cut = match reply(200, "") {
            Heard::Reply(reply) => Heard::Reply(Reply { body: None, ..reply }),
            other => other,
        };
        assert_eq!(judged(Action::Void, cut), "unknown");
    }

    #[test]
    fn what_is_unknown_says_what_was_heard_and_which_request_it_was() {
        let answer = object::<Intent>(Action::Void, reply(500, &error("api_error", "", json!({}))));
        let why = "HTTP 500, request req_1: api_error";
        assert_eq!(answer.unwrap_err(), Refused::Answer(Answer::unknown(why)));
    }
}

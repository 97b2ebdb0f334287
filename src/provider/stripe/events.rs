//! Stripe's own messages, and what they say of our payments (docs.stripe.com/api/events).
//!
//! Only what is proven to come from Stripe is read here. Events about PaymentIntents and refunds are news, whoever made
//! the object; all others say nothing that these do not.

use super::objects::{Id, Intent, Refund};
use crate::{
    domain::{id::PaymentId, money::Currency},
    provider::{Fact, News, NotRead},
};
use serde::{Deserialize, de::DeserializeOwned};

/// What an event is about.
#[derive(Debug)]
pub(super) enum Told {
    Charge(Id, Box<Intent>),
    Refund(Id, Box<Refund>),
    Nothing,
}

#[derive(Deserialize)]
struct Head {
    id: Id,
    #[serde(rename = "type")]
    kind: Box<str>,
}

#[derive(Deserialize)]
struct Event<T> {
    data: Data<T>,
}

#[derive(Deserialize)]
struct Data<T> {
    object: T,
}

/// Reads an event.
pub(super) fn parse(body: &[u8]) -> Result<Told, NotRead> {
    let head: Head = read(body)?;
    Ok(match &*head.kind {
        kind if kind.starts_with("payment_intent.") => {
            Told::Charge(head.id, Box::new(read::<Event<Intent>>(body)?.data.object))
        }
        kind if kind.starts_with("refund.") || kind == "charge.refund.updated" => {
            Told::Refund(head.id, Box::new(read::<Event<Refund>>(body)?.data.object))
        }
        _ => Told::Nothing,
    })
}

/// What an event about a PaymentIntent says.
pub(super) fn of_charge(event: &Id, intent: &Intent) -> Result<News, NotRead> {
    let metadata = intent.metadata();
    let payment = metadata.payment();
    let state = intent.state(counted(payment, intent.currency())?);
    let state = state.ok_or_else(|| unreadable("how the payment stands"))?;
    let (attempt, reference) = (metadata.attempt(), (*intent.id).into());
    let fact = Fact::Charge { attempt, reference, state };
    Ok(News { event: (**event).into(), payment, currency: intent.currency(), fact })
}

/// What an event about a refund says, which is of this payment.
pub(super) fn of_refund(
    event: &Id,
    refund: &Refund,
    payment: Option<PaymentId>,
) -> Result<News, NotRead> {
    let stands = refund.state(counted(payment, refund.currency())?);
    let (amount, state) = stands.ok_or_else(|| unreadable("how the refund stands"))?;
    let (attempt, reference) = (refund.metadata().attempt(), (*refund.id).into());
    let fact = Fact::Refund { attempt, reference, amount, state };
    Ok(News { event: (**event).into(), payment, currency: refund.currency(), fact })
}

/// In which currency's units the amounts are told: those of no payment of ours stay as Stripe counts them.
fn counted(
    payment: Option<PaymentId>,
    currency: Option<Currency>,
) -> Result<Option<Currency>, NotRead> {
    match (payment, currency) {
        (None, _) => Ok(None),
        (Some(_), Some(currency)) => Ok(Some(currency)),
        (Some(_), None) => Err(unreadable("the currency")),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, NotRead> {
    // Its words may quote the message, which is kept out of logs: where it stumbled is enough.
    let place =
        |error: serde_json::Error| format!("at line {} column {}", error.line(), error.column());
    serde_json::from_slice(body).map_err(|error| NotRead::Malformed(place(error).into()))
}

fn unreadable(what: &str) -> NotRead {
    NotRead::Malformed(format!("{what} can't be told").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            event::Decline,
            id::{DerivedId, Kind},
            time::Timestamp,
        },
        provider::{ChargeState, RefundState},
    };
    use serde_json::{Value, json};
    use uuid::Uuid;

    fn attempt() -> DerivedId {
        DerivedId::new(Kind::Attempt, Timestamp::from_millis(1_763_823_845_123), 42)
    }

    fn payment() -> PaymentId {
        PaymentId::new(Uuid::from_u128(7))
    }

    fn ours() -> Value {
        json!({
            "strongroom_attempt": attempt().to_string(),
            "strongroom_payment": payment().to_string(),
            "theirs": "x",
        })
    }

    fn told(kind: &str, object: &Value) -> Result<Option<News>, NotRead> {
        let event =
            json!({"id": "evt_1", "object": "event", "type": kind, "data": {"object": object}});
        match parse(event.to_string().as_bytes())? {
            Told::Charge(event, intent) => of_charge(&event, &intent).map(Some),
            Told::Refund(event, refund) => {
                of_refund(&event, &refund, refund.metadata().payment()).map(Some)
            }
            Told::Nothing => Ok(None),
        }
    }

    fn intent(status: &str, currency: &str, metadata: &Value) -> Value {
        json!({
            "id": "pi_1", "object": "payment_intent", "status": status, "currency": currency,
            "amount": 500, "amount_received": 500, "amount_capturable": 500, "metadata": metadata,
            "last_payment_error": {"code": "card_declined", "decline_code": "insufficient_funds"},
        })
    }

    #[test]
    fn an_event_about_a_payment_intent_names_the_payment_and_how_it_stands() {
        let insufficient = ChargeState::Declined {
            decline: Decline::InsufficientFunds,
            code: "insufficient_funds".into(),
        };
        for (kind, status, currency, state) in [
            ("payment_intent.succeeded", "succeeded", "eur", ChargeState::Taken(500)),
            ("payment_intent.succeeded", "succeeded", "ugx", ChargeState::Taken(5)),
            (
                "payment_intent.amount_capturable_updated",
                "requires_capture",
                "eur",
                ChargeState::Held(500),
            ),
            ("payment_intent.canceled", "canceled", "eur", ChargeState::Released),
            ("payment_intent.processing", "processing", "eur", ChargeState::Working),
            ("payment_intent.requires_action", "requires_action", "eur", ChargeState::Working),
            ("payment_intent.payment_failed", "requires_payment_method", "eur", insufficient),
        ] {
            let news = told(kind, &intent(status, currency, &ours())).unwrap().unwrap();
            let fact = Fact::Charge { attempt: Some(attempt()), reference: "pi_1".into(), state };
            let currency = Currency::for_payment(&currency.to_uppercase());
            let (event, payment) = ("evt_1".into(), Some(payment()));
            assert_eq!(news, News { event, payment, currency, fact });
        }
    }

    #[test]
    fn an_event_about_somebody_elses_payment_names_none_and_counts_as_stripe_does() {
        for metadata in [json!({}), json!(null), json!({"strongroom_payment": "pay_1"})] {
            let news = told("payment_intent.succeeded", &intent("succeeded", "ugx", &metadata));
            let News { payment, fact, .. } = news.unwrap().unwrap();
            let (reference, state) = ("pi_1".into(), ChargeState::Taken(500));
            assert_eq!((payment, fact), (None, Fact::Charge { attempt: None, reference, state }));
        }
    }

    #[test]
    fn an_event_about_a_refund_says_how_it_stands() {
        for (kind, status, reason, state) in [
            ("refund.created", "succeeded", None, RefundState::Done),
            ("refund.updated", "pending", None, RefundState::Working),
            ("refund.updated", "requires_action", None, RefundState::Working),
            (
                "refund.failed",
                "failed",
                Some("lost_or_stolen_card"),
                RefundState::Failed { code: "lost_or_stolen_card".into() },
            ),
            (
                "charge.refund.updated",
                "canceled",
                None,
                RefundState::Failed { code: "canceled".into() },
            ),
        ] {
            let refund = json!({
                "id": "re_1", "status": status, "currency": "kwd", "amount": 120,
                "failure_reason": reason, "payment_intent": "pi_1", "metadata": ours(),
            });
            let news = told(kind, &refund).unwrap().unwrap();
            let (attempt, reference) = (Some(attempt()), "re_1".into());
            let fact = Fact::Refund { attempt, reference, amount: 120, state };
            let currency = Currency::for_payment("KWD");
            let (event, payment) = ("evt_1".into(), Some(payment()));
            assert_eq!(news, News { event, payment, currency, fact });
        }
    }

    #[test]
    fn other_events_are_no_news_and_what_cannot_be_read_is_malformed() {
        for kind in ["charge.refunded", "charge.succeeded", "payout.paid", "customer.created"] {
            assert_eq!(told(kind, &json!({"id": "x"})), Ok(None), "{kind}");
        }
        let malformed = |told| matches!(told, Err(NotRead::Malformed(_)));
        assert!(told("payment_intent.succeeded", &intent("succeeded", "isk", &ours())).is_ok());
        let mut odd = intent("succeeded", "isk", &ours());
        odd["amount_received"] = 550.into();
        for object in
            [odd, intent("succeeded", "lyd", &ours()), intent("new", "eur", &ours()), json!({})]
        {
            assert!(malformed(told("payment_intent.succeeded", &object).map(|_| ())), "{object}");
        }
        for body in ["", "{}", "[]", r#"{"id":"evt_1"}"#, "\u{0}"] {
            assert!(malformed(parse(body.as_bytes()).map(|_| ())), "{body}");
        }
    }
}

//! Stripe's objects, as far as they are read here, and what they say in our words.
//!
//! Replies, look-ups and events all lead here, so that one state of an object has one meaning. Fields that are not
//! named here are never read; what can't be read is never guessed.

use super::amounts::from_stripe;
use crate::{
    domain::{
        event::Decline,
        id::{DerivedId, Kind, PaymentId},
        money::Currency,
    },
    provider::{ChargeState, RefundState},
};
use serde::{Deserialize, de::IgnoredAny};
use std::ops::Deref;

/// The longest text of Stripe's that is kept in a record, in characters.
const TEXT_CHARS_MAX: usize = 64;

/// Stripe's name for an object: it can stand in a path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Box<str>")]
pub(super) struct Id(Box<str>);

impl TryFrom<Box<str>> for Id {
    type Error = &'static str;

    fn try_from(text: Box<str>) -> Result<Self, Self::Error> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if plain && (1..=255).contains(&text.len()) { Ok(Self(text)) } else { Err("no id") }
    }
}

impl Deref for Id {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// What we wrote on an object when we made it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Metadata {
    strongroom_attempt: Option<Box<str>>,
    strongroom_payment: Option<Box<str>>,
}

impl Metadata {
    /// The attempt that made the object.
    pub(super) fn attempt(&self) -> Option<DerivedId> {
        let id = DerivedId::parse(self.strongroom_attempt.as_deref()?)?;
        (id.kind == Kind::Attempt).then_some(id)
    }

    /// The payment that the object is of.
    pub(super) fn payment(&self) -> Option<PaymentId> {
        PaymentId::parse(self.strongroom_payment.as_deref()?)
    }

    /// Whether it was made by something else than this attempt.
    pub(super) fn contradicts(&self, attempt: DerivedId) -> bool {
        self.strongroom_attempt.as_deref().is_some_and(|text| text != attempt.to_string())
    }
}

/// Where a PaymentIntent is (docs.stripe.com/payments/paymentintents/lifecycle).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum IntentStatus {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    RequiresCapture,
    Succeeded,
    Canceled,
    #[serde(other)]
    Other,
}

/// A PaymentIntent: what is held or taken of one payment.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Intent {
    pub(super) id: Id,
    pub(super) status: IntentStatus,
    currency: Box<str>,
    amount: i64,
    amount_capturable: Option<i64>,
    amount_received: Option<i64>,
    latest_charge: Option<LatestCharge>,
    last_payment_error: Option<Failure>,
    metadata: Option<Metadata>,
}

/// The charge of a PaymentIntent. Stripe only names it; localstripe, which has no `amount_received`, shows it, and what
/// a capture left as refunded.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum LatestCharge {
    Shown { amount: i64, amount_refunded: i64 },
    Named(IgnoredAny),
}

impl Intent {
    pub(super) fn metadata(&self) -> Metadata {
        self.metadata.clone().unwrap_or_default()
    }

    /// How it stands; `None` if that can't be said, or only in another currency than `currency`, which is `None` for
    /// amounts as Stripe counts them.
    pub(super) fn state(&self, currency: Option<Currency>) -> Option<ChargeState> {
        let counted = |amount: i64| amount_in(currency, &self.currency, amount);
        Some(match self.status {
            IntentStatus::Succeeded => ChargeState::Taken(counted(self.taken()?)?),
            IntentStatus::RequiresCapture => {
                ChargeState::Held(counted(self.amount_capturable.unwrap_or(self.amount))?)
            }
            IntentStatus::Canceled => ChargeState::Released,
            IntentStatus::RequiresPaymentMethod => match &self.last_payment_error {
                Some(error) => {
                    ChargeState::Declined { decline: error.decline(), code: error.code() }
                }
                None => ChargeState::Working,
            },
            IntentStatus::Processing
            | IntentStatus::RequiresAction
            | IntentStatus::RequiresConfirmation => ChargeState::Working,
            IntentStatus::Other => return None,
        })
    }

    fn taken(&self) -> Option<i64> {
        match (self.amount_received, &self.latest_charge) {
            (Some(received), _) => Some(received),
            (None, Some(LatestCharge::Shown { amount, amount_refunded })) => {
                amount.checked_sub(*amount_refunded)
            }
            (None, _) => Some(self.amount),
        }
    }

    /// Why it gets no further without somebody whom we do not offer, such as the customer. Nothing is held or taken.
    pub(super) fn stuck(&self) -> Option<(Decline, &'static str)> {
        match self.status {
            IntentStatus::RequiresAction | IntentStatus::RequiresConfirmation => {
                Some((Decline::AuthenticationRequired, "requires_action"))
            }
            IntentStatus::RequiresPaymentMethod if self.last_payment_error.is_none() => {
                Some((Decline::ProcessingError, "requires_payment_method"))
            }
            _ => None,
        }
    }

    pub(super) fn currency(&self) -> Option<Currency> {
        currency(&self.currency)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefundStatus {
    Pending,
    RequiresAction,
    Succeeded,
    Failed,
    Canceled,
    #[serde(other)]
    Other,
}

/// A Refund.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refund {
    pub(super) id: Id,
    status: Option<RefundStatus>,
    currency: Box<str>,
    amount: i64,
    failure_reason: Option<Box<str>>,
    pub(super) payment_intent: Option<Id>,
    metadata: Option<Metadata>,
}

impl Refund {
    pub(super) fn metadata(&self) -> Metadata {
        self.metadata.clone().unwrap_or_default()
    }

    /// How much it is of and how it stands; as [`Intent::state`].
    pub(super) fn state(&self, currency: Option<Currency>) -> Option<(i64, RefundState)> {
        let failed = |status: &str| {
            let reason = self.failure_reason.as_deref().filter(|reason| !reason.is_empty());
            RefundState::Failed { code: kept(reason.unwrap_or(status)) }
        };
        let state = match self.status? {
            RefundStatus::Succeeded => RefundState::Done,
            RefundStatus::Pending | RefundStatus::RequiresAction => RefundState::Working,
            RefundStatus::Failed => failed("failed"),
            RefundStatus::Canceled => failed("canceled"),
            RefundStatus::Other => return None,
        };
        Some((amount_in(currency, &self.currency, self.amount)?, state))
    }

    pub(super) fn currency(&self) -> Option<Currency> {
        currency(&self.currency)
    }
}

/// An error: the whole of a call, or of the last try to pay with a PaymentIntent.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Failure {
    #[serde(rename = "type")]
    kind: Option<Box<str>>,
    code: Option<Box<str>>,
    decline_code: Option<Box<str>>,
    param: Option<Box<str>>,
    payment_intent: Option<Glimpse>,
}

#[derive(Clone, Debug, Deserialize)]
struct Glimpse {
    status: IntentStatus,
}

impl Failure {
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    pub(super) fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    pub(super) fn is_about(&self, param: &str) -> bool {
        self.param.as_deref() == Some(param)
    }

    /// How the PaymentIntent stood then, if the error says so.
    pub(super) fn intent_status(&self) -> Option<IntentStatus> {
        self.payment_intent.as_ref().map(|intent| intent.status)
    }

    /// Stripe's own word: the issuer's reason, else the code, else what kind of error it is.
    pub(super) fn code(&self) -> Box<str> {
        let mut words = [&self.decline_code, &self.code, &self.kind].into_iter().flatten();
        words.find(|word| !word.is_empty()).map(|word| kept(word)).unwrap_or_default()
    }

    /// Our word for why a card was declined. That one is lost or stolen is for its issuer to say, so no word tells it
    /// from a plain decline (docs.stripe.com/declines/codes).
    pub(super) fn decline(&self) -> Decline {
        let words = [self.decline_code.as_deref(), self.code.as_deref()];
        let decline = words.into_iter().flatten().find_map(|word| match word {
            "insufficient_funds" => Some(Decline::InsufficientFunds),
            "expired_card" => Some(Decline::ExpiredCard),
            "incorrect_cvc"
            | "incorrect_number"
            | "incorrect_zip"
            | "invalid_cvc"
            | "invalid_number"
            | "invalid_expiry_month"
            | "invalid_expiry_year" => Some(Decline::IncorrectCardData),
            "authentication_required"
            | "authentication_not_handled"
            | "payment_intent_authentication_failure" => Some(Decline::AuthenticationRequired),
            "processing_error"
            | "issuer_not_available"
            | "try_again_later"
            | "reenter_transaction" => Some(Decline::ProcessingError),
            _ => None,
        });
        decline.unwrap_or(Decline::CardDeclined)
    }
}

/// One page of a list or of what a search found, as far as it is needed to find our own.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) data: Vec<Listed>,
    #[serde(default)]
    pub(super) has_more: bool,
}

/// An object of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) id: Id,
    metadata: Option<Metadata>,
}

impl Listed {
    pub(super) fn is_of(&self, attempt: DerivedId) -> bool {
        let metadata = self.metadata.as_ref();
        metadata.is_some_and(|metadata| metadata.attempt() == Some(attempt))
    }
}

fn currency(stripes: &str) -> Option<Currency> {
    Currency::from_code(&stripes.to_ascii_uppercase())
}

fn amount_in(ours: Option<Currency>, stripes: &str, amount: i64) -> Option<i64> {
    match ours {
        None => Some(amount),
        Some(ours) if currency(stripes) == Some(ours) => from_stripe(ours, amount),
        Some(_) => None,
    }
}

/// So much of a text as is kept.
pub(super) fn kept(text: &str) -> Box<str> {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_decline_is_put_in_our_words() {
        for (code, decline_code, decline, kept) in [
            (
                "card_declined",
                "insufficient_funds",
                Decline::InsufficientFunds,
                "insufficient_funds",
            ),
            ("expired_card", "", Decline::ExpiredCard, "expired_card"),
            ("incorrect_cvc", "incorrect_cvc", Decline::IncorrectCardData, "incorrect_cvc"),
            ("invalid_expiry_year", "", Decline::IncorrectCardData, "invalid_expiry_year"),
            (
                "card_declined",
                "authentication_required",
                Decline::AuthenticationRequired,
                "authentication_required",
            ),
            ("processing_error", "processing_error", Decline::ProcessingError, "processing_error"),
            ("card_declined", "try_again_later", Decline::ProcessingError, "try_again_later"),
            ("card_declined", "lost_card", Decline::CardDeclined, "lost_card"),
            ("card_declined", "stolen_card", Decline::CardDeclined, "stolen_card"),
            ("card_declined", "of_2031", Decline::CardDeclined, "of_2031"),
            ("", "", Decline::CardDeclined, "card_error"),
        ] {
            let error = json!({"type": "card_error", "code": code, "decline_code": decline_code});
            let error: Failure = serde_json::from_value(error).unwrap();
            assert_eq!((error.decline(), &*error.code()), (decline, kept), "{code} {decline_code}");
        }
    }

    #[test]
    fn a_payment_intent_says_how_the_charge_stands() {
        let eur = Currency::for_payment("EUR");
        for (status, error, state) in [
            ("succeeded", None, Some(ChargeState::Taken(70))),
            ("requires_capture", None, Some(ChargeState::Held(100))),
            ("canceled", None, Some(ChargeState::Released)),
            ("processing", None, Some(ChargeState::Working)),
            ("requires_action", None, Some(ChargeState::Working)),
            ("requires_confirmation", None, Some(ChargeState::Working)),
            ("requires_payment_method", None, Some(ChargeState::Working)),
            (
                "requires_payment_method",
                Some("expired_card"),
                Some(ChargeState::Declined {
                    decline: Decline::ExpiredCard,
                    code: "expired_card".into(),
                }),
            ),
            ("requires_a_miracle", None, None),
        ] {
            let intent = json!({
                "id": "pi_1", "status": status, "currency": "eur", "amount": 100,
                "amount_capturable": 100, "amount_received": 70, "metadata": {},
                "last_payment_error": error.map(|code| json!({"code": code})),
            });
            let intent: Intent = serde_json::from_value(intent).unwrap();
            assert_eq!(intent.state(eur), state, "{status} {error:?}");
            if matches!(state, Some(ChargeState::Taken(_))) {
                assert_eq!(intent.state(Currency::for_payment("USD")), None, "another currency");
            }
        }
    }

    #[test]
    fn what_was_taken_is_known_from_the_charge_where_the_payment_intent_does_not_say() {
        let shown = json!({"id": "ch_1", "amount": 100, "amount_refunded": 40});
        for (received, charge, taken) in [
            (json!(70), shown.clone(), 70),
            (json!(70), json!("ch_1"), 70),
            (json!(0), shown.clone(), 0),
            (json!(null), shown, 60),
            (json!(null), json!("ch_1"), 100),
            (json!(null), json!(null), 100),
        ] {
            let intent = json!({
                "id": "pi_1", "status": "succeeded", "currency": "eur", "amount": 100,
                "amount_received": received, "latest_charge": charge,
            });
            let intent: Intent = serde_json::from_value(intent).unwrap();
            assert_eq!(intent.state(None), Some(ChargeState::Taken(taken)));
        }
    }

    #[test]
    fn an_id_that_leads_elsewhere_is_no_id() {
        for (text, is_id) in [("pi_3Mtw", true), ("", false), ("pi/../x", false), ("pi_1?a", false)]
        {
            assert_eq!(serde_json::from_value::<Id>(json!(text)).is_ok(), is_id, "{text}");
        }
    }
}

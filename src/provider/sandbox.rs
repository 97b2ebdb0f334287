//! The embedded provider: it moves no money, and the payment method says how it answers.
//!
//! | payment method | answer |
//! |---|---|
//! | `tok_visa` | approves |
//! | `tok_slow` | approves after 300 ms |
//! | `tok_declined`, `tok_insufficient_funds`, `tok_expired_card` | declines |
//! | `tok_timeout` | never answers; a look-up says approved |
//! | `tok_timeout_declined` | never answers; a look-up says declined |
//! | any other | declines: it does not know the payment method |
//!
//! An amount of `provider.sandbox.decline_at` minor units or more is declined as too large. Since a look-up has the same
//! answer whether the attempt was heard of or not, the sandbox needs no memory, and a payment's intent and outcome
//! may be one journal entry: what is asked about money that it "holds" or "took" is done by being booked.

use super::{Answer, Answering, Call, Message, NotRead, Provider, Reading, Terms};
use crate::domain::{
    event::{Action, Decline, Details},
    money::Amount,
};
use std::time::Duration;

const SLOW: Duration = Duration::from_millis(300);

/// See the module's table.
pub struct Sandbox {
    /// Minor units of whatever currency; this and more is declined.
    decline_at: i64,
}

impl Sandbox {
    /// A sandbox that declines `decline_at` minor units and more.
    #[must_use]
    pub fn new(decline_at: i64) -> Self {
        Self { decline_at }
    }

    fn answer(&self, details: &Details) -> Answer {
        let declined = |decline| Answer::Declined { decline, code: "".into() };
        if details.amount.minor_units() >= self.decline_at {
            return declined(Decline::AmountTooLarge);
        }
        match &*details.payment_method {
            "tok_visa" | "tok_slow" | "tok_timeout" => Answer::Done {
                reference: format!("sbx_{}", details.id.uuid().simple()).into(),
                amount: details.amount.minor_units(),
            },
            "tok_declined" | "tok_timeout_declined" => declined(Decline::CardDeclined),
            "tok_insufficient_funds" => declined(Decline::InsufficientFunds),
            "tok_expired_card" => declined(Decline::ExpiredCard),
            _ => declined(Decline::PaymentMethodUnknown),
        }
    }

    /// Whatever is asked about money that it never moved is done.
    fn done<'a>(call: &'a Call, amount: i64) -> Answering<'a> {
        let reference = call.reference.clone();
        Box::pin(async move { Answer::Done { reference, amount } })
    }
}

impl Provider for Sandbox {
    fn terms(&self) -> Terms {
        Terms { key_window: Duration::ZERO, looks_up: true }
    }

    fn authorize<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        Box::pin(async move {
            let answer = self.answer(&call.details);
            match &*call.details.payment_method {
                "tok_slow" => tokio::time::sleep(SLOW).await,
                "tok_timeout" | "tok_timeout_declined"
                    if call.details.amount.minor_units() < self.decline_at =>
                {
                    std::future::pending().await
                }
                _ => {}
            }
            answer
        })
    }

    fn capture<'a>(&'a self, call: &'a Call, amount: Amount) -> Answering<'a> {
        Self::done(call, amount.minor_units())
    }

    fn void<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        Self::done(call, 0)
    }

    fn refund<'a>(&'a self, call: &'a Call, amount: Amount) -> Answering<'a> {
        Self::done(call, amount.minor_units())
    }

    fn look_up<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        match call.action {
            Action::Authorize => Box::pin(async move { self.answer(&call.details) }),
            Action::Capture { .. } | Action::Void | Action::Expire | Action::Refund { .. } => {
                super::ask(self, call)
            }
        }
    }

    fn read<'a>(&'a self, _: &'a Message) -> Reading<'a> {
        Box::pin(async { Err(NotRead::Unproven) })
    }
}

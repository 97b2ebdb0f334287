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
//! may be one journal entry.

use super::{Answer, Answering, Provider};
use crate::domain::{
    event::{Decline, Details, Outcome},
    id::PaymentId,
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

    fn outcome(&self, details: &Details) -> Outcome {
        if details.amount.minor_units() >= self.decline_at {
            return Outcome::Declined(Decline::AmountTooLarge);
        }
        match &*details.payment_method {
            "tok_visa" | "tok_slow" | "tok_timeout" => {
                let reference = format!("sbx_{}", details.id.uuid().simple());
                Outcome::Approved { reference: reference.into_boxed_str() }
            }
            "tok_declined" | "tok_timeout_declined" => Outcome::Declined(Decline::CardDeclined),
            "tok_insufficient_funds" => Outcome::Declined(Decline::InsufficientFunds),
            "tok_expired_card" => Outcome::Declined(Decline::ExpiredCard),
            _ => Outcome::Declined(Decline::PaymentMethodUnknown),
        }
    }
}

impl Provider for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn submit<'a>(&'a self, details: &'a Details) -> Answering<'a> {
        Box::pin(async move {
            let outcome = self.outcome(details);
            match &*details.payment_method {
                "tok_slow" => tokio::time::sleep(SLOW).await,
                "tok_timeout" | "tok_timeout_declined"
                    if outcome != Outcome::Declined(Decline::AmountTooLarge) =>
                {
                    std::future::pending().await
                }
                _ => {}
            }
            Answer::Definite(outcome)
        })
    }

    fn look_up<'a>(&'a self, _: PaymentId, details: &'a Details) -> Answering<'a> {
        Box::pin(async move { Answer::Definite(self.outcome(details)) })
    }
}

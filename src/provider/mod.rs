//! The outside world that moves the money.
//!
//! A [`Provider`] is asked by payment actors and the scheduler. It may take its time, and it may not know: an answer of
//! [`Answer::Unknown`] is looked up later, never guessed and never asked for again as a new attempt.

#[cfg(feature = "fault-injection")]
pub mod faulty;
mod sandbox;

pub use sandbox::Sandbox;

use crate::domain::{
    event::{Details, Outcome},
    id::PaymentId,
};
use std::{future::Future, pin::Pin};

/// What a provider says about an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is certain what happened.
    Definite(Outcome),
    /// It is not. The money may have moved or not.
    Unknown,
}

/// An answer that is on its way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Who moves the money of a payment. Dropping a future of a call gives up waiting; it does not undo the call.
pub trait Provider: Send + Sync {
    /// The provider's name on the payment and in its history.
    fn name(&self) -> &'static str;

    /// Holds or takes the money of a payment. The payment's id names the attempt: the same id again is the same
    /// attempt, never a second one.
    fn submit<'a>(&'a self, details: &'a Details) -> Answering<'a>;

    /// Asks what became of the attempt that was made for a payment.
    fn look_up<'a>(&'a self, payment: PaymentId, details: &'a Details) -> Answering<'a>;
}

//! What can be asked of a payment: imperatives. Whether it is allowed is for [`super::payment::decide`] to say.

use super::{
    event::{Details, Outcome},
    money::Amount,
};
use std::sync::Arc;

/// A wish concerning one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Put a new payment on the books, with the provider's answer if it has one.
    Submit {
        /// What the merchant asked for.
        details: Arc<Details>,
        /// The provider's answer; `None` if it is still out.
        outcome: Option<Outcome>,
    },
    /// Book the provider's answer that was still out.
    Settle(Outcome),
    /// Take held money; `None` takes all of it.
    Capture(Option<Amount>),
    /// Give the hold up.
    Void,
    /// Let the hold lapse, its time being over.
    Expire,
    /// Give money back.
    Refund {
        /// `None` gives back all that is left.
        amount: Option<Amount>,
        /// The merchant's free text.
        reason: Option<Box<str>>,
    },
}

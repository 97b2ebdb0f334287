//! What can be asked of a payment: imperatives. Whether it is allowed is for [`super::payment::decide`] to say.

use super::{
    event::{Details, Evidence, Note, Outcome},
    id::Sequence,
    money::Amount,
};
use std::sync::Arc;

/// A wish concerning one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Put a new payment on the books that its provider has answered.
    Submit {
        /// What the merchant asked for.
        details: Arc<Details>,
        /// The provider's answer. `None`, still out, is only found in old journals.
        outcome: Option<Outcome>,
    },
    /// Put a new payment on the books whose provider has not answered, most likely since it was not asked yet.
    Initiate(Arc<Details>),
    /// Book the answer that was still out to a payment of an old journal.
    Settle(Outcome),
    /// Put on the books that a provider is being asked for a change: a capture, void, expiry or refund.
    Ask {
        /// Who is asked.
        provider: Arc<str>,
        /// For what.
        change: Box<Command>,
    },
    /// Book what became of an attempt.
    Answer {
        /// The entry that began it.
        attempt: Sequence,
        /// What became of it.
        outcome: Outcome,
        /// How that is known.
        evidence: Evidence,
    },
    /// Book that an attempt failed, and that another provider is being asked instead.
    Reroute {
        /// The entry that began the attempt that failed.
        attempt: Sequence,
        /// Why it failed.
        outcome: Outcome,
        /// How that is known.
        evidence: Evidence,
        /// Who is asked now.
        next: Arc<str>,
    },
    /// Put on record what was found out.
    Note(Note),
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

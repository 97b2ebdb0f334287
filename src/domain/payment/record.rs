//! What a payment has on record beside its standing: refunds, attempts, notes.

use crate::domain::{
    event::{Action, Ask, CaptureMode, Details, Failure, Note, Standing},
    id::{DerivedId, Kind, Sequence},
    money::Amount,
    time::Timestamp,
};

/// One giving back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Computed from the journal entry that made it.
    pub id: DerivedId,
    /// How much.
    pub amount: Amount,
    /// Whether it was done.
    pub standing: Standing,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The merchant's free text.
    pub reason: Option<Box<str>>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// Something that was asked of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The entry that began it, which names it.
    pub sequence: Sequence,
    /// What was asked of whom.
    pub ask: Ask,
    /// Whether it was done.
    pub standing: Standing,
    /// Whether what it is about stands in doubt in the ledger while it is out; in old journals it did not.
    pub is_booked: bool,
    /// The provider's name for what it did.
    pub reference: Option<Box<str>>,
    /// Why nothing was done.
    pub failure: Option<Failure>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last heard of.
    pub updated_at: Timestamp,
}

impl Attempt {
    /// What it is called: `att_…`, the key under which the provider does it at most once.
    #[must_use]
    pub fn id(&self) -> DerivedId {
        DerivedId::new(Kind::Attempt, self.created_at, self.sequence)
    }

    /// What it is about, in a word.
    #[must_use]
    pub fn operation(&self, details: &Details) -> &'static str {
        operation(self.ask.action, details.capture)
    }

    /// How much it is about.
    #[must_use]
    pub fn amount(&self, details: &Details) -> Amount {
        match self.ask.action {
            Action::Capture { amount, .. } | Action::Refund { amount } => amount,
            Action::Authorize | Action::Void | Action::Expire => details.amount,
        }
    }

    /// How much stands in doubt in the ledger because of it, in minor units: whatever is asked about a hold, all of it.
    #[must_use]
    pub fn in_doubt(&self, details: &Details) -> i64 {
        match (self.standing, self.ask.action) {
            (Standing::Out, _) if !self.is_booked => 0,
            (Standing::Out, Action::Refund { amount }) => amount.minor_units(),
            (Standing::Out, _) => details.amount.minor_units(),
            (Standing::Succeeded | Standing::Failed, _) => 0,
        }
    }
}

/// An action in a word.
#[must_use]
pub fn operation(action: Action, capture: CaptureMode) -> &'static str {
    match (action, capture) {
        (Action::Authorize, CaptureMode::Automatic) => "charge",
        (Action::Authorize, CaptureMode::Manual) => "authorization",
        (Action::Capture { .. }, _) => "capture",
        (Action::Void, _) => "void",
        (Action::Expire, _) => "expiry",
        (Action::Refund { .. }, _) => "refund",
    }
}

/// A note in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// What was found out.
    pub note: Note,
    /// When.
    pub at: Timestamp,
    /// Whether nobody needs to look at it any more.
    pub settled: bool,
}

/// Of what form an answer is. An entry keeps the form that was current when it was written, so that an answer is
/// rendered the same for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Without attempts, and without the state of refunds, which all succeeded.
    First,
    /// With them.
    #[default]
    Second,
}

//! What a provider's answer means for an attempt: certain, impossible, or still open. Pure.

use crate::{
    domain::{
        event::{Action, Decline, Details, Evidence, Note, Outcome, Standing},
        payment::Attempt,
    },
    provider::Answer,
};

/// What an answer means for its attempt.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::actors) enum Verdict {
    /// It is certain what became of it.
    Known(Outcome),
    /// The provider says what can't be: a person has to look.
    Contradicts(String),
    /// It stays open.
    Open(Box<str>),
}

/// What an answer means for an attempt. `alone`: no other call of this attempt was ever made.
pub(in crate::actors) fn judge(
    attempt: &Attempt,
    details: &Details,
    answer: Answer,
    alone: bool,
) -> Verdict {
    let declined = |decline, code: Box<str>| {
        Verdict::Known(match &*code {
            "" => Outcome::Declined(decline),
            _ => Outcome::DeclinedBy { decline, code },
        })
    };
    match answer {
        Answer::Done { reference, amount } => {
            let asked = match attempt.ask.action {
                Action::Void | Action::Expire => {
                    return Verdict::Known(Outcome::Approved { reference });
                }
                Action::Authorize | Action::Capture { .. } | Action::Refund { .. } => {
                    attempt.amount(details).minor_units()
                }
            };
            if amount == asked {
                return Verdict::Known(Outcome::Approved { reference });
            }
            let (operation, currency) = (attempt.operation(details), details.currency);
            Verdict::Contradicts(format!(
                "{} was asked for a {operation} of {asked} {currency} (minor units) and says that it did it \
                 with {amount} ({reference})",
                attempt.ask.provider
            ))
        }
        Answer::Declined { decline, code } => declined(decline, code),
        // A hold that lapses nobody waits for: it is asked for again under the same key.
        Answer::NotProcessed { code } if alone && attempt.ask.action != Action::Expire => {
            declined(Decline::ProviderUnavailable, code)
        }
        Answer::NotProcessed { code } => {
            Verdict::Open(format!("the last call was not processed ({code})").into())
        }
        Answer::Absent => Verdict::Open("the provider has no trace of it".into()),
        Answer::Working => Verdict::Open("the provider is still working on it".into()),
        Answer::Unknown { why, .. } if seeded!(UnknownIsFailed) => {
            declined(Decline::ProviderUnavailable, why)
        }
        Answer::Unknown { why, .. } => Verdict::Open(why),
    }
}

/// What an answer says against an attempt whose outcome is on record, if it does.
pub(super) fn denies(attempt: &Attempt, details: &Details, answer: &Answer) -> Option<String> {
    let (operation, provider) = (attempt.operation(details), &attempt.ask.provider);
    let moves = !matches!(attempt.ask.action, Action::Void | Action::Expire);
    match (attempt.standing, answer) {
        (Standing::Failed, Answer::Done { reference, amount }) => Some(format!(
            "{provider} says that it did the {operation} with {amount} {} (minor units, {reference}); here it failed",
            details.currency
        )),
        (Standing::Succeeded, Answer::Done { reference, amount }) => {
            let asked = attempt.amount(details).minor_units();
            let known = attempt.reference.as_deref().unwrap_or_default();
            let other = !known.is_empty() && *known != **reference;
            (moves && (other || *amount != asked)).then(|| {
                format!(
                    "{provider} says that it did the {operation} as {reference} with {amount} {} (minor units); here it is \
                     {known} with {asked}",
                    details.currency
                )
            })
        }
        (Standing::Succeeded, Answer::Declined { .. }) => {
            Some(format!("{provider} says that it did not do the {operation}; here it succeeded"))
        }
        _ => None,
    }
}

/// What is wrong if a provider says no to letting go of a hold: it took the money, or keeps it.
pub(super) fn not_let_go(attempt: &Attempt, outcome: &Outcome) -> Option<&'static str> {
    let decline = outcome.failure()?.decline;
    match attempt.ask.action {
        Action::Expire => Some("the hold's time is over, and the provider does not let go of it"),
        Action::Void if decline == Decline::AuthorizationGone => Some(
            "the provider was to let go of the hold, and has it no longer: it may have taken the money",
        ),
        _ => None,
    }
}

/// Whether two notes say the same: a provider may tell one thing several times, and an attempt stays undecided.
pub(super) fn is_same(one: &Note, other: &Note) -> bool {
    match (one, other) {
        (Note::Undecided { attempt: one, .. }, Note::Undecided { attempt: other, .. }) => {
            one == other
        }
        (
            Note::Contradicted { evidence: Evidence::Webhook(one), .. },
            Note::Contradicted { evidence: Evidence::Webhook(other), .. },
        ) if one == other => true,
        (Note::Contradicted { what: one, .. }, Note::Contradicted { what: other, .. }) => {
            one == other
        }
        _ => false,
    }
}

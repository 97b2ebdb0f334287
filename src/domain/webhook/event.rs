//! What merchants are told of: the types of events, and which of them an endpoint wants.
//!
//! An event is no record of its own: it is a step of a payment, seen from outside. So it exists exactly if the
//! payment's change does.

use crate::domain::payment::Status;
use serde::{Deserialize, Serialize};

/// What kind of thing happened. Variant order is the format of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventType {
    /// The money is held.
    Authorized,
    /// The money is taken.
    Completed,
    /// The provider declined.
    Failed,
    /// The merchant gave the hold up.
    Voided,
    /// The hold lapsed.
    Expired,
    /// All of the money was given back.
    Refunded,
    /// Part of it was given back.
    PartiallyRefunded,
    /// A refund was not done, or was taken back.
    RefundFailed,
    /// A capture was not done.
    CaptureFailed,
    /// A void was not done.
    VoidFailed,
}

impl EventType {
    /// Every type, in the order in which the documentation lists them.
    pub const ALL: [EventType; 10] = [
        EventType::Authorized,
        EventType::Completed,
        EventType::Failed,
        EventType::Voided,
        EventType::Expired,
        EventType::Refunded,
        EventType::PartiallyRefunded,
        EventType::RefundFailed,
        EventType::CaptureFailed,
        EventType::VoidFailed,
    ];

    /// The event that a step makes which leaves the payment in `status`. A payment whose provider has not answered
    /// makes none.
    #[must_use]
    pub fn of(status: Status) -> Option<Self> {
        match status {
            Status::Pending | Status::Processing => None,
            Status::Authorized => Some(Self::Authorized),
            Status::Completed => Some(Self::Completed),
            Status::PartiallyRefunded => Some(Self::PartiallyRefunded),
            Status::Refunded => Some(Self::Refunded),
            Status::Voided => Some(Self::Voided),
            Status::Expired => Some(Self::Expired),
            Status::Failed => Some(Self::Failed),
        }
    }

    /// As merchants read and write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Authorized => "payment.authorized",
            Self::Completed => "payment.completed",
            Self::Failed => "payment.failed",
            Self::Voided => "payment.voided",
            Self::Expired => "payment.expired",
            Self::Refunded => "payment.refunded",
            Self::PartiallyRefunded => "payment.partially_refunded",
            Self::RefundFailed => "payment.refund_failed",
            Self::CaptureFailed => "payment.capture_failed",
            Self::VoidFailed => "payment.void_failed",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One or more types, as a merchant names them. Variant order is the format of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Pattern {
    /// `*`: whatever happens, also what later releases tell of.
    Everything,
    /// `payment.*`: whatever happens to payments.
    Payments,
    /// Exactly this.
    Exactly(EventType),
}

impl Pattern {
    /// As merchants read and write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Everything => "*",
            Self::Payments => "payment.*",
            Self::Exactly(kind) => kind.name(),
        }
    }

    /// The pattern of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "*" => Some(Self::Everything),
            "payment.*" => Some(Self::Payments),
            exact => EventType::parse(exact).map(Self::Exactly),
        }
    }

    fn admits(self, kind: EventType) -> bool {
        match self {
            Self::Everything | Self::Payments => true,
            Self::Exactly(exact) => exact == kind,
        }
    }
}

/// Which events an endpoint gets: those that one of its patterns admits. Sorted, none twice, never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter(Box<[Pattern]>);

impl Filter {
    /// A filter of these patterns; `None` if there are none.
    #[must_use]
    pub fn new(mut patterns: Vec<Pattern>) -> Option<Self> {
        patterns.sort();
        patterns.dedup();
        (!patterns.is_empty()).then(|| Self(patterns.into_boxed_slice()))
    }

    /// Lets every event through.
    #[must_use]
    pub fn everything() -> Self {
        Self(Box::new([Pattern::Everything]))
    }

    /// The patterns, as merchants write them.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|pattern| pattern.name())
    }

    /// Whether the endpoint gets events of this type.
    #[must_use]
    pub fn admits(&self, kind: EventType) -> bool {
        self.0.iter().any(|pattern| pattern.admits(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(names: &[&str]) -> Filter {
        Filter::new(names.iter().map(|name| Pattern::parse(name).unwrap()).collect()).unwrap()
    }

    #[test]
    fn every_status_but_those_before_the_providers_answer_makes_an_event_of_its_name() {
        for status in Status::ALL {
            let expected = format!("payment.{}", status.name());
            match EventType::of(status) {
                None => assert!(matches!(status, Status::Pending | Status::Processing)),
                Some(kind) => assert_eq!(kind.name(), expected),
            }
        }
    }

    #[test]
    fn a_filter_admits_what_its_patterns_name_and_nothing_else() {
        for kind in EventType::ALL {
            assert!(filter(&["*"]).admits(kind));
            assert!(filter(&["payment.*"]).admits(kind));
            let two = filter(&["payment.refunded", "payment.failed", "payment.failed"]);
            let named = matches!(kind, EventType::Refunded | EventType::Failed);
            assert_eq!(two.admits(kind), named, "{kind:?}");
            assert_eq!(EventType::parse(kind.name()), Some(kind));
        }
        let names = filter(&["payment.refunded", "payment.failed", "payment.failed"]);
        assert_eq!(names.names().collect::<Vec<_>>(), ["payment.failed", "payment.refunded"]);
    }

    #[test]
    fn what_is_no_event_type_is_no_pattern() {
        for name in ["", "payment", "payment.", "payment.processing", "refund.*", "Payment.*", "**"]
        {
            assert_eq!(Pattern::parse(name), None, "{name}");
        }
        assert_eq!(Filter::new(Vec::new()), None);
    }
}

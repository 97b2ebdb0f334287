//! The journal's unit: one entry is one atomic fact, with everything that must not be parted from it.
//!
//! A payment's entry carries the event, the double entry it books, and the idempotency key it was asked for under. So
//! no crash can leave money without its record, or a record without its key. These types are the format on disk: only
//! append fields at the end of a *new* record variant, never change an old one (golden files hold this).

use super::{
    access::AccessRecord,
    event::Event,
    id::{PaymentId, Sequence},
    idempotency::Request,
    ledger::Transaction,
    payment::Form,
    time::Timestamp,
    webhook::WebhookRecord,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 1 for the first, without gaps.
    pub sequence: Sequence,
    /// Never before the entry ahead of it.
    pub at: Timestamp,
    /// What happened.
    pub record: Record,
}

/// What an entry says. Variant order is the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A process took the journal over for writing.
    Opened {
        /// How many times that has happened, this one included. Lower epochs may no longer write.
        epoch: u64,
        /// Which release, such as `0.1.0`.
        software: Box<str>,
    },
    /// Nothing was in flight: whatever stands before this was acknowledged.
    Sealed,
    /// Something happened to a payment.
    Payment(PaymentRecord),
    /// Something happened to webhook endpoints, or deliveries got on.
    Webhook(WebhookRecord),
    /// A provider told of money that no payment is about.
    Stray(Stray),
    /// An admin did something about who may come in.
    Access(AccessRecord),
}

impl Record {
    /// Whether the entry is kept whole, also by snapshots: what it says is in no state that they hold.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        match self {
            Self::Stray(_) | Self::Access(_) => true,
            Self::Webhook(record) => is_admins(&record.actor),
            Self::Opened { .. } | Self::Sealed | Self::Payment(_) => false,
        }
    }
}

/// Whether this is the name of an admin's key in the audit trail.
#[must_use]
pub fn is_admins(actor: &str) -> bool {
    actor.starts_with("admin/")
}

/// Money at a provider that no payment is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// Who told of it.
    pub provider: Arc<str>,
    /// The provider's id of the event that told it.
    pub event: Box<str>,
    /// The provider's name for the money.
    pub reference: Box<str>,
    /// What it said.
    pub what: Box<str>,
}

/// One event of a payment with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRecord {
    /// Which payment.
    pub payment: PaymentId,
    /// The payment's version after this event; 1 puts it on the books.
    pub version: u32,
    /// Who caused it: `{merchant}/{key name}`, `admin/{key name}` or `system/{part}`.
    pub actor: Arc<str>,
    /// What happened.
    pub event: Event,
    /// What it books; `None` if no money moves or is held.
    pub transaction: Option<Transaction>,
    /// The key it was asked for under.
    pub request: Option<Request>,
    /// Of what form the answer is that was given to it: on disk, the entry's version.
    #[serde(skip)]
    pub form: Form,
}

impl PaymentRecord {
    /// What happened, in a word that accountants know.
    #[must_use]
    pub fn happened(&self) -> &'static str {
        let mut legs = self.transaction.iter().flat_map(|transaction| &transaction.legs);
        self.event.happened(legs.all(|leg| leg.posted == 0))
    }
}

/// A SHA-256 digest in the journal's chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The entries that were made durable by one write, under one hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// One or more, in sequence, all of one time.
    pub entries: Vec<Entry>,
    /// The hash of the block that holds them, which is the head of the chain after them.
    pub hash: Hash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_as_64_hexadecimal_digits() {
        let mut hash = Hash::default();
        (hash.0[0], hash.0[31]) = (0xab, 1);
        let written = format!("ab{}01", "00".repeat(30));
        assert_eq!((hash.to_string(), format!("{hash:?}")), (written.clone(), written));
    }
}

//! Identifiers: a prefix and a UUID version 7 (RFC 9562 §5.7) in simple form, so that they sort by time.
//!
//! A payment's id is made before it is on the books, so its low bits are random. Everything that comes *with* a
//! journal entry (a ledger transaction, a ledger leg, a refund, an event) gets an id computed from the entry's time
//! and sequence. It needs no memory, is the same on every replay, and leads straight back to the entry:
//!
//! ```text
//!  48 bits            4      4      8       2     48 bits           14 bits
//! ┌──────────────────┬─────┬──────┬───────┬─────┬─────────────────┬──────────┐
//! │ entry time, ms   │ v=7 │ kind │ index │ var │ entry sequence  │ 0        │
//! └──────────────────┴─────┴──────┴───────┴─────┴─────────────────┴──────────┘
//! ```

use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// The position of an entry in the journal: 1 for the first, without gaps.
pub type Sequence = u64;

/// A kind of thing that is named by a prefix and a UUIDv7.
macro_rules! named_by_uuid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Uuid);

        impl $name {
            /// What stands before the UUID.
            pub const PREFIX: &'static str = $prefix;

            /// The id of the UUIDv7 that the caller made.
            #[must_use]
            pub fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Reads the prefix + 32 lower-case hexadecimal digits; nothing else is such an id.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::parse_bare(text.strip_prefix(Self::PREFIX)?)
            }

            /// Reads the 32 digits alone.
            #[must_use]
            pub fn parse_bare(text: &str) -> Option<Self> {
                parse_simple(text).map(Self)
            }

            /// The bare UUID.
            #[must_use]
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Self::PREFIX)?;
                f.write_str(self.0.simple().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

named_by_uuid!(
    /// Which payment.
    PaymentId,
    "pay_"
);

named_by_uuid!(
    /// Which webhook endpoint.
    EndpointId,
    "we_"
);

named_by_uuid!(
    /// Which API key.
    KeyId,
    "key_"
);

/// What an identifier computed from a journal entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `txn_`: the ledger transaction the entry posted.
    Transaction,
    /// `ent_`: one leg of that transaction, by its index.
    LedgerEntry,
    /// `ref_`: the refund the entry made.
    Refund,
    /// `evt_`: the event that merchants are told of.
    Event,
    /// `att_`: the attempt that the entry began: the provider's idempotency key.
    Attempt,
}

impl Kind {
    const ALL: [Kind; 5] =
        [Kind::Transaction, Kind::LedgerEntry, Kind::Refund, Kind::Event, Kind::Attempt];

    fn prefix(self) -> &'static str {
        match self {
            Kind::Transaction => "txn_",
            Kind::LedgerEntry => "ent_",
            Kind::Refund => "ref_",
            Kind::Event => "evt_",
            Kind::Attempt => "att_",
        }
    }

    /// Four bits inside the identifier. They are on the books of every client: never renumber.
    fn bits(self) -> u128 {
        match self {
            Kind::Transaction => 1,
            Kind::LedgerEntry => 2,
            Kind::Refund => 3,
            Kind::Event => 4,
            Kind::Attempt => 5,
        }
    }
}

/// An identifier computed from the journal entry that made the thing it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DerivedId {
    /// What it names.
    pub kind: Kind,
    /// The entry's time.
    pub at: Timestamp,
    /// The entry's place in the journal, below 2^48.
    pub sequence: Sequence,
    /// Which one of the entry's things of that kind, from 0.
    pub index: u8,
}

const SEQUENCE_BITS: u128 = (1 << 48) - 1;

impl DerivedId {
    /// The id of the first (mostly: the only) thing of this kind that the entry made.
    #[must_use]
    pub fn new(kind: Kind, at: Timestamp, sequence: Sequence) -> Self {
        Self { kind, at, sequence, index: 0 }
    }

    fn to_uuid(self) -> Uuid {
        Uuid::from_u128(
            (u128::from(self.at.millis()) & SEQUENCE_BITS) << 80
                | 7 << 76
                | self.kind.bits() << 72
                | u128::from(self.index) << 64
                | 0b10 << 62
                | (u128::from(self.sequence) & SEQUENCE_BITS) << 14,
        )
    }

    /// Reads an id made by `Display`. Whether such an entry exists is for the books to say.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let kind = Kind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
        let bits = parse_simple(text.strip_prefix(kind.prefix())?)?.as_u128();
        let low = |shift: u32, mask: u128| u64::try_from(bits >> shift & mask).ok();
        let id = Self {
            kind,
            at: Timestamp::from_millis(low(80, SEQUENCE_BITS)?),
            sequence: low(14, SEQUENCE_BITS)?,
            index: u8::try_from(low(64, 0xff)?).ok()?,
        };
        (id.to_uuid().as_u128() == bits).then_some(id)
    }
}

impl fmt::Display for DerivedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.prefix())?;
        f.write_str(self.to_uuid().simple().encode_lower(&mut Uuid::encode_buffer()))
    }
}

fn parse_simple(text: &str) -> Option<Uuid> {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == 32 && text.bytes().all(lower_hex)).then(|| Uuid::try_parse(text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_payment_id_is_read_back_and_nothing_else_is_one() {
        let id = PaymentId::new(Uuid::from_u128(0x0199_aabb_ccdd_7abc_8def_0123_4567_89ab));
        assert_eq!(id.to_string(), "pay_0199aabbccdd7abc8def0123456789ab");
        assert_eq!(PaymentId::parse(&id.to_string()), Some(id));
        for wrong in [
            "",
            "pay_",
            "pay_0199AABBCCDD7ABC8DEF0123456789AB",
            "ref_0199aabbccdd7abc8def0123456789ab",
            "pay_0199aabb-ccdd-7abc-8def-0123456789ab",
            "pay_0199aabbccdd7abc8def0123456789ab0",
        ] {
            assert_eq!(PaymentId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_derived_id_is_a_version_7_uuid() {
        let id = DerivedId::new(Kind::Transaction, Timestamp::from_millis(1_763_823_845_123), 42);
        let uuid = id.to_uuid();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
    }

    proptest! {
        #[test]
        fn a_derived_id_leads_back_to_its_entry(
            millis in 0u64..253_402_207_200_999,
            sequence in 0u64..(1 << 48),
            index: u8,
            kind in 0usize..Kind::ALL.len(),
        ) {
            let at = Timestamp::from_millis(millis);
            let id = DerivedId { kind: Kind::ALL[kind], at, sequence, index };
            prop_assert_eq!(DerivedId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn derived_ids_of_one_kind_sort_by_time_then_sequence(
            a in (0u64..1 << 41, 0u64..1 << 48),
            b in (0u64..1 << 41, 0u64..1 << 48),
        ) {
            let id = |(millis, sequence)| {
                DerivedId::new(Kind::Refund, Timestamp::from_millis(millis), sequence).to_string()
            };
            prop_assert_eq!(a.cmp(&b), id(a).cmp(&id(b)));
        }
    }
}

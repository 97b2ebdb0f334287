//! What makes two requests the same, and what became of one.
//!
//! A key is scoped by merchant. It is written inside the journal entry of what was done under it, so no crash can part
//! the two; the answer that was given is not stored but re-rendered from the payment as that entry left it.

use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// A merchant's own name for one request: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key(Arc<str>);

impl Key {
    /// The most characters a key may have.
    pub const LENGTH_MAX: usize = 255;

    /// A key, if `text` is one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::LENGTH_MAX).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.into()))
    }

    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 over method, path and canonical body: equal exactly if two requests ask for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a request. `body` must be in canonical form (sorted fields, no white space).
    #[must_use]
    pub fn of(method: &str, path: &str, body: &[u8]) -> Self {
        let mut digest = Sha256::new();
        // Neither a method nor a path can hold a zero byte, so no two requests run together alike.
        for part in [method.as_bytes(), b"\0", path.as_bytes(), b"\0", body] {
            digest.update(part);
        }
        Self(digest.finalize().into())
    }
}

/// What was asked for under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// `POST /api/payments`.
    Create,
    /// `POST /api/payments/{id}/capture`.
    Capture,
    /// `POST /api/payments/{id}/void`.
    Void,
    /// `POST /api/payments/{id}/refund`.
    Refund,
    /// `POST /api/payments/{id}/resolve`.
    Resolve,
}

impl Operation {
    /// As clients read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
            Self::Resolve => "resolve",
        }
    }
}

/// The key a request came under, with what it asked for: the part of an entry that dedups retries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The merchant's name for the request.
    pub key: Key,
    /// What it asked for, digested.
    pub fingerprint: Fingerprint,
    /// What it asked for, in a word.
    pub operation: Operation,
}

/// How long a key stays used after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// As long as the payment is on the books.
    Forever,
    /// This many milliseconds; then the key is new again.
    Millis(u64),
}

impl Retention {
    /// Whether a key answered at `answered` is still used at `now`.
    #[must_use]
    pub fn holds(self, answered: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::Forever => true,
            Self::Millis(millis) => now.millis_since(answered) < millis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters() {
        let text = "order_12345-payment/7!";
        assert_eq!(Key::new(text).map(|key| key.to_string()).as_deref(), Some(text));
        assert!(Key::new(&"k".repeat(255)).is_some());
        for wrong in ["", "with space", "tab\t", "nul\0", "größe", &"k".repeat(256)] {
            assert_eq!(Key::new(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn requests_that_differ_anywhere_have_different_fingerprints() {
        let base = Fingerprint::of("POST", "/api/payments", b"{}");
        assert_eq!(base, Fingerprint::of("POST", "/api/payments", b"{}"));
        assert_ne!(base, Fingerprint::of("PUT", "/api/payments", b"{}"));
        assert_ne!(base, Fingerprint::of("POST", "/api/payments/", b"{}"));
        assert_ne!(base, Fingerprint::of("POST", "/api/payments", b"{ }"));
    }

    #[test]
    fn clients_are_told_what_was_asked_for_in_the_word_of_its_path() {
        let words = [
            (Operation::Create, "create"),
            (Operation::Capture, "capture"),
            (Operation::Void, "void"),
            (Operation::Refund, "refund"),
            (Operation::Resolve, "resolve"),
        ];
        assert!(words.iter().all(|(operation, word)| operation.name() == *word));
    }

    #[test]
    fn a_key_is_new_again_when_its_retention_is_over() {
        let at = Timestamp::from_millis;
        assert!(Retention::Forever.holds(at(0), at(u64::MAX)));
        assert!(Retention::Millis(100).holds(at(50), at(149)));
        assert!(!Retention::Millis(100).holds(at(50), at(150)));
    }
}

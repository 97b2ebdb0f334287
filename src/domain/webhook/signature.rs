//! Standard Webhooks 1.0.0 signatures (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md).
//!
//! What is signed is `{id}.{timestamp}.{body}` with HMAC-SHA256 under the decoded secret. A signature header may hold
//! several signatures, separated by spaces: while a secret is being replaced, the old and the new one both sign.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;
use thiserror::Error;

/// How far a signature's time may lie from the verifier's, in seconds; every official library takes this.
pub const TOLERANCE_S: u64 = 300;

/// An endpoint's signing secret: 24 to 64 bytes. It has no `Display`, and its `Debug` shows nothing, so that nothing
/// that holds one can be logged by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// What stands before the base64 text.
    pub const PREFIX: &'static str = "whsec_";

    /// The fewest and the most bytes of a secret.
    pub const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

    /// A secret of bytes that the caller drew at random; `None` if they are too few or too many.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        Self::BYTES.contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// A secret of as many bytes as the specification recommends, which the caller drew at random.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(Box::new(bytes))
    }

    /// Reads `whsec_` and the base64 of 24 to 64 bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::new(&STANDARD.decode(text.strip_prefix(Self::PREFIX)?).ok()?)
    }

    /// The secret's own text, for its holder, shown once.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}{}", Self::PREFIX, STANDARD.encode(&self.0))
    }

    fn mac(&self, id: &str, seconds: u64, body: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of any length; the type only does not know that.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(id.as_bytes());
        mac.update(format!(".{seconds}.").as_bytes());
        mac.update(body);
        Some(mac)
    }

    /// The signature of a message: `v1,` and the base64 of its HMAC. `seconds` is the time of this try since 1970.
    #[must_use]
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let mac = self.mac(id, seconds, body);
        let mac = mac.map(|mac| STANDARD.encode(mac.finalize().into_bytes()));
        format!("v1,{}", mac.unwrap_or_default())
    }

    /// Whether one of the signatures in `header` is this secret's, and `timestamp` is near `now_s`.
    ///
    /// # Errors
    /// What does not hold.
    pub fn verify(&self, message: &Signed<'_>, body: &[u8], now_s: u64) -> Result<(), Unverified> {
        let seconds: u64 = message.timestamp.parse().map_err(|_| Unverified::NoTime)?;
        if seconds.saturating_add(TOLERANCE_S) < now_s {
            return Err(Unverified::TooOld { by_s: now_s.saturating_sub(seconds) });
        }
        if now_s.saturating_add(TOLERANCE_S) < seconds {
            return Err(Unverified::TooNew { by_s: seconds.saturating_sub(now_s) });
        }
        let signatures = message.signatures.split(' ').filter_map(|one| one.strip_prefix("v1,"));
        for signature in signatures.filter_map(|text| STANDARD.decode(text).ok()) {
            let mac = self.mac(message.id, seconds, body);
            // Compares in constant time.
            if mac.is_some_and(|mac| mac.verify_slice(&signature).is_ok()) {
                return Ok(());
            }
        }
        Err(Unverified::WrongSignature)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// The three headers of a signed message.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`: whole seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`: signatures, separated by spaces.
    pub signatures: &'a str,
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unverified {
    /// The timestamp is no number.
    #[error("webhook-timestamp is no number of seconds")]
    NoTime,
    /// It was signed too long ago: somebody may be sending an old message again.
    #[error("it was signed {by_s} s ago, more than the 300 s that are believed")]
    TooOld {
        /// How long ago, in seconds.
        by_s: u64,
    },
    /// It was signed in the future: one of the two clocks is wrong.
    #[error("it was signed {by_s} s in the future, more than the 300 s that are believed")]
    TooNew {
        /// How far ahead, in seconds.
        by_s: u64,
    },
    /// No signature is this secret's for this id, time and body.
    #[error("no signature matches: another secret, or a changed body")]
    WrongSignature,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the specification's own repository: libraries/javascript/src/webhook.test.ts and
    /// libraries/rust/src/lib.rs.
    const VECTORS: [(&str, &str, u64, &str, &str); 2] = [
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ];

    #[test]
    fn the_published_vectors_are_signed_and_verified_to_the_byte() {
        for (secret, id, seconds, body, signature) in VECTORS {
            let secret = Secret::parse(secret).unwrap();
            assert_eq!(secret.sign(id, seconds, body.as_bytes()), signature);
            let timestamp = seconds.to_string();
            let message = Signed { id, timestamp: &timestamp, signatures: signature };
            assert_eq!(secret.verify(&message, body.as_bytes(), seconds), Ok(()));
        }
    }

    fn verified(
        change: impl FnOnce(&mut String, &mut String, &mut Vec<u8>, &mut u64),
    ) -> Result<(), Unverified> {
        let (secret, id, seconds, body, signature) = VECTORS[0];
        let (mut timestamp, mut signatures) = (seconds.to_string(), signature.to_owned());
        let (mut body, mut now) = (body.as_bytes().to_vec(), seconds);
        change(&mut timestamp, &mut signatures, &mut body, &mut now);
        let message = Signed { id, timestamp: &timestamp, signatures: &signatures };
        Secret::parse(secret).unwrap().verify(&message, &body, now)
    }

    #[test]
    fn a_changed_body_a_wrong_signature_and_a_time_far_off_are_not_believed() {
        let wrong = Err(Unverified::WrongSignature);
        assert_eq!(verified(|_, _, _, _| {}), Ok(()));
        assert_eq!(verified(|_, _, body, _| body.push(b' ')), wrong);
        assert_eq!(verified(|_, signatures, _, _| *signatures = "v1,".into()), wrong);
        assert_eq!(verified(|_, signatures, _, _| signatures.truncate(20)), wrong);
        assert_eq!(
            verified(|_, signatures, _, _| *signatures = signatures.replace("v1", "v2")),
            wrong
        );
        assert_eq!(verified(|timestamp, _, _, _| *timestamp = "1614265331".into()), wrong);
        assert_eq!(
            verified(|timestamp, _, _, _| *timestamp = "soon".into()),
            Err(Unverified::NoTime)
        );
        assert_eq!(verified(|_, _, _, now| *now += 300), Ok(()));
        assert_eq!(verified(|_, _, _, now| *now -= 300), Ok(()));
        assert_eq!(verified(|_, _, _, now| *now += 301), Err(Unverified::TooOld { by_s: 301 }));
        assert_eq!(verified(|_, _, _, now| *now -= 301), Err(Unverified::TooNew { by_s: 301 }));
    }

    #[test]
    fn of_several_signatures_one_that_matches_is_enough() {
        let both = |signatures: &mut String| *signatures = format!("v2,xx v1,AAAA {signatures}");
        assert_eq!(verified(|_, signatures, _, _| both(signatures)), Ok(()));
    }

    #[test]
    fn a_secret_is_24_to_64_bytes_is_read_back_and_never_shown_by_accident() {
        for length in [24, 32, 64] {
            let secret = Secret::new(&vec![7; length]).unwrap();
            assert_eq!(Secret::parse(&secret.expose()), Some(secret));
        }
        assert_eq!(Secret::new(&[7; 23]), None);
        assert_eq!(Secret::new(&[7; 65]), None);
        let text = Secret::new(&[7; 32]).unwrap().expose();
        for wrong in [text.trim_end_matches('='), &text[6..], "", "whsec_", "whsec_!!!!"] {
            assert_eq!(Secret::parse(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{:?}", Secret::parse(&text)), "Some(Secret(not shown))");
    }
}

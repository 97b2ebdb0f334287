//! Whether a message comes from Stripe (docs.stripe.com/webhooks, "Verify webhook signatures manually").
//!
//! The header is `t=<seconds>,v1=<hex>[,v1=<hex>]`: while a secret is being replaced, both sign. What is signed is
//! `{t}.{body}`, with HMAC-SHA256 under the whole text of the secret, `whsec_` and all. The asker hands in the time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How far the time of a signature may lie from ours, in seconds: Stripe's own libraries take this.
const TOLERANCE_S: u64 = 300;

/// Whether one of the signatures in `header` is this secret's for `body`, made near `now_s`.
pub(super) fn proves(secret: &str, header: &str, body: &[u8], now_s: u64) -> bool {
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let Some((_, time)) = parts().find(|(name, _)| *name == "t") else { return false };
    let near = |seconds: u64| seconds.abs_diff(now_s) <= TOLERANCE_S;
    if !time.parse().is_ok_and(near) {
        return false;
    }
    // HMAC takes keys of any length; the type only does not know that.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let signatures = parts().filter(|(name, _)| *name == "v1");
    let mut signatures = signatures.filter_map(|(_, text)| hex::decode(text).ok());
    // Compares in constant time.
    signatures.any(|signature| mac.clone().verify_slice(&signature).is_ok())
}

/// The header that Stripe would send.
#[cfg(test)]
pub(super) fn sign(secret: &str, body: &[u8], seconds: u64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000;
    const SECRET: &str = "whsec_4f1d";

    #[test]
    fn a_signature_is_believed_if_it_is_ours_and_recent() {
        let signed = |seconds| sign(SECRET, b"{}", seconds);
        let hex = |header: &str| header.split_once("v1=").unwrap().1.to_owned();
        let (old, other) = (hex(&signed(NOW)), hex(&sign("whsec_other", b"{}", NOW)));
        for (header, believed) in [
            (signed(NOW), true),
            (signed(NOW - 300), true),
            (signed(NOW - 301), false),
            (signed(NOW + 300), true),
            (signed(NOW + 301), false),
            (format!("t={NOW},v1={other},v1={old},v0=abc"), true),
            (format!("t={NOW}, v1={old}"), true),
            (format!("t={NOW},v1={other}"), false),
            (format!("t={NOW},v0={old}"), false),
            (format!("t={},v1={old}", NOW - 1), false),
            (format!("v1={old}"), false),
            (format!("t={NOW}"), false),
            (format!("t={NOW},v1="), false),
            (format!("t={NOW},v1={}", &old[..62]), false),
            (String::new(), false),
        ] {
            assert_eq!(proves(SECRET, &header, b"{}", NOW), believed, "{header}");
        }
        assert!(!proves(SECRET, &signed(NOW), b"{ }", NOW), "the body was changed");
        assert!(!proves("whsec_other", &signed(NOW), b"{}", NOW));
    }

    #[test]
    fn a_signature_made_by_another_library_is_believed() {
        // Python: hmac.new(b"whsec_4f1d", b"1795000000.{}", "sha256").hexdigest()
        let header =
            "t=1795000000,v1=78f0462be9338656485d4e9de7e1a1d4d930a54ff6a48d426cf6d593090e6250";
        assert!(proves(SECRET, header, b"{}", NOW));
    }
}

//! How often clients may ask.

use super::section::Section;
use std::num::NonZeroU32;

/// How often clients may ask, by API key and by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests under one API key; `None`: any number.
    pub per_key: Option<Rate>,
    /// Requests from one address, whoever asks; `None`: any number.
    pub per_address: Option<Rate>,
    /// API keys from one address that are nobody's, a minute, and that many at once; `None`: any number.
    pub wrong_keys_per_minute: Option<NonZeroU32>,
    /// Whether requests from this machine itself count.
    pub loopback: bool,
}

/// So many a second, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

impl Limits {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            per_key: rate(section, "per_key_per_second", "per_key_burst"),
            per_address: rate(section, "per_address_per_second", "per_address_burst"),
            wrong_keys_per_minute: NonZeroU32::new(
                section.integer("wrong_keys_per_minute", 0..=1_000_000),
            ),
            loopback: section.boolean("loopback"),
        }
    }
}

/// A rate; none if it is 0 a second.
fn rate(section: &mut Section<'_>, per_second: &'static str, burst: &'static str) -> Option<Rate> {
    let per_second = NonZeroU32::new(section.integer(per_second, 0..=1_000_000));
    let burst = NonZeroU32::new(section.integer(burst, 1..=1_000_000));
    per_second.zip(burst).map(|(per_second, burst)| Rate { per_second, burst })
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::tests::{from_file, refuses},
        *,
    };

    /// Those of the shipped configuration.
    pub(in super::super) fn shipped() -> Limits {
        let number = |number| NonZeroU32::new(number).unwrap();
        let rate = Rate { per_second: number(5_000), burst: number(10_000) };
        Limits {
            per_key: Some(rate),
            per_address: Some(rate),
            wrong_keys_per_minute: Some(number(60)),
            loopback: false,
        }
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let limits = from_file(
            "[limits]\nper_key_per_second = 0\nper_address_per_second = 0\nwrong_keys_per_minute = 0",
        )
        .limits;
        assert_eq!((limits.per_key, limits.per_address), (None, None));
        assert_eq!(limits.wrong_keys_per_minute, None);
        assert!(from_file("").limits.per_key.is_some());
    }

    #[test]
    fn limits_are_taken_from_the_least_to_the_most_and_refused_beyond() {
        for (section, key, least, most) in [
            ("http", "head_read_timeout_ms", 10, 600_000),
            ("http", "connections_per_address", 1, 1_000_000),
            ("limits", "per_key_per_second", 0, 1_000_000),
            ("limits", "per_key_burst", 1, 1_000_000),
            ("limits", "per_address_per_second", 0, 1_000_000),
            ("limits", "per_address_burst", 1, 1_000_000),
            ("limits", "wrong_keys_per_minute", 0, 1_000_000),
        ] {
            from_file(&format!("[{section}]\n{key} = {least}\n"));
            from_file(&format!("[{section}]\n{key} = {most}\n"));
            refuses(section, key, &(least - 1).to_string());
            refuses(section, key, &(most + 1).to_string());
        }
        for (section, key, wrong) in [
            ("limits", "loopback", "1"),
            ("http", "insecure", "'yes'"),
            ("http", "trusted_proxies", "'10.0.0.1/8'"),
            ("http", "tls_cert", "1"),
        ] {
            refuses(section, key, wrong);
        }
    }
}

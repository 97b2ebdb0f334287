//! Between our amounts and Stripe's: its minor units are not always those of ISO 4217.
//!
//! Whoever writes a request or reads an object asks here. Nothing is ever rounded: what can't be said exactly is an
//! error before a call, and unreadable in an answer.
//!
//! | currencies | ISO 4217 | Stripe |
//! |---|---|---|
//! | most, HUF and TWD too (they differ for payouts only) | 2 decimals | the same |
//! | BIF CLP DJF GNF JPY KMF KRW PYG RWF VND VUV XAF XOF XPF | 0 | the same |
//! | ISK UGX | 0 | 2, always `00` |
//! | MGA | 2 | 0 |
//! | BHD JOD KWD OMR TND | 3 | 3, the last is always 0 |
//! | all others: IQD LYD, CLF UYW, UYI | 3, 4, 0 | not taken |
//!
//! Source: <https://docs.stripe.com/currencies>, "Zero-decimal currencies" and "Special cases" as of 2026 (UGX stands
//! in both; the special case is what counts for a charge), and "Three-decimal currencies" as of 2022, which the page
//! has left out since.

use crate::domain::money::Currency;

/// The largest amount in Stripe's units that is asked for: the page on currencies says twelve digits for most cards.
/// Where Stripe takes less, it says so itself.
const AMOUNT_MAX: i64 = 999_999_999_999;

/// Why an amount can't be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsupported {
    /// Stripe does not take the currency, or how it counts it is not known.
    Currency,
    /// The amount has a fraction that Stripe does not know in this currency.
    Fraction,
    /// It is more than Stripe can be asked for.
    TooLarge,
}

impl Unsupported {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Currency => "currency_not_supported",
            Self::Fraction => "amount_not_representable",
            Self::TooLarge => "amount_too_large",
        }
    }
}

/// How Stripe counts a currency, against our minor units.
enum Unit {
    Same,
    /// A hundred to one of ours.
    Hundredth,
    /// One to a hundred of ours.
    Hundred,
    /// The same, but only tens are taken.
    SameInTens,
}

fn unit(currency: Currency) -> Option<Unit> {
    match (currency.code(), currency.exponent()) {
        ("ISK" | "UGX", 0) => Some(Unit::Hundredth),
        ("MGA", 2) => Some(Unit::Hundred),
        (
            "BIF" | "CLP" | "DJF" | "GNF" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "VND" | "VUV"
            | "XAF" | "XOF" | "XPF",
            0,
        ) => Some(Unit::Same),
        ("BHD" | "JOD" | "KWD" | "OMR" | "TND", 3) => Some(Unit::SameInTens),
        (_, 2) => Some(Unit::Same),
        _ => None,
    }
}

/// Our minor units in Stripe's.
pub(super) fn to_stripe(currency: Currency, minor_units: i64) -> Result<i64, Unsupported> {
    let exact = |amount: Option<i64>| amount.ok_or(Unsupported::Fraction);
    let amount = match unit(currency).ok_or(Unsupported::Currency)? {
        Unit::Same => minor_units,
        Unit::Hundredth => minor_units.checked_mul(100).ok_or(Unsupported::TooLarge)?,
        Unit::Hundred => exact(whole(minor_units, 100))?,
        Unit::SameInTens => exact(whole(minor_units, 10).map(|_| minor_units))?,
    };
    if amount > AMOUNT_MAX { Err(Unsupported::TooLarge) } else { Ok(amount) }
}

/// Stripe's units in ours; `None` if that is no whole number, or less than nothing.
pub(super) fn from_stripe(currency: Currency, amount: i64) -> Option<i64> {
    let minor_units = match unit(currency)? {
        Unit::Same | Unit::SameInTens => Some(amount),
        Unit::Hundredth => whole(amount, 100),
        Unit::Hundred => amount.checked_mul(100),
    };
    minor_units.filter(|minor_units| *minor_units >= 0)
}

fn whole(amount: i64, by: i64) -> Option<i64> {
    if amount.checked_rem(by)? == 0 { amount.checked_div(by) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(code: &str) -> Currency {
        Currency::for_payment(code).unwrap()
    }

    #[test]
    fn stripe_counts_each_currency_in_its_own_way() {
        use Unsupported::{Currency, Fraction, TooLarge};
        for (code, ours, stripes) in [
            ("USD", 4999, Ok(4999)),
            ("USD", 999_999_999_999, Ok(999_999_999_999)),
            ("USD", 1_000_000_000_000, Err(TooLarge)),
            ("HUF", 12_345, Ok(12_345)),
            ("TWD", 80_045, Ok(80_045)),
            ("JPY", 500, Ok(500)),
            ("XAF", 1, Ok(1)),
            ("ISK", 5, Ok(500)),
            ("UGX", 5, Ok(500)),
            ("UGX", 9_999_999_999, Ok(999_999_999_900)),
            ("UGX", 10_000_000_000, Err(TooLarge)),
            ("ISK", i64::MAX, Err(TooLarge)),
            ("MGA", 500, Ok(5)),
            ("MGA", 520, Err(Fraction)),
            ("KWD", 5120, Ok(5120)),
            ("KWD", 5124, Err(Fraction)),
            ("TND", 10, Ok(10)),
            ("IQD", 1000, Err(Currency)),
            ("LYD", 1000, Err(Currency)),
            ("CLF", 10_000, Err(Currency)),
            ("UYW", 10_000, Err(Currency)),
            ("UYI", 1, Err(Currency)),
        ] {
            assert_eq!(to_stripe(currency(code), ours), stripes, "{code} {ours}");
        }
        for code in "BIF CLP DJF GNF JPY KMF KRW PYG RWF VND VUV XAF XOF XPF".split(' ') {
            assert_eq!(to_stripe(currency(code), 7), Ok(7), "{code}");
        }
    }

    #[test]
    fn an_amount_in_an_answer_is_never_rounded() {
        for (code, stripes, ours) in [
            ("EUR", 4999, Some(4999)),
            ("ISK", 500, Some(5)),
            ("ISK", 550, None),
            ("UGX", 1, None),
            ("MGA", 5, Some(500)),
            ("MGA", i64::MAX, None),
            ("OMR", 5120, Some(5120)),
            ("JPY", 0, Some(0)),
            ("JPY", -1, None),
            ("LYD", 1000, None),
        ] {
            assert_eq!(from_stripe(currency(code), stripes), ours, "{code} {stripes}");
        }
    }

    proptest! {
        #[test]
        fn what_stripe_is_asked_for_reads_back_as_what_was_meant(
            code in prop::sample::select(vec!["USD", "JPY", "ISK", "UGX", "MGA", "KWD", "HUF"]),
            ours in 1i64..200_000_000,
        ) {
            if let Ok(stripes) = to_stripe(currency(code), ours) {
                prop_assert_eq!(from_stripe(currency(code), stripes), Some(ours));
            }
        }
    }
}

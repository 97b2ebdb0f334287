//! Money: whole minor units of an ISO 4217 currency, with checked arithmetic. No fractions, no floats.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// An ISO 4217 currency that a payment can be made in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The currency with this upper-case alphabetic code, if payments can be made in it: it is on the current list and
    /// has a minor unit (so no gold, no test code `XTS`, no `XXX`).
    #[must_use]
    pub fn for_payment(code: &str) -> Option<Self> {
        let currency = Self::from_code(code)?;
        // The crate flags VES as superseded by VED; ISO 4217 lists both.
        let current = currency.0.is_superseded().is_none() || currency.code() == "VES";
        (current && currency.0.exponent().is_some()).then_some(currency)
    }

    /// The currency with this code, also one that has since been withdrawn: the books outlive currencies.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        iso_currency::Currency::from_code(code).map(Self)
    }

    /// The alphabetic code, such as `USD`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// How many decimal places the minor unit stands for: 2 for USD, 0 for JPY, 3 for KWD.
    #[must_use]
    pub fn exponent(self) -> u16 {
        self.0.exponent().unwrap_or(0)
    }

    /// Minor units as people write them, exact: 4999 is `49.99` in USD, `4999` in JPY, `4.999` in KWD.
    #[must_use]
    pub fn decimal(self, minor_units: i128) -> String {
        let places = usize::from(self.exponent());
        let sign = if minor_units < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", minor_units.unsigned_abs(), width = places + 1);
        let (whole, part) = digits.split_at(digits.len() - places);
        let point = if part.is_empty() { "" } else { "." };
        format!("{sign}{whole}{point}{part}")
    }
}

impl PartialOrd for Currency {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Currency {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.code().cmp(other.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::from_code(&code).ok_or_else(|| de::Error::custom("no ISO 4217 currency"))
    }
}

/// What a customer is asked to pay or a merchant to give back: 1 to 999,999,999,999 minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Amount(i64);

impl Amount {
    /// The largest amount of one payment.
    pub const MAX: i64 = 999_999_999_999;

    /// An amount from minor units; `None` unless it lies in 1..=[`Amount::MAX`].
    #[must_use]
    pub fn new(minor_units: i64) -> Option<Self> {
        (1..=Self::MAX).contains(&minor_units).then_some(Self(minor_units))
    }

    /// Minor units, at least 1.
    #[must_use]
    pub fn minor_units(self) -> i64 {
        self.0
    }

    /// What is left after taking `other`; `None` when nothing or less is left.
    #[must_use]
    pub fn less(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(Self::new)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let minor_units = i64::deserialize(deserializer)?;
        Self::new(minor_units).ok_or_else(|| de::Error::custom("amount out of range"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_those_of_iso_4217() {
        for (code, exponent) in
            [("USD", 2), ("EUR", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("BHD", 3), ("CLF", 4)]
        {
            assert_eq!(
                Currency::for_payment(code).map(Currency::exponent),
                Some(exponent),
                "{code}"
            );
        }
    }

    #[test]
    fn a_decimal_has_the_places_of_its_currency_and_loses_nothing() {
        for (code, minor_units, decimal) in [
            ("USD", 4999, "49.99"),
            ("USD", -5, "-0.05"),
            ("USD", 0, "0.00"),
            ("JPY", -500, "-500"),
            ("JPY", 0, "0"),
            ("KWD", 1, "0.001"),
            ("KWD", -12_345, "-12.345"),
            ("CLF", 10_000, "1.0000"),
            ("EUR", i128::MIN, "-1701411834604692317316873037158841057.28"),
        ] {
            let currency = Currency::for_payment(code).unwrap();
            assert_eq!(currency.decimal(minor_units), decimal);
        }
    }

    #[test]
    fn only_current_currencies_with_a_minor_unit_take_payments() {
        for code in ["usd", "US", "USDX", "XAU", "XXX", "XTS", "BGN", "HRK", "ABC", ""] {
            assert_eq!(Currency::for_payment(code), None, "{code}");
        }
        assert!(Currency::for_payment("VES").is_some());
        assert!(Currency::from_code("BGN").is_some(), "old books stay readable");
        assert_eq!(Currency::from_code("bgn"), None);
    }

    #[test]
    fn currencies_are_in_the_order_of_their_codes() {
        let [eur, usd] = ["EUR", "USD"].map(|code| Currency::for_payment(code).unwrap());
        assert_eq!(eur.partial_cmp(&usd), Some(std::cmp::Ordering::Less));
        assert_eq!(eur.cmp(&usd), std::cmp::Ordering::Less);
        assert_eq!((eur.to_string(), format!("{usd:?}")), ("EUR".into(), "USD".into()));
    }

    #[test]
    fn an_amount_is_never_zero_negative_or_too_large() {
        assert_eq!(Amount::new(0), None);
        assert_eq!(Amount::new(-1), None);
        assert_eq!(Amount::new(Amount::MAX + 1), None);
        assert_eq!(Amount::new(Amount::MAX).map(Amount::minor_units), Some(Amount::MAX));
        let (five, three) = (Amount::new(5).unwrap(), Amount::new(3).unwrap());
        assert_eq!(five.less(three), Amount::new(2));
        assert_eq!(five.less(five), None);
        assert_eq!(five.to_string(), "5");
        assert_eq!(three.less(five), None);
    }
}

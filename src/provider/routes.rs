//! Which providers there are, and which of them a payment goes to.

use super::Line;
use crate::domain::{
    access::{self, Mode},
    event::Details,
    money::Currency,
};
use std::{collections::BTreeMap, sync::Arc};

/// Which payments go to which providers. Every condition given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Of live payments, or of those that only try things out.
    pub mode: Mode,
    /// Only this merchant's, by its name outside.
    pub merchant: Option<Arc<str>>,
    /// Only in this currency.
    pub currency: Option<Currency>,
    /// Only from this many minor units on.
    pub amount_min: Option<i64>,
    /// Only up to this many minor units.
    pub amount_max: Option<i64>,
    /// The providers, in the order in which they are tried; one or more.
    pub providers: Vec<Arc<str>>,
}

impl Rule {
    fn admits(&self, details: &Details) -> bool {
        let amount = details.amount.minor_units();
        let merchant = access::name_outside(&details.merchant);
        let is_test = access::is_test(&details.merchant);
        (self.mode == Mode::Test) == is_test
            && self.merchant.as_ref().is_none_or(|own| **own == *merchant)
            && self.currency.is_none_or(|currency| currency == details.currency)
            && self.amount_min.is_none_or(|least| least <= amount)
            && self.amount_max.is_none_or(|most| amount <= most)
    }
}

/// The rules, of which the first that admits a payment decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// In order.
    pub rules: Vec<Rule>,
    /// Who gets what no rule admits.
    pub otherwise: Arc<str>,
}

impl Routes {
    /// The providers that a payment may go to, in the order in which they are tried; never empty.
    #[must_use]
    pub fn of(&self, details: &Details) -> &[Arc<str>] {
        let rule = self.rules.iter().find(|rule| rule.admits(details));
        rule.map_or(std::slice::from_ref(&self.otherwise), |rule| &rule.providers)
    }
}

/// How payments reach their providers.
pub struct Lines {
    by_name: BTreeMap<Arc<str>, Arc<Line>>,
    routes: Routes,
}

impl Lines {
    /// The lines to these providers, under their names.
    #[must_use]
    pub fn new(by_name: BTreeMap<Arc<str>, Arc<Line>>, routes: Routes) -> Self {
        Self { by_name, routes }
    }

    /// The line to a provider; `None` if none of this name is configured any more.
    #[must_use]
    pub fn to(&self, provider: &str) -> Option<&Arc<Line>> {
        self.by_name.get(provider)
    }

    /// The providers that a payment may go to, in the order in which they are tried.
    #[must_use]
    pub fn route(&self, details: &Details) -> &[Arc<str>] {
        self.routes.of(details)
    }

    /// Every line under its provider's name.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Line>)> {
        self.by_name.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{event::CaptureMode, id::PaymentId, money::Amount};
    use uuid::Uuid;

    fn payment(merchant: &str, currency: &str, amount: i64) -> Details {
        Details {
            id: PaymentId::new(Uuid::from_u128(1)),
            merchant: merchant.into(),
            amount: Amount::new(amount).unwrap(),
            currency: Currency::for_payment(currency).unwrap(),
            capture: CaptureMode::Automatic,
            payment_method: "pm".into(),
            customer: None,
            description: None,
            metadata: Box::default(),
            provider: "".into(),
            hold_ms: 1,
        }
    }

    #[test]
    fn the_first_rule_that_admits_a_payment_decides_and_what_none_admits_goes_elsewhere() {
        let to = |providers: &[&str]| providers.iter().map(|name| Arc::from(*name)).collect();
        let eur = Currency::for_payment("EUR");
        let routes = Routes {
            rules: vec![
                Rule {
                    merchant: Some("a".into()),
                    currency: eur,
                    providers: to(&["x"]),
                    ..Rule::default()
                },
                Rule {
                    amount_min: Some(100),
                    amount_max: Some(200),
                    providers: to(&["y", "x"]),
                    ..Rule::default()
                },
                Rule { merchant: Some("a".into()), providers: to(&["z"]), ..Rule::default() },
                Rule { mode: Mode::Test, providers: to(&["t"]), ..Rule::default() },
            ],
            otherwise: "sandbox".into(),
        };
        for (merchant, currency, amount, expected) in [
            ("a", "EUR", 150, "x"),
            ("a", "USD", 150, "y x"),
            ("b", "EUR", 100, "y x"),
            ("b", "EUR", 200, "y x"),
            ("a", "USD", 99, "z"),
            ("b", "USD", 99, "sandbox"),
            ("b", "USD", 201, "sandbox"),
            ("a~test", "EUR", 150, "t"),
        ] {
            let found = routes.of(&payment(merchant, currency, amount)).join(" ");
            assert_eq!(found, expected, "{merchant} {currency} {amount}");
        }
    }
}

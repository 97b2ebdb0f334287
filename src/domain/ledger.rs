//! Double entry: what each event of a payment books, and what the accounts add up to.
//!
//! A [`Transaction`] has two legs or more that sum to zero, in both columns: *posted* money has moved, *pending* money
//! is held for a move that a later transaction posts or drops (two-phase transfer). Credit is positive, debit negative,
//! as in a balance that is owed to the account's holder.
//!
//! | event | customer posted | customer pending | merchant posted | merchant pending |
//! |---|---|---|---|---|
//! | charge | −amount | | +amount | |
//! | authorization | | −amount | | +amount |
//! | capture of c, releasing r | −c | +(c+r) | +c | −(c+r) |
//! | void, expiry | | +amount | | −amount |
//! | refund | +amount | | −amount | |

use super::{
    event::{CaptureMode, Details, Event, Outcome},
    id::PaymentId,
    money::Currency,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Whose money an account holds. Written into the journal: only append variants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Account {
    /// `customer:{payment id}`: the customer of one payment that names none.
    PaymentCustomer(PaymentId),
    /// `customer:{customerId}`: a customer that the merchant named. Two merchants' customers of one name are two accounts.
    Customer {
        /// Whose customer.
        merchant: Arc<str>,
        /// The merchant's name for it.
        customer: Arc<str>,
    },
    /// `merchant:{merchantId}`.
    Merchant(Arc<str>),
}

impl Account {
    /// The customer's account of this payment.
    #[must_use]
    pub fn customer_of(details: &Details) -> Self {
        match &details.customer {
            Some(customer) => {
                Self::Customer { merchant: details.merchant.clone(), customer: customer.clone() }
            }
            None => Self::PaymentCustomer(details.id),
        }
    }

    /// What kind of holder, as in the trial balance.
    #[must_use]
    pub fn kind(&self) -> AccountKind {
        match self {
            Self::PaymentCustomer(_) | Self::Customer { .. } => AccountKind::Customer,
            Self::Merchant(_) => AccountKind::Merchant,
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PaymentCustomer(id) => write!(f, "customer:{id}"),
            Self::Customer { customer, .. } => write!(f, "customer:{customer}"),
            Self::Merchant(merchant) => write!(f, "merchant:{merchant}"),
        }
    }
}

/// The kinds of account holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountKind {
    /// Those who pay.
    Customer,
    /// Those who are paid.
    Merchant,
}

impl AccountKind {
    /// The part of an account's name before the colon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Merchant => "merchant",
        }
    }
}

/// A balanced movement of money, immutable; a mistake is undone by a further one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Of every leg.
    pub currency: Currency,
    /// Two or more.
    pub legs: Vec<Leg>,
}

/// One side of a transaction, in minor units: credit positive, debit negative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Whose account.
    pub account: Account,
    /// Money that moved.
    pub posted: i64,
    /// Money held (or, with the sign reversed, no longer held) for a later move.
    pub pending: i64,
}

impl Transaction {
    /// Whether both columns sum to zero over at least two legs.
    #[must_use]
    pub fn balances(&self) -> bool {
        let sum = |column: fn(&Leg) -> i64| {
            self.legs.iter().try_fold(0i64, |sum, leg| sum.checked_add(column(leg)))
        };
        self.legs.len() >= 2
            && sum(|leg| leg.posted) == Some(0)
            && sum(|leg| leg.pending) == Some(0)
    }
}

/// What `event` books for the payment of `details`; `None` if it moves and holds nothing.
#[must_use]
pub fn transaction(details: &Details, event: &Event) -> Option<Transaction> {
    let (posted, pending) = match event {
        Event::Submitted { outcome: Some(Outcome::Approved { .. }), .. }
        | Event::Settled(Outcome::Approved { .. }) => match details.capture {
            CaptureMode::Automatic => (details.amount.minor_units(), 0),
            CaptureMode::Manual => (0, details.amount.minor_units()),
        },
        Event::Submitted { outcome: None | Some(Outcome::Declined(_)), .. }
        | Event::Settled(Outcome::Declined(_)) => return None,
        Event::Captured { amount, released } => {
            (amount.minor_units(), -(amount.minor_units() + released))
        }
        Event::Voided | Event::Expired => (0, -details.amount.minor_units()),
        Event::Refunded { amount, .. } => (-amount.minor_units(), 0),
    };
    let customer =
        Leg { account: Account::customer_of(details), posted: -posted, pending: -pending };
    let merchant = Leg { account: Account::Merchant(details.merchant.clone()), posted, pending };
    Some(Transaction { currency: details.currency, legs: vec![customer, merchant] })
}

/// An account's standing in one currency, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// All that has moved.
    pub posted: i128,
    /// All that is held for later moves.
    pub pending: i128,
}

impl Balance {
    /// Adds one leg.
    pub fn add(&mut self, leg: &Leg) {
        self.posted += i128::from(leg.posted);
        self.pending += i128::from(leg.pending);
    }
}

/// Balances by currency, in the order of the codes.
pub type Balances = BTreeMap<Currency, Balance>;

/// All debits and all credits ever posted in one currency, in minor units, both positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// The sum of the negative legs, as a positive number.
    pub debits: i128,
    /// The sum of the positive legs.
    pub credits: i128,
}

impl Turnover {
    /// Adds one leg.
    pub fn add(&mut self, leg: &Leg) {
        if leg.posted < 0 {
            self.debits -= i128::from(leg.posted);
        } else {
            self.credits += i128::from(leg.posted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(posted: i64, pending: i64) -> Leg {
        Leg { account: Account::Merchant("m".into()), posted, pending }
    }

    #[test]
    fn only_two_or_more_legs_that_sum_to_zero_balance() {
        let balances = |legs: &[Leg]| {
            let currency = Currency::for_payment("USD").unwrap();
            Transaction { currency, legs: legs.to_vec() }.balances()
        };
        assert!(balances(&[leg(5, 0), leg(-5, 0)]));
        assert!(balances(&[leg(5, -7), leg(-2, 3), leg(-3, 4)]));
        assert!(!balances(&[]));
        assert!(!balances(&[leg(0, 0)]));
        assert!(!balances(&[leg(5, 0), leg(-4, 0)]));
        assert!(!balances(&[leg(5, 1), leg(-5, 0)]));
        assert!(!balances(&[leg(i64::MAX, 0), leg(i64::MAX, 0), leg(2, 0)]), "no wrap to zero");
    }
}

//! Double entry: what each event of a payment books, and what the accounts add up to.
//!
//! A [`Transaction`] has two legs or more that sum to zero, in both columns: *posted* money has moved, *pending* money
//! is held for a move that a later transaction posts or drops (two-phase transfer). Credit is positive, debit negative,
//! as in a balance that is owed to the account's holder.
//!
//! What moves for each action, by how its attempt stands; an event books the difference between before and after:
//!
//! | action | customer posted | customer pending | merchant posted | merchant pending | in doubt pending |
//! |---|---|---|---|---|---|
//! | charge: succeeded | −amount | | +amount | | |
//! | charge, authorization: out | | −amount | | | +amount |
//! | authorization: succeeded | | −amount | | +amount | |
//! | capture, void, expiry: out | | | | −hold | +hold |
//! | capture of c, releasing r: succeeded | −c | +(c+r) | +c | −(c+r) | |
//! | void, expiry: succeeded | | +hold | | −hold | |
//! | refund: out | | | | −amount | +amount |
//! | refund: succeeded | +amount | | −amount | | |
//! | any of them: failed | | | | | |
//!
//! So what nobody knows the outcome of stands on the account of the provider that would know (`in_doubt:{provider}`),
//! in the pending column, and only evidence moves it from there.

use super::{
    event::{Action, Ask, CaptureMode, Details, Event, Outcome, Standing},
    id::PaymentId,
    money::Currency,
};
use litemap::LiteMap;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

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
    /// `in_doubt:{provider}`: what that provider was asked to move and nobody knows yet whether it did.
    InDoubt(Arc<str>),
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
            Self::InDoubt(_) => AccountKind::InDoubt,
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PaymentCustomer(id) => write!(f, "customer:{id}"),
            Self::Customer { customer, .. } => write!(f, "customer:{customer}"),
            Self::Merchant(merchant) => write!(f, "merchant:{merchant}"),
            Self::InDoubt(provider) => write!(f, "in_doubt:{provider}"),
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
    /// Providers whose answers are out.
    InDoubt,
}

impl AccountKind {
    /// The part of an account's name before the colon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Merchant => "merchant",
            Self::InDoubt => "in_doubt",
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
    let succeeds = |action| effect(details, action, Standing::Succeeded);
    match event {
        Event::Submitted { outcome: Some(Outcome::Approved { .. }), .. }
        | Event::Settled(Outcome::Approved { .. }) => {
            booked(details, succeeds(Action::Authorize), &[])
        }
        // In journals of old, what was out stood nowhere in the ledger.
        Event::Submitted { .. } | Event::Settled(_) | Event::Noted(_) => None,
        Event::Captured { amount, released } => {
            let capture = Action::Capture { amount: *amount, released: *released };
            booked(details, succeeds(capture), &[])
        }
        Event::Voided | Event::Expired => booked(details, succeeds(Action::Void), &[]),
        Event::Refunded { amount, .. } => {
            booked(details, succeeds(Action::Refund { amount: *amount }), &[])
        }
        Event::Initiated(details) => {
            let out = effect(details, Action::Authorize, Standing::Out);
            booked(details, out, &[(&details.provider, out.in_doubt)])
        }
        Event::Asked { ask, .. } => {
            let out = effect(details, ask.action, Standing::Out);
            booked(details, out, &[(&ask.provider, out.in_doubt)])
        }
        Event::Answered(answered) => {
            let moved = change(details, &answered.ask, answered.was, answered.outcome.standing());
            booked(details, moved, &[(&answered.ask.provider, moved.in_doubt)])
        }
        Event::Rerouted { answered, next } => {
            let failed = change(details, &answered.ask, answered.was, Standing::Failed);
            let out = effect(details, Action::Authorize, Standing::Out);
            let doubts = [(&answered.ask.provider, failed.in_doubt), (next, out.in_doubt)];
            booked(details, failed.plus(out), &doubts)
        }
    }
}

/// What an action moves, in minor units. All of it comes from the customer or goes back there.
#[derive(Clone, Copy, Default)]
struct Effect {
    /// The merchant's posted and pending.
    merchant: (i64, i64),
    /// Pending on the provider's account.
    in_doubt: i64,
}

impl Effect {
    fn plus(self, other: Self) -> Self {
        let sum = |a: (i64, i64), b: (i64, i64)| (a.0 + b.0, a.1 + b.1);
        Self {
            merchant: sum(self.merchant, other.merchant),
            in_doubt: self.in_doubt + other.in_doubt,
        }
    }

    fn undone(self) -> Self {
        let negative = |a: (i64, i64)| (-a.0, -a.1);
        Self { merchant: negative(self.merchant), in_doubt: -self.in_doubt }
    }
}

/// The module's table.
fn effect(details: &Details, action: Action, standing: Standing) -> Effect {
    let amount = details.amount.minor_units();
    let (merchant, in_doubt) = match (action, standing) {
        (_, Standing::Failed) => ((0, 0), 0),
        (Action::Authorize, Standing::Out) => ((0, 0), amount),
        (Action::Authorize, Standing::Succeeded) => match details.capture {
            CaptureMode::Automatic => ((amount, 0), 0),
            CaptureMode::Manual => ((0, amount), 0),
        },
        (Action::Capture { .. } | Action::Void | Action::Expire, Standing::Out) => {
            ((0, -amount), amount)
        }
        (Action::Capture { amount: taken, released }, Standing::Succeeded) => {
            let taken = taken.minor_units();
            ((taken, -(taken + released)), 0)
        }
        (Action::Void | Action::Expire, Standing::Succeeded) => ((0, -amount), 0),
        (Action::Refund { amount: given }, Standing::Out) => {
            ((0, -given.minor_units()), given.minor_units())
        }
        (Action::Refund { amount: given }, Standing::Succeeded) => ((-given.minor_units(), 0), 0),
    };
    Effect { merchant, in_doubt }
}

/// What moves when an attempt that stood so stands otherwise.
fn change(details: &Details, ask: &Ask, was: Standing, is: Standing) -> Effect {
    effect(details, ask.action, was).undone().plus(effect(details, ask.action, is))
}

/// The transaction of what moved, with what moved on each provider's account.
fn booked(details: &Details, moved: Effect, in_doubt: &[(&Arc<str>, i64)]) -> Option<Transaction> {
    let leg = |account, (posted, pending)| Leg { account, posted, pending };
    let (posted, pending) = moved.merchant;
    let customer = leg(Account::customer_of(details), (-posted, -(pending + moved.in_doubt)));
    let merchant = leg(Account::Merchant(details.merchant.clone()), moved.merchant);
    let doubts = in_doubt
        .iter()
        .map(|(provider, pending)| leg(Account::InDoubt((*provider).clone()), (0, *pending)));
    let legs: Vec<Leg> = [customer, merchant]
        .into_iter()
        .chain(doubts)
        .filter(|leg| leg.posted != 0 || leg.pending != 0)
        .collect();
    (!legs.is_empty()).then_some(Transaction { currency: details.currency, legs })
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
pub type Balances = LiteMap<Currency, Balance>;

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
    use crate::domain::{
        event::{Answered, Decline, Evidence},
        money::Amount,
    };
    use uuid::Uuid;

    fn details(capture: CaptureMode) -> Arc<Details> {
        Arc::new(Details {
            id: PaymentId::new(Uuid::from_u128(1)),
            merchant: "m".into(),
            amount: Amount::new(100).unwrap(),
            currency: Currency::for_payment("JPY").unwrap(),
            capture,
            payment_method: "tok_visa".into(),
            customer: None,
            description: None,
            metadata: Box::default(),
            provider: "p".into(),
            hold_ms: 1,
        })
    }

    /// What an event of a payment of 100 books: posted and pending of the customer and of the merchant, and what is
    /// pending on the accounts of the providers `p` and `q`.
    fn booked_by(capture: CaptureMode, event: &Event) -> [(i64, i64); 4] {
        let details = details(capture);
        let legs = transaction(&details, event).map_or_else(Vec::new, |it| it.legs);
        let accounts = [
            Account::PaymentCustomer(details.id),
            Account::Merchant("m".into()),
            Account::InDoubt("p".into()),
            Account::InDoubt("q".into()),
        ];
        assert!(legs.iter().all(|leg| accounts.contains(&leg.account)), "{legs:?}");
        accounts.map(|account| {
            let own = legs.iter().find(|leg| leg.account == account);
            own.map_or((0, 0), |leg| (leg.posted, leg.pending))
        })
    }

    #[test]
    fn a_step_of_a_payment_books_what_the_table_says() {
        let (auto, manual) = (CaptureMode::Automatic, CaptureMode::Manual);
        let amount = |units| Amount::new(units).unwrap();
        let yes = || Outcome::Approved { reference: "r".into() };
        let charge = |outcome| Event::Submitted { details: details(auto), outcome };
        let nothing = [(0, 0); 4];
        for (capture, event, moves) in [
            (auto, charge(Some(yes())), [(-100, 0), (100, 0), (0, 0), (0, 0)]),
            (auto, charge(Some(Outcome::Declined(Decline::CardDeclined))), nothing),
            (auto, charge(None), nothing),
            (manual, Event::Settled(yes()), [(0, -100), (0, 100), (0, 0), (0, 0)]),
            (
                manual,
                Event::Captured { amount: amount(60), released: 40 },
                [(-60, 100), (60, -100), (0, 0), (0, 0)],
            ),
            (manual, Event::Voided, [(0, 100), (0, -100), (0, 0), (0, 0)]),
            (manual, Event::Expired, [(0, 100), (0, -100), (0, 0), (0, 0)]),
            (
                auto,
                Event::Refunded { amount: amount(30), reason: None },
                [(30, 0), (-30, 0), (0, 0), (0, 0)],
            ),
            (auto, Event::Initiated(details(auto)), [(0, -100), (0, 0), (0, 100), (0, 0)]),
        ] {
            assert_eq!(booked_by(capture, &event), moves, "{event:?}");
        }
    }

    #[test]
    fn an_attempt_books_the_difference_between_how_it_stood_and_how_it_stands() {
        let (yes, no) = (
            Outcome::Approved { reference: "r".into() },
            Outcome::Declined(Decline::ProcessingError),
        );
        let ask = |action| Ask { provider: "p".into(), action };
        let asked = |action| Event::Asked { ask: Box::new(ask(action)), reason: None };
        let answered = |action, was, outcome: &Outcome| Answered {
            attempt: 1,
            ask: ask(action),
            was,
            outcome: outcome.clone(),
            evidence: Evidence::Reply,
        };
        let told = |action, was, outcome| Event::Answered(Box::new(answered(action, was, outcome)));
        let capture = Action::Capture { amount: Amount::new(60).unwrap(), released: 40 };
        let refund = Action::Refund { amount: Amount::new(30).unwrap() };
        let (out, done) = (Standing::Out, Standing::Succeeded);
        for (event, moves) in [
            (asked(capture), [(0, 0), (0, -100), (0, 100)]),
            (told(capture, out, &yes), [(-60, 100), (60, 0), (0, -100)]),
            (told(capture, out, &no), [(0, 0), (0, 100), (0, -100)]),
            (asked(Action::Void), [(0, 0), (0, -100), (0, 100)]),
            (told(Action::Void, out, &yes), [(0, 100), (0, 0), (0, -100)]),
            (asked(refund), [(0, 0), (0, -30), (0, 30)]),
            (told(refund, out, &yes), [(30, 0), (-30, 30), (0, -30)]),
            (told(refund, done, &no), [(-30, 0), (30, 0), (0, 0)]),
            (told(Action::Authorize, out, &yes), [(0, 0), (0, 100), (0, -100)]),
        ] {
            assert_eq!(booked_by(CaptureMode::Manual, &event)[..3], moves, "{event:?}");
        }
        let answered = Box::new(answered(Action::Authorize, out, &no));
        let rerouted = Event::Rerouted { answered, next: "q".into() };
        let moves = [(0, 0), (0, 0), (0, -100), (0, 100)];
        assert_eq!(booked_by(CaptureMode::Manual, &rerouted), moves);
    }

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

    #[test]
    fn an_accounts_name_begins_with_its_kind() {
        for (account, kind, name) in [
            (Account::Merchant("m".into()), "merchant", "m"),
            (Account::InDoubt("p".into()), "in_doubt", "p"),
            (Account::Customer { merchant: "m".into(), customer: "c".into() }, "customer", "c"),
        ] {
            assert_eq!(account.to_string(), format!("{kind}:{name}"));
            assert_eq!(account.kind().name(), kind);
        }
    }
}

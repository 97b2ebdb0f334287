//! The ledger's accounts: running balances, and for each account the list of payment steps that moved it.
//!
//! An account's entries are not stored: each is computed again from the step that booked it. The account of a payment's
//! own customer, of which there is one per payment, has no book at all: its whole story is the payment's history.

use super::{
    growing::{Index, Rows},
    payments::{History, Payments, Slot, Step, index},
};
use crate::domain::{
    access::is_test,
    id::{DerivedId, Kind, PaymentId, Sequence},
    ledger::{self, Account, AccountKind, Balance, Balances, Leg, Transaction, Turnover},
    money::Currency,
    time::Timestamp,
};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// How many steps lie between two remembered balances: the most that a look at the past has to add up.
const STEPS_PER_CHECKPOINT: usize = 1024;

/// A moment in the past of the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All there is.
    Now,
    /// Up to and with this entry.
    Sequence(Sequence),
    /// Up to and with this time.
    Time(Timestamp),
}

impl Cut {
    /// Whether the step had happened by then.
    #[must_use]
    pub fn includes(self, step: &Step) -> bool {
        match self {
            Self::Now => true,
            Self::Sequence(last) => step.sequence <= last,
            Self::Time(last) => step.at <= last,
        }
    }
}

/// One leg of a transaction that moved money, as the account's holder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `ent_…`
    pub id: DerivedId,
    /// `txn_…`
    pub transaction: DerivedId,
    /// The payment that booked it.
    pub payment: PaymentId,
    /// Whose account.
    pub account: Account,
    /// Credit positive, debit negative, in minor units; never 0.
    pub amount: i64,
    /// Of the amount.
    pub currency: Currency,
    /// When.
    pub at: Timestamp,
    /// The journal entry.
    pub sequence: Sequence,
}

/// The sum over all accounts of a kind in one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindTotal {
    /// What they hold together.
    pub balance: Balance,
    /// How many there are.
    pub accounts: u64,
}

/// An account that many payments move.
#[derive(Clone, Debug)]
pub struct AccountBook {
    /// Whose.
    pub account: Account,
    balances: Balances,
    steps: Rows<(Slot, u32)>,
    /// The balances before step 1 × [`STEPS_PER_CHECKPOINT`], 2 × …, and so on.
    checkpoints: Vec<Balances>,
}

impl AccountBook {
    /// What it holds now.
    #[must_use]
    pub fn balances(&self) -> &Balances {
        &self.balances
    }
}

#[derive(Default)]
pub(super) struct Accounts {
    books: Rows<AccountBook>,
    by_account: Index<u32>,
    hasher: RandomState,
    totals: BTreeMap<(AccountKind, Currency), KindTotal>,
    turnover: BTreeMap<Currency, Turnover>,
}

impl Accounts {
    pub(super) fn totals(&self) -> &BTreeMap<(AccountKind, Currency), KindTotal> {
        &self.totals
    }

    pub(super) fn turnover(&self) -> &BTreeMap<Currency, Turnover> {
        &self.turnover
    }

    pub(super) fn iter_from(&self, from: usize) -> impl Iterator<Item = &AccountBook> {
        self.books.range(from..self.books.len())
    }

    pub(super) fn find(&self, account: &Account) -> Option<&AccountBook> {
        let same = |number: &u32| {
            self.books.get(index(*number)).is_some_and(|book| book.account == *account)
        };
        let number = self.by_account.find(self.hasher.hash_one(account), same)?;
        self.books.get(index(*number))
    }

    /// Books a transaction that step `number` of the payment in `slot` made.
    pub(super) fn post(
        &mut self,
        payments: &Payments,
        slot: Slot,
        number: u32,
        transaction: &Transaction,
    ) {
        let currency = transaction.currency;
        for leg in &transaction.legs {
            let is_new = match &leg.account {
                Account::PaymentCustomer(_) => is_first_transaction(payments, slot, number),
                Account::Customer { .. } | Account::Merchant(_) | Account::InDoubt(_) => {
                    self.post_to_book(leg, currency, (slot, number))
                }
            };
            let total = self.totals.entry((leg.account.kind(), currency)).or_default();
            total.balance.add(leg);
            total.accounts += u64::from(is_new);
            self.turnover.entry(currency).or_default().add(leg);
        }
    }

    /// Returns whether the account had never been used in this currency.
    fn post_to_book(&mut self, leg: &Leg, currency: Currency, step: (Slot, u32)) -> bool {
        let Some(book) = self.book_of(&leg.account) else {
            return false;
        };
        if book.steps.last() != Some(&step) {
            if book.steps.len() > 0 && book.steps.len().is_multiple_of(STEPS_PER_CHECKPOINT) {
                book.checkpoints.push(book.balances.clone());
            }
            book.steps.push(step);
        }
        let is_new = !book.balances.contains_key(&currency);
        book.balances.entry(currency).or_default().add(leg);
        is_new
    }

    fn book_of(&mut self, account: &Account) -> Option<&mut AccountBook> {
        let Self { books, by_account, hasher, .. } = self;
        let hash = hasher.hash_one(account);
        let same =
            |number: &u32| books.get(index(*number)).is_some_and(|book| book.account == *account);
        let number = match by_account.find(hash, same) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(books.len()).ok()?;
                books.push(AccountBook {
                    account: account.clone(),
                    balances: Balances::with_capacity(1),
                    steps: Rows::default(),
                    checkpoints: Vec::new(),
                });
                by_account.insert(hash, number, |_| false);
                number
            }
        };
        books.get_mut(index(number))
    }

    /// See [`super::Books::accounts_named`].
    pub(super) fn named(
        &self,
        payments: &Payments,
        name: &str,
        merchant: Option<&str>,
    ) -> Vec<Account> {
        match name.split_once(':') {
            Some(("merchant", id)) if merchant.is_none_or(|merchant| merchant == id) => {
                let account = Account::Merchant(id.into());
                self.find(&account).map(|_| account).into_iter().collect()
            }
            Some(("in_doubt", provider)) if merchant.is_none() => {
                let account = Account::InDoubt(provider.into());
                self.find(&account).map(|_| account).into_iter().collect()
            }
            Some(("customer", id)) => match PaymentId::parse(id) {
                Some(payment) => payments
                    .find(payment)
                    .filter(|h| merchant.is_none_or(|merchant| merchant == &*h.details.merchant))
                    .map(|history| Account::customer_of(&history.details))
                    .filter(|account| *account == Account::PaymentCustomer(payment))
                    .into_iter()
                    .collect(),
                None => self.customers_named(payments, id, merchant),
            },
            _ => Vec::new(),
        }
    }

    fn customers_named(
        &self,
        payments: &Payments,
        customer: &str,
        merchant: Option<&str>,
    ) -> Vec<Account> {
        let merchants: Vec<Arc<str>> = match merchant {
            Some(merchant) => vec![merchant.into()],
            // What was only tried out is in no sum of what was not.
            None => payments.merchants().filter(|merchant| !is_test(merchant)).cloned().collect(),
        };
        merchants
            .into_iter()
            .map(|merchant| Account::Customer { merchant, customer: customer.into() })
            .filter(|account| self.find(account).is_some())
            .collect()
    }

    /// See [`super::Books::balances`].
    pub(super) fn balances(&self, payments: &Payments, account: &Account, cut: Cut) -> Balances {
        if let Account::PaymentCustomer(id) = account {
            let steps =
                payments.find(*id).into_iter().flat_map(|h| h.steps().iter().map(move |s| (h, s)));
            return add_up(Balances::new(), account, steps.take_while(|(_, s)| cut.includes(s)));
        }
        let Some(book) = self.find(account) else {
            return Balances::new();
        };
        if cut == Cut::Now {
            return book.balances.clone();
        }
        let end = end_of(payments, book, cut);
        let checkpoint = (end / STEPS_PER_CHECKPOINT).min(book.checkpoints.len());
        let start = checkpoint * STEPS_PER_CHECKPOINT;
        let before = checkpoint.checked_sub(1).and_then(|last| book.checkpoints.get(last));
        let steps = book.steps.range(start..end);
        let steps = steps.filter_map(|(slot, number)| payments.step(*slot, *number));
        add_up(before.cloned().unwrap_or_default(), account, steps)
    }

    /// What the running balances of `book` were as of entry `through`: today's, less all that came later.
    pub(super) fn running(payments: &Payments, book: &AccountBook, through: Sequence) -> Balances {
        let mut balances = book.balances.clone();
        let newest_first = book.steps.iter().rev();
        let later = newest_first
            .filter_map(|(slot, number)| payments.step(*slot, *number))
            .take_while(|(_, step)| step.sequence > through);
        for (history, step) in later {
            if let Some(mut transaction) = ledger::transaction(&history.details, &step.event) {
                for leg in transaction.legs.iter_mut().filter(|leg| leg.account == book.account) {
                    (leg.posted, leg.pending) = (-leg.posted, -leg.pending);
                    balances.entry(transaction.currency).or_default().add(leg);
                }
            }
        }
        balances
    }

    /// Changes a balance behind the books' back.
    #[cfg(any(test, feature = "fault-injection"))]
    pub(super) fn corrupt(&mut self, account: &Account, currency: Currency, by: i128) {
        if let Some(book) = self.book_of(account) {
            book.balances.entry(currency).or_default().posted += by;
        }
    }

    /// See [`super::Books::lines`].
    pub(super) fn lines<'a>(
        &'a self,
        payments: &'a Payments,
        account: &'a Account,
        cut: Cut,
        before: Option<(Sequence, u8)>,
    ) -> impl Iterator<Item = Line> + 'a {
        let own = match account {
            Account::PaymentCustomer(id) => payments.find(*id),
            Account::Customer { .. } | Account::Merchant(_) | Account::InDoubt(_) => None,
        };
        let own = own.into_iter().flat_map(|h| h.steps().iter().rev().map(move |s| (h, s)));
        let book = self.find(account).into_iter().flat_map(move |book| {
            let shown = before.map_or(Cut::Now, |(sequence, _)| Cut::Sequence(sequence));
            let end = end_of(payments, book, cut).min(end_of(payments, book, shown));
            let newest_first = book.steps.range(0..end).rev();
            newest_first.filter_map(|(slot, number)| payments.step(*slot, *number))
        });
        own.chain(book)
            .filter(move |(_, step)| cut.includes(step))
            .flat_map(|(history, step)| lines_of(history, step, account).into_iter().rev())
            .filter(move |line| before.is_none_or(|end| (line.sequence, line.id.index) < end))
    }
}

/// How many of the book's steps lie within the cut.
fn end_of(payments: &Payments, book: &AccountBook, cut: Cut) -> usize {
    book.steps.partition_point(|(slot, number)| {
        payments.step(*slot, *number).is_some_and(|(_, step)| cut.includes(step))
    })
}

fn is_first_transaction(payments: &Payments, slot: Slot, number: u32) -> bool {
    payments.get(slot).is_some_and(|history| {
        let earlier = history.steps().iter().take(index(number));
        !earlier
            .into_iter()
            .any(|step| ledger::transaction(&history.details, &step.event).is_some())
    })
}

fn add_up<'a>(
    mut balances: Balances,
    account: &Account,
    steps: impl Iterator<Item = (&'a History, &'a Step)>,
) -> Balances {
    for (history, step) in steps {
        if let Some(transaction) = ledger::transaction(&history.details, &step.event) {
            for leg in transaction.legs.iter().filter(|leg| leg.account == *account) {
                balances.entry(transaction.currency).or_default().add(leg);
            }
        }
    }
    balances
}

fn lines_of(history: &History, step: &Step, account: &Account) -> Vec<Line> {
    let Some(transaction) = ledger::transaction(&history.details, &step.event) else {
        return Vec::new();
    };
    let transaction_id = DerivedId::new(Kind::Transaction, step.at, step.sequence);
    (0u8..)
        .zip(transaction.legs)
        .filter(|(_, leg)| leg.account == *account && leg.posted != 0)
        .map(|(index, leg)| Line {
            id: DerivedId { kind: Kind::LedgerEntry, index, ..transaction_id },
            transaction: transaction_id,
            payment: history.details.id,
            account: leg.account,
            amount: leg.posted,
            currency: transaction.currency,
            at: step.at,
            sequence: step.sequence,
        })
        .collect()
}

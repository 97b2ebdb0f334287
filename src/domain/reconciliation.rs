//! Checks the books against themselves: everything is counted anew from the histories and compared with what is kept.
//!
//! A [`Recount`] covers the books as of the moment it began. History never changes, so it may look at the books in
//! slices while payments go on: what came later is left out. It judges and never repairs.

use super::{
    books::{Books, History, KindTotal, Position, Slot},
    id::{PaymentId, Sequence},
    idempotency::Retention,
    ledger::{self, Account, AccountKind, Balance, Balances, Turnover},
    money::Currency,
    payment::Payment,
};
use std::collections::{BTreeMap, HashMap};

/// The most failures that are listed per check; all are counted.
const FAILURES_LISTED_MAX: usize = 100;

/// A count of the whole books, in progress.
pub struct Recount {
    position: Position,
    payments: usize,
    trial_balance: BTreeMap<(AccountKind, Currency), KindTotal>,
    kept_turnover: BTreeMap<Currency, Turnover>,
    turnover: BTreeMap<Currency, Turnover>,
    accounts: HashMap<Account, Balances>,
    kinds: BTreeMap<(AccountKind, Currency), Balance>,
    next: Next,
    payments_match: Check,
    balances_match: Check,
    keys_match: Check,
}

enum Next {
    Histories(Slot),
    AccountBooks(usize),
    Done,
}

/// What a recount found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The books as of this position.
    pub position: Position,
    /// Per currency, in the order of the codes, counted anew.
    pub turnover: BTreeMap<Currency, Turnover>,
    /// Each rule with its failures.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether nothing was found.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.checks.iter().all(Check::ok)
    }
}

/// One rule that was checked.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name, stable.
    pub name: &'static str,
    /// How many things were looked at.
    pub checked: u64,
    /// How many of them broke the rule.
    pub failed: u64,
    /// The first of those.
    pub failures: Vec<Failure>,
}

/// One thing that broke a rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What is wrong, for a person.
    pub what: String,
    /// The payment it is wrong about, and the entry it shows at, if it is about one.
    pub at: Option<(PaymentId, Sequence)>,
}

impl Check {
    fn new(name: &'static str) -> Self {
        Self { name, checked: 0, failed: 0, failures: Vec::new() }
    }

    /// Whether nothing broke the rule.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.failed == 0
    }

    fn look(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        self.look_at(None, holds, failure);
    }

    fn look_at(
        &mut self,
        at: Option<(PaymentId, Sequence)>,
        holds: bool,
        failure: impl FnOnce() -> String,
    ) {
        self.checked += 1;
        if !holds {
            self.failed += 1;
            if self.failures.len() < FAILURES_LISTED_MAX {
                self.failures.push(Failure { what: failure(), at });
            }
        }
    }
}

impl Recount {
    /// Begins a count of the books as they stand now.
    #[must_use]
    pub fn begin(books: &Books) -> Self {
        Self {
            position: books.position(),
            payments: books.payment_count(),
            trial_balance: books.trial_balance().clone(),
            kept_turnover: books.turnover().clone(),
            turnover: BTreeMap::new(),
            accounts: HashMap::new(),
            kinds: BTreeMap::new(),
            next: Next::Histories(0),
            payments_match: Check::new("payments_match_ledger"),
            balances_match: Check::new("balances_match_entries"),
            keys_match: Check::new("keys_match_payments"),
        }
    }

    /// Counts at most `slice` things further. Returns whether there is more to do.
    pub fn proceed(&mut self, books: &Books, slice: usize) -> bool {
        match self.next {
            Next::Histories(from) => {
                let counted = self.count_histories(books, from, slice);
                self.next = match Slot::try_from(counted) {
                    Ok(counted) if counted > 0 => Next::Histories(from.saturating_add(counted)),
                    _ => Next::AccountBooks(0),
                };
            }
            Next::AccountBooks(from) => {
                let mut counted = 0;
                for book in books.account_books(from).take(slice) {
                    let kept = books.running_balances(book, self.position.sequence);
                    self.compare(&book.account, &kept);
                    counted += 1;
                }
                self.next = match counted {
                    0 => Next::Done,
                    _ => Next::AccountBooks(from.saturating_add(counted)),
                };
            }
            Next::Done => {}
        }
        !matches!(self.next, Next::Done)
    }

    fn count_histories(&mut self, books: &Books, from: Slot, slice: usize) -> usize {
        let done = usize::try_from(from).unwrap_or(usize::MAX);
        let slice = slice.min(self.payments.saturating_sub(done));
        for history in books.histories(from).take(slice) {
            self.count(books, history);
        }
        slice
    }

    fn count(&mut self, books: &Books, history: &History) {
        let details = &history.details;
        let mut payment = Payment::pending(details.clone(), None);
        let mut position = Balance::default();
        let mut last = 0;
        for step in history.steps() {
            if step.sequence > self.position.sequence {
                break;
            }
            last = step.sequence;
            payment.apply(&step.event, step.at, step.sequence);
            if let Some(request) = &step.request {
                let answered =
                    books.answered(&details.merchant, &request.key, Retention::Forever, step.at);
                // This step, or a later one that took the key over when its retention was over.
                let found = answered.is_some_and(|answered| answered.at >= step.at);
                self.keys_match.look_at(Some((details.id, step.sequence)), found, || {
                    format!(
                        "{} version {}: its key is not in the table",
                        details.id, payment.version
                    )
                });
            }
            let Some(transaction) = ledger::transaction(details, &step.event) else {
                continue;
            };
            for leg in &transaction.legs {
                self.turnover.entry(transaction.currency).or_default().add(leg);
                let kind = (leg.account.kind(), transaction.currency);
                self.kinds.entry(kind).or_default().add(leg);
                match &leg.account {
                    Account::PaymentCustomer(_) => {}
                    account => {
                        let balances = self.accounts.entry(account.clone()).or_default();
                        balances.entry(transaction.currency).or_default().add(leg);
                    }
                }
                if leg.account.kind() == AccountKind::Merchant {
                    position.add(leg);
                }
            }
        }
        let expected = expected_position(&payment);
        self.payments_match.look_at(Some((details.id, last)), position == expected, || {
            format!(
                "{} is {} and should stand at posted {}, pending {} in the ledger; it stands at {}, {}",
                details.id,
                payment.status.name(),
                expected.posted,
                expected.pending,
                position.posted,
                position.pending
            )
        });
    }

    fn compare(&mut self, account: &Account, kept: &Balances) {
        let counted = self.accounts.remove(account).unwrap_or_default();
        let currencies: Vec<Currency> = kept.keys().chain(counted.keys()).copied().collect();
        for currency in currencies {
            let kept = kept.get(&currency).copied().unwrap_or_default();
            let counted = counted.get(&currency).copied().unwrap_or_default();
            self.balances_match.look(kept == counted, || {
                format!(
                    "{account} {currency}: the running balance is {} (pending {}), its entries add up to {} \
                     (pending {})",
                    kept.posted, kept.pending, counted.posted, counted.pending
                )
            });
        }
    }

    /// What was found. Call it once [`Recount::proceed`] has said that there is no more to do.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let mut debits_equal = Check::new("debits_equal_credits");
        for (currency, turnover) in &self.turnover {
            debits_equal.look(turnover.debits == turnover.credits, || {
                format!("{currency}: debits {}, credits {}", turnover.debits, turnover.credits)
            });
            let kept = self.kept_turnover.get(currency).copied().unwrap_or_default();
            debits_equal.look(kept == *turnover, || {
                format!(
                    "{currency}: the running totals are debits {}, credits {}; a recount gives {}, {}",
                    kept.debits, kept.credits, turnover.debits, turnover.credits
                )
            });
        }
        for account in std::mem::take(&mut self.accounts).into_keys() {
            self.balances_match.look(false, || format!("{account} has entries and no balance"));
        }
        let mut sums: BTreeMap<Currency, Balance> = BTreeMap::new();
        for ((_, currency), total) in &self.trial_balance {
            let sum = sums.entry(*currency).or_default();
            sum.posted += total.balance.posted;
            sum.pending += total.balance.pending;
        }
        let mut zero = Check::new("trial_balance_is_zero");
        for ((kind, currency), total) in &self.trial_balance {
            let counted = self.kinds.get(&(*kind, *currency)).copied().unwrap_or_default();
            let kept = total.balance;
            zero.look(counted == kept, || {
                format!(
                    "{} accounts, {currency}: the running total is {} (pending {}), a recount gives {} (pending {})",
                    kind.name(), kept.posted, kept.pending, counted.posted, counted.pending
                )
            });
        }
        for (currency, sum) in sums {
            zero.look(sum == Balance::default(), || {
                format!("{currency}: all accounts sum to {} (pending {})", sum.posted, sum.pending)
            });
        }
        Report {
            position: self.position,
            turnover: self.turnover,
            checks: vec![
                debits_equal,
                zero,
                self.balances_match,
                self.payments_match,
                self.keys_match,
            ],
        }
    }
}

/// Where the merchant's side of a payment must stand in the ledger, by the payment's own figures.
pub(super) fn expected_position(payment: &Payment) -> Balance {
    let posted = i128::from(payment.captured) - i128::from(payment.refunded);
    Balance { posted, pending: i128::from(payment.capturable()) }
}

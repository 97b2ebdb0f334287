//! Checks the books, in two ways that share no fold. Neither repairs anything.
//!
//! A [`Recount`] checks the books against themselves: everything is counted anew from the histories and compared with
//! what is kept. A [`Shadow`] checks them against the journal: it adds up the double entry as it stands on disk, and
//! compares that. Both cover the books as of one moment. History never changes, so both may look at the books in slices
//! while payments go on: what came later is left out.

mod shadow;

pub use shadow::Shadow;

use super::{
    books::{Books, History, KindTotal, Position, Slot},
    id::{PaymentId, Sequence},
    idempotency::Retention,
    ledger::{self, Account, AccountKind, Balance, Balances, Leg, Turnover},
    money::Currency,
    payment::{Payment, Status},
    webhook::Numbering,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

/// The most failures that are listed per check; all are counted.
const FAILURES_LISTED_MAX: usize = 100;

/// What the books hold as a whole at one moment: little, however many payments there are.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// The moment.
    pub position: Position,
    /// Per kind of account and currency, over all accounts.
    trial_balance: BTreeMap<(AccountKind, Currency), KindTotal>,
    /// All debits and credits so far.
    turnover: BTreeMap<Currency, Turnover>,
    /// How many payments stand so.
    statuses: BTreeMap<Status, u64>,
}

impl Totals {
    /// As the books stand now.
    #[must_use]
    pub fn of(books: &Books) -> Self {
        Self {
            position: books.position(),
            trial_balance: books.trial_balance().clone(),
            turnover: books.turnover().clone(),
            statuses: books.payments_by_status().clone(),
        }
    }
}

/// A count of the whole books, in progress.
pub struct Recount {
    kept: Totals,
    payments: usize,
    statuses: BTreeMap<Status, u64>,
    turnover: BTreeMap<Currency, Turnover>,
    accounts: HashMap<Account, Counted>,
    kinds: BTreeMap<(AccountKind, Currency), Balance>,
    next: Next,
    payments_match: Check,
    keys_match: Check,
    events_match: Check,
    /// Each endpoint, and how many events it should have been told of.
    endpoints: Vec<(Numbering, u64)>,
}

/// The running balances first: going back to the moment takes the longer, the more has been booked since.
enum Next {
    AccountBooks(usize),
    Histories(Slot),
    Done,
}

/// What an account holds, as it is kept and as it was counted.
#[derive(Default)]
struct Counted {
    kept: Balances,
    counted: Balances,
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
    /// A rule that nothing was held against yet.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, checked: 0, failed: 0, failures: Vec::new() }
    }

    /// Whether nothing broke the rule.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.failed == 0
    }

    /// Holds one more thing against the rule; `failure` says what is wrong with it if the rule does not hold.
    pub fn look(&mut self, holds: bool, failure: impl FnOnce() -> String) {
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
            kept: Totals::of(books),
            payments: books.payment_count(),
            statuses: BTreeMap::new(),
            turnover: BTreeMap::new(),
            accounts: HashMap::new(),
            kinds: BTreeMap::new(),
            next: Next::AccountBooks(0),
            payments_match: Check::new("payments_match_ledger"),
            keys_match: Check::new("keys_match_payments"),
            events_match: Check::new("events_match_payments"),
            endpoints: books
                .webhooks()
                .endpoints()
                .map(|endpoint| (endpoint.numbering(), 0))
                .collect(),
        }
    }

    /// What the books held as a whole when the count began.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.kept
    }

    /// Whether the balances that the books kept have been noted, which is the first thing that is done.
    #[must_use]
    pub fn has_all_balances(&self) -> bool {
        !matches!(self.next, Next::AccountBooks(_))
    }

    /// Counts at most `slice` things further. Returns whether there is more to do.
    pub fn proceed(&mut self, books: &Books, slice: usize) -> bool {
        match self.next {
            Next::AccountBooks(from) => {
                let mut noted = 0;
                for book in books.account_books(from).take(slice) {
                    let kept = books.running_balances(book, self.kept.position.sequence);
                    self.accounts.entry(book.account.clone()).or_default().kept = kept;
                    noted += 1;
                }
                self.next = match noted {
                    0 => Next::Histories(0),
                    _ => Next::AccountBooks(from.saturating_add(noted)),
                };
            }
            Next::Histories(from) => {
                let counted = self.count_histories(books, from, slice);
                self.next = match Slot::try_from(counted) {
                    Ok(counted) if counted > 0 => Next::Histories(from.saturating_add(counted)),
                    _ => Next::Done,
                };
            }
            Next::Done => {}
        }
        !matches!(self.next, Next::Done)
    }

    /// The event that a step makes, if it makes one, must be found and listed, and is counted at the endpoints that want
    /// it.
    fn count_event(&mut self, books: &Books, history: &History, number: usize) {
        let Some(step) = history.steps().get(number) else { return };
        let (id, merchant, sequence) =
            (history.details.id, &history.details.merchant, step.sequence);
        let made = history.event_at(number);
        let found = books.event(sequence).map(|event| (event.history.details.id, event.kind));
        let holds = found == made.map(|kind| (id, kind))
            && books.lists_event(merchant, sequence) == made.is_some();
        self.events_match.look_at(Some((id, sequence)), holds, || {
            format!("the event that entry {sequence} made of {id} is not in the list of {merchant}")
        });
        for (endpoint, counted) in &mut self.endpoints {
            if endpoint.merchant == *merchant
                && made.is_some_and(|kind| endpoint.admits(sequence, kind))
            {
                *counted += 1;
            }
        }
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
        let mut position = LedgerPosition::default();
        let mut last = 0;
        for (number, step) in history.steps().iter().enumerate() {
            if step.sequence > self.kept.position.sequence {
                break;
            }
            last = step.sequence;
            self.count_event(books, history, number);
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
                        balances.counted.entry(transaction.currency).or_default().add(leg);
                    }
                }
                position.add(leg);
            }
        }
        *self.statuses.entry(payment.status).or_default() += 1;
        let expected = LedgerPosition::due(&payment);
        self.payments_match.look_at(Some((details.id, last)), position == expected, || {
            format!(
                "{} is {} and should stand in the ledger at {expected}; it stands at {position}",
                details.id,
                payment.status.name(),
            )
        });
    }

    /// What was found. Call it once [`Recount::proceed`] has said that there is no more to do.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let mut debits_equal = Check::new("debits_equal_credits");
        for (currency, turnover) in &self.turnover {
            debits_equal.look(turnover.debits == turnover.credits, || {
                format!("{currency}: debits {}, credits {}", turnover.debits, turnover.credits)
            });
            let kept = self.kept.turnover.get(currency).copied().unwrap_or_default();
            debits_equal.look(kept == *turnover, || {
                format!(
                    "{currency}: the running totals are debits {}, credits {}; a recount gives {}, {}",
                    kept.debits, kept.credits, turnover.debits, turnover.credits
                )
            });
        }
        let balances_match = compare(std::mem::take(&mut self.accounts));
        let mut sums: BTreeMap<Currency, Balance> = BTreeMap::new();
        for ((_, currency), total) in &self.kept.trial_balance {
            let sum = sums.entry(*currency).or_default();
            sum.posted += total.balance.posted;
            sum.pending += total.balance.pending;
        }
        let mut zero = Check::new("trial_balance_is_zero");
        for ((kind, currency), total) in &self.kept.trial_balance {
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
        let (kept, counted) = (&self.kept.statuses, &self.statuses);
        if kept != counted {
            self.payments_match.look(false, || {
                format!(
                    "the numbers of payments by status are {kept:?}; a recount gives {counted:?}"
                )
            });
        }
        for (endpoint, counted) in &self.endpoints {
            self.events_match.look(endpoint.admitted == *counted, || {
                format!(
                    "the webhook endpoint {} was told of {} events, {counted} happened that it wants",
                    endpoint.id, endpoint.admitted
                )
            });
        }
        Report {
            position: self.kept.position,
            turnover: self.turnover,
            checks: vec![
                debits_equal,
                zero,
                balances_match,
                self.payments_match,
                self.keys_match,
                self.events_match,
            ],
        }
    }
}

/// Holds each account's running balances against what its entries add up to.
fn compare(accounts: HashMap<Account, Counted>) -> Check {
    let mut check = Check::new("balances_match_entries");
    let mut accounts: Vec<_> = accounts.into_iter().collect();
    accounts.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for (account, Counted { kept, counted }) in accounts {
        for currency in either(kept.keys(), counted.keys()) {
            let kept = kept.get(&currency).copied().unwrap_or_default();
            let counted = counted.get(&currency).copied().unwrap_or_default();
            check.look(kept == counted, || {
                format!(
                    "{account} {currency}: the running balance is {} (pending {}), its entries add up to {} \
                     (pending {})",
                    kept.posted, kept.pending, counted.posted, counted.pending
                )
            });
        }
    }
    check
}

/// The keys of either.
fn either<'a, K: Copy + Ord + 'a>(
    kept: impl Iterator<Item = &'a K>,
    counted: impl Iterator<Item = &'a K>,
) -> BTreeSet<K> {
    kept.chain(counted).copied().collect()
}

/// Where a payment stands in the ledger: the merchant's side of it, and what of it is in doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LedgerPosition {
    merchant: Balance,
    in_doubt: Balance,
}

impl LedgerPosition {
    /// Where it must stand by the payment's own figures.
    pub(super) fn due(payment: &Payment) -> Self {
        let posted = i128::from(payment.captured) - i128::from(payment.refunded);
        let capturable = i128::from(payment.capturable());
        let refunds_out = i128::from(payment.refunds_out());
        let out = payment.out().map(|attempt| i128::from(attempt.in_doubt(&payment.details)));
        Self {
            merchant: Balance { posted, pending: capturable - refunds_out },
            in_doubt: Balance { posted: 0, pending: out.sum() },
        }
    }

    /// Adds one leg of one of its transactions.
    pub(super) fn add(&mut self, leg: &Leg) {
        match leg.account.kind() {
            AccountKind::Merchant => self.merchant.add(leg),
            AccountKind::InDoubt => self.in_doubt.add(leg),
            AccountKind::Customer => {}
        }
    }
}

impl fmt::Display for LedgerPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { merchant, in_doubt } = self;
        write!(
            f,
            "posted {}, pending {}, in doubt {}",
            merchant.posted, merchant.pending, in_doubt.pending
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_totals_that_do_not_sum_to_zero_are_found_by_their_currency() {
        let books = Books::default();
        let mut recount = Recount::begin(&books);
        let yen = Currency::for_payment("JPY").unwrap();
        for (kind, posted, pending) in
            [(AccountKind::Merchant, 5, 1), (AccountKind::Customer, -2, 3)]
        {
            let total = KindTotal { balance: Balance { posted, pending }, accounts: 1 };
            recount.kept.trial_balance.insert((kind, yen), total);
        }
        while recount.proceed(&books, 1) {}
        let report = recount.finish();
        let zero = report.checks.iter().find(|check| check.name == "trial_balance_is_zero");
        let failures = &zero.unwrap().failures;
        let sums = "JPY: all accounts sum to 3 (pending 4)";
        assert!(failures.iter().any(|failure| failure.what == sums), "{failures:?}");
    }

    #[test]
    fn where_a_payment_stands_in_the_ledger_is_told_with_what_is_in_doubt() {
        let position = LedgerPosition {
            merchant: Balance { posted: 5, pending: 3 },
            in_doubt: Balance { posted: 0, pending: 2 },
        };
        assert_eq!(position.to_string(), "posted 5, pending 3, in doubt 2");
    }
}

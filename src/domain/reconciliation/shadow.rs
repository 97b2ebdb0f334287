//! The shadow fold: what the double entry adds up to as it stands on disk, leg by leg.
//!
//! It shares nothing with the books but the types: no index, no rule, no running total. It keeps one balance per named
//! account and one sum per kind; the customers of single payments are in the sum of their kind, so it stays small. The
//! entries come from whoever reads the journal's bytes.

use super::{Check, FAILURES_LISTED_MAX, Totals, either};
use crate::domain::{
    books::{Books, Step},
    entry::{Batch, Entry, PaymentRecord, Record},
    id::Sequence,
    ledger::{self, Account, AccountKind, Balance, Balances, Transaction, Turnover},
    money::Currency,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What the journal's entries add up to so far, and what was found wrong since the last [`Shadow::conclude`].
#[derive(Default)]
pub struct Shadow {
    accounts: HashMap<Account, Balances>,
    kinds: BTreeMap<(AccountKind, Currency), Balance>,
    turnover: BTreeMap<Currency, Turnover>,
    /// Named accounts that were moved since they were last handed out to be compared.
    touched: HashSet<Account>,
    checks: Checks,
}

struct Checks {
    entries_balance: Check,
    entries_match: Check,
    balances_match: Check,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            entries_balance: Check::new("journal_entries_balance"),
            entries_match: Check::new("journal_matches_payments"),
            balances_match: Check::new("balances_match_journal"),
        }
    }
}

impl Shadow {
    /// Adds the next batch of the journal. Looks at nothing but its bytes.
    pub fn follow(&mut self, batch: &Batch) {
        for (entry, record) in payments(&batch.entries) {
            let Some(transaction) = &record.transaction else { continue };
            self.checks.entries_balance.look(transaction.balances(), || {
                let legs = words(Some(transaction));
                format!(
                    "entry {}: the double entry of {} does not balance: {legs}",
                    entry.sequence, record.payment
                )
            });
            let currency = transaction.currency;
            for leg in &transaction.legs {
                self.turnover.entry(currency).or_default().add(leg);
                self.kinds.entry((leg.account.kind(), currency)).or_default().add(leg);
                match &leg.account {
                    Account::PaymentCustomer(_) => {}
                    account => {
                        let balances = self.accounts.entry(account.clone());
                        let balances = balances.or_insert_with(|| Balances::with_capacity(1));
                        balances.entry(currency).or_default().add(leg);
                        if !self.touched.contains(account) {
                            self.touched.insert(account.clone());
                        }
                    }
                }
            }
        }
    }

    /// Holds entries from disk against the payments in memory, and their double entry against what the rules make.
    pub fn compare_entries(&mut self, entries: &[Entry], books: &Books) {
        for (entry, record) in payments(entries) {
            let difference = difference(entry, record, books);
            self.checks.entries_match.look(difference.is_none(), || {
                let what = difference.unwrap_or_default();
                format!(
                    "entry {}, {} version {}: {what}",
                    entry.sequence, record.payment, record.version
                )
            });
        }
    }

    /// The named accounts that were moved since this was last asked.
    pub fn take_touched(&mut self) -> Vec<Account> {
        std::mem::take(&mut self.touched).into_iter().collect()
    }

    /// Holds the running balances of these accounts, as they were as of entry `through`, against what the journal adds
    /// up to. The fold must stand at that entry.
    pub fn compare_accounts(&mut self, accounts: &[Account], books: &Books, through: Sequence) {
        for account in accounts {
            let book = books.account_book(account);
            let kept = book.map(|book| books.running_balances(book, through)).unwrap_or_default();
            let counted = self.accounts.get(account).cloned().unwrap_or_default();
            for currency in either(kept.keys(), counted.keys()) {
                let kept = kept.get(&currency).copied().unwrap_or_default();
                let counted = counted.get(&currency).copied().unwrap_or_default();
                self.checks.balances_match.look(kept == counted, || {
                    format!("{account} {currency}: {}", against(kept, counted))
                });
            }
        }
    }

    /// Holds the totals of the books against those of the journal, and gives back everything that was checked since the
    /// last time. The fold must stand at the totals' position.
    pub fn conclude(&mut self, kept: &Totals) -> Vec<Check> {
        let Checks { entries_balance, entries_match, mut balances_match } =
            std::mem::take(&mut self.checks);
        for currency in either(kept.turnover.keys(), self.turnover.keys()) {
            let kept = kept.turnover.get(&currency).copied().unwrap_or_default();
            let counted = self.turnover.get(&currency).copied().unwrap_or_default();
            balances_match.look(kept == counted, || {
                format!(
                    "{currency}: memory has debits {}, credits {}; the journal on disk adds up to {}, {}",
                    kept.debits, kept.credits, counted.debits, counted.credits
                )
            });
        }
        for (kind, currency) in either(kept.trial_balance.keys(), self.kinds.keys()) {
            let kept = kept.trial_balance.get(&(kind, currency)).copied().unwrap_or_default();
            let counted = self.kinds.get(&(kind, currency)).copied().unwrap_or_default();
            balances_match.look(kept.balance == counted, || {
                format!("{} accounts, {currency}: {}", kind.name(), against(kept.balance, counted))
            });
        }
        vec![entries_balance, entries_match, balances_match]
    }

    /// All debits and credits so far, per currency.
    #[must_use]
    pub fn turnover(&self) -> &BTreeMap<Currency, Turnover> {
        &self.turnover
    }
}

fn payments(entries: &[Entry]) -> impl Iterator<Item = (&Entry, &PaymentRecord)> {
    entries.iter().filter_map(|entry| match &entry.record {
        Record::Payment(record) => Some((entry, record)),
        _ => None,
    })
}

/// What differs between an entry on disk and memory, if anything does.
fn difference(entry: &Entry, record: &PaymentRecord, books: &Books) -> Option<String> {
    let number = usize::try_from(record.version).ok()?.checked_sub(1);
    let found = books.history(record.payment).and_then(|history| {
        let step = history.steps().get(number?)?;
        Some((history, step))
    });
    let Some((history, step)) = found else {
        return Some(format!("{} on disk, not in memory", record.happened()));
    };
    let by_the_rules = ledger::transaction(&history.details, &step.event);
    if record.transaction != by_the_rules {
        let (stored, due) = (words(record.transaction.as_ref()), words(by_the_rules.as_ref()));
        return Some(format!("on disk it moves {stored}; by what is in memory it moves {due}"));
    }
    let Step { sequence, at, actor, event, request, form } = step;
    let same = (*sequence, *at) == (entry.sequence, entry.at)
        && (actor, event, request.as_deref(), *form)
            == (&record.actor, &record.event, record.request.as_ref(), record.form);
    (!same).then(|| {
        format!(
            "{} on disk, and not the same in memory (entry {sequence} there)",
            record.happened()
        )
    })
}

fn words(transaction: Option<&Transaction>) -> String {
    let Some(transaction) = transaction else { return "nothing".into() };
    let legs = transaction.legs.iter().take(FAILURES_LISTED_MAX);
    let legs = legs.map(|leg| format!("{} {} (pending {})", leg.account, leg.posted, leg.pending));
    format!("{}: {}", transaction.currency, legs.collect::<Vec<_>>().join(", "))
}

fn against(kept: Balance, counted: Balance) -> String {
    format!(
        "the running balance in memory is {} (pending {}), the journal on disk adds up to {} (pending {})",
        kept.posted, kept.pending, counted.posted, counted.pending
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        entry::Hash,
        event::{CaptureMode, Details, Event, Outcome},
        id::PaymentId,
        money::Amount,
        payment::Form,
        reconciliation::Report,
        time::Timestamp,
    };
    use std::sync::Arc;
    use uuid::Uuid;

    /// A charge of 100 by customer ann, and one of 7 by nobody that is named, of which 2 are given back.
    fn journal() -> Vec<Batch> {
        let details = |number: u128, amount, customer: Option<&str>| {
            Arc::new(Details {
                id: PaymentId::new(Uuid::from_u128(number)),
                merchant: "north".into(),
                amount: Amount::new(amount).unwrap(),
                currency: Currency::for_payment("JPY").unwrap(),
                capture: CaptureMode::Automatic,
                payment_method: "tok_visa".into(),
                customer: customer.map(Into::into),
                description: None,
                metadata: Box::default(),
                provider: "sandbox".into(),
                hold_ms: 1,
            })
        };
        let submitted = |details: &Arc<Details>| {
            let outcome = Some(Outcome::Approved { reference: "r".into() });
            Event::Submitted { details: details.clone(), outcome }
        };
        let (ann, nobody) = (details(1, 100, Some("ann")), details(2, 7, None));
        let back = Event::Refunded { amount: Amount::new(2).unwrap(), reason: None };
        let events =
            [(&ann, 1, submitted(&ann)), (&nobody, 1, submitted(&nobody)), (&nobody, 2, back)];
        let entry = |(sequence, (details, version, event)): (u64, (&Arc<Details>, u32, Event))| {
            let record = Record::Payment(PaymentRecord {
                payment: details.id,
                version,
                actor: "north/test".into(),
                transaction: ledger::transaction(details, &event),
                event,
                request: None,
                form: Form::default(),
            });
            let entries = vec![Entry { sequence, at: Timestamp::from_millis(sequence), record }];
            Batch { entries, hash: Hash::default() }
        };
        (1..).zip(events).map(entry).collect()
    }

    fn books(journal: &[Batch]) -> Books {
        let mut books = Books::default();
        journal.iter().cloned().for_each(|batch| books.apply(batch));
        books
    }

    /// What a shadow of `journal` finds wrong with `books`, by the name of the check.
    fn findings(journal: &[Batch], books: &Books) -> Vec<(&'static str, String)> {
        let mut shadow = Shadow::default();
        for batch in journal {
            shadow.follow(batch);
            shadow.compare_entries(&batch.entries, books);
        }
        let touched = shadow.take_touched();
        assert_eq!(touched.len(), 2, "a merchant and a named customer: {touched:?}");
        shadow.compare_accounts(&touched, books, books.position().sequence);
        let turnover = shadow.turnover().clone();
        let checks = shadow.conclude(&Totals::of(books));
        let report = Report { position: books.position(), turnover, checks };
        assert!(report.checks.iter().all(|check| check.checked > 0), "{report:?}");
        let of = |check: &Check| {
            let name = check.name;
            let whats = check.failures.iter().map(|failure| failure.what.clone());
            whats.map(|what| (name, what)).collect::<Vec<_>>()
        };
        report.checks.iter().flat_map(of).collect()
    }

    fn record_of(batch: &mut Batch) -> &mut PaymentRecord {
        match &mut batch.entries[0].record {
            Record::Payment(record) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_journal_and_the_books_made_of_it_add_up_to_the_same() {
        assert_eq!(findings(&journal(), &books(&journal())), []);
    }

    #[test]
    fn a_running_balance_changed_in_memory_is_found_with_account_and_amounts() {
        let mut books = books(&journal());
        let yen = Currency::for_payment("JPY").unwrap();
        books.corrupt_balance(&Account::Merchant("north".into()), yen, 5);
        let words = "merchant:north JPY: the running balance in memory is 110 (pending 0), the journal on disk adds up \
                     to 105 (pending 0)";
        assert_eq!(findings(&journal(), &books), [("balances_match_journal", words.into())]);
    }

    #[test]
    fn a_payment_changed_in_memory_is_found_by_its_entry_on_disk() {
        let mut changed = journal();
        record_of(&mut changed[2]).actor = "south/test".into();
        let found = findings(&journal(), &books(&changed));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "journal_matches_payments");
        assert!(found[0].1.starts_with("entry 3, pay_"), "{found:?}");

        let missing = findings(&journal(), &books(&journal()[..2]));
        let about_entry = |(name, what): &&(&str, String)| {
            *name == "journal_matches_payments" && what.ends_with("refunded on disk, not in memory")
        };
        assert_eq!(missing.iter().filter(about_entry).count(), 1, "{missing:?}");
    }

    #[test]
    fn a_double_entry_on_disk_that_does_not_balance_or_is_not_the_rules_is_found() {
        let mut crooked = journal();
        let transaction = record_of(&mut crooked[0]).transaction.as_mut().unwrap();
        transaction.legs[1].posted = 101;
        let found = findings(&crooked, &books(&journal()));
        let count = |name| found.iter().filter(|(check, _)| *check == name).count();
        assert_eq!(count("journal_entries_balance"), 1, "{found:?}");
        assert_eq!(count("journal_matches_payments"), 1, "{found:?}");
        assert_eq!(count("balances_match_journal"), 3, "account, turnover, kind: {found:?}");
        assert!(
            found[0].1.contains("customer:ann -100 (pending 0), merchant:north 101"),
            "{found:?}"
        );
    }

    #[test]
    fn what_the_books_booked_after_the_moment_is_left_out() {
        let all = journal();
        let then = Totals::of(&books(&all[..2]));
        let mut shadow = Shadow::default();
        all[..2].iter().for_each(|batch| shadow.follow(batch));
        let touched = shadow.take_touched();
        shadow.compare_accounts(&touched, &books(&all), then.position.sequence);
        let checks = shadow.conclude(&then);
        assert!(checks.iter().all(Check::ok), "{checks:?}");
        all[2..].iter().for_each(|batch| shadow.follow(batch));
        assert_eq!(shadow.take_touched(), [Account::Merchant("north".into())], "moved since");
        assert_eq!(shadow.turnover(), books(&all).turnover());
    }
}

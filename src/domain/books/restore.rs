//! The books built at once from whole histories, as a snapshot holds them, instead of entry by entry.
//!
//! The same rules judge: each payment's entries one by one as they are folded into its history, and then, over all of
//! them, that nothing is there twice and that the money adds up.

use super::{
    Books, History, Names, Position, Slot, Step, accounts::Accounts, judge, keys::Keys,
    payments::Payments,
};
use crate::domain::{
    entry::{Entry, Hash, PaymentRecord, is_admins},
    event::Event,
    id::Sequence,
    ledger::{self, Balance},
    money::Currency,
    payment::Payment,
    reconciliation::LedgerPosition,
    time::Timestamp,
    webhook::{Endpoint, Webhooks},
};
use std::{collections::BTreeMap, thread};

/// A payment's entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The entry's sequence.
    pub sequence: Sequence,
    /// Its time.
    pub at: Timestamp,
    /// What it says.
    pub record: PaymentRecord,
}

/// Makes histories of payments' entries. Names that repeat are held once.
#[derive(Default)]
pub struct Historian {
    names: Names,
}

impl Historian {
    /// The history that one payment's entries make, all of them, oldest first.
    ///
    /// # Errors
    /// Why they cannot be what happened to a payment.
    pub fn history(&mut self, entries: Vec<Placed>) -> Result<History, String> {
        let first = entries.first().map(|placed| placed.record.event.clone());
        let Some(Event::Submitted { mut details, .. } | Event::Initiated(mut details)) = first
        else {
            return Err("a payment's first entry does not submit it".into());
        };
        self.names.share_all(&mut details);
        let mut payment = Payment::pending(details.clone(), None);
        let mut position = LedgerPosition::default();
        let mut steps = Vec::with_capacity(entries.len());
        let mut before = 0;
        for Placed { sequence, at, record } in entries {
            judge(&payment, &record, at).map_err(|breach| format!("entry {sequence}: {breach}"))?;
            if sequence <= before {
                return Err(format!("entry {sequence} of {} stands behind {before}", details.id));
            }
            before = sequence;
            payment.apply(&record.event, at, sequence);
            let legs = record.transaction.iter().flat_map(|transaction| &transaction.legs);
            legs.for_each(|leg| position.add(leg));
            let PaymentRecord { mut actor, mut event, request, form, .. } = record;
            self.names.share(&mut actor);
            match &mut event {
                Event::Submitted { details: own, .. } | Event::Initiated(own) => {
                    *own = details.clone();
                }
                event => self.names.share_in(event),
            }
            steps.push(Step { sequence, at, actor, event, request: request.map(Box::new), form });
        }
        if position != LedgerPosition::due(&payment) {
            return Err(format!("{} and its ledger entries do not agree", details.id));
        }
        Ok(History::new(&payment, steps))
    }
}

impl Books {
    /// The books of these histories, in any order, of these webhook endpoints and of the entries that are kept whole, in
    /// their order, as of `position`. What the endpoints have been told of is counted anew.
    ///
    /// # Errors
    /// Why they cannot be the books of one journal.
    pub fn restore(
        position: Position,
        blocks: Vec<(Sequence, Hash)>,
        mut histories: Vec<History>,
        endpoints: Vec<Endpoint>,
        kept: Vec<Entry>,
    ) -> Result<Self, String> {
        histories.sort_by_key(|history| history.steps().first().map(|step| step.sequence));
        let webhooks = Webhooks::restore(endpoints);
        let places = places(&histories, position.sequence)?;
        let payments = Payments::of(histories);
        // One big table each, out of the same histories: side by side.
        let (keys, accounts, by_id) = thread::scope(|scope| {
            let keys = scope.spawn(|| keys(&payments, &places));
            let accounts = accounts(&payments, &places);
            let by_id = payments.by_id();
            (keys.join(), accounts, by_id)
        });
        let keys = keys.map_err(|_| "the table of keys could not be made")?;
        let payments = payments.found_by(by_id?);
        let mut books = Self {
            position,
            blocks: blocks.into_iter().collect(),
            payments,
            accounts,
            keys,
            webhooks,
            ..Self::default()
        };
        let count = u32::try_from(books.payment_count()).unwrap_or(u32::MAX);
        (0..count).for_each(|slot| books.await_what_is_due(slot));
        for (sequence, slot, number) in places {
            books.tell(slot, number);
            let step = books.payments.step(slot, number);
            if step.is_some_and(|(_, step)| is_admins(&step.actor)) {
                books.deeds.push(sequence);
            }
        }
        kept.into_iter().for_each(|entry| books.keep(entry));
        let mut deeds: Vec<Sequence> = books.deeds.iter().copied().collect();
        deeds.sort_unstable();
        books.deeds = deeds.into_iter().collect();
        books.check_sums()?;
        Ok(books)
    }

    /// Debits equal credits, and all accounts of a currency sum to zero.
    fn check_sums(&self) -> Result<(), String> {
        let mut sums: BTreeMap<Currency, Balance> = BTreeMap::new();
        for ((_, currency), total) in self.trial_balance() {
            let sum = sums.entry(*currency).or_default();
            sum.posted += total.balance.posted;
            sum.pending += total.balance.pending;
        }
        for (currency, turnover) in self.turnover() {
            let sum = sums.get(currency).copied().unwrap_or_default();
            if turnover.debits != turnover.credits || sum != Balance::default() {
                return Err(format!(
                    "{currency}: debits {}, credits {}, all accounts sum to {} (pending {})",
                    turnover.debits, turnover.credits, sum.posted, sum.pending
                ));
            }
        }
        Ok(())
    }
}

/// A step in its place in the journal.
type Place = (Sequence, Slot, u32);

/// All steps in the order of the journal, each once, none behind entry `through`.
fn places(histories: &[History], through: Sequence) -> Result<Vec<Place>, String> {
    let mut places = Vec::with_capacity(histories.len());
    for (slot, history) in (0..).zip(histories) {
        let numbered = (0..).zip(history.steps());
        places.extend(numbered.map(|(number, step)| (step.sequence, slot, number)));
    }
    places.sort();
    let twice = places.windows(2).find_map(|pair| match pair {
        [(first, ..), (second, ..)] if first == second => Some(*first),
        _ => None,
    });
    if let Some(sequence) = twice {
        return Err(format!("entry {sequence} is there twice"));
    }
    match places.last() {
        Some((last, ..)) if *last > through => Err(format!("there are entries behind {through}")),
        _ => Ok(places),
    }
}

fn keys(payments: &Payments, places: &[Place]) -> Keys {
    let mut keys = Keys::with_capacity(places.len());
    for (_, slot, number) in places {
        if payments.step(*slot, *number).is_some_and(|(_, step)| step.request.is_some()) {
            keys.insert(payments, *slot, *number);
        }
    }
    keys
}

fn accounts(payments: &Payments, places: &[Place]) -> Accounts {
    let mut accounts = Accounts::default();
    for (_, slot, number) in places {
        let step = payments.step(*slot, *number);
        let transaction =
            step.and_then(|(history, step)| ledger::transaction(&history.details, &step.event));
        if let Some(transaction) = transaction {
            accounts.post(payments, *slot, *number, &transaction);
        }
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger::{Account, Leg, Transaction};

    #[test]
    fn books_whose_accounts_do_not_sum_to_zero_are_refused() {
        let sums = |merchants: (i64, i64), in_doubt: (i64, i64)| {
            let leg = |account, (posted, pending)| Leg { account, posted, pending };
            let legs = vec![
                leg(Account::Merchant("m".into()), merchants),
                leg(Account::InDoubt("p".into()), in_doubt),
            ];
            let currency = Currency::for_payment("JPY").unwrap();
            let mut books = Books::default();
            books.accounts.post(&books.payments, 0, 0, &Transaction { currency, legs });
            books.check_sums()
        };
        assert_eq!(sums((5, 1), (-5, -1)), Ok(()));
        let posted = "JPY: debits 2, credits 5, all accounts sum to 3 (pending 4)";
        assert_eq!(sums((5, 1), (-2, 3)), Err(posted.into()));
        let pending = "JPY: debits 5, credits 5, all accounts sum to 0 (pending 4)";
        assert_eq!(sums((5, 1), (-5, 3)), Err(pending.into()));
    }
}

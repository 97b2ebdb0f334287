//! The books built at once from whole histories, as a snapshot holds them, instead of entry by entry.
//!
//! The same rules judge: each payment's entries one by one as they are folded into its history, and then, over all of
//! them, that nothing is there twice and that the money adds up.

use super::{Books, History, Names, Position, Slot, Step, judge};
use crate::domain::{
    entry::{Hash, PaymentRecord},
    event::Event,
    id::Sequence,
    ledger::{self, AccountKind, Balance},
    money::Currency,
    payment::Payment,
    reconciliation::expected_position,
    time::Timestamp,
    webhook::{Endpoint, Webhooks},
};
use std::collections::BTreeMap;

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
        let Some(Event::Submitted { mut details, .. }) = first else {
            return Err("a payment's first entry does not submit it".into());
        };
        self.names.share_all(&mut details);
        let mut payment = Payment::pending(details.clone(), None);
        let mut position = Balance::default();
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
            for leg in legs.filter(|leg| leg.account.kind() == AccountKind::Merchant) {
                position.add(leg);
            }
            let mut actor = record.actor;
            self.names.share(&mut actor);
            let mut event = record.event;
            if let Event::Submitted { details: own, .. } = &mut event {
                *own = details.clone();
            }
            steps.push(Step { sequence, at, actor, event, request: record.request.map(Box::new) });
        }
        if position != expected_position(&payment) {
            return Err(format!("{} and its ledger entries do not agree", details.id));
        }
        Ok(History::new(details, payment.status, steps))
    }
}

impl Books {
    /// The books of these histories, in any order, and of these webhook endpoints, as of `position`. What the endpoints
    /// have been told of is counted anew.
    ///
    /// # Errors
    /// Why they cannot be the books of one journal.
    pub fn restore(
        position: Position,
        blocks: Vec<(Sequence, Hash)>,
        mut histories: Vec<History>,
        endpoints: Vec<Endpoint>,
    ) -> Result<Self, String> {
        histories.sort_by_key(|history| history.steps().first().map(|step| step.sequence));
        let webhooks = Webhooks::restore(endpoints);
        let mut books = Self { position, blocks, webhooks, ..Self::default() };
        let mut places = Vec::with_capacity(histories.len());
        for (slot, history) in (0..).zip(&histories) {
            let numbered = (0..).zip(history.steps());
            places.extend(numbered.map(|(number, step)| (step.sequence, slot, number)));
        }
        places.sort_unstable();
        let twice = places.windows(2).find_map(|pair| match pair {
            [(first, ..), (second, ..)] if first == second => Some(*first),
            _ => None,
        });
        if let Some(sequence) = twice {
            return Err(format!("entry {sequence} is there twice"));
        }
        if places.last().is_some_and(|(last, ..)| *last > position.sequence) {
            return Err(format!("there are entries behind entry {}", position.sequence));
        }
        books.payments.restore(histories)?;
        for (_, slot, number) in places {
            books.index(slot, number);
            books.tell(slot, number);
        }
        books.check_sums()?;
        Ok(books)
    }

    /// Enters a step that is in its history into the ledger and the other indexes.
    fn index(&mut self, slot: Slot, number: u32) {
        let Self { payments, accounts, keys, .. } = self;
        let Some((history, step)) = payments.step(slot, number) else {
            return;
        };
        if let Some(transaction) = ledger::transaction(&history.details, &step.event) {
            accounts.post(payments, slot, number, &transaction);
        }
        if step.request.is_some() {
            keys.insert(payments, slot, number);
        }
        if usize::try_from(number).is_ok_and(|number| number + 1 == history.steps().len()) {
            self.await_what_is_due(slot);
        }
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

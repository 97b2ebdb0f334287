//! What all entries of the journal add up to: the one fold, used live, in recovery, and by every proof.
//!
//! [`Books::check`] says whether an entry may follow, [`Books::apply`] makes it part of the books and cannot fail. There
//! is no other way to change them, so the same entries always make the same books. The ledger actor is the only one
//! that applies; everybody else reads.
//!
//! `payments` holds the histories, `accounts` the ledger, `keys` the idempotency table: each an index into the
//! histories, none a second copy.

mod accounts;
mod deeds;
mod events;
mod growing;
mod keys;
mod names;
mod payments;
mod restore;

#[cfg(test)]
mod tests;

pub use accounts::{AccountBook, Cut, KindTotal, Line};
pub use events::{Direction, EventFilter, Happened};
pub use payments::{Filter, History, Page, Slot, Step};
pub use restore::{Historian, Placed};

use super::{
    access::{self, Access},
    entry::{Batch, Entry, Hash, PaymentRecord, Record, Stray, is_admins},
    event::Event,
    id::{PaymentId, Sequence},
    idempotency::{Key, Request, Retention},
    ledger::{self, Account, AccountKind, Balances, Turnover},
    money::Currency,
    payment::{self, Payment},
    time::Timestamp,
    webhook::{Misfit, Webhooks},
};
use accounts::Accounts;
use events::Entries;
use growing::Rows;
use keys::Keys;
use names::Names;
use payments::Payments;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use thiserror::Error;

/// The state of everything, as of one journal position.
#[derive(Default)]
pub struct Books {
    position: Position,
    /// Each block of the journal: its first sequence and its hash.
    blocks: Rows<(Sequence, Hash)>,
    payments: Payments,
    accounts: Accounts,
    keys: Keys,
    /// Authorized payments by when their hold lapses.
    held: BTreeSet<(Timestamp, Slot)>,
    /// Payments of which something is in doubt: a provider's answer is out.
    in_doubt: BTreeSet<Slot>,
    /// Payments that a person has to look at.
    in_review: BTreeSet<Slot>,
    names: Names,
    entries: Entries,
    webhooks: Webhooks,
    /// The last money that providers told of and no payment is about.
    strays: VecDeque<Stray>,
    access: Access,
    /// The entries that are kept whole.
    kept: BTreeMap<Sequence, Entry>,
    /// The entries that admins made.
    deeds: Rows<Sequence>,
}

/// How far the books are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last entry's sequence; 0 before the first.
    pub sequence: Sequence,
    /// The last entry's time.
    pub at: Timestamp,
    /// The last block's hash: the head of the journal's chain.
    pub head: Hash,
}

/// What is in doubt: attempts of which nobody knows the outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// What they are about, in minor units.
    pub amount: i128,
    /// How many there are.
    pub attempts: u64,
    /// When the oldest of them began.
    pub since: Option<Timestamp>,
}

/// Why an entry can't follow what is on the books. From the live path: two writers raced, the second one is refused.
/// From a journal that is read: the record is damaged or was written by other rules.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Breach {
    /// The payment has moved on since the writer looked.
    #[error("{payment} is at version {found}, the record makes version {version}")]
    Version {
        /// Which payment.
        payment: PaymentId,
        /// What the record would make.
        version: u32,
        /// What the books hold.
        found: u32,
    },
    /// The key was used by another entry.
    #[error("the idempotency key of the record is used by {payment}")]
    KeyTaken {
        /// The payment it was used on.
        payment: PaymentId,
    },
    /// The state machine does not make this event here.
    #[error("{payment} version {version}: {reason}")]
    IllegalEvent {
        /// Which payment.
        payment: PaymentId,
        /// What the record would make.
        version: u32,
        /// The rule's words.
        reason: Box<str>,
    },
    /// The double entry is not what the event books, or does not balance.
    #[error("{payment} version {version}: the ledger transaction does not match the event")]
    WrongTransaction {
        /// Which payment.
        payment: PaymentId,
        /// What the record would make.
        version: u32,
    },
    /// Who may come in does not allow it.
    #[error(transparent)]
    Access(#[from] access::Misfit),
    /// The webhook endpoints do not allow it.
    #[error(transparent)]
    Webhook(#[from] Misfit),
}

/// What became of a request that came under an idempotency key.
#[derive(Clone, Debug)]
pub struct Answered<'a> {
    /// The payment it made or changed.
    pub history: &'a History,
    /// The version it left the payment in: the answer is the payment as of then.
    pub version: u32,
    /// When it was answered.
    pub at: Timestamp,
    /// What it asked for.
    pub request: &'a Request,
}

impl Books {
    /// How far the books are.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether `record` may be written next, at time `at`.
    ///
    /// # Errors
    /// The [`Breach`] says what forbids it. An idempotency key is not looked at: a journal may rightly hold the same
    /// key twice, once its retention was over. See [`Books::check_key`].
    pub fn check(&self, record: &PaymentRecord, at: Timestamp) -> Result<(), Breach> {
        match (self.payments.find(record.payment), &record.event) {
            (Some(history), _) => judge(&history.payment(), record, at),
            (None, Event::Submitted { details, .. } | Event::Initiated(details)) => {
                judge(&Payment::pending(details.clone(), None), record, at)
            }
            (None, _) => Err(Breach::IllegalEvent {
                payment: record.payment,
                version: record.version,
                reason: "no such payment is on the books".into(),
            }),
        }
    }

    /// Whether a merchant's key is free at time `at`.
    ///
    /// # Errors
    /// [`Breach::KeyTaken`] by which payment.
    pub fn check_key(
        &self,
        merchant: &str,
        key: &Key,
        retention: Retention,
        at: Timestamp,
    ) -> Result<(), Breach> {
        match self.answered(merchant, key, retention, at) {
            None => Ok(()),
            Some(answered) => Err(Breach::KeyTaken { payment: answered.history.details.id }),
        }
    }

    /// Judges a batch that was read from a journal, entry by entry, and makes it part of the books.
    ///
    /// # Errors
    /// Why an entry of it can't follow what is on the books.
    pub fn replay(&mut self, batch: &Batch) -> Result<(), String> {
        for entry in &batch.entries {
            let judged = match &entry.record {
                Record::Opened { .. } | Record::Sealed | Record::Stray(_) => Ok(()),
                Record::Access(record) => self.check_access(record),
                Record::Payment(record) => self.check(record, entry.at),
                Record::Webhook(record) => self.check_webhook(record, usize::MAX),
            };
            judged.map_err(|breach| format!("entry {}: {breach}", entry.sequence))?;
        }
        self.apply(batch.clone());
        if seeded!(ReplayedTwice) {
            let last = batch.entries.last().cloned();
            self.apply(Batch { entries: last.into_iter().collect(), hash: batch.hash });
        }
        Ok(())
    }

    /// Makes a durable batch part of the books.
    pub fn apply(&mut self, batch: Batch) {
        if let Some(first) = batch.entries.first() {
            self.blocks.push((first.sequence, batch.hash));
        }
        for entry in batch.entries {
            self.position = Position { sequence: entry.sequence, at: entry.at, head: batch.hash };
            if entry.record.is_kept() {
                self.keep(entry.clone());
            }
            match entry.record {
                Record::Opened { .. } | Record::Sealed | Record::Stray(_) | Record::Access(_) => {}
                Record::Payment(record) => self.apply_payment(record, entry.at, entry.sequence),
                Record::Webhook(record) => self.webhooks.apply(record, entry.sequence, entry.at),
            }
        }
    }

    fn apply_payment(&mut self, mut record: PaymentRecord, at: Timestamp, sequence: Sequence) {
        self.names.share_in(&mut record.event);
        self.names.share(&mut record.actor);
        let step = Step {
            sequence,
            at,
            actor: record.actor,
            event: record.event,
            request: record.request.map(Box::new),
            form: record.form,
        };
        let before = self.payments.find(record.payment).map(|h| (h.status, h.expires_at()));
        let has_key = step.request.is_some();
        let is_deed = is_admins(&step.actor);
        let Some((slot, number)) = self.payments.append(record.payment, step) else {
            return;
        };
        if is_deed {
            self.deeds.push(sequence);
        }
        if let Some((_, Some(expires_at))) = before {
            self.held.remove(&(expires_at, slot));
        }
        self.in_doubt.remove(&slot);
        self.in_review.remove(&slot);
        self.await_what_is_due(slot);
        self.tell(slot, number);
        if let Some(transaction) = &record.transaction {
            self.accounts.post(&self.payments, slot, number, transaction);
        }
        if has_key {
            self.keys.insert(&self.payments, slot, number);
        }
    }

    /// Notes what the payment in `slot` now waits for: its provider's answer, or that its hold lapses.
    fn await_what_is_due(&mut self, slot: Slot) {
        let Some(history) = self.payments.get(slot) else {
            return;
        };
        self.held.extend(history.expires_at().map(|expires_at| (expires_at, slot)));
        if history.out > 0 {
            self.in_doubt.insert(slot);
        }
        if history.needs_review {
            self.in_review.insert(slot);
        }
    }

    /// The history of a payment.
    #[must_use]
    pub fn history(&self, id: PaymentId) -> Option<&History> {
        self.payments.find(id)
    }

    /// Histories in the order in which their payments came onto the books, from `from` on.
    pub fn histories(&self, from: Slot) -> impl Iterator<Item = &History> {
        self.payments.iter_from(from)
    }

    /// How many payments are on the books.
    #[must_use]
    pub fn payment_count(&self) -> usize {
        self.payments.len()
    }

    /// A page of payments, newest first.
    #[must_use]
    pub fn list(
        &self,
        filter: &Filter,
        after: Option<PaymentId>,
        limit: usize,
    ) -> Option<Page<'_>> {
        self.payments.list(filter, after, limit)
    }

    /// What became of a merchant's request under `key`; `None`: nothing was done under it (or its retention is over).
    #[must_use]
    pub fn answered(
        &self,
        merchant: &str,
        key: &Key,
        retention: Retention,
        now: Timestamp,
    ) -> Option<Answered<'_>> {
        let answered = self.keys.find(&self.payments, merchant, key)?;
        retention.holds(answered.at, now).then_some(answered)
    }

    /// The hash of the journal block that holds entry `sequence`.
    #[must_use]
    pub fn block_hash(&self, sequence: Sequence) -> Option<Hash> {
        let after = self.blocks.partition_point(|(first, _)| *first <= sequence);
        let (_, hash) = self.blocks.get(after.checked_sub(1)?)?;
        (sequence <= self.position.sequence).then_some(*hash)
    }

    /// The account `name` (`merchant:…`, `customer:…`) as far as `merchant` may see it; an admin (`None`) sees the
    /// customers of all merchants, but for those of test payments. Empty: no money of such an account was ever moved or held.
    #[must_use]
    pub fn accounts_named(&self, name: &str, merchant: Option<&str>) -> Vec<Account> {
        self.accounts.named(&self.payments, name, merchant)
    }

    /// What an account holds as of `cut`.
    #[must_use]
    pub fn balances(&self, account: &Account, cut: Cut) -> Balances {
        self.accounts.balances(&self.payments, account, cut)
    }

    /// The account's ledger entries up to `cut`, newest first. `before` skips all from that sequence and leg on.
    pub fn lines<'a>(
        &'a self,
        account: &'a Account,
        cut: Cut,
        before: Option<(Sequence, u8)>,
    ) -> impl Iterator<Item = Line> + 'a {
        self.accounts.lines(&self.payments, account, cut, before)
    }

    /// Per kind of account and currency: the sum over all accounts, and how many there are.
    #[must_use]
    pub fn trial_balance(&self) -> &BTreeMap<(AccountKind, Currency), KindTotal> {
        self.accounts.totals()
    }

    /// All debits and credits posted so far, per currency.
    #[must_use]
    pub fn turnover(&self) -> &BTreeMap<Currency, Turnover> {
        self.accounts.turnover()
    }

    /// Accounts with a running balance, from number `from` on, in the order of their first use.
    pub fn account_books(&self, from: usize) -> impl Iterator<Item = &AccountBook> {
        self.accounts.iter_from(from)
    }

    /// The account's running balance; `None` for one that was never used, or the one customer of a payment.
    #[must_use]
    pub fn account_book(&self, account: &Account) -> Option<&AccountBook> {
        self.accounts.find(account)
    }

    /// What the running balances of `book` were as of entry `through`.
    #[must_use]
    pub fn running_balances(&self, book: &AccountBook, through: Sequence) -> Balances {
        Accounts::running(&self.payments, book, through)
    }

    /// Everything there is, so that two ways to the same books can be compared.
    #[cfg(any(test, feature = "fault-injection"))]
    #[must_use]
    pub fn digest(&self) -> Hash {
        use sha2::{Digest, Sha256};
        let mut digest = Sha256::new();
        digest.update(format!(
            "{:?}{:?}{:?}{:?}{:?}{:?}",
            self.position,
            self.blocks,
            self.held,
            self.in_doubt,
            self.in_review,
            self.payments_by_status()
        ));
        for history in self.histories(0) {
            digest.update(format!("{history:?}"));
            for step in history.steps() {
                let answered = step.request.as_ref().and_then(|request| {
                    self.keys.find(&self.payments, &history.details.merchant, &request.key)
                });
                digest.update(format!(
                    "{:?}",
                    answered.map(|it| (it.history.details.id, it.version))
                ));
            }
            let filter =
                Filter { merchant: Some(history.details.merchant.clone()), ..Filter::default() };
            let next = self.list(&filter, Some(history.details.id), 1);
            let next = next.and_then(|page| page.histories.first().map(|next| next.details.id));
            digest.update(format!("{next:?}"));
        }
        for book in self.account_books(0) {
            digest.update(format!("{book:?}"));
        }
        digest.update(format!("{:?}{:?}", self.trial_balance(), self.turnover()));
        digest.update(format!("{:?}{:?}{:?}", self.kept, self.deeds, self.strays));
        Hash(digest.finalize().into())
    }

    /// Seeds a fault: changes a running balance without an entry, so that a test sees reconciliation find it.
    #[cfg(any(test, feature = "fault-injection"))]
    pub fn corrupt_balance(&mut self, account: &Account, currency: Currency, by: i128) {
        self.accounts.corrupt(account, currency, by);
    }

    /// Authorized payments whose hold has lapsed at `now`, the longest lapsed first.
    pub fn lapsed(&self, now: Timestamp) -> impl Iterator<Item = &History> {
        self.held.range(..=(now, Slot::MAX)).filter_map(|(_, slot)| self.payments.get(*slot))
    }

    /// How many payments wait for an answer of a provider.
    #[must_use]
    pub fn in_doubt_count(&self) -> usize {
        self.in_doubt.len()
    }

    /// Payments of which a provider's answer is out, oldest first.
    pub fn in_doubt(&self) -> impl Iterator<Item = &History> {
        self.in_doubt.iter().filter_map(|slot| self.payments.get(*slot))
    }

    /// What of each provider is in doubt, per currency.
    #[must_use]
    pub fn doubts(&self) -> BTreeMap<(Arc<str>, Currency), Doubt> {
        let mut doubts: BTreeMap<_, Doubt> = BTreeMap::new();
        for payment in self.in_doubt().map(History::payment) {
            for attempt in payment.out() {
                let place = (attempt.ask.provider.clone(), payment.details.currency);
                let doubt = doubts.entry(place).or_default();
                doubt.amount += i128::from(attempt.in_doubt(&payment.details));
                doubt.attempts += 1;
                let since = doubt.since.get_or_insert(attempt.created_at);
                *since = attempt.created_at.min(*since);
            }
        }
        doubts
    }

    /// How many payments a person has to look at.
    #[must_use]
    pub fn in_review_count(&self) -> usize {
        self.in_review.len()
    }
}

/// Whether `record` may follow what stands in `before`, at time `at`.
fn judge(before: &Payment, record: &PaymentRecord, at: Timestamp) -> Result<(), Breach> {
    let (payment, version) = (record.payment, record.version);
    let illegal =
        |reason: String| Breach::IllegalEvent { payment, version, reason: reason.into_boxed_str() };
    if before.version.checked_add(1) != Some(version) && !seeded!(VersionNotChecked) {
        return Err(Breach::Version { payment, version, found: before.version });
    }
    if before.details.id != payment {
        return Err(illegal(format!("its details are those of {}", before.details.id)));
    }
    match payment::decide(before, payment::command_of(&record.event), at) {
        Ok(event) if event == record.event => {}
        Ok(_) => return Err(illegal("the rules make another event of it".into())),
        Err(refusal) => return Err(illegal(refusal.to_string())),
    }
    let transaction = ledger::transaction(&before.details, &record.event);
    let balances = transaction.as_ref().is_none_or(ledger::Transaction::balances);
    if transaction != record.transaction || !balances {
        return Err(Breach::WrongTransaction { payment, version });
    }
    Ok(())
}

//! What must be true whatever happened: the books against the clients' record, the bank's record, the journal's own
//! double entry, and the endpoint's.

use super::{
    bank::Effect,
    clients::{Clients, MERCHANT, Operation, Want, key_of, rendered},
    hooks::Endpoint,
};
use std::collections::BTreeMap;
use strongroom::{
    domain::{
        books::{Books, Cut},
        entry::{Batch, Record},
        event::{Action, CaptureMode, Standing},
        id::Sequence,
        idempotency::Retention,
        ledger::Account,
        money::Currency,
        payment::{Payment, Status},
        time::Timestamp,
        webhook::WebhookEvent,
    },
    journal::{Folders, Reader, snapshot},
};

/// Every answer that was given is still the answer.
pub fn answers_stand(clients: &Clients, books: &Books, now: Timestamp) {
    for (number, operation) in clients.operations.iter().enumerate() {
        let Some(answer) = &operation.answer else { continue };
        let answered = books.answered(MERCHANT, &key_of(number), Retention::Forever, now);
        let answered = answered.unwrap_or_else(|| {
            panic!("key {number} ({:?}) was answered and is lost", operation.want)
        });
        let payment = answered.history.payment_at(answered.version);
        let is_same = payment == answer.shown;
        assert!(is_same, "key {number} has another answer now: {}", rendered(&payment));
    }
}

/// The journal, read again: its chain is whole, its legs balance and are what the books hold, and it makes the same
/// books by itself as together with a snapshot. Returns the entry that made the endpoint.
pub fn journal_agrees(folders: &Folders, books: &Books) -> Sequence {
    let (mut sums, mut alone) = (BTreeMap::new(), Books::default());
    let (mut sequence, mut last, mut endpoint) = (0, Timestamp::default(), 0);
    for located in Reader::open(folders).unwrap().into_iter().flatten() {
        let batch = located.expect("the journal is whole").batch;
        for entry in &batch.entries {
            assert_eq!((entry.sequence, entry.at >= last), (sequence + 1, true));
            (sequence, last) = (entry.sequence, entry.at);
            if let Record::Webhook(record) = &entry.record
                && matches!(record.event, WebhookEvent::Created(_))
            {
                endpoint = sequence;
            }
        }
        add_up(&batch, &mut sums);
        alone.replay(&batch).expect("the rules make the journal");
    }
    assert_eq!(alone.position(), books.position());
    let mut totals: BTreeMap<Currency, (i128, i128)> = BTreeMap::new();
    for ((account, currency), (posted, pending)) in &sums {
        let balances = books.balances(account, Cut::Now);
        let balance = balances.get(currency).copied().unwrap_or_default();
        assert_eq!(
            (balance.posted, balance.pending),
            (*posted, *pending),
            "{account} {currency:?}"
        );
        let total = totals.entry(*currency).or_default();
        *total = (total.0 + posted, total.1 + pending);
    }
    assert!(totals.values().all(|total| *total == (0, 0)), "{totals:?}");
    endpoint
}

/// The journal alone makes the same books to the last field. Slow in a debug build.
pub fn the_same_books(folders: &Folders, books: &Books) {
    let mut alone = Books::default();
    for located in Reader::open(folders).unwrap().into_iter().flatten() {
        alone.replay(&located.unwrap().batch).unwrap();
    }
    assert_eq!(alone.digest(), books.digest(), "the journal alone makes other books");
}

/// Every snapshot says what the journal says.
pub fn snapshots_agree(folders: &Folders, books: &Books) {
    for comparison in snapshot::compare(folders, books).unwrap() {
        assert_eq!(comparison.difference, None, "a snapshot says otherwise");
    }
}

type Sums = BTreeMap<(Account, Currency), (i128, i128)>;

fn add_up(batch: &Batch, sums: &mut Sums) {
    for entry in &batch.entries {
        let Record::Payment(record) = &entry.record else { continue };
        let Some(transaction) = &record.transaction else { continue };
        let mut own = (0, 0);
        for leg in &transaction.legs {
            let sum = sums.entry((leg.account.clone(), transaction.currency)).or_default();
            *sum = (sum.0 + i128::from(leg.posted), sum.1 + i128::from(leg.pending));
            own = (own.0 + leg.posted, own.1 + leg.pending);
        }
        assert_eq!(own, (0, 0), "entry {} does not balance", entry.sequence);
    }
}

/// Limits hold for every payment on the books.
pub fn limits_hold(books: &Books) {
    for history in books.histories(0) {
        let payment = history.payment();
        let amount = payment.details.amount.minor_units();
        let given = payment.refunded + payment.refunds_out();
        assert!(payment.captured <= amount && given <= payment.captured, "{payment:?}");
    }
}

/// When everything is settled, the clients, the books and the bank agree about every cent.
pub fn all_agree(clients: &Clients, books: &Books, effects: &[Effect]) {
    limits_hold(books);
    let mut payments = 0;
    for (number, operation) in clients.operations.iter().enumerate() {
        let Want::Charge { amount, manual, outside } = operation.want else { continue };
        let who = format!("charge-{number}");
        let at_bank: Vec<&Effect> = effects.iter().filter(|it| *it.who == *who).collect();
        let Some(answer) = &operation.answer else {
            assert!(at_bank.is_empty(), "{who} was never answered, and the bank did {at_bank:?}");
            continue;
        };
        payments += 1;
        let payment = books.history(answer.payment).expect("an answered payment").payment();
        assert_eq!(payment.details.amount.minor_units(), amount);
        assert_eq!(payment.details.capture == CaptureMode::Manual, manual);
        let wishes = clients.operations.iter().filter(|it| is_about(it, number));
        wishes_were_granted_once(&payment, wishes);
        if outside {
            the_bank_did_that(&payment, &at_bank);
        }
    }
    assert_eq!(payments, books.payment_count(), "a payment that nobody was told of");
}

fn is_about(operation: &Operation, charge: usize) -> bool {
    let of = match operation.want {
        Want::Charge { .. } => return false,
        Want::Capture { of, .. } | Want::Void { of } | Want::Refund { of, .. } => of,
    };
    of == charge && operation.answer.is_some()
}

/// Every wish that was answered is there once, and nothing that nobody wished. What was refused is not on the books: its
/// client has asked again where a request under the key went unheard ([`Operation::is_known`]).
fn wishes_were_granted_once<'a>(payment: &Payment, wishes: impl Iterator<Item = &'a Operation>) {
    let (mut refunds, mut captures, mut voids) = (Vec::new(), 0, 0);
    for wish in wishes {
        match wish.want {
            Want::Refund { amount, .. } => refunds.push(amount),
            Want::Capture { .. } => captures += 1,
            Want::Void { .. } => voids += 1,
            Want::Charge { .. } => {}
        }
    }
    let mut booked: Vec<i64> = payment.refunds.iter().map(|it| it.amount.minor_units()).collect();
    refunds.sort_unstable();
    booked.sort_unstable();
    assert_eq!(refunds, booked, "refunds of {payment:?}");
    let count =
        |is: fn(&Action) -> bool| payment.attempts.iter().filter(|it| is(&it.ask.action)).count();
    assert_eq!(captures, count(|it| matches!(it, Action::Capture { .. })), "{payment:?}");
    assert_eq!(voids, count(|it| matches!(it, Action::Void)), "{payment:?}");
    let succeeded = payment.refunds.iter().filter(|it| it.standing == Standing::Succeeded);
    let given: i64 = succeeded.map(|it| it.amount.minor_units()).sum();
    assert_eq!(given, payment.refunded);
}

/// What the books say was done, the bank did, once; and nothing else.
fn the_bank_did_that(payment: &Payment, at_bank: &[&Effect]) {
    for effect in at_bank {
        assert_eq!(effect.payment, payment.details.id, "a second payment of one key: {effect:?}");
    }
    for effect in at_bank {
        let same = at_bank.iter().filter(|other| {
            matches!((other.action, effect.action), (Action::Authorize, Action::Authorize))
                || other.attempt == effect.attempt
        });
        assert_eq!(same.count(), 1, "done twice: {effect:?} of {at_bank:?}");
    }
    let mut booked: Vec<(Sequence, i64)> = Vec::new();
    for attempt in &payment.attempts {
        assert_ne!(attempt.standing, Standing::Out, "not settled: {payment:?}");
        if attempt.standing == Standing::Succeeded {
            let moves = !matches!(attempt.ask.action, Action::Void | Action::Expire);
            let amount = attempt.amount(&payment.details).minor_units();
            booked.push((attempt.sequence, if moves { amount } else { 0 }));
        }
    }
    let mut done: Vec<(Sequence, i64)> =
        at_bank.iter().map(|it| (it.attempt.sequence, it.amount)).collect();
    booked.sort_unstable();
    done.sort_unstable();
    assert_eq!(booked, done, "books and bank disagree about {payment:?}");
    let taken: i64 = match payment.status {
        Status::Failed | Status::Authorized | Status::Voided | Status::Expired => 0,
        _ => payment.captured - payment.refunded,
    };
    let sum = |is: fn(&Effect) -> bool| -> i64 {
        at_bank.iter().filter(|it| is(it)).map(|it| it.amount).sum()
    };
    let took = sum(|it| match it.action {
        Action::Authorize => !it.manual,
        Action::Capture { .. } => true,
        _ => false,
    });
    let gave = sum(|it| matches!(it.action, Action::Refund { .. }));
    assert_eq!(took - gave, taken, "{payment:?}");
    assert!(gave <= took, "more was given back than taken: {at_bank:?}");
}

/// Every event was taken at least once, and none that is not on the books.
pub fn events_were_told(books: &Books, endpoint: &Endpoint, since: Sequence) {
    for sequence in since..=books.position().sequence {
        let is_event = books.event(sequence).is_some();
        assert_eq!(is_event, endpoint.has(sequence), "event {sequence}");
    }
}

/// Whatever the endpoint was told is on the books.
pub fn told_events_stand(books: &Books, endpoint: &Endpoint) {
    for sequence in endpoint.sequences() {
        assert!(books.event(sequence).is_some(), "event {sequence} was told and is lost");
    }
}

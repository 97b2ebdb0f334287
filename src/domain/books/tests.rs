//! Laws of the books, over any sequence of commands.

use super::*;
use crate::domain::{
    command::Command,
    entry::Entry,
    event::{CaptureMode, Decline, Details, Evidence, Note, Outcome},
    idempotency::{Fingerprint, Operation},
    ledger::{Account, Balance},
    money::Amount,
    payment::Status,
    reconciliation::{Recount, Report},
};
use proptest::prelude::*;
use uuid::Uuid;

mod proofs;
mod seen;

const MERCHANTS: [&str; 2] = ["north", "south"];
const CURRENCIES: [&str; 3] = ["EUR", "JPY", "KWD"];

fn id(number: u8) -> PaymentId {
    PaymentId::new(Uuid::from_u128(u128::from(number) + 1))
}

fn details(number: u8, amount: i64) -> Arc<Details> {
    let of = |names: &[&'static str]| names[usize::from(number) % names.len()];
    let currency = of(&CURRENCIES);
    Arc::new(Details {
        id: id(number),
        merchant: of(&MERCHANTS).into(),
        amount: Amount::new(amount).unwrap(),
        currency: Currency::for_payment(currency).unwrap(),
        capture: if number.is_multiple_of(2) {
            CaptureMode::Manual
        } else {
            CaptureMode::Automatic
        },
        payment_method: "tok_visa".into(),
        customer: number.is_multiple_of(3).then(|| "anna".into()),
        description: None,
        metadata: Box::default(),
        provider: "sandbox".into(),
        hold_ms: 50,
    })
}

/// The books and all that was written, one entry a batch.
#[derive(Default)]
struct Desk {
    books: Books,
    batches: Vec<Batch>,
}

impl Desk {
    /// Judges, and if it is allowed records, a command at `at`.
    fn command(&mut self, number: u8, command: Command, at: u64) -> bool {
        let at = self.books.position().at.max(Timestamp::from_millis(at));
        let payment = match (self.books.history(id(number)), &command) {
            (Some(history), _) => history.payment(),
            (None, Command::Submit { details, .. } | Command::Initiate(details)) => {
                Payment::pending(details.clone(), None)
            }
            (None, _) => return false,
        };
        // Attempts are named by their place among those of the payment.
        let named = |place: u64| {
            let attempts = &payment.attempts;
            let place = usize::try_from(place).unwrap();
            attempts.get(place % attempts.len().max(1)).map_or(0, |attempt| attempt.sequence)
        };
        let command = match command {
            Command::Answer { attempt, outcome, evidence } => {
                Command::Answer { attempt: named(attempt), outcome, evidence }
            }
            Command::Reroute { attempt, outcome, evidence, next } => {
                Command::Reroute { attempt: named(attempt), outcome, evidence, next }
            }
            other => other,
        };
        let Ok(event) = payment::decide(&payment, command, at) else {
            return false;
        };
        let record = record(&payment, event);
        self.books.check(&record, at).unwrap();
        self.write(Record::Payment(record), at);
        true
    }

    fn write(&mut self, record: Record, at: Timestamp) {
        let sequence = self.books.position().sequence + 1;
        let mut hash = Hash::default();
        hash.0[..8].copy_from_slice(&sequence.to_be_bytes());
        let batch = Batch { entries: vec![Entry { sequence, at, record }], hash };
        self.batches.push(batch.clone());
        self.books.apply(batch);
    }

    fn reconcile(&self) -> Report {
        let mut recount = Recount::begin(&self.books);
        while recount.proceed(&self.books, 3) {}
        recount.finish()
    }
}

fn record(payment: &Payment, event: Event) -> PaymentRecord {
    let version = payment.version + 1;
    PaymentRecord {
        payment: payment.details.id,
        version,
        actor: "north/test".into(),
        transaction: ledger::transaction(&payment.details, &event),
        event,
        request: Some(Request {
            key: Key::new(&format!("{}-{version}", payment.details.id)).unwrap(),
            fingerprint: Fingerprint::of("POST", "/", b"{}"),
            operation: Operation::Create,
        }),
        form: payment::Form::default(),
    }
}

fn approved() -> Outcome {
    Outcome::Approved { reference: "r".into() }
}

fn commands() -> impl Strategy<Value = Vec<(u8, Command, u64)>> {
    let outcome = prop_oneof![
        3 => Just(Some(approved())),
        1 => Just(None),
        1 => Just(Some(Outcome::Declined(Decline::CardDeclined)))
    ];
    let amount = prop::option::of((1i64..400).prop_map(|units| Amount::new(units).unwrap()));
    let evidence = prop_oneof![
        2 => Just(Evidence::Reply),
        1 => Just(Evidence::LookUp),
        1 => Just(Evidence::Webhook("evt_1".into())),
        2 => Just(Evidence::Person("seen".into())),
    ];
    let attempt = (0u64..6, evidence, 0u8..7);
    let command = (0u8..8, outcome, amount, 0u8..9, attempt);
    let command = command.prop_map(|(number, outcome, amount, kind, (attempt, evidence, way))| {
        let change = match kind {
            0..=2 => Command::Submit { details: details(number, 300), outcome: outcome.clone() },
            3 => Command::Initiate(details(number, 300)),
            4 => Command::Settle(outcome.clone().unwrap_or(approved())),
            5 => Command::Capture(amount),
            6 => Command::Void,
            7 => Command::Expire,
            _ => Command::Refund { amount, reason: None },
        };
        let decline = |decline| Outcome::DeclinedBy { decline, code: "c".into() };
        let provider = |attempt| if attempt % 2 == 0 { "one".into() } else { "two".into() };
        let command = match way {
            0 => Command::Answer { attempt, outcome: approved(), evidence },
            1 => Command::Answer { attempt, outcome: decline(Decline::CardDeclined), evidence },
            2 => Command::Reroute {
                attempt,
                outcome: decline(Decline::ProcessingError),
                evidence,
                next: provider(attempt),
            },
            3 | 4 => Command::Ask { provider: provider(attempt), change: Box::new(change) },
            5 if kind == 0 => Command::Note(Note::Reviewed { what: "looked at".into() }),
            _ => change,
        };
        (number, command)
    });
    prop::collection::vec((command, 0u64..1000).prop_map(|((n, c), at)| (n, c, at)), 1..60)
}

proptest! {
    #[test]
    fn whatever_is_accepted_the_books_balance_and_limits_hold(commands in commands()) {
        let mut desk = Desk::default();
        for (number, command, at) in commands {
            desk.command(number, command, at);
            for total in desk.books.turnover().values() {
                prop_assert_eq!(total.debits, total.credits);
            }
        }
        for history in desk.books.histories(0) {
            let payment = history.payment();
            prop_assert!(payment.captured <= payment.details.amount.minor_units());
            prop_assert!((0..=payment.captured).contains(&payment.refunded));
            let promised = payment.refunded + payment.refunds_out();
            prop_assert!(promised <= payment.captured, "{promised} of {}", payment.captured);
            prop_assert_eq!(payment.out().count(), usize::from(history.out));
            if history.out == 0 && !history.needs_review {
                prop_assert_eq!(history.expires_at(), payment.expires_at);
            }
        }
        let out: i128 = desk.books.histories(0).flat_map(|history| {
            let payment = history.payment();
            let booked = payment.out().filter(|attempt| attempt.is_booked);
            booked.map(|attempt| i128::from(attempt.amount(&payment.details).minor_units()))
                .collect::<Vec<_>>()
        }).sum();
        // A capture that is out keeps all of the hold in doubt, also what it would release.
        let in_doubt: i128 = desk.books.trial_balance().iter()
            .filter(|((kind, _), _)| *kind == AccountKind::InDoubt)
            .map(|(_, total)| total.balance.pending).sum();
        prop_assert!(in_doubt >= out, "{in_doubt} in doubt, {out} out");
        prop_assert_eq!(in_doubt == 0, out == 0);
        let report = desk.reconcile();
        prop_assert!(report.balanced(), "{:?}", report.checks);
    }

    #[test]
    fn the_same_entries_make_the_same_books(commands in commands()) {
        let mut desk = Desk::default();
        for (number, command, at) in commands {
            desk.command(number, command, at);
        }
        let mut again = Books::default();
        for batch in &desk.batches {
            prop_assert_eq!(again.replay(batch), Ok(()));
        }
        prop_assert_eq!(again.position(), desk.books.position());
        prop_assert_eq!(again.trial_balance(), desk.books.trial_balance());
        let payments = |books: &Books| books.histories(0).map(History::payment).collect::<Vec<_>>();
        prop_assert_eq!(payments(&again), payments(&desk.books));
        for (a, b) in again.account_books(0).zip(desk.books.account_books(0)) {
            prop_assert_eq!((&a.account, a.balances()), (&b.account, b.balances()));
        }
    }

    #[test]
    fn an_account_as_it_stood_is_what_was_seen_then(commands in commands(), cut in 0usize..60) {
        let mut desk = Desk::default();
        let accounts = |books: &Books| -> Vec<Account> {
            ["merchant:north", "merchant:south", "customer:anna"]
                .iter().flat_map(|name| books.accounts_named(name, None)).collect()
        };
        let look = |books: &Books, cut| -> Vec<_> {
            accounts(books).iter().map(|account| {
                let held = books.balances(account, cut).into_iter()
                    .filter(|(_, balance)| *balance != Balance::default()).collect::<Vec<_>>();
                let lines: Vec<Line> = books.lines(account, cut, None).collect();
                (account.clone(), held, lines)
            }).filter(|(_, held, lines)| !held.is_empty() || !lines.is_empty()).collect()
        };
        let mut seen = None;
        for (count, (number, command, at)) in commands.into_iter().enumerate() {
            desk.command(number, command, at);
            if count == cut {
                seen = Some((desk.books.position().sequence, look(&desk.books, Cut::Now)));
            }
        }
        if let Some((sequence, seen)) = seen {
            prop_assert_eq!(look(&desk.books, Cut::Sequence(sequence)), seen);
        }
    }
}

fn charged() -> Desk {
    let mut desk = Desk::default();
    let submit = Command::Submit { details: details(1, 300), outcome: Some(approved()) };
    assert!(desk.command(1, submit, 1));
    desk
}

#[test]
fn a_second_writer_of_the_same_version_is_refused() {
    let mut desk = charged();
    let payment = desk.books.history(id(1)).unwrap().payment();
    let refund = |units| {
        let amount = Some(Amount::new(units).unwrap());
        let command = Command::Refund { amount, reason: None };
        record(&payment, payment::decide(&payment, command, Timestamp::default()).unwrap())
    };
    // Both were decided when nothing had been refunded.
    let (first, second) = (refund(200), refund(200));
    let at = Timestamp::from_millis(2);
    desk.books.check(&first, at).unwrap();
    desk.write(Record::Payment(first), at);
    let refused = desk.books.check(&second, at);
    assert!(matches!(refused, Err(Breach::Version { found: 2, version: 2, .. })), "{refused:?}");
}

#[test]
fn a_record_that_the_rules_do_not_make_is_refused() {
    let desk = charged();
    let payment = desk.books.history(id(1)).unwrap().payment();
    let check = |record: &PaymentRecord| desk.books.check(record, Timestamp::from_millis(2));
    let too_much = Event::Refunded { amount: Amount::new(301).unwrap(), reason: None };
    assert!(matches!(check(&record(&payment, too_much)), Err(Breach::IllegalEvent { .. })));
    assert!(matches!(check(&record(&payment, Event::Voided)), Err(Breach::IllegalEvent { .. })));
    let fair = Event::Refunded { amount: Amount::new(300).unwrap(), reason: None };
    let mut record = record(&payment, fair);
    assert_eq!(check(&record), Ok(()));
    record.transaction.as_mut().unwrap().legs[0].posted += 1;
    assert!(matches!(check(&record), Err(Breach::WrongTransaction { .. })));
    record.transaction = None;
    assert!(matches!(check(&record), Err(Breach::WrongTransaction { .. })));
}

#[test]
fn a_key_is_used_once_within_its_retention() {
    let desk = charged();
    let used = Key::new(&format!("{}-1", id(1))).unwrap();
    let check = |merchant, retention, at| {
        desk.books.check_key(merchant, &used, retention, Timestamp::from_millis(at))
    };
    let taken = Err(Breach::KeyTaken { payment: id(1) });
    assert_eq!(check("south", Retention::Forever, u64::MAX), taken);
    assert_eq!(check("south", Retention::Millis(10), 10), taken);
    assert_eq!(check("south", Retention::Millis(10), 11), Ok(()));
    assert_eq!(check("north", Retention::Forever, 2), Ok(()), "keys are a merchant's own");
}

#[test]
fn each_key_of_a_merchant_is_answered_by_what_was_done_under_it() {
    let mut desk = charged();
    assert!(desk.command(1, Command::Refund { amount: Amount::new(10), reason: None }, 2));
    let submit = Command::Submit { details: details(3, 300), outcome: Some(approved()) };
    assert!(desk.command(3, submit, 3));
    let answered = |key: &str| {
        let key = Key::new(key).unwrap();
        let now = Timestamp::from_millis(9);
        let answered = desk.books.answered("south", &key, Retention::Forever, now)?;
        Some((answered.history.details.id, answered.version))
    };
    for (payment, version) in [(1, 1), (1, 2), (3, 1)] {
        let key = format!("{}-{version}", id(payment));
        assert_eq!(answered(&key), Some((id(payment), version)));
    }
    assert_eq!(answered("another"), None);
}

#[test]
fn a_balance_changed_behind_the_books_back_is_found() {
    let mut desk = charged();
    assert!(desk.reconcile().balanced());
    let currency = Currency::for_payment("JPY").unwrap();
    desk.books.corrupt_balance(&Account::Merchant("south".into()), currency, 1);
    let report = desk.reconcile();
    let broken: Vec<_> = report.checks.iter().filter(|check| !check.ok()).collect();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].name, "balances_match_entries");
    assert!(broken[0].failures[0].what.contains("merchant:south JPY"), "{:?}", broken[0].failures);
}

#[test]
fn an_event_that_is_no_longer_in_its_merchants_list_is_found() {
    let mut desk = charged();
    assert!(desk.reconcile().balanced());
    let merchant = desk.books.histories(0).next().unwrap().details.merchant.clone();
    desk.books.corrupt_events(&merchant);
    let report = desk.reconcile();
    let check = report.checks.iter().find(|check| check.name == "events_match_payments").unwrap();
    assert_eq!((check.failed, report.balanced()), (1, false));
    assert!(check.failures[0].what.contains(&*merchant), "{}", check.failures[0].what);
}

#[test]
fn a_number_of_payments_by_status_that_is_wrong_is_found() {
    let mut desk = charged();
    assert!(desk.reconcile().balanced());
    let counted: u64 = desk.books.payments_by_status().values().sum();
    assert_eq!(usize::try_from(counted), Ok(desk.books.payment_count()));
    desk.books.corrupt_status(Status::Voided);
    let report = desk.reconcile();
    let check = report.checks.iter().find(|check| check.name == "payments_match_ledger").unwrap();
    assert_eq!((check.failed, report.balanced()), (1, false));
    assert!(check.failures[0].what.contains("Voided: 1"), "{}", check.failures[0].what);
}

#[test]
fn a_recount_in_slices_leaves_out_what_comes_later() {
    let mut desk = charged();
    let mut recount = Recount::begin(&desk.books);
    let refund = Command::Refund { amount: None, reason: None };
    assert!(desk.command(1, refund, 5));
    for number in [3, 2] {
        let submit = Command::Submit { details: details(number, 200), outcome: Some(approved()) };
        assert!(desk.command(number, submit, 6));
    }
    while recount.proceed(&desk.books, 1) {}
    assert_eq!(recount.totals().position.sequence, 1);
    let report = recount.finish();
    assert!(report.balanced(), "{:?}", report.checks);
    assert_eq!(report.position.sequence, 1);
    let credits: Vec<i128> = report.turnover.values().map(|turnover| turnover.credits).collect();
    assert_eq!(credits, [300]);
}

#[test]
fn a_merchant_lists_its_own_payments_newest_first_page_by_page() {
    let mut desk = Desk::default();
    for number in 0..7 {
        let submit = Command::Submit { details: details(number, 10), outcome: Some(approved()) };
        assert!(desk.command(number, submit, u64::from(number)));
    }
    let list = |filter: &Filter, after: Option<PaymentId>| {
        let page = desk.books.list(filter, after, 2)?;
        let ids: Vec<PaymentId> = page.histories.iter().map(|h| h.details.id).collect();
        Some((ids, page.next))
    };
    let north = Filter { merchant: Some("north".into()), ..Filter::default() };
    assert_eq!(list(&north, None), Some((vec![id(6), id(4)], Some(id(4)))));
    assert_eq!(list(&north, Some(id(4))), Some((vec![id(2), id(0)], None)));
    assert_eq!(list(&north, Some(id(5))), None, "another merchant's payment is no cursor");
    let all = Filter {
        from: Some(Timestamp::from_millis(1)),
        to: Some(Timestamp::from_millis(3)),
        ..Filter::default()
    };
    assert_eq!(list(&all, None), Some((vec![id(2), id(1)], None)));
    let anna = Filter { customer: Some("anna".into()), ..north.clone() };
    assert_eq!(list(&anna, None), Some((vec![id(6), id(0)], None)));
    let held = Filter { status: Some(payment::Status::Authorized), ..Filter::default() };
    assert_eq!(list(&held, None).unwrap().0, [id(6), id(4)]);
}

#[test]
fn a_look_at_the_past_of_a_busy_account_is_exact_across_checkpoints() {
    let mut desk = Desk::default();
    let count = 2_500u16;
    for number in 0..count {
        let mut details = (*details(1, 10)).clone();
        details.id = PaymentId::new(Uuid::from_u128(u128::from(number) + 1));
        let payment = Payment::pending(Arc::new(details.clone()), None);
        let outcome = Some(approved());
        let submitted = Event::Submitted { details: Arc::new(details), outcome };
        let at = Timestamp::from_millis(u64::from(number));
        desk.write(Record::Payment(record(&payment, submitted)), at);
    }
    let account = Account::Merchant("south".into());
    let currency = Currency::for_payment("JPY").unwrap();
    for sequence in [0, 1, 1023, 1024, 1025, 2047, 2048, 2049, 2500, 9999] {
        let balances = desk.books.balances(&account, Cut::Sequence(sequence));
        let posted = balances.get(&currency).map_or(0, |balance| balance.posted);
        assert_eq!(posted, i128::from(sequence.min(u64::from(count))) * 10, "at {sequence}");
        let time = Cut::Time(Timestamp::from_millis(sequence.wrapping_sub(1)));
        if sequence > 0 {
            assert_eq!(desk.books.balances(&account, time), balances);
        }
    }
}

#[test]
fn rare_events_are_looked_for_in_slices_that_are_bounded_by_entries_not_by_finds() {
    use crate::domain::webhook::{EventType, Filter, Pattern};
    let mut desk = Desk::default();
    for number in 0..7 {
        let submit = Command::Submit { details: details(number, 10), outcome: Some(approved()) };
        assert!(desk.command(number, submit, u64::from(number)));
    }
    // Entries 2, 4 and 6.
    let completed = Filter::new(vec![Pattern::Exactly(EventType::Completed)]);
    let filter = EventFilter { merchant: None, types: completed };
    let look = |direction, limits| {
        let (found, on) = desk.books.events(&filter, direction, limits);
        (found.iter().map(|event| event.step.sequence).collect::<Vec<_>>(), on)
    };
    let before = |before| Direction::NewestFirst { before };
    let after = |after| Direction::OldestFirst { after };
    assert_eq!(look(before(Sequence::MAX), (10, 3)), (vec![6], Some(before(5))));
    assert_eq!(look(before(5), (10, 3)), (vec![4, 2], Some(before(2))));
    assert_eq!(look(before(2), (10, 3)), (vec![], None));
    assert_eq!(look(after(0), (10, 1)), (vec![], Some(after(1))));
    assert_eq!(look(after(1), (2, 10)), (vec![2, 4], Some(after(4))));
    assert_eq!(look(after(4), (2, 10)), (vec![6], None));
}

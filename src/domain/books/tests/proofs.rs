//! What proves the books: counts of failures, and books that are put together from histories.

use super::*;
use crate::domain::reconciliation::Check;

#[test]
fn every_failure_of_a_check_is_counted_and_the_first_hundred_are_told() {
    let mut check = Check::new("rule");
    assert!(check.ok());
    for number in 0..103 {
        check.look(number % 103 == 0, || format!("{number} is wrong"));
    }
    assert_eq!((check.checked, check.failed, check.failures.len()), (103, 102, 100));
    assert_eq!(check.failures[0].what, "1 is wrong");
    assert!(!check.ok());
}

/// Books of two payments, and each payment's entries.
fn traded() -> (Desk, [Vec<Placed>; 2]) {
    let mut desk = Desk::default();
    let submit = |number| {
        let (details, outcome) = (details(number, 300), Some(approved()));
        Command::Submit { details, outcome }
    };
    let refund = Command::Refund { amount: Amount::new(10), reason: None };
    assert!(desk.command(1, submit(1), 1) && desk.command(4, submit(4), 2));
    assert!(desk.command(1, refund, 3));
    let placed = |number| {
        let entries = desk.batches.iter().flat_map(|batch| &batch.entries);
        let of_payment = entries.filter_map(|entry| match &entry.record {
            Record::Payment(record) if record.payment == id(number) => {
                let record = record.clone();
                Some(Placed { sequence: entry.sequence, at: entry.at, record })
            }
            _ => None,
        });
        of_payment.collect::<Vec<_>>()
    };
    let entries = [placed(1), placed(4)];
    (desk, entries)
}

fn history(entries: &[Placed]) -> Result<History, String> {
    Historian::default().history(entries.to_vec())
}

#[test]
fn a_history_is_made_only_of_entries_that_can_follow_each_other() {
    let (_, [entries, _]) = traded();
    assert_eq!(history(&entries).unwrap().steps().len(), 2);
    assert!(history(&entries[1..]).unwrap_err().contains("does not submit it"));
    assert!(history(&[]).is_err());
    let mut same_place = entries.clone();
    same_place[1].sequence = entries[0].sequence;
    assert!(history(&same_place).unwrap_err().contains("stands behind"));
    let mut twice = entries.clone();
    twice.push(entries[1].clone());
    assert!(history(&twice).unwrap_err().contains("is at version 2"));
}

#[test]
fn books_are_put_together_only_from_what_one_journal_can_hold() {
    let (desk, [one, other]) = traded();
    let restore = |position: Position, entries: &[&[Placed]]| {
        let histories = entries.iter().map(|entries| history(entries).unwrap()).collect();
        Books::restore(
            position,
            desk.books.blocks.iter().copied().collect(),
            histories,
            Vec::new(),
            Vec::new(),
        )
    };
    let position = desk.books.position();
    let books = restore(position, &[&other, &one]).unwrap();
    assert_eq!(books.digest(), desk.books.digest());
    let before = Position { sequence: position.sequence - 1, ..position };
    let behind = restore(before, &[&other, &one]).err().unwrap();
    assert!(behind.contains("entries behind 2"), "{behind}");
    let mut same_entry = other.clone();
    same_entry[0].sequence = one[0].sequence;
    let twice = restore(position, &[&one, &same_entry]).err().unwrap();
    assert_eq!(twice, "entry 1 is there twice");
    let mut later = one.clone();
    later.iter_mut().for_each(|placed| placed.sequence += 3);
    let after = Position { sequence: 9, ..position };
    let same_payment = restore(after, &[&one, &later]).err().unwrap();
    assert!(same_payment.contains(&format!("{} is there twice", id(1))), "{same_payment}");
}

#[test]
fn a_capture_that_leaves_money_nowhere_is_refused_though_its_ledger_entry_fits_it() {
    let (desk, _) = traded();
    let payment = desk.books.history(id(4)).unwrap().payment();
    let amount = Amount::new(100).unwrap();
    let capture = |released| record(&payment, Event::Captured { amount, released });
    let at = Timestamp::from_millis(4);
    assert_eq!(desk.books.check(&capture(200), at), Ok(()));
    assert!(matches!(desk.books.check(&capture(0), at), Err(Breach::IllegalEvent { .. })));
}

#[test]
fn books_that_differ_have_different_digests() {
    let (desk, _) = traded();
    let mut books = Books::default();
    let mut digests = vec![books.digest()];
    for batch in &desk.batches {
        books.replay(batch).unwrap();
        digests.push(books.digest());
    }
    digests.sort_by_key(|digest| digest.0);
    digests.dedup();
    assert_eq!(digests.len(), 1 + desk.batches.len());
}

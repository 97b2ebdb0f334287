//! Any wishes in any order: the books balance, recount to themselves, and are the same when they are read back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::domain::{books::Books, reconciliation::Recount};
use strongroom_fuzz::{Desk, Wish};

fuzz_target!(|wishes: Vec<Wish<'_>>| {
    let mut desk = Desk::default();
    wishes.iter().for_each(|wish| desk.take(wish));
    let balanced = desk.books.turnover().values().all(|total| total.debits == total.credits);
    assert!(balanced, "books that do not balance");
    let mut recount = Recount::begin(&desk.books);
    while recount.proceed(&desk.books, 100) {}
    assert!(recount.finish().balanced(), "a recount that differs");
    let mut again = Books::default();
    for batch in &desk.batches {
        again.replay(batch).expect("what was written is judged again as it was");
    }
    assert_eq!(again.digest(), desk.books.digest());
});

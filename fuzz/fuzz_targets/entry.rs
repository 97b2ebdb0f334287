//! The payload of a batch whose hash is right: entries are read, written and read again the same, and the books judge them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::{domain::books::Books, journal::fuzzing::sealed};

fuzz_target!(|case: (u8, &[u8])| {
    let (count, payload) = case;
    if let Ok(batch) = sealed(payload, u32::from(count), 1) {
        let mut books = Books::default();
        if books.replay(&batch).is_ok() {
            let sums = books.turnover().values().all(|total| total.debits == total.credits);
            assert!(sums, "books that do not balance");
        }
    }
});

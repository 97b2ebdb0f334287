//! Snapshots: a whole file, its contents under a right hash, and a part of each kind under a right hash.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::journal::snapshot::fuzzing::{file, part};

fuzz_target!(|case: (u8, u8, &[u8])| {
    let (items, entries, bytes) = case;
    if items == 0 {
        file(bytes);
    }
    part(bytes, items.into(), entries.into());
});

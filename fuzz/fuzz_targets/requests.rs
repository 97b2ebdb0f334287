//! Queries, idempotency keys, and the headers that are read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use strongroom::http::{
    Door,
    fuzzing::{header, query},
};

static DOOR: LazyLock<Door> = LazyLock::new(strongroom_fuzz::door);

fuzz_target!(|bytes: &[u8]| {
    header(&DOOR, bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        query(text);
    }
});

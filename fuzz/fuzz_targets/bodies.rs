//! Bodies of requests, each as the body of every request there is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use strongroom::http::{Door, fuzzing::body};

static DOOR: LazyLock<Door> = LazyLock::new(strongroom_fuzz::door);

fuzz_target!(|bytes: &[u8]| body(&DOOR, bytes));

//! Stripe's messages, replies and signatures, and whatever else comes where those are expected.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::provider::stripe::fuzzing::{message, proves, reply};

fuzz_target!(|case: (u16, &str, &[u8])| {
    let (status, header, body) = case;
    assert!(!proves(header, body), "a signature that nobody made");
    message(body);
    reply(100 + status % 500, body);
});

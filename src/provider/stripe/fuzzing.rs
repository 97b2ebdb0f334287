//! The door for fuzzing what comes from Stripe, or says that it does.

use super::{
    client::{Heard, Reply},
    events::{self, Told},
    objects::{Intent, Page, Refund},
    reply, signature,
};
use crate::domain::{event::Action, money::Amount};
use actix_web::{http::StatusCode, web::Bytes};

/// Reads `body` as a message about an event, and as what lists hold.
pub fn message(body: &[u8]) {
    match events::parse(body) {
        Ok(Told::Charge(event, intent)) => {
            drop(events::of_charge(&event, &intent));
        }
        Ok(Told::Refund(event, refund)) => {
            let payment = refund.metadata().payment();
            drop(events::of_refund(&event, &refund, payment));
        }
        Ok(Told::Nothing) | Err(_) => {}
    }
    drop(serde_json::from_slice::<Page>(body));
}

/// Reads `body` as the reply of this status to each kind of call.
pub fn reply(status: u16, body: &[u8]) {
    let Ok(status) = StatusCode::from_u16(status) else { return };
    let heard = || {
        let (body, should_retry) = (Some(Bytes::copy_from_slice(body)), None);
        Heard::Reply(Reply { status, body, request: "req_1".into(), should_retry })
    };
    let Some(amount) = Amount::new(100) else { return };
    for action in [Action::Authorize, Action::Capture { amount, released: 0 }, Action::Void] {
        drop(reply::object::<Intent>(action, heard()));
    }
    drop(reply::object::<Refund>(Action::Refund { amount }, heard()));
}

/// Whether Stripe signed `body`.
#[must_use]
pub fn proves(header: &str, body: &[u8]) -> bool {
    signature::proves("whsec_fuzzed", header, body, 1_795_000_000)
}

//! A provider that has a bug, for tests of the real program. Only compiled for tests.
//!
//! The environment variable `STRONGROOM_PROVIDER_FAULT` set to `authorization-panics-once` or `look-up-panics-once` makes
//! the first such call panic.

use super::{Answering, Call, Message, Provider, Reading, Terms};
use crate::domain::money::Amount;
use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
};

/// `provider`, with the fault that the environment asks for.
#[must_use]
pub fn faults_from_environment(
    provider: Box<dyn Provider + Send + Sync>,
) -> Box<dyn Provider + Send + Sync> {
    let call = match env::var("STRONGROOM_PROVIDER_FAULT").as_deref() {
        Ok("authorization-panics-once") => Panics::Authorization,
        Ok("look-up-panics-once") => Panics::LookUp,
        _ => return provider,
    };
    Box::new(PanicsOnce { provider, call, panicked: AtomicBool::new(false) })
}

#[derive(PartialEq, Eq)]
enum Panics {
    Authorization,
    LookUp,
}

struct PanicsOnce {
    provider: Box<dyn Provider + Send + Sync>,
    call: Panics,
    panicked: AtomicBool,
}

impl PanicsOnce {
    fn panic_if(&self, call: &Panics) {
        let panics = self.call == *call && !self.panicked.swap(true, Ordering::SeqCst);
        assert!(!panics, "a seeded bug in a provider");
    }
}

impl Provider for PanicsOnce {
    fn terms(&self) -> Terms {
        self.provider.terms()
    }

    fn authorize<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        self.panic_if(&Panics::Authorization);
        self.provider.authorize(call)
    }

    fn capture<'a>(&'a self, call: &'a Call, amount: Amount) -> Answering<'a> {
        self.provider.capture(call, amount)
    }

    fn void<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        self.provider.void(call)
    }

    fn refund<'a>(&'a self, call: &'a Call, amount: Amount) -> Answering<'a> {
        self.provider.refund(call, amount)
    }

    fn look_up<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        self.panic_if(&Panics::LookUp);
        self.provider.look_up(call)
    }

    fn read<'a>(&'a self, message: &'a Message) -> Reading<'a> {
        self.provider.read(message)
    }
}

//! A provider that has a bug, for tests of the real program. Only compiled for tests.
//!
//! The environment variable `STRONGROOM_PROVIDER_FAULT` set to `look-up-panics-once` makes the first look-up panic.

use super::{Answering, Provider};
use crate::domain::{event::Details, id::PaymentId};
use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// `provider`, with the fault that the environment asks for.
#[must_use]
pub fn faults_from_environment(provider: Arc<dyn Provider>) -> Arc<dyn Provider> {
    match env::var("STRONGROOM_PROVIDER_FAULT").as_deref() {
        Ok("look-up-panics-once") => {
            Arc::new(LookUpPanicsOnce { provider, panicked: AtomicBool::new(false) })
        }
        _ => provider,
    }
}

struct LookUpPanicsOnce {
    provider: Arc<dyn Provider>,
    panicked: AtomicBool,
}

impl Provider for LookUpPanicsOnce {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn submit<'a>(&'a self, details: &'a Details) -> Answering<'a> {
        self.provider.submit(details)
    }

    fn look_up<'a>(&'a self, payment: PaymentId, details: &'a Details) -> Answering<'a> {
        assert!(self.panicked.swap(true, Ordering::SeqCst), "a seeded bug in a provider");
        self.provider.look_up(payment, details)
    }
}

//! Finds a payment's live actor or wakes it: at most one per payment.
//!
//! An actor lives while somebody holds a [`Lease`]. The last lease to go removes it from the registry, and an actor that
//! nobody can reach any more ends by itself: a payment that rests costs no actor.

use super::{
    Unavailable,
    payment::{Asked, NotPerformed, PaymentActor, Perform},
};
use crate::{
    domain::{id::PaymentId, payment::Payment},
    tasks,
};
use actix::Addr;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::Span;

const SHARDS: u64 = 16;

/// The payments that are awake, in all threads.
pub struct Registry {
    shards: Vec<Mutex<HashMap<PaymentId, Awake>>>,
    hasher: RandomState,
}

struct Awake {
    address: Addr<PaymentActor>,
    leases: usize,
}

impl Default for Registry {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl Registry {
    /// Leases the payment's actor. If none is live, `wake` makes one, on the calling thread's arbiter; `None` if it
    /// can't.
    pub fn lease(
        self: &Arc<Self>,
        id: PaymentId,
        wake: impl FnOnce() -> Option<PaymentActor>,
    ) -> Option<Lease> {
        let mut shard = self.shard(id)?;
        let awake = shard.get_mut(&id).filter(|awake| awake.address.connected());
        let address = match awake {
            Some(awake) => {
                awake.leases += 1;
                awake.address.clone()
            }
            None => {
                let address = tasks::start(wake()?, |_| ());
                shard.insert(id, Awake { address: address.clone(), leases: 1 });
                address
            }
        };
        Some(Lease { id, address, registry: self.clone() })
    }

    /// How many payments are awake.
    #[must_use]
    pub fn awake(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether somebody is at work on the payment.
    #[must_use]
    pub fn is_awake(&self, id: PaymentId) -> bool {
        self.shard(id).is_some_and(|shard| shard.contains_key(&id))
    }

    fn shard(&self, id: PaymentId) -> Option<MutexGuard<'_, HashMap<PaymentId, Awake>>> {
        let number = usize::try_from(self.hasher.hash_one(id) % SHARDS).ok()?;
        Some(self.shards.get(number)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The right to send to a payment's actor, which stays awake at least as long.
pub struct Lease {
    id: PaymentId,
    address: Addr<PaymentActor>,
    registry: Arc<Registry>,
}

impl Lease {
    /// Sends a wish and waits for what came of it.
    ///
    /// # Errors
    /// What the actor says; [`Unavailable::OutcomeUnknown`] if it died before it could.
    pub async fn perform(&self, task: Perform) -> Result<Payment, NotPerformed> {
        match self.address.send(Asked { task, span: Span::current() }).await {
            Ok(result) => result,
            Err(error) => {
                tracing::error!(
                    payment = %self.id, %error,
                    "a payment actor died at work; the payment is woken again from the books"
                );
                Err(NotPerformed::Unavailable(Unavailable::OutcomeUnknown))
            }
        }
    }

    /// Lets nobody else be leased this actor: the next lease wakes a new one from the books.
    pub fn retire(&self) {
        if let Some(mut shard) = self.registry.shard(self.id)
            && shard.get(&self.id).is_some_and(|awake| awake.address == self.address)
        {
            shard.remove(&self.id);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut shard) = self.registry.shard(self.id) else {
            return;
        };
        let Some(awake) = shard.get_mut(&self.id) else {
            return;
        };
        if awake.address == self.address {
            awake.leases -= 1;
            if awake.leases == 0 {
                shard.remove(&self.id);
            }
        }
    }
}

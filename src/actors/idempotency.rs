//! Which idempotency keys are being worked on right now.
//!
//! What was *done* under a key stands in the books, written in the same entry as the deed. This actor only keeps two
//! requests under one key from being worked on at once: the second waits and gets the first one's answer.

use super::BooksReader;
use crate::{
    clock::Clock,
    domain::{
        id::PaymentId,
        idempotency::{Fingerprint, Key, Operation, Request, Retention},
        time::Timestamp,
    },
    meters::meters,
    tasks,
};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult};
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;

/// A key in its scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScopedKey {
    /// Whose key.
    pub merchant: Arc<str>,
    /// The key.
    pub key: Key,
}

/// What a request that came under a key is to do.
#[derive(Debug)]
pub enum Claimed {
    /// Do the work; nobody else does until the claim is dropped.
    Fresh(Claim),
    /// It is done: answer with the payment as of this version.
    Replay {
        /// Which payment.
        payment: PaymentId,
        /// As of how many events.
        version: u32,
    },
    /// The key was or is used for another request.
    Mismatch,
}

/// The right to work under a key. Dropping it lets the next one look.
#[derive(Debug)]
pub struct Claim {
    key: ScopedKey,
    actor: Addr<IdempotencyActor>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // do_send never fails for a full mailbox; a closed one belongs to a process that ends.
        self.actor.do_send(Release(self.key.clone()));
    }
}

/// How others reach the idempotency actor.
pub struct IdempotencyHandle {
    books: BooksReader,
    clock: Arc<dyn Clock>,
    retention: Retention,
    mailbox_max: usize,
    actor: Mutex<Option<Addr<IdempotencyActor>>>,
}

impl IdempotencyHandle {
    /// A handle whose actor is yet to start; at most `mailbox_max` messages may wait for it.
    #[must_use]
    pub fn new(
        books: BooksReader,
        clock: Arc<dyn Clock>,
        retention: Retention,
        mailbox_max: usize,
    ) -> Self {
        Self { books, clock, retention, mailbox_max, actor: Mutex::default() }
    }

    /// The one actor. It lives on the thread that first needs it, an HTTP worker, so that a claim need not wake a
    /// further thread. Should it die, the next one starts with nothing claimed; what was recorded meanwhile is in the
    /// books, and the ledger refuses a key twice.
    fn actor(&self) -> Addr<IdempotencyActor> {
        let mut actor = self.actor.lock().unwrap_or_else(PoisonError::into_inner);
        match &*actor {
            Some(running) if running.connected() => running.clone(),
            _ => {
                let new = IdempotencyActor {
                    books: self.books.clone(),
                    clock: self.clock.clone(),
                    retention: self.retention,
                    running: HashMap::new(),
                };
                // Before the first claim is sent; in `started` it would come too late for those sent at once.
                let started = tasks::start(new, |ctx| ctx.set_mailbox_capacity(self.mailbox_max));
                actor.insert(started).clone()
            }
        }
    }

    /// Claims a key for a request. Waits while another one works under it. `None`: too many wait already.
    pub async fn claim(&self, merchant: Arc<str>, request: &Request) -> Option<Claimed> {
        let (reply, claimed) = oneshot::channel();
        let key = ScopedKey { merchant, key: request.key.clone() };
        let Request { fingerprint, operation, .. } = *request;
        self.actor().try_send(ClaimKey { key, fingerprint, operation, reply }).ok()?;
        claimed.await.ok()
    }

    /// Has the actor forgotten, as if it had died of a bug.
    #[cfg(feature = "fault-injection")]
    pub fn forget(&self) {
        *self.actor.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is being worked on under a key, since when.
    pub async fn running(&self, key: ScopedKey) -> Option<(Operation, Timestamp)> {
        self.actor().send(WhatRuns(key)).await.ok()?
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct ClaimKey {
    key: ScopedKey,
    fingerprint: Fingerprint,
    operation: Operation,
    reply: oneshot::Sender<Claimed>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Release(ScopedKey);

#[derive(Message)]
#[rtype(result = "Option<(Operation, Timestamp)>")]
struct WhatRuns(ScopedKey);

/// The actor.
pub struct IdempotencyActor {
    books: BooksReader,
    clock: Arc<dyn Clock>,
    retention: Retention,
    /// Bounded by how many commands are admitted at once: each holds or awaits at most one claim.
    running: HashMap<ScopedKey, Running>,
}

struct Running {
    fingerprint: Fingerprint,
    operation: Operation,
    since: Timestamp,
    waiting: VecDeque<ClaimKey>,
}

impl Actor for IdempotencyActor {
    type Context = Context<Self>;
}

impl Handler<ClaimKey> for IdempotencyActor {
    type Result = ();

    fn handle(&mut self, claim: ClaimKey, ctx: &mut Context<Self>) {
        self.claim(claim, ctx);
    }
}

impl Handler<Release> for IdempotencyActor {
    type Result = ();

    fn handle(&mut self, Release(key): Release, ctx: &mut Context<Self>) {
        // Each of the waiting looks again: the first one's answer is on the books, or there is none and one of them is
        // next.
        if let Some(done) = self.running.remove(&key) {
            for claim in done.waiting {
                self.claim(claim, ctx);
            }
        }
    }
}

impl Handler<WhatRuns> for IdempotencyActor {
    type Result = MessageResult<WhatRuns>;

    fn handle(&mut self, WhatRuns(key): WhatRuns, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.running.get(&key).map(|running| (running.operation, running.since)))
    }
}

impl IdempotencyActor {
    fn claim(&mut self, claim: ClaimKey, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let claimed = match self.running.entry(claim.key.clone()) {
            Entry::Occupied(mut running) => {
                if running.get().fingerprint == claim.fingerprint {
                    let waiting = &mut running.get_mut().waiting;
                    // Those who gave up waiting make room.
                    waiting.retain(|claim| !claim.reply.is_closed());
                    waiting.push_back(claim);
                    meters().claims.note("waited", 0);
                    return;
                }
                Claimed::Mismatch
            }
            Entry::Vacant(vacant) => {
                let ScopedKey { merchant, key } = &claim.key;
                let books = self.books.read();
                match books.answered(merchant, key, self.retention, now) {
                    Some(answered)
                        if answered.request.fingerprint == claim.fingerprint
                            || seeded!(FingerprintNotCompared) =>
                    {
                        let payment = answered.history.details.id;
                        Claimed::Replay { payment, version: answered.version }
                    }
                    Some(_) => Claimed::Mismatch,
                    None => {
                        vacant.insert(Running {
                            fingerprint: claim.fingerprint,
                            operation: claim.operation,
                            since: now,
                            waiting: VecDeque::new(),
                        });
                        Claimed::Fresh(Claim { key: claim.key.clone(), actor: ctx.address() })
                    }
                }
            }
        };
        // One that waits no longer drops what it is sent: a claim among it releases itself.
        drop(claim.reply.send(claimed));
    }
}

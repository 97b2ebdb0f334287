//! How often who may ask: by API key, by address, and how often an address may present keys that are nobody's.
//!
//! Told to clients by the fields of draft-ietf-httpapi-ratelimit-headers-10, the newest structured form:
//! `RateLimit-Policy: "key";q=10000;w=2` and `RateLimit: "key";r=9999;t=1`. Whatever asks, the tables never grow
//! beyond a fixed size.

use super::{address::Origin, reply::Problem};
use crate::config::{Limits, Rate};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::StateStore,
};
use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The limits, and who has how much left of them.
pub struct Rates {
    per_key: Option<Limiter<Arc<str>>>,
    per_address: Option<Limiter<Origin>>,
    wrong_keys: Option<Limiter<Origin>>,
    loopback: bool,
}

impl Rates {
    /// Nobody has asked for anything yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let quota = |rate: Rate| Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            per_key: limits.per_key.map(|rate| Limiter::new("key", quota(rate))),
            per_address: limits.per_address.map(|rate| Limiter::new("address", quota(rate))),
            wrong_keys: limits
                .wrong_keys_per_minute
                .map(|number| Limiter::new("wrong-keys", Quota::per_minute(number))),
            loopback: limits.loopback,
        }
    }

    /// Whether requests from this machine count too.
    pub(super) fn count_loopback(&self) -> bool {
        self.loopback
    }

    /// Counts a request from an address.
    pub(super) fn ask_from(&self, origin: Origin) -> Result<(), Problem> {
        self.per_address.as_ref().map_or(Ok(()), |limiter| limiter.count(origin).map(drop))
    }

    /// Counts a request under a key. Returns what is left for it, if there is a limit.
    pub(super) fn ask_under(&self, actor: &Arc<str>) -> Result<Option<Standing>, Problem> {
        self.per_key.as_ref().map(|limiter| limiter.count(actor.clone())).transpose()
    }

    /// Whether a key that comes from this address is looked at. Counts nothing.
    pub(super) fn may_present(&self, origin: Origin) -> Result<(), Problem> {
        self.wrong_keys.as_ref().map_or(Ok(()), |limiter| limiter.look(origin))
    }

    /// Counts a key from this address that is nobody's.
    pub(super) fn wrong_key(&self, origin: Origin) {
        if let Some(limiter) = &self.wrong_keys {
            // Beyond the limit it is turned away before its key is looked at.
            drop(limiter.count(origin));
        }
    }
}

/// What is left of a limit, as a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// `RateLimit-Policy`.
    pub(super) policy: Arc<str>,
    /// `RateLimit`.
    pub(super) left: String,
}

struct Limiter<K: Clone + Eq + Hash> {
    name: &'static str,
    policy: Arc<str>,
    quota: Quota,
    limiter: RateLimiter<Asked<K>, Table<K>, DefaultClock, StateInformationMiddleware>,
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    fn new(name: &'static str, quota: Quota) -> Self {
        let burst = quota.burst_size();
        let window = whole_seconds(refill(quota, burst.get()));
        let clock = DefaultClock::default();
        Self {
            name,
            policy: format!("\"{name}\";q={burst};w={window}").into(),
            quota,
            limiter: RateLimiter::new(quota, Table::default(), clock),
        }
    }

    fn count(&self, who: K) -> Result<Standing, Problem> {
        self.ask(Asked { who, counts: true })
    }

    fn look(&self, who: K) -> Result<(), Problem> {
        self.ask(Asked { who, counts: false }).map(drop)
    }

    fn ask(&self, asked: Asked<K>) -> Result<Standing, Problem> {
        match self.limiter.check_key(&asked) {
            Ok(state) => {
                let left = state.remaining_burst_capacity();
                let used = self.quota.burst_size().get().saturating_sub(left);
                Ok(self.standing(left, whole_seconds(refill(self.quota, used))))
            }
            Err(until) => {
                let wait_s = whole_seconds(until.wait_time_from(self.limiter.clock().now()));
                Err(Problem::rate_limited(self.standing(0, wait_s), wait_s))
            }
        }
    }

    fn standing(&self, left: u32, in_s: u32) -> Standing {
        let left = format!("\"{}\";r={left};t={in_s}", self.name);
        Standing { policy: self.policy.clone(), left }
    }
}

/// How long it takes until so many are free again.
fn refill(quota: Quota, used: u32) -> Duration {
    quota.replenish_interval().saturating_mul(used)
}

/// Rounded up, and at least 1: whoever comes back then is let in.
fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}

/// Who asks, and whether that uses anything up.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Asked<K> {
    who: K,
    counts: bool,
}

/// When each one's next request would be due at an even pace. At most `BUCKETS` x `SLOTS` are known; in a full bucket
/// whoever has used least makes room, and begins anew when it asks again.
struct Table<K> {
    hasher: RandomState,
    buckets: Vec<Mutex<Vec<(K, Nanos)>>>,
}

impl<K> Table<K> {
    const BUCKETS: u16 = 8192;
    const SLOTS: usize = 8;
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        let buckets = (0..Self::BUCKETS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), buckets }
    }
}

impl<K: Clone + Eq + Hash> StateStore for Table<K> {
    type Key = Asked<K>;

    fn measure_and_replace<T, F, E>(&self, asked: &Asked<K>, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let bucket = self.hasher.hash_one(&asked.who) % u64::from(Self::BUCKETS);
        let bucket = usize::try_from(bucket).ok().and_then(|bucket| self.buckets.get(bucket));
        // The remainder always names a bucket.
        let Some(bucket) = bucket else { return measure(None).map(|(outcome, _)| outcome) };
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let known = bucket.iter_mut().find(|(who, _)| *who == asked.who);
        let (outcome, due) = measure(known.as_ref().map(|(_, due)| *due))?;
        if !asked.counts {
            return Ok(outcome);
        }
        if let Some((_, known)) = known {
            *known = due;
            return Ok(outcome);
        }
        let full = bucket.len() >= Self::SLOTS;
        let least = bucket.iter_mut().min_by_key(|(_, due)| *due).filter(|_| full);
        match least {
            Some(least) => *least = (asked.who.clone(), due),
            None => bucket.push((asked.who.clone(), due)),
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::{IpAddr, Ipv4Addr},
        num::NonZeroU32,
    };

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn origin(number: u32) -> Origin {
        Origin::of(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    /// So slow that nothing comes back while a test runs.
    fn slow(burst: u32) -> Limiter<Origin> {
        let quota = Quota::with_period(Duration::from_secs(1_000)).unwrap();
        Limiter::new("slow", quota.allow_burst(number(burst)))
    }

    #[test]
    fn what_is_left_is_told_in_the_drafts_form_and_each_has_its_own() {
        let limiter = slow(3);
        let left = |who| limiter.count(origin(who)).map(|standing| standing.left).ok();
        assert_eq!(&*limiter.policy, "\"slow\";q=3;w=3000");
        assert_eq!(left(1).unwrap(), "\"slow\";r=2;t=1000");
        assert_eq!(left(1).unwrap(), "\"slow\";r=1;t=2000");
        assert_eq!(left(1).unwrap(), "\"slow\";r=0;t=3000");
        assert_eq!(left(1), None);
        assert_eq!(left(2).unwrap(), "\"slow\";r=2;t=1000");
    }

    #[test]
    fn looking_uses_nothing_up() {
        let limiter = slow(1);
        for _ in 0..3 {
            assert!(limiter.look(origin(1)).is_ok());
        }
        assert!(limiter.count(origin(1)).is_ok());
        assert!(limiter.look(origin(1)).is_err());
    }

    #[test]
    fn a_million_addresses_do_not_make_the_table_grow_nor_free_whoever_used_all() {
        let table = Table::<u32>::default();
        let ask = |who, due| {
            let asked = Asked { who, counts: true };
            let known = |known: Option<Nanos>| Ok::<_, ()>((known.is_some(), Nanos::new(due)));
            table.measure_and_replace(&asked, known).unwrap()
        };
        assert!(!ask(0, 1_000));
        for who in 1..1_000_000 {
            ask(who, 1);
        }
        let held: usize = table.buckets.iter().map(|bucket| bucket.lock().unwrap().len()).sum();
        assert!(held <= usize::from(Table::<u32>::BUCKETS) * Table::<u32>::SLOTS, "{held}");
        assert!(ask(0, 1_000), "whoever used much is still known");
    }
}

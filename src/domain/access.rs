//! Who may come in: merchants, and the API keys of merchants and admins, as the journal knows them.
//!
//! What stands in the configuration is not here. A key itself is nowhere: only a digest that needs a pepper which the
//! journal does not hold. A merchant's keys are for live or for test payments, and the two never meet: a test payment is
//! one of another merchant inside, whose name ends in [`TEST`], with accounts, keys and endpoints of its own.

use super::{
    id::{KeyId, Sequence},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};
use thiserror::Error;

/// What a merchant's name inside ends in, for its test payments. No merchant may be called so.
pub const TEST: &str = "~test";

/// The most merchants that are made here.
pub const MERCHANTS_MAX: usize = 100_000;

/// The most keys of one holder that are not revoked.
pub const KEYS_MAX: usize = 100;

/// What a merchant is called outside: the same for live and test payments.
#[must_use]
pub fn name_outside(merchant: &str) -> &str {
    merchant.strip_suffix(TEST).unwrap_or(merchant)
}

/// Whether this is the merchant of test payments.
#[must_use]
pub fn is_test(merchant: &str) -> bool {
    merchant.ends_with(TEST)
}

/// For which payments a key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Those that move money.
    #[default]
    Live,
    /// Those that only try things out.
    Test,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Live, Self::Test];

    /// As clients read and write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// The mode of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// Something that a merchant's key lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Make and change payments.
    PaymentsWrite,
    /// See payments, events, and what became of requests.
    PaymentsRead,
    /// See accounts.
    LedgerRead,
    /// See and change webhook endpoints.
    WebhooksWrite,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 4] =
        [Scope::PaymentsWrite, Scope::PaymentsRead, Scope::LedgerRead, Scope::WebhooksWrite];

    /// As clients read and write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PaymentsWrite => "payments:write",
            Self::PaymentsRead => "payments:read",
            Self::LedgerRead => "ledger:read",
            Self::WebhooksWrite => "webhooks:write",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// Who holds a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Holder {
    /// A merchant, by its name outside.
    Merchant(Arc<str>),
    /// An admin.
    Admin,
}

/// A key as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What it is called.
    pub id: KeyId,
    /// Whose it is.
    pub holder: Holder,
    /// For which payments; an admin's sees all.
    pub mode: Mode,
    /// What its holder calls it.
    pub label: Box<str>,
    /// What it lets its holder do, sorted; an admin's everything.
    pub scopes: Box<[Scope]>,
    /// From when on it is no key any more.
    pub expires_at: Option<Timestamp>,
    /// HMAC-SHA256 of the whole key under the pepper.
    pub digest: [u8; 32],
}

/// Something that an admin did about who may come in, or beside the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRecord {
    /// Which admin's key: `admin/{key name}`.
    pub actor: Arc<str>,
    /// What.
    pub event: AccessEvent,
}

/// What happened about who may come in. Variant and field order is the format of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessEvent {
    /// A merchant was made.
    MerchantMade {
        /// Its name in the API and in the books.
        id: Arc<str>,
        /// What people call it.
        name: Option<Box<str>>,
    },
    /// A merchant was changed, as first releases wrote it: all that it is now, also what was not asked for.
    MerchantChanged {
        /// Which.
        id: Arc<str>,
        /// What people call it now.
        name: Option<Box<str>>,
        /// Whether its keys may change anything.
        enabled: bool,
    },
    /// A key was made.
    KeyMade(Box<Key>),
    /// A key is no key any more.
    KeyRevoked {
        /// Which.
        id: KeyId,
        /// Whose it was.
        holder: Holder,
    },
    /// Something else was asked for that changes no books.
    Asked(Box<str>),
    /// What was asked for about a merchant was changed, and nothing else: so of two who change it at once, neither takes
    /// back what the other did.
    MerchantSet {
        /// Which.
        id: Arc<str>,
        /// What people call it from now on; if `None`, what they did.
        name: Option<Box<str>>,
        /// Whether its keys may change anything from now on; if `None`, as before.
        enabled: Option<bool>,
    },
}

impl AccessEvent {
    /// What happened, in a word or two, and to what.
    #[must_use]
    pub fn in_words(&self) -> (&str, String) {
        let of = |holder: &Holder, id: &KeyId| match holder {
            Holder::Merchant(merchant) => format!("{id} of {merchant}"),
            Holder::Admin => format!("{id} of an admin"),
        };
        match self {
            Self::MerchantMade { id, .. } => ("merchant made", id.to_string()),
            Self::MerchantChanged { id, enabled: true, .. } => ("merchant changed", id.to_string()),
            Self::MerchantChanged { id, enabled: false, .. } => {
                ("merchant disabled", id.to_string())
            }
            Self::MerchantSet { id, enabled: Some(true), .. } => {
                ("merchant enabled", id.to_string())
            }
            Self::MerchantSet { id, enabled: Some(false), .. } => {
                ("merchant disabled", id.to_string())
            }
            Self::MerchantSet { id, enabled: None, .. } => ("merchant renamed", id.to_string()),
            Self::KeyMade(key) => ("key made", of(&key.holder, &key.id)),
            Self::KeyRevoked { id, holder } => ("key revoked", of(holder, id)),
            Self::Asked(what) => (what, String::new()),
        }
    }
}

/// A merchant that was made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merchant {
    /// What people call it.
    pub name: Option<Box<str>>,
    /// Whether its keys may change anything.
    pub enabled: bool,
    /// When it was made.
    pub made_at: Timestamp,
}

/// A key as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// As it was made.
    pub key: Key,
    /// When.
    pub made_at: Timestamp,
    /// Since when it is no key any more.
    pub revoked_at: Option<Timestamp>,
    /// Its name in the audit trail.
    pub actor: Arc<str>,
    /// Whose money it moves, by the name inside; `None` for an admin's.
    pub merchant: Option<Arc<str>>,
}

impl KeyState {
    /// Whether it opens anything at `now`.
    #[must_use]
    pub fn opens(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.key.expires_at.is_none_or(|until| now < until)
    }
}

/// Why a record can't follow what is known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// There is such a merchant already.
    #[error("there is a merchant {0} already")]
    MerchantExists(Arc<str>),
    /// There is no such merchant here.
    #[error("there is no merchant {0}")]
    NoSuchMerchant(Arc<str>),
    /// There are as many merchants as there may be.
    #[error("there are {0} merchants, which is the most there can be")]
    TooManyMerchants(usize),
    /// There is such a key already.
    #[error("there is a key {0} already")]
    KeyExists(KeyId),
    /// There is no such key, or it is revoked.
    #[error("there is no key {0} that could be revoked")]
    NoSuchKey(KeyId),
    /// Its holder has as many keys as it may have.
    #[error(
        "there are {0} keys of this holder that are not revoked, which is the most there can be"
    )]
    TooManyKeys(usize),
}

/// Merchants and keys: the fold over [`AccessRecord`]s.
#[derive(Clone, Debug, Default)]
pub struct Access {
    merchants: BTreeMap<Arc<str>, Merchant>,
    keys: HashMap<KeyId, KeyState>,
    of_holder: BTreeMap<Holder, Vec<KeyId>>,
}

impl Access {
    /// Whether `record` may be written next.
    ///
    /// # Errors
    /// The [`Misfit`] says what forbids it.
    pub fn check(&self, record: &AccessRecord) -> Result<(), Misfit> {
        match &record.event {
            AccessEvent::MerchantMade { id, .. } if self.merchants.contains_key(id) => {
                Err(Misfit::MerchantExists(id.clone()))
            }
            AccessEvent::MerchantMade { .. } if self.merchants.len() >= MERCHANTS_MAX => {
                Err(Misfit::TooManyMerchants(self.merchants.len()))
            }
            AccessEvent::MerchantChanged { id, .. } | AccessEvent::MerchantSet { id, .. }
                if !self.merchants.contains_key(id) =>
            {
                Err(Misfit::NoSuchMerchant(id.clone()))
            }
            AccessEvent::KeyMade(key) if self.keys.contains_key(&key.id) => {
                Err(Misfit::KeyExists(key.id))
            }
            AccessEvent::KeyMade(key) => {
                let standing = self.keys_of(&key.holder).filter(|it| it.revoked_at.is_none());
                let count = standing.count();
                if count < KEYS_MAX { Ok(()) } else { Err(Misfit::TooManyKeys(count)) }
            }
            AccessEvent::KeyRevoked { id, holder } => match self.keys.get(id) {
                Some(it) if it.key.holder == *holder && it.revoked_at.is_none() => Ok(()),
                _ => Err(Misfit::NoSuchKey(*id)),
            },
            AccessEvent::MerchantMade { .. }
            | AccessEvent::MerchantChanged { .. }
            | AccessEvent::MerchantSet { .. }
            | AccessEvent::Asked(_) => Ok(()),
        }
    }

    /// Makes a record, written at time `at`, part of what is known. It never judges.
    pub fn apply(&mut self, record: &AccessRecord, at: Timestamp) {
        match &record.event {
            AccessEvent::MerchantMade { id, name } => {
                let merchant = Merchant { name: name.clone(), enabled: true, made_at: at };
                self.merchants.insert(id.clone(), merchant);
            }
            AccessEvent::MerchantChanged { id, name, enabled } => {
                if let Some(merchant) = self.merchants.get_mut(id) {
                    merchant.name.clone_from(name);
                    merchant.enabled = *enabled;
                }
            }
            AccessEvent::MerchantSet { id, name, enabled } => {
                if let Some(merchant) = self.merchants.get_mut(id) {
                    merchant.name = name.clone().or_else(|| merchant.name.take());
                    merchant.enabled = enabled.unwrap_or(merchant.enabled);
                }
            }
            AccessEvent::KeyMade(key) => {
                let (actor, merchant) = match (&key.holder, key.mode) {
                    (Holder::Admin, _) => (format!("admin/{}", key.id), None),
                    (Holder::Merchant(id), Mode::Live) => {
                        (format!("{id}/{}", key.id), Some(id.clone()))
                    }
                    (Holder::Merchant(id), Mode::Test) => {
                        (format!("{id}/{}", key.id), Some(format!("{id}{TEST}").into()))
                    }
                };
                self.of_holder.entry(key.holder.clone()).or_default().push(key.id);
                let key = (**key).clone();
                let id = key.id;
                let actor = actor.into();
                let state = KeyState { key, made_at: at, revoked_at: None, actor, merchant };
                self.keys.insert(id, state);
            }
            AccessEvent::KeyRevoked { id, .. } => {
                if let Some(key) = self.keys.get_mut(id) {
                    key.revoked_at = Some(at);
                }
            }
            AccessEvent::Asked(_) => {}
        }
    }

    /// The merchants that were made here, by name, from behind `after` on.
    pub fn merchants(&self, after: Option<&str>) -> impl Iterator<Item = (&Arc<str>, &Merchant)> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.merchants.range::<str, _>((behind, Bound::Unbounded))
    }

    /// A merchant, by its name outside.
    #[must_use]
    pub fn merchant(&self, id: &str) -> Option<(&Arc<str>, &Merchant)> {
        self.merchants.get_key_value(id)
    }

    /// A key, whatever became of it.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&KeyState> {
        self.keys.get(&id)
    }

    /// Whether there are keys that are not revoked.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys.values().any(|key| key.revoked_at.is_none())
    }

    /// The keys of a holder, oldest first, those that are revoked included.
    pub fn keys_of(&self, holder: &Holder) -> impl DoubleEndedIterator<Item = &KeyState> {
        let ids = self.of_holder.get(holder).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.keys.get(id))
    }
}

/// One thing that an admin did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// The journal's entry.
    pub sequence: Sequence,
    /// When.
    pub at: Timestamp,
    /// Which key did it.
    pub actor: Arc<str>,
    /// What, in a word or two.
    pub action: String,
    /// To what.
    pub subject: String,
}

#[cfg(test)]
mod tests;

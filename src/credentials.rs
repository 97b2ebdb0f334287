//! API keys: who presents one, and making new ones.
//!
//! The HTTP door asks who a key belongs to; the command line makes keys. Only digests are kept: a key's own text is
//! never stored, shown or logged here, and what the holder of a key may do is decided elsewhere.

use crate::{
    config::{ADMIN, Config},
    domain::{
        access::{Access, Holder, Mode, Scope},
        id::KeyId,
        time::Timestamp,
        webhook::Secret as WebhookSecret,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};
use subtle::ConstantTimeEq;

/// The random bytes in a new key: 256 bits, so that one fast hash is enough to keep it.
const RANDOM_BYTES: usize = 32;

/// The bytes of a digest by which it is found.
const PREFIX_BYTES: usize = 8;

/// Who presented a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A merchant, who sees and moves that merchant's money only.
    Merchant {
        /// The merchant's name inside: that of its test payments differs from that of its live ones.
        id: Arc<str>,
        /// Which key, for the audit trail: `merchant_1/test`.
        actor: Arc<str>,
        /// What the key lets it do.
        scopes: Scopes,
    },
    /// An admin, who sees all.
    Admin {
        /// Which key, for the audit trail: `admin/test`.
        actor: Arc<str>,
    },
}

impl Principal {
    /// Which key, for the audit trail.
    #[must_use]
    pub fn actor(&self) -> &Arc<str> {
        match self {
            Self::Merchant { actor, .. } | Self::Admin { actor } => actor,
        }
    }

    /// Whether the key lets its holder do this.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        match self {
            Self::Merchant { scopes, .. } => scopes.hold(scope),
            Self::Admin { .. } => true,
        }
    }

    /// Whether this merchant's money may be shown and moved.
    #[must_use]
    pub fn sees(&self, merchant: &str) -> bool {
        match self {
            Self::Merchant { id, .. } => **id == *merchant,
            Self::Admin { .. } => true,
        }
    }
}

/// What a merchant's key lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything that a merchant may do.
    #[must_use]
    pub fn all() -> Self {
        Self::of(&Scope::ALL)
    }

    fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | Self::bit(*scope)))
    }

    fn hold(self, scope: Scope) -> bool {
        self.0 & Self::bit(scope) != 0
    }

    fn bit(scope: Scope) -> u8 {
        match scope {
            Scope::PaymentsWrite => 1,
            Scope::PaymentsRead => 2,
            Scope::LedgerRead => 4,
            Scope::WebhooksWrite => 8,
        }
    }
}

/// Every configured key's digest, with who holds the key; and how to tell the keys that the books know.
pub struct Credentials {
    /// By the first bytes of the digest; nearly always one.
    by_prefix: HashMap<[u8; PREFIX_BYTES], Vec<Credential>>,
    /// What is mixed into the digests on the books; there once the data folder is open.
    pepper: OnceLock<[u8; 32]>,
}

struct Credential {
    sha256: [u8; 32],
    principal: Principal,
}

impl Credentials {
    /// The keys of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let of_merchants = config.merchants.iter().flat_map(|merchant| {
            let id: Arc<str> = merchant.id.as_str().into();
            merchant.keys.iter().map(move |key| Credential {
                sha256: key.sha256,
                principal: Principal::Merchant {
                    id: Arc::clone(&id),
                    actor: format!("{id}/{}", key.name).into(),
                    scopes: Scopes::all(),
                },
            })
        });
        let of_admins = config.admins.iter().map(|key| Credential {
            sha256: key.sha256,
            principal: Principal::Admin { actor: format!("{ADMIN}/{}", key.name).into() },
        });
        let mut by_prefix: HashMap<_, Vec<Credential>> = HashMap::new();
        for credential in of_merchants.chain(of_admins) {
            let prefix = prefix(&credential.sha256);
            by_prefix.entry(prefix).or_default().push(credential);
        }
        Self { by_prefix, pepper: OnceLock::new() }
    }

    /// Tells the pepper of the data folder.
    pub fn season(&self, pepper: [u8; 32]) {
        // It is told once, when the folder is opened.
        self.pepper.get_or_init(|| pepper);
    }

    /// Who holds the `presented` key, if it is one that the books know and it opens anything at `now`.
    ///
    /// Takes as long for a key of nobody as for a wrong or a right one: a digest, a look-up, a comparison of whole
    /// digests.
    #[must_use]
    pub fn recognize(&self, presented: &str, books: &Access, now: Timestamp) -> Option<Principal> {
        let id = id_in(presented)?;
        let digest = digest(self.pepper.get()?, presented);
        let known = books.key(id);
        let expected = known.map_or([0; 32], |known| known.key.digest);
        let matches = bool::from(expected.ct_eq(&digest));
        let key = known.filter(|known| matches && known.opens(now))?;
        Some(match &key.merchant {
            Some(merchant) => Principal::Merchant {
                id: merchant.clone(),
                actor: key.actor.clone(),
                scopes: Scopes::of(&key.key.scopes),
            },
            None => Principal::Admin { actor: key.actor.clone() },
        })
    }

    /// Makes a key of 256 random bits under this id, and what the books keep of it. `None` where there is no pepper.
    ///
    /// # Errors
    /// When the system's random source fails.
    pub fn new_key(
        &self,
        id: KeyId,
        holder: &Holder,
        mode: Mode,
    ) -> Result<Option<(Secret, [u8; 32])>, NoRandomness> {
        let mut random = [0; RANDOM_BYTES];
        SysRng.try_fill_bytes(&mut random)?;
        let Some(pepper) = self.pepper.get() else { return Ok(None) };
        let prefix = KeyKind::of(holder, mode).prefix();
        let random = BASE64_URL_SAFE_NO_PAD.encode(random);
        let text = format!("{prefix}{}_{random}", id.uuid().simple());
        let digest = digest(pepper, &text);
        Ok(Some((Secret(text), digest)))
    }

    /// Who holds the `presented` key; nobody if it is not a configured one.
    ///
    /// Takes as long for a wrong key as for a right one: a hash, a look-up, a comparison of whole digests. Finding
    /// the candidate by a part of the digest may show in the time, but tells nothing that leads to a key, whose digest
    /// nobody can steer.
    #[must_use]
    pub fn authenticate(&self, presented: &str) -> Option<Principal> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        match self.by_prefix.get(&prefix(&digest)) {
            Some(candidates) => candidates
                .iter()
                .find(|candidate| bool::from(candidate.sha256.ct_eq(&digest)))
                .map(|candidate| candidate.principal.clone()),
            None => {
                // The comparison that an existing prefix would have cost.
                std::hint::black_box([0; 32].ct_eq(&digest));
                None
            }
        }
    }
}

/// The id inside a key, if it is of the form of those that the books know.
fn id_in(presented: &str) -> Option<KeyId> {
    let rest = KeyKind::ALL.iter().find_map(|kind| presented.strip_prefix(kind.prefix()))?;
    KeyId::parse_bare(rest.split_once('_')?.0)
}

fn digest(pepper: &[u8; 32], key: &str) -> [u8; 32] {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(pepper) else { return [0; 32] };
    mac.update(key.as_bytes());
    mac.finalize().into_bytes().into()
}

fn prefix(digest: &[u8; 32]) -> [u8; PREFIX_BYTES] {
    digest.first_chunk().copied().unwrap_or_default()
}

/// What a new key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A merchant's. For keys of the configuration both modes mean the same.
    Merchant(Mode),
    /// An admin's.
    Admin,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 3] =
        [Self::Merchant(Mode::Live), Self::Merchant(Mode::Test), Self::Admin];

    /// The kind of a holder's keys.
    #[must_use]
    pub fn of(holder: &Holder, mode: Mode) -> Self {
        match holder {
            Holder::Merchant(_) => Self::Merchant(mode),
            Holder::Admin => Self::Admin,
        }
    }

    /// What a key of this kind begins with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Merchant(Mode::Live) => "sk_live_",
            Self::Merchant(Mode::Test) => "sk_test_",
            Self::Admin => "ak_",
        }
    }
}

/// A key that was just made.
pub struct NewKey {
    /// The key itself, for its holder, shown once.
    pub secret: Secret,
    /// What goes into the configuration: the SHA-256 of the key, as 64 hexadecimal digits.
    pub sha256: String,
}

/// A key's own text. It has neither `Debug` nor `Display`, nor may it get them: so nothing that holds one can be logged
/// by accident.
pub struct Secret(String);

impl Secret {
    /// The text, to be handed to its holder and to nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The operating system gave no random bytes, so no key was made.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandomness(#[from] rand::rngs::SysError);

/// Makes a key of 256 bits from the operating system's random source. It is not stored anywhere.
///
/// # Errors
/// When that source fails.
pub fn new_key(kind: KeyKind) -> Result<NewKey, NoRandomness> {
    let mut random = [0; RANDOM_BYTES];
    SysRng.try_fill_bytes(&mut random)?;
    let secret = format!("{}{}", kind.prefix(), hex::encode(random));
    let sha256 = hex::encode(Sha256::digest(&secret));
    Ok(NewKey { secret: Secret(secret), sha256 })
}

/// Makes a webhook secret of 256 bits from the operating system's random source.
///
/// # Errors
/// When that source fails.
pub fn new_webhook_secret() -> Result<WebhookSecret, NoRandomness> {
    let mut random = [0; RANDOM_BYTES];
    SysRng.try_fill_bytes(&mut random)?;
    Ok(WebhookSecret::from_random(random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn config() -> Config {
        Config::load(None, std::iter::empty::<(String, String)>()).unwrap()
    }

    fn authenticate(config: &Config, presented: &str) -> Option<Principal> {
        Credentials::new(config).authenticate(presented)
    }

    #[test]
    fn a_configured_key_is_its_holders_and_named_in_the_audit_trail() {
        assert_eq!(
            authenticate(&config(), "sk_test_merchant_1"),
            Some(Principal::Merchant {
                id: "merchant_1".into(),
                actor: "merchant_1/test".into(),
                scopes: Scopes::all()
            })
        );
        assert_eq!(
            authenticate(&config(), "ak_test_admin"),
            Some(Principal::Admin { actor: "admin/test".into() })
        );
    }

    #[test]
    fn any_other_text_is_nobodys_key() {
        let digest = hex::encode(Sha256::digest("sk_test_merchant_1"));
        for wrong in [
            "",
            "sk_test_merchant_2",
            "sk_test_merchant_1 ",
            "SK_TEST_MERCHANT_1",
            "sk_test_merchant_",
            digest.as_str(),
        ] {
            assert_eq!(authenticate(&config(), wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_digest_that_only_begins_like_a_configured_one_is_nobodys() {
        let mut config = config();
        config.admins[0].sha256[31] ^= 1;
        assert_eq!(authenticate(&config, "ak_test_admin"), None);
    }

    #[test]
    fn two_digests_that_begin_alike_are_told_apart() {
        let mut config = config();
        let mut twin = config.admins[0].clone();
        twin.name = "twin".to_owned();
        twin.sha256[31] ^= 1;
        config.admins.insert(0, twin);
        let found = authenticate(&config, "ak_test_admin");
        let actor = "admin/test".into();
        assert_eq!(found, Some(Principal::Admin { actor }));
    }

    #[test]
    fn a_new_key_says_what_it_is_for_and_never_comes_twice() {
        for (kind, prefix) in [
            (KeyKind::Merchant(Mode::Live), "sk_live_"),
            (KeyKind::Merchant(Mode::Test), "sk_test_"),
            (KeyKind::Admin, "ak_"),
        ] {
            let (one, other) = (new_key(kind).unwrap(), new_key(kind).unwrap());
            let random = one.secret.expose().strip_prefix(prefix).unwrap();
            assert_eq!(hex::decode(random).unwrap().len(), 32);
            assert_ne!(one.secret.expose(), other.secret.expose());
            assert_ne!(one.sha256, other.sha256);
        }
    }

    #[test]
    fn a_new_key_opens_the_door_once_its_digest_is_configured() {
        let key = new_key(KeyKind::Merchant(Mode::Live)).unwrap();
        let mut config = config();
        assert_eq!(authenticate(&config, key.secret.expose()), None);
        let mut sha256 = [0; 32];
        hex::decode_to_slice(&key.sha256, &mut sha256).unwrap();
        config.merchants[0].keys.push(ApiKey { name: "web".to_owned(), sha256 });
        assert_eq!(
            authenticate(&config, key.secret.expose()),
            Some(Principal::Merchant {
                id: "merchant_1".into(),
                actor: "merchant_1/web".into(),
                scopes: Scopes::all()
            })
        );
    }
}

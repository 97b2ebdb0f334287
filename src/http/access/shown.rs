//! A merchant, a key and what an admin did, as admins see them.

use super::super::{
    Core, Door,
    wire::{Text, Time},
};
use crate::{
    credentials::KeyKind,
    domain::{
        access::{Deed, Holder, KeyState, Merchant},
        books::Books,
        id::{KeyId, Sequence},
    },
    wire::schema::{EndpointOrigin, HashText, KeyIdText, ModeText, ScopeText, TimeText},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Who takes payments.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Merchant)]
pub(super) struct MerchantBody {
    #[schema(value_type = String)]
    pub(super) id: Arc<str>,
    #[schema(required)]
    pub(super) name: Option<String>,
    /// Whether its keys may change anything.
    pub(super) enabled: bool,
    /// Where it was made: `api` or `config`.
    #[schema(value_type = EndpointOrigin)]
    pub(super) origin: &'static str,
    #[schema(value_type = Option<TimeText>, required)]
    created_at: Option<Time>,
}

impl MerchantBody {
    pub(super) fn of(id: &Arc<str>, merchant: &Merchant) -> Self {
        Self {
            id: id.clone(),
            name: merchant.name.as_deref().map(str::to_owned),
            enabled: merchant.enabled,
            origin: "api",
            created_at: Some(Time(merchant.made_at)),
        }
    }

    pub(super) fn configured(id: &Arc<str>) -> Self {
        Self { id: id.clone(), name: None, enabled: true, origin: "config", created_at: None }
    }

    /// The merchant of this name, wherever it was made.
    pub(super) fn find(door: &Door, core: &Core, id: &str) -> Option<Self> {
        let books = core.books.read();
        let made = || books.access().merchant(id).map(|(id, merchant)| Self::of(id, merchant));
        door.configured(id).map(Self::configured).or_else(made)
    }
}

/// An API key, without what opens the door.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub(super) struct KeyBody<'a> {
    #[schema(value_type = KeyIdText)]
    id: Text<KeyId>,
    /// Whose; null for an admin's.
    #[schema(required)]
    merchant_id: Option<&'a str>,
    #[schema(value_type = Option<ModeText>, required)]
    mode: Option<&'static str>,
    label: &'a str,
    /// What it may do; null for an admin's, which may do everything.
    #[schema(value_type = Option<Vec<ScopeText>>, required)]
    scopes: Option<Vec<&'static str>>,
    /// What the key begins with; the rest is nowhere.
    prefix: String,
    #[schema(value_type = Option<TimeText>, required)]
    expires_at: Option<Time>,
    #[schema(value_type = Option<TimeText>, required)]
    revoked_at: Option<Time>,
    #[schema(value_type = TimeText)]
    created_at: Time,
    /// The key itself, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, read_only)]
    key: Option<&'a str>,
}

impl<'a> KeyBody<'a> {
    pub(super) fn of(state: &'a KeyState, secret: Option<&'a str>) -> Self {
        let KeyState { key, made_at, revoked_at, .. } = state;
        let merchant = match &key.holder {
            Holder::Merchant(merchant) => Some(&**merchant),
            Holder::Admin => None,
        };
        let prefix = KeyKind::of(&key.holder, key.mode).prefix();
        Self {
            id: Text(key.id),
            merchant_id: merchant,
            mode: merchant.map(|_| key.mode.name()),
            label: &key.label,
            scopes: merchant.map(|_| key.scopes.iter().map(|scope| scope.name()).collect()),
            prefix: format!("{prefix}{}", key.id.uuid().simple()),
            expires_at: key.expires_at.map(Time),
            revoked_at: revoked_at.map(Time),
            created_at: Time(*made_at),
            key: secret,
        }
    }
}

/// What an admin did.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Deed)]
pub(super) struct DeedBody {
    /// The entry of the journal, and the cursor.
    sequence: Sequence,
    #[schema(value_type = TimeText)]
    at: Time,
    /// Which admin's key.
    #[schema(value_type = String)]
    actor: Arc<str>,
    /// What was done.
    action: String,
    /// To what.
    subject: String,
    #[schema(value_type = Option<HashText>, required)]
    block_hash: Option<String>,
}

impl DeedBody {
    pub(super) fn of(deed: Deed, books: &Books) -> Self {
        let Deed { sequence, at, actor, action, subject } = deed;
        Self {
            sequence,
            at: Time(at),
            actor,
            action,
            subject,
            block_hash: books.block_hash(sequence).map(|hash| hash.to_string()),
        }
    }
}

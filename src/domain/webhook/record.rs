//! What the journal says about webhook endpoints. **Variant and field order is the format**: only append; the golden
//! files in `tests/golden/` hold it.

use super::{Change, Filter, Secret};
use crate::domain::{
    id::{EndpointId, Sequence},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Something about webhooks happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRecord {
    /// Who caused it: `{merchant}/{key name}`, `admin/{key name}` or `system/{part}`.
    pub actor: Arc<str>,
    /// What happened.
    pub event: WebhookEvent,
}

/// What can happen to webhook endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WebhookEvent {
    /// An endpoint was made. It gets what happens from here on.
    Created(Box<Created>),
    /// An endpoint's settings were replaced.
    Updated {
        /// Which endpoint.
        endpoint: EndpointId,
        /// What holds from here on.
        settings: Settings,
    },
    /// A new secret signs; the old one signs too for a while.
    Rotated {
        /// Which endpoint.
        endpoint: EndpointId,
        /// The new secret.
        secret: Secret,
        /// Until when the old one signs.
        old_until: Timestamp,
    },
    /// Nothing is sent to the endpoint any more, until it is enabled.
    Disabled {
        /// Which endpoint.
        endpoint: EndpointId,
        /// Why.
        reason: DisabledBecause,
    },
    /// The endpoint gets what waits for it, at once.
    Enabled {
        /// Which endpoint.
        endpoint: EndpointId,
    },
    /// The endpoint is gone, and what waited for it too.
    Deleted {
        /// Which endpoint.
        endpoint: EndpointId,
    },
    /// The endpoint gets everything again from one event on.
    Replayed {
        /// Which endpoint.
        endpoint: EndpointId,
        /// The event's number at the endpoint.
        from: u64,
        /// The journal entry that it comes after.
        cursor: Sequence,
    },
    /// The endpoint gets one event again.
    Redelivered {
        /// Which endpoint.
        endpoint: EndpointId,
        /// The event's number at the endpoint.
        number: u64,
        /// The journal entry that it is derived from.
        sequence: Sequence,
    },
    /// How far deliveries have got.
    Progressed(Vec<Change>),
}

/// A new endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Its id.
    pub endpoint: EndpointId,
    /// Whose payments it is told of.
    pub merchant: Arc<str>,
    /// Where it is and what it wants.
    pub settings: Settings,
    /// What signs.
    pub secret: Secret,
    /// Where it was made.
    pub origin: Origin,
}

/// What the holder of an endpoint can set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where it is.
    pub url: Box<str>,
    /// What it wants.
    pub filter: Filter,
    /// The holder's free text.
    pub description: Option<Box<str>>,
}

/// Where an endpoint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// By a request.
    Api,
    /// By `webhook_url` of a merchant in the configuration.
    Config,
}

/// Why an endpoint gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisabledBecause {
    /// Somebody asked for it.
    Asked,
    /// It answered 410 Gone.
    Gone,
    /// It failed for longer than `webhooks.disable_after`.
    Failing,
}

impl DisabledBecause {
    /// As merchants read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "requested",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

impl WebhookEvent {
    /// The endpoint that it is about; `None` for a report on several.
    #[must_use]
    pub fn endpoint(&self) -> Option<EndpointId> {
        match self {
            Self::Created(created) => Some(created.endpoint),
            Self::Updated { endpoint, .. }
            | Self::Rotated { endpoint, .. }
            | Self::Disabled { endpoint, .. }
            | Self::Enabled { endpoint }
            | Self::Deleted { endpoint }
            | Self::Replayed { endpoint, .. }
            | Self::Redelivered { endpoint, .. } => Some(*endpoint),
            Self::Progressed(_) => None,
        }
    }

    /// What happened, in a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created(_) => "webhook_endpoint_created",
            Self::Updated { .. } => "webhook_endpoint_updated",
            Self::Rotated { .. } => "webhook_secret_rotated",
            Self::Disabled { .. } => "webhook_endpoint_disabled",
            Self::Enabled { .. } => "webhook_endpoint_enabled",
            Self::Deleted { .. } => "webhook_endpoint_deleted",
            Self::Replayed { .. } => "webhook_events_replayed",
            Self::Redelivered { .. } => "webhook_event_redelivered",
            Self::Progressed(_) => "webhook_progress",
        }
    }
}

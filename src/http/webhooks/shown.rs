//! A webhook endpoint as clients see it. Its secret is shown once, to whom it was made for.

use super::super::wire::{Text, Time};
use crate::{
    domain::{
        access,
        id::EndpointId,
        webhook::{Endpoint, Origin, Secret},
    },
    wire::schema::{DisabledReason, EndpointIdText, EndpointOrigin, EventPattern, TimeText},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Where a merchant is told what happens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookEndpoint)]
pub(super) struct EndpointBody {
    #[schema(value_type = EndpointIdText)]
    pub(super) id: Text<EndpointId>,
    merchant_id: String,
    /// `test` for one that is told of test payments.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^test$")]
    mode: Option<&'static str>,
    url: String,
    #[schema(value_type = Vec<EventPattern>)]
    events: Vec<&'static str>,
    #[schema(required)]
    description: Option<String>,
    /// Where it was made: `api` or `config`.
    #[schema(value_type = EndpointOrigin)]
    origin: &'static str,
    enabled: bool,
    #[schema(value_type = Option<DisabledReason>, required)]
    disabled_reason: Option<&'static str>,
    #[schema(value_type = Option<TimeText>, required)]
    disabled_at: Option<Time>,
    /// Since when no try has succeeded.
    #[schema(value_type = Option<TimeText>, required)]
    failing_since: Option<Time>,
    counts: CountsBody,
    /// Until when the secret before the last rotation signs too, and at the latest those before it.
    #[schema(value_type = Option<TimeText>, required)]
    old_secret_until: Option<Time>,
    #[schema(value_type = TimeText)]
    created_at: Time,
    #[schema(value_type = TimeText)]
    updated_at: Time,
    /// Shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^whsec_")]
    secret: Option<String>,
}

/// What became of its events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookCounts)]
struct CountsBody {
    /// Events that it was to get so far; the `sequence` of the last one.
    events: u64,
    delivered: u64,
    failed_attempts: u64,
    waiting: u64,
    dead: usize,
}

impl EndpointBody {
    pub(super) fn of(endpoint: &Endpoint, secret: Option<&Secret>) -> Self {
        let progress = &endpoint.progress;
        Self {
            id: Text(endpoint.id),
            merchant_id: access::name_outside(&endpoint.merchant).to_owned(),
            mode: access::is_test(&endpoint.merchant).then_some("test"),
            url: endpoint.url.to_string(),
            events: endpoint.filter().map(|filter| filter.names().collect()).unwrap_or_default(),
            description: endpoint.description.as_deref().map(str::to_owned),
            origin: match endpoint.origin {
                Origin::Api => "api",
                Origin::Config => "config",
            },
            enabled: endpoint.disabled.is_none(),
            disabled_reason: endpoint.disabled.map(|(reason, _)| reason.name()),
            disabled_at: endpoint.disabled.map(|(_, at)| Time(at)),
            failing_since: progress.failing_since.map(Time),
            counts: CountsBody {
                events: endpoint.admitted,
                delivered: progress.delivered,
                failed_attempts: progress.failed,
                waiting: endpoint.waiting(),
                dead: progress.dead.len(),
            },
            old_secret_until: endpoint.old_secrets.last().map(|(_, until)| Time(*until)),
            created_at: Time(endpoint.created_at),
            updated_at: Time(endpoint.updated_at),
            secret: secret.map(Secret::expose),
        }
    }
}

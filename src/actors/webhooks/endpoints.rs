//! Making and changing webhook endpoints: by requests, and by the configuration.

use crate::{
    actors::{
        Engine,
        ledger::{NotRecorded, Recorded},
    },
    clock::new_uuid,
    config::{self, MerchantWebhook},
    domain::{
        id::EndpointId,
        time::Timestamp,
        webhook::{Created, Endpoint, Filter, Origin, Settings, WebhookEvent, WebhookRecord},
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Who keeps the endpoints of the configuration, in the journal.
pub const CONFIGURATION: &str = "system/config";

/// How long an old secret signs too, in milliseconds.
pub const SECRET_OVERLAP_MS: u64 = 24 * 60 * 60 * 1000;

/// Writes what `actor` wants about an endpoint. On return it is durable and on the books.
///
/// # Errors
/// Why nothing was written; the endpoints may not allow it, or it is not the moment.
pub async fn record(
    engine: &Engine,
    actor: Arc<str>,
    event: WebhookEvent,
) -> Result<Recorded, NotRecorded> {
    let _place = engine.admission.enter().map_err(NotRecorded::Unavailable)?;
    engine.disk_answers().map_err(NotRecorded::Unavailable)?;
    let room = engine.admission.reserve(0, &engine.books);
    let _room = room.map_err(NotRecorded::Unavailable)?;
    engine.ledger.record_webhook(WebhookRecord { actor, event }, engine.clock.now()).await
}

/// Makes the endpoints of the configuration those on the books: makes, changes and deletes what differs.
///
/// # Errors
/// The journal could not be written.
pub async fn configure(engine: &Engine, merchants: &[config::Merchant]) -> Result<(), NotRecorded> {
    let events = {
        let books = engine.books.read();
        let known = books.webhooks().endpoints().filter(|one| one.origin == Origin::Config);
        let known: BTreeMap<&str, &Endpoint> = known.map(|one| (&*one.merchant, one)).collect();
        let now = engine.clock.now();
        let mut events = Vec::new();
        for merchant in merchants {
            let endpoint = known.get(merchant.id.as_str()).copied();
            events.extend(differences(merchant, endpoint, now));
        }
        let is_configured = |id: &str| merchants.iter().any(|merchant| merchant.id == id);
        let left = known.values().filter(|endpoint| !is_configured(&endpoint.merchant));
        events.extend(left.map(|endpoint| WebhookEvent::Deleted { endpoint: endpoint.id }));
        events
    };
    for event in events {
        let record = WebhookRecord { actor: CONFIGURATION.into(), event };
        engine.ledger.record_webhook(record, engine.clock.now()).await?;
    }
    Ok(())
}

fn differences(
    merchant: &config::Merchant,
    known: Option<&Endpoint>,
    now: Timestamp,
) -> Vec<WebhookEvent> {
    let settings = |webhook: &MerchantWebhook| Settings {
        url: webhook.url.as_str().into(),
        filter: Filter::everything(),
        description: None,
    };
    match (&merchant.webhook, known) {
        (None, None) => Vec::new(),
        (None, Some(endpoint)) => vec![WebhookEvent::Deleted { endpoint: endpoint.id }],
        (Some(webhook), None) => vec![WebhookEvent::Created(Box::new(Created {
            endpoint: EndpointId::new(new_uuid(now)),
            merchant: merchant.id.as_str().into(),
            settings: settings(webhook),
            secret: webhook.secret.clone(),
            origin: Origin::Config,
        }))],
        (Some(webhook), Some(known)) => {
            let endpoint = known.id;
            let moved = (*known.url != *webhook.url)
                .then(|| WebhookEvent::Updated { endpoint, settings: settings(webhook) });
            let rotated = (known.secret != webhook.secret).then(|| WebhookEvent::Rotated {
                endpoint,
                secret: webhook.secret.clone(),
                old_until: now.plus_millis(SECRET_OVERLAP_MS),
            });
            moved.into_iter().chain(rotated).collect()
        }
    }
}

//! The section `webhooks`, and the endpoints that merchants have in the configuration.

use super::{
    DAY_MS, Network,
    section::{Section, duration_ms},
};
use crate::domain::webhook::Secret;

/// Telling merchants what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhooks {
    /// The waits before the second try of a delivery, the third, and so on.
    pub schedule_ms: Vec<u64>,
    /// By how much of itself a wait is made shorter or longer at random.
    pub jitter_percent: u64,
    /// How long an endpoint has to answer.
    pub timeout_ms: u64,
    /// The most tries at once to one endpoint.
    pub concurrency_per_endpoint: usize,
    /// The most tries at once, over all endpoints.
    pub in_flight_max: usize,
    /// The most events that are held in memory for one endpoint while they wait for their next try.
    pub backlog_per_endpoint: usize,
    /// The most endpoints of one merchant.
    pub endpoints_per_merchant: usize,
    /// How long an endpoint may fail before it is disabled.
    pub disable_after_ms: u64,
    /// How often the progress of deliveries is journaled.
    pub progress_every_ms: u64,
    /// Whether endpoints may be on this machine, and those by plain HTTP.
    pub allow_loopback: bool,
    /// Special addresses that endpoints may have nevertheless.
    pub allow_networks: Vec<Network>,
}

impl Webhooks {
    /// The most waits of a schedule.
    const WAITS_MAX: usize = 20;

    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let waits = "1 to 20 durations from 1ms to 30d, such as \"5s, 30s, 2m\"";
        let schedule = section.text("schedule", waits, |text| {
            let wait = |text: &str| duration_ms(text.trim());
            let waits: Vec<u64> = text.split(',').map(wait).collect::<Option<_>>()?;
            let fits = waits.iter().all(|ms| (1..=30 * DAY_MS).contains(ms));
            (fits && waits.len() <= Self::WAITS_MAX).then_some(waits)
        });
        let jitter_percent = section.integer("jitter_percent", 0..=100);
        let timeout_ms = section.integer("timeout_ms", 10..=60_000);
        let concurrency_per_endpoint = section.integer("concurrency_per_endpoint", 1..=256);
        let in_flight_max = section.integer("in_flight_max", 2..=65_536);
        let backlog_per_endpoint = section.integer("backlog_per_endpoint", 10..=10_000);
        let endpoints_per_merchant = section.integer("endpoints_per_merchant", 1..=1000);
        let disable_after = section.text("disable_after", "a duration, 1m to 366d", |text| {
            duration_ms(text).filter(|ms| (60_000..=366 * DAY_MS).contains(ms))
        });
        let progress_every_ms = section.integer("progress_every_ms", 10..=60_000);
        let allow_loopback = section.boolean("allow_loopback");
        let allow_networks = section.networks("allow_networks");
        Self {
            schedule_ms: schedule.unwrap_or_default(),
            jitter_percent,
            timeout_ms,
            concurrency_per_endpoint,
            in_flight_max,
            backlog_per_endpoint,
            endpoints_per_merchant,
            disable_after_ms: disable_after.unwrap_or_default(),
            progress_every_ms,
            allow_loopback,
            allow_networks,
        }
    }
}

/// A merchant's webhook endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerchantWebhook {
    /// Where it is.
    pub url: String,
    /// What signs.
    pub secret: Secret,
}

impl MerchantWebhook {
    /// Both keys or none.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        if !section.has("webhook_url") && !section.has("webhook_secret") {
            return None;
        }
        let url = section.text("webhook_url", "an http or https URL", |text| {
            let is_web = text.starts_with("https://") || text.starts_with("http://");
            is_web.then(|| text.to_owned())
        });
        let allowed = "whsec_ and the base64 of 24 to 64 bytes";
        let secret = section.text("webhook_secret", allowed, Secret::parse);
        Some(Self { url: url?, secret: secret? })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{
        DAY_MS,
        tests::{NO_VARIABLES, from_file, one_fault, refusal},
    };

    #[test]
    fn a_merchants_webhook_is_an_address_and_a_secret_or_neither() {
        let merchant = |keys: &str| format!("[[merchants]]\nid = 'm'\nkeys = []\n{keys}");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let both =
            format!("webhook_url = 'https://shop.example/hook'\nwebhook_secret = '{secret}'");
        let webhook = from_file(&merchant(&both)).merchants[0].webhook.clone().unwrap();
        assert_eq!(webhook.url, "https://shop.example/hook");
        assert_eq!(webhook.secret.expose(), secret);
        for (keys, fault) in [
            ("webhook_url = 'https://shop.example'", "webhook_secret"),
            (&format!("webhook_secret = '{secret}'"), "webhook_url"),
            (&both.replace("https", "ftp"), "webhook_url"),
            (&both.replace("whsec_", ""), "webhook_secret"),
        ] {
            assert_eq!(
                one_fault(&merchant(keys), &NO_VARIABLES).key,
                format!("merchants[0].{fault}")
            );
        }
        let told = refusal(&merchant(&both.replace("whsec_", "")), &NO_VARIABLES);
        assert!(!told.contains("MfKQ9r8"), "{told}");
    }

    #[test]
    fn webhook_schedules_and_networks_are_lists_in_a_text() {
        let webhooks = |text: &str| from_file(&format!("[webhooks]\n{text}")).webhooks;
        assert_eq!(webhooks("schedule = '1s'").schedule_ms, [1_000]);
        assert_eq!(
            webhooks("schedule = '5s,1h 30m , 2d'").schedule_ms,
            [5_000, 5_400_000, 2 * DAY_MS]
        );
        let networks =
            webhooks("allow_networks = '10.1.0.0/16,fd00::/8 , 192.0.2.7'").allow_networks;
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.1.0.0/16", "fd00::/8", "192.0.2.7/32"]);
    }
}

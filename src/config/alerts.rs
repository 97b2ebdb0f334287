//! Telling the operator what is wrong.

use super::section::Section;
use crate::domain::webhook::Secret;
use actix_web::http::Uri;

/// Telling the operator what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// Where alarms are sent; `None`: nowhere.
    pub webhook: Option<AlertWebhook>,
}

/// Where alarms are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertWebhook {
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// What signs.
    pub secret: Secret,
}

impl Alerts {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let url = section.text("webhook_url", "an absolute http or https URL, or empty", |text| {
            (text.is_empty() || is_url(text)).then(|| text.to_owned())
        });
        let wanted = url.as_ref().is_none_or(|url| !url.is_empty());
        let allowed = match wanted {
            true => "whsec_ and the base64 of 24 to 64 bytes",
            false => "empty as long as alerts.webhook_url is",
        };
        let secret = section.text("webhook_secret", allowed, |text| match wanted {
            true => Secret::parse(text).map(Some),
            false => text.is_empty().then_some(None),
        });
        let webhook = url.zip(secret.flatten()).map(|(url, secret)| AlertWebhook { url, secret });
        Self { webhook }
    }
}

fn is_url(text: &str) -> bool {
    text.parse::<Uri>()
        .is_ok_and(|url| url.host().is_some() && matches!(url.scheme_str(), Some("http" | "https")))
}

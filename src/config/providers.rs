//! Who moves the money, and which payments go to whom.

use super::section::Section;
use crate::domain::{
    access::Mode,
    money::{Amount, Currency},
};
use std::fmt;

/// The name of the embedded provider; no other may be called so.
pub const SANDBOX: &str = "sandbox";

/// A provider that moves money outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideProvider {
    /// The name on payments, in the books and in the path of its webhook.
    pub name: String,
    /// What language it speaks.
    pub kind: ProviderKind,
    /// Where it is.
    pub url: String,
    /// What opens it.
    pub secret_key: Confidential,
    /// What signs the messages that it sends by itself, if it sends any.
    pub webhook_secret: Option<Confidential>,
    /// The most calls at once.
    pub in_flight_max: usize,
    /// How long a call may take before its answer counts as unknown.
    pub deadline_ms: u64,
    /// A call that takes longer counts as a failure, whatever its answer.
    pub slow_after_ms: u64,
    /// After how many failures in a row new payments go elsewhere or get 503.
    pub failures_max: u32,
    /// How long after that a new payment is tried.
    pub rest_ms: u64,
}

/// The language of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// Stripe's PaymentIntents.
    Stripe,
}

impl OutsideProvider {
    pub(super) fn read(name: &str, section: &mut Section<'_>) -> Self {
        let kind = section.text("kind", "\"stripe\"", |text| match text {
            "stripe" => Some(ProviderKind::Stripe),
            _ => None,
        });
        let url = section.optional("url", |section| {
            section.text("url", "an http or https URL without a path", |text| {
                let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
                let plain = host
                    .is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@']));
                plain.then(|| text.to_owned())
            })
        });
        let secret = |section: &mut Section<'_>, key| {
            section.text(key, "a text without white space", |text| {
                let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
                visible.then(|| Confidential(text.into()))
            })
        };
        let webhook_secret =
            section.optional("webhook_secret", |section| secret(section, "webhook_secret"));
        Self {
            name: name.to_owned(),
            kind: kind.unwrap_or(ProviderKind::Stripe),
            url: url.unwrap_or_else(|| "https://api.stripe.com".to_owned()),
            secret_key: secret(section, "secret_key").unwrap_or_default(),
            webhook_secret,
            in_flight_max: section.optional_integer("in_flight_max", 1..=10_000).unwrap_or(64),
            deadline_ms: section.optional_integer("deadline_ms", 100..=600_000).unwrap_or(30_000),
            slow_after_ms: section.optional_integer("slow_after_ms", 10..=600_000).unwrap_or(5_000),
            failures_max: section.optional_integer("failures_max", 1..=1_000_000).unwrap_or(5),
            rest_ms: section.optional_integer("rest_ms", 10..=3_600_000).unwrap_or(5_000),
        }
    }
}

/// A secret of ours at somebody else's. It is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Confidential(Box<str>);

impl Confidential {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Confidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Which payments go to which providers. Every condition given must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Of live payments, or of those made with keys for test payments.
    pub mode: Mode,
    /// Only this merchant's.
    pub merchant: Option<String>,
    /// Only in this currency.
    pub currency: Option<Currency>,
    /// Only from this many minor units on.
    pub amount_min: Option<i64>,
    /// Only up to this many minor units.
    pub amount_max: Option<i64>,
    /// The providers, in the order in which they are tried.
    pub providers: Vec<String>,
}

impl Route {
    /// The most providers of one route: each one that declines is an attempt on the payment.
    const PROVIDERS_MAX: usize = 8;

    /// `known` are the providers that there are.
    pub(super) fn read(known: &[String], section: &mut Section<'_>) -> Self {
        let mode = section
            .optional("mode", |section| section.text("mode", "\"live\" or \"test\"", Mode::parse));
        let merchant = section.optional("merchant", |section| {
            section.text("merchant", "a merchant's id", |text| Some(text.to_owned()))
        });
        let currency = section.optional("currency", |section| {
            section.text("currency", "an ISO 4217 code such as \"EUR\"", Currency::for_payment)
        });
        let amount_min = section.optional_integer("amount_min", 1..=Amount::MAX);
        let amount_max = section.optional_integer("amount_max", 1..=Amount::MAX);
        let allowed = format!(
            "1 to {} names of providers, in the order in which they are tried, such as \"stripe, other\", and {SANDBOX} \
             alone, for it moves no money; there are: {}",
            Self::PROVIDERS_MAX,
            known.join(", ")
        );
        let providers = section.text("providers", &allowed, |text| {
            let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
            let sandbox_among_others = names.len() > 1 && names.iter().any(|name| name == SANDBOX);
            let known = names.iter().all(|name| known.contains(name));
            (names.len() <= Self::PROVIDERS_MAX && known && !sandbox_among_others).then_some(names)
        });
        let providers = providers.unwrap_or_default();
        let mode = mode.unwrap_or(Mode::Live);
        Self { mode, merchant, currency, amount_min, amount_max, providers }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{NO_VARIABLES, from_file, one_fault, refusal};

    const STRIPE: &str = "[providers.main]\nkind = 'stripe'\nsecret_key = 'sk_test_abcdef'\n";

    #[test]
    fn a_provider_needs_a_kind_and_a_key_and_the_rest_has_defaults() {
        let config = from_file(STRIPE);
        let [provider] = &config.providers[..] else { panic!("{:?}", config.providers) };
        assert_eq!(provider.name, "main");
        assert_eq!(provider.url, "https://api.stripe.com");
        assert_eq!(provider.secret_key.expose(), "sk_test_abcdef");
        assert_eq!((provider.in_flight_max, provider.deadline_ms), (64, 30_000));
        assert_eq!(provider.webhook_secret, None);
        assert!(!format!("{config:?}").contains("abcdef"));
        for (line, key) in [
            ("kind = 'adyen'", "kind"),
            ("kind = 'stripe'\nurl = 'api.stripe.com'", "url"),
            ("kind = 'stripe'\nurl = 'https://x/y'", "url"),
            ("kind = 'stripe'\ndeadline_ms = 1", "deadline_ms"),
            ("kind = 'stripe'\ntimeout = 1", "timeout"),
        ] {
            let text = format!("[providers.main]\nsecret_key = 'sk'\n{line}\n");
            assert_eq!(one_fault(&text, &NO_VARIABLES).key, format!("providers.main.{key}"));
        }
        let told = refusal(&STRIPE.replace("_test", " test"), &NO_VARIABLES);
        assert!(!told.contains("abcdef"), "{told}");
    }

    #[test]
    fn a_route_names_providers_that_there_are() {
        let other = STRIPE.replace("main", "other");
        let routes = |text: &str| from_file(&format!("{STRIPE}{other}[[routes]]\n{text}\n")).routes;
        let all = "merchant = 'm'\ncurrency = 'EUR'\namount_min = 5\namount_max = 9\nproviders = 'main , other'";
        let route = &routes(all)[0];
        assert_eq!(route.providers, ["main", "other"]);
        assert_eq!((route.amount_min, route.amount_max), (Some(5), Some(9)));
        assert_eq!(routes("providers = 'sandbox'")[0].merchant, None);
        for (line, key) in [
            ("providers = 'nobody'", "providers"),
            ("providers = 'main, sandbox'", "providers"),
            ("providers = ''", "providers"),
            ("providers = 'main'\ncurrency = 'XXX'", "currency"),
            ("providers = 'main'\namount_min = 0", "amount_min"),
        ] {
            let text = format!("{STRIPE}[[routes]]\n{line}\n");
            assert_eq!(one_fault(&text, &NO_VARIABLES).key, format!("routes[0].{key}"));
        }
    }
}

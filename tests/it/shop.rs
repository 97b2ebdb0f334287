//! A server whose payments go to a provider that moves money outside: the double of Stripe.

use crate::{
    client::Response, clock::Clock, server::TestServer, stripe_double::StripeDouble,
    wait::eventually,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, ops::Deref};

pub const WEBHOOK_SECRET: &str = "whsec_of_the_double";
pub const SECRET_KEY: &str = "sk_test_of_the_double";

/// What is not known at once is asked about soon.
pub const SETTINGS: [(&str, &str); 2] = [
    ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "5000"),
    ("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "20"),
];

/// Clients hear that an outcome is not known yet when it has been out for a quarter of a second.
pub const ANSWERS_SOON: (&str, &str) = ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "250");

/// Used as it is, it is the server.
pub struct Shop {
    pub stripe: StripeDouble,
    pub server: TestServer,
}

/// Who asked once does not ask again while a test runs.
pub const ASKS_NEVER: (&str, &str) = ("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "60000");

/// A provider in the configuration.
pub fn provider(name: &str, url: &str, lines: &str) -> String {
    format!(
        "[providers.{name}]\nkind = \"stripe\"\nurl = \"{url}\"\nsecret_key = \"{SECRET_KEY}\"\n\
         webhook_secret = \"{WEBHOOK_SECRET}\"\n{lines}\n"
    )
}

/// A route that all payments take.
pub fn route(providers: &str) -> String {
    format!("[[routes]]\nproviders = \"{providers}\"\n")
}

impl Shop {
    pub fn start() -> Self {
        Self::start_with("failures_max = 1000000", &[])
    }

    /// With more lines about the provider, and environment variables on top of the usual.
    #[track_caller]
    pub fn start_with(lines: &str, settings: &[(&str, &str)]) -> Self {
        let stripe = StripeDouble::start();
        let config = provider("stripe", &stripe.url(), lines) + &route("stripe");
        let server = TestServer::start_configured(&config, &[&SETTINGS, settings].concat());
        Self { stripe, server }
    }

    /// As [`Shop::start_with`], with a clock that a test moves.
    pub fn with_clock(lines: &str, clock: &Clock, settings: &[(&str, &str)]) -> Self {
        let lines = format!("failures_max = 1000000\n{lines}");
        Self::start_with(&lines, &[&[clock.setting()], settings].concat())
    }

    /// Has the double tell the server of what happens, so many times each.
    pub fn tell(&self, copies: usize) {
        self.stripe.tell(&self.webhook(), WEBHOOK_SECRET, copies);
    }

    pub fn webhook(&self) -> String {
        format!("http://{}/api/providers/stripe/webhook", self.server.address())
    }

    #[track_caller]
    pub fn charge(&self, key: &str, amount: i64) -> Response {
        self.server.charge_with("pm_card_visa", key, amount)
    }

    #[track_caller]
    pub fn authorize(&self, key: &str, amount: i64) -> Response {
        let method = "pm_card_visa";
        let body = json!({
            "amount": amount, "currency": "USD", "capture": "manual", "paymentMethod": method,
        });
        self.server.pay(key, &body)
    }

    /// The payment once nothing of it is in doubt.
    #[track_caller]
    pub fn settled(&self, id: &str) -> Value {
        eventually("nothing is in doubt", || {
            let payment = self.server.payment(id);
            let attempts = payment["attempts"].as_array().unwrap();
            attempts.iter().all(|attempt| attempt["status"] != "pending").then_some(payment)
        })
    }

    /// The payment once a person has to look at it.
    #[track_caller]
    pub fn in_review(&self, id: &str) -> Value {
        eventually("the payment needs review", || {
            let payment = self.server.payment(id);
            (payment["needsReview"] == true).then_some(payment)
        })
    }

    /// What stands in doubt in the ledger.
    #[track_caller]
    pub fn in_doubt(&self) -> i64 {
        self.server.admin().balance("in_doubt:stripe", "USD").1
    }

    /// The provider did nothing twice, nothing is in doubt, and its record agrees with our books to the cent.
    #[track_caller]
    pub fn agrees(&self) {
        for (key, times) in self.stripe.executions() {
            assert!(times <= 1, "{key} was done {times} times");
        }
        assert_eq!(self.in_doubt(), 0);
        let figure = |payment: &Value, name: &str| payment[name].as_i64().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // What the provider took less what it gave back, by payment.
        let mut taken: BTreeMap<String, i64> = BTreeMap::new();
        let mut payment_of = BTreeMap::new();
        for intent in self.stripe.intents() {
            let payment = text(&intent["metadata"]["strongroom_payment"]);
            *taken.entry(payment.clone()).or_default() += figure(&intent, "amount_received");
            payment_of.insert(text(&intent["id"]), payment);
        }
        for refund in self.stripe.refunds() {
            if refund["status"] != "failed" {
                let payment = &payment_of[&text(&refund["payment_intent"])];
                *taken.get_mut(payment).unwrap() -= figure(&refund, "amount");
            }
        }
        let mut sum = 0;
        for payment in self.server.all("/api/payments") {
            let ours = figure(&payment, "amountCaptured") - figure(&payment, "amountRefunded");
            let theirs = taken.remove(&text(&payment["id"])).unwrap_or(0);
            assert_eq!(ours, theirs, "{payment:#}");
            sum += ours;
        }
        assert_eq!(self.server.balance("merchant:merchant_1", "USD").0, sum);
        assert!(taken.is_empty(), "the provider moved money that no payment is about: {taken:?}");
        self.server.admin().reconciles();
    }
}

impl Deref for Shop {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

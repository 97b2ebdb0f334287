//! Tells the operator's webhook of alarms: one signed message each, tried a few times. Whoever raises one never waits.
//!
//! Messages are signed by Standard Webhooks, as merchants' are. They are not kept: what stands in `/ready` and in the log
//! is the record, the message only wakes somebody.

use super::alarms::Alarm;
use crate::{
    clock::{Clock, new_uuid},
    domain::{time::Timestamp, webhook::Secret},
    trust,
};
use actix_rt::Arbiter;
use awc::{Client, Connector};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Messages that wait to be sent; more are not sent, and the log says so.
const WAITING_MAX: usize = 64;

/// How long the webhook has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The waits before the second try and those after it.
const WAITS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
];

/// An alarm that was raised at `at`.
#[derive(Clone, Debug)]
pub struct Alert {
    /// What is wrong.
    pub alarm: Alarm,
    /// When it was raised, this time.
    pub at: Timestamp,
}

/// Where alerts go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The webhook. It may hold a secret of its receiver's, so it is never logged.
    pub url: String,
    /// What signs.
    pub secret: Secret,
}

/// How others reach the sender.
#[derive(Clone)]
pub struct Alerts(mpsc::Sender<Alert>);

impl Alerts {
    /// Starts the sender on a thread that it shares.
    #[must_use]
    pub fn start(thread: &Arbiter, destination: Destination, clock: Arc<dyn Clock>) -> Self {
        let (queue, mut alerts) = mpsc::channel(WAITING_MAX);
        thread.spawn_fn(move || {
            let client = client();
            actix_rt::spawn(async move {
                while let Some(alert) = alerts.recv().await {
                    deliver(&client, &destination, &*clock, &alert).await;
                }
            });
        });
        Self(queue)
    }

    /// Sends the alert as soon as those before it are through.
    pub fn send(&self, alert: Alert) {
        if let Err(error) = self.0.try_send(alert) {
            tracing::error!(%error, "an alert is not sent: too many wait");
        }
    }
}

fn client() -> Client {
    Client::builder()
        .connector(Connector::new().rustls_0_23(trust::tls()))
        .disable_redirects()
        .timeout(ANSWER_WITHIN)
        .add_default_header(("user-agent", concat!("strongroom/", env!("CARGO_PKG_VERSION"))))
        .finish()
}

async fn deliver(client: &Client, to: &Destination, clock: &dyn Clock, alert: &Alert) {
    let (id, body) = message(alert);
    let code = alert.alarm.code;
    for wait in WAITS.map(Some).into_iter().chain([None]) {
        match attempt(client, to, clock, (&id, &body)).await {
            Ok(()) => {
                tracing::info!(alarm = code, alert = id, "alert delivered");
                return;
            }
            Err(why) => tracing::warn!(alarm = code, alert = id, why, "alert not delivered"),
        }
        match wait {
            Some(wait) => actix_rt::time::sleep(wait).await,
            None => tracing::error!(
                alarm = code,
                alert = id,
                "alert given up: check alerts.webhook_url; nobody was told but the log"
            ),
        }
    }
}

async fn attempt(
    client: &Client,
    to: &Destination,
    clock: &dyn Clock,
    (id, body): (&str, &str),
) -> Result<(), String> {
    let seconds = clock.now().millis() / 1000;
    let request = client
        .post(&to.url)
        .insert_header(("content-type", "application/json"))
        .insert_header(("webhook-id", id))
        .insert_header(("webhook-timestamp", seconds.to_string()))
        .insert_header(("webhook-signature", to.secret.sign(id, seconds, body.as_bytes())));
    let answer = request.send_body(body.to_owned()).await.map_err(|error| error.to_string())?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("the webhook answered {status}")),
    }
}

/// The message's id and body.
fn message(alert: &Alert) -> (String, String) {
    let Alert { alarm, at } = alert;
    let id = format!("evt_{}", new_uuid(*at).simple());
    let body = json!({
        "id": id,
        "type": alarm.code,
        "timestamp": at.to_string(),
        "data": {
            "code": alarm.code,
            "detail": alarm.detail,
            "since": alarm.since.to_string(),
        },
    });
    (id, body.to_string())
}

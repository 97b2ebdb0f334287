//! One request to Stripe, and what is heard of it.
//!
//! The provider asks here, on its own thread. Nothing is ever sent a second time, no redirect is followed, and no clock
//! runs but for making a connection: who asks has a deadline. Secrets and bodies are never logged.

use super::{Settings, objects::kept};
use crate::telemetry::traces;
use actix_web::{
    http::{
        StatusCode,
        header::{AUTHORIZATION, USER_AGENT},
    },
    web::Bytes,
};
use awc::{
    Client, ClientRequest, Connector, SendClientRequest,
    error::{ConnectError, SendRequestError},
};
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};

/// The version of Stripe's interface that this is written for.
const VERSION: &str = "2024-10-28.acacia";
/// The most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long making a connection may take, and securing it once more.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an unused connection is kept: less than common servers keep it, so that few are closed under a request.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is heard of a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It never left: there was no connection to send it on.
    NotSent(&'static str),
    /// It may have arrived; there is no answer.
    Nothing(Box<str>),
    /// An answer.
    Reply(Reply),
}

/// An answer, of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// `None` if it could not be read to its end.
    pub(super) body: Option<Bytes>,
    /// Stripe's name for the request, which its support asks for.
    pub(super) request: Box<str>,
    /// Whether Stripe says that the same call is to be made again.
    pub(super) should_retry: Option<bool>,
}

/// Why something was not got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotGot {
    /// There is no such thing, or it can't be asked for so.
    Refused(StatusCode),
    /// There is no telling.
    Failed(Box<str>),
}

/// The connections to Stripe.
pub(super) struct Wire {
    client: Client,
    settings: Settings,
}

impl Wire {
    pub(super) fn new(settings: Settings, tls: Arc<ClientConfig>, connections_max: usize) -> Self {
        let connector = Connector::new()
            .timeout(CONNECT_WITHIN)
            .handshake_timeout(CONNECT_WITHIN)
            // Zero would be no limit.
            .limit(connections_max.max(1))
            .conn_keep_alive(KEEP_ALIVE)
            .rustls_0_23(tls);
        let client = Client::builder().connector(connector).disable_redirects().disable_timeout();
        Self { client: client.finish(), settings }
    }

    pub(super) fn webhook_secret(&self) -> Option<&str> {
        self.settings.webhook_secret.as_deref()
    }

    /// Asks for something to be done, once for all calls of the same key.
    pub(super) async fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> Heard {
        let request = self.dressed(self.client.post(self.url(path)));
        heard(request.insert_header(("idempotency-key", key)).send_form(&form)).await
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, NotGot> {
        let failed = |why: &str| NotGot::Failed(format!("asking for {path}: {why}").into());
        let mut request = self.dressed(self.client.get(self.url(path)));
        if !query.is_empty() {
            request = request.query(&query).map_err(|_| failed("it can't be put into a URL"))?;
        }
        let reply = match heard(request.send()).await {
            Heard::NotSent(why) => return Err(failed(why)),
            Heard::Nothing(why) => return Err(failed(&why)),
            Heard::Reply(reply) => reply,
        };
        match reply.status {
            status if status.is_success() => reply.read().ok_or_else(|| failed("unreadable")),
            status @ (StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) => {
                Err(NotGot::Refused(status))
            }
            _ => Err(failed(&reply.what())),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.settings.url.trim_end_matches('/'))
    }

    fn dressed(&self, request: ClientRequest) -> ClientRequest {
        traces::onto(request)
            .insert_header((AUTHORIZATION, format!("Bearer {}", self.settings.secret_key)))
            .insert_header((USER_AGENT, concat!("Strongroom/", env!("CARGO_PKG_VERSION"))))
            .insert_header(("stripe-version", VERSION))
    }
}

impl Reply {
    pub(super) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.body.as_deref()?).ok()
    }

    /// What it is, for a person.
    pub(super) fn what(&self) -> String {
        let unread = if self.body.is_none() { ", cut off or too long" } else { "" };
        format!("HTTP {}{unread}{}", self.status.as_u16(), self.named())
    }

    /// Its request, for a person.
    pub(super) fn named(&self) -> String {
        if self.request.is_empty() { String::new() } else { format!(", request {}", self.request) }
    }
}

async fn heard(sending: SendClientRequest) -> Heard {
    match sending.await {
        Ok(mut answer) => {
            let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            let request = header("request-id").map(kept).unwrap_or_default();
            let should_retry = header("stripe-should-retry").and_then(|text| text.parse().ok());
            let body = answer.body().limit(ANSWER_BYTES_MAX).await.ok();
            Heard::Reply(Reply { status: answer.status(), body, request, should_retry })
        }
        Err(error) => match (not_sent(&error), error) {
            (Some(why), _) => Heard::NotSent(why),
            (None, SendRequestError::Connect(ConnectError::Disconnected)) => {
                Heard::Nothing("no answer: the connection was closed".into())
            }
            (None, error) => Heard::Nothing(format!("no answer: {error}").into()),
        },
    }
}

/// Why it is certain that nothing was sent; `None` if it is not.
fn not_sent(error: &SendRequestError) -> Option<&'static str> {
    let SendRequestError::Connect(error) = error else { return None };
    match error {
        ConnectError::Resolver(_) | ConnectError::NoRecords | ConnectError::Unresolved => {
            Some("host_not_found")
        }
        ConnectError::Timeout => Some("connection_timeout"),
        ConnectError::Io(_) | ConnectError::SslIsNotSupported => Some("connection_failed"),
        // `Disconnected` is what awc says when a connection is closed after the request was sent on it.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn only_what_fails_before_there_is_a_connection_was_certainly_not_sent() {
        let io = || io::Error::from(io::ErrorKind::ConnectionReset);
        for (error, certain) in [
            (SendRequestError::Connect(ConnectError::Io(io())), true),
            (SendRequestError::Connect(ConnectError::Timeout), true),
            (SendRequestError::Connect(ConnectError::NoRecords), true),
            (SendRequestError::Connect(ConnectError::Disconnected), false),
            (SendRequestError::Send(io()), false),
            (SendRequestError::Timeout, false),
        ] {
            assert_eq!(not_sent(&error).is_some(), certain, "{error:?}");
        }
    }
}

//! Sending one message: a signed POST to a checked address, and what came of it.
//!
//! No redirects, no proxies, no cookies; the answer is read up to a bound and a time, whatever the other side does.

use super::guard::{Checked, Guard, Refused, Target};
use crate::{
    clock::Clock,
    domain::{
        time::Timestamp,
        webhook::{Secret, Try, TryResult},
    },
    telemetry::traces,
};
use actix_tls::connect::{Connector as TcpConnector, Resolver};
use actix_web::{
    error::ParseError,
    http::{
        Uri,
        header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
    },
    web::Bytes,
};
use awc::{
    Client, Connector,
    error::{ConnectError, SendRequestError},
};
use rustls::ClientConfig;
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

/// The most of an answer's body that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the body of an answer whose status is known may take: the status has said all that counts.
const ANSWER_BODY_WITHIN: Duration = Duration::from_secs(1);
/// How long an unused connection is kept: less than common servers keep it.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// A message as it is sent: every try of it has the same id and body.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) id: String,
    pub(super) body: Bytes,
}

/// What came of sending.
#[derive(Clone, Debug)]
pub struct Sent {
    /// As it is recorded.
    pub tried: Try,
    /// What the endpoint asked for, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// What it answered, as far as it was read.
    pub answer: Bytes,
}

impl Sent {
    /// Nothing was sent, since the URL leads where webhooks may not go.
    pub(super) fn forbidden(at: Timestamp) -> Self {
        let tried = Try { at, latency_ms: 0, result: TryResult::Forbidden };
        Self { tried, retry_after_ms: None, answer: Bytes::new() }
    }
}

/// A client for one target, whose connections go to checked addresses only.
pub(super) fn client(
    guard: &Guard,
    target: &Target,
    tls: Arc<ClientConfig>,
    (concurrency, timeout): (usize, Duration),
) -> Client {
    let checked = Checked { guard: guard.clone(), target: target.clone() };
    let tcp = TcpConnector::new(Resolver::custom(checked)).service();
    let connector = Connector::new()
        .connector(tcp)
        .timeout(timeout)
        .handshake_timeout(timeout)
        .limit(concurrency)
        .conn_keep_alive(KEEP_ALIVE)
        .rustls_0_23(tls);
    Client::builder().connector(connector).disable_redirects().disable_timeout().finish()
}

/// Sends a parcel once, signed with each of the secrets at the time of this try.
pub(super) async fn send(
    client: Client,
    uri: Uri,
    parcel: Parcel,
    secrets: Vec<Secret>,
    (clock, timeout): (Arc<dyn Clock>, Duration),
) -> Sent {
    let (at, began) = (clock.now(), Instant::now());
    let seconds = at.millis() / 1000;
    let sign = |secret: &Secret| secret.sign(&parcel.id, seconds, &parcel.body);
    let signatures: Vec<String> = secrets.iter().map(sign).collect();
    let request = client
        .post(uri)
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((USER_AGENT, concat!("Strongroom/", env!("CARGO_PKG_VERSION"))))
        .insert_header(("webhook-id", parcel.id))
        .insert_header(("webhook-timestamp", seconds.to_string()))
        .insert_header(("webhook-signature", signatures.join(" ")))
        .no_decompress();
    let sending = traces::onto(request).send_body(parcel.body);
    let answered = tokio::time::timeout(timeout, sending).await;
    let mut sent = Sent {
        tried: Try { at, latency_ms: 0, result: TryResult::TimedOut },
        retry_after_ms: None,
        answer: Bytes::new(),
    };
    match answered {
        Err(_) => {}
        Ok(Err(error)) => sent.tried.result = failure(&error),
        Ok(Ok(mut answer)) => {
            let status = answer.status().as_u16();
            let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            sent.retry_after_ms = asked.and_then(|text| retry_after_ms(text, at.millis()));
            let announced =
                answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            let announced: Option<usize> = announced.and_then(|text| text.parse().ok());
            let body = answer.body().limit(ANSWER_BYTES_MAX);
            sent.tried.result = match tokio::time::timeout(ANSWER_BODY_WITHIN, body).await {
                Ok(Ok(body)) if announced.is_none_or(|length| body.len() >= length) => {
                    sent.answer = body;
                    TryResult::Answered(status)
                }
                // The connection is closed with the answer.
                _ => TryResult::AnsweredInPart(status),
            };
        }
    }
    sent.tried.latency_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
    sent
}

fn failure(error: &SendRequestError) -> TryResult {
    match error {
        SendRequestError::Connect(error) => match error {
            ConnectError::Resolver(error) => match error.downcast_ref::<Refused>() {
                Some(Refused::Unresolved { .. }) | None => TryResult::Unresolved,
                Some(_) => TryResult::Forbidden,
            },
            ConnectError::NoRecords | ConnectError::Unresolved => TryResult::Unresolved,
            ConnectError::Timeout => TryResult::TimedOut,
            ConnectError::SslIsNotSupported => TryResult::NotSecured,
            ConnectError::Io(error) if is_tls(error) => TryResult::NotSecured,
            ConnectError::Disconnected => TryResult::Disconnected,
            _ => TryResult::NotConnected,
        },
        SendRequestError::Timeout => TryResult::TimedOut,
        SendRequestError::Response(ParseError::Io(_) | ParseError::Incomplete) => {
            TryResult::Disconnected
        }
        SendRequestError::Response(_) | SendRequestError::Http(_) => TryResult::Garbage,
        _ => TryResult::Disconnected,
    }
}

/// Whether the failure is one of TLS, such as a certificate that is not trusted.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Reads `Retry-After`: whole seconds, or a date (RFC 9110 §10.2.3).
fn retry_after_ms(text: &str, now_ms: u64) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return seconds.checked_mul(1000);
    }
    let date: actix_web::http::header::HttpDate = text.parse().ok()?;
    let since_epoch = std::time::SystemTime::from(date).duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since_epoch.as_millis()).ok()?.checked_sub(now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now = 784_111_777_000;
        for (text, expected) in [
            ("120", Some(120_000)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30_000)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", None),
            ("soon", None),
            ("-5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(retry_after_ms(text, now), expected, "{text}");
        }
    }
}

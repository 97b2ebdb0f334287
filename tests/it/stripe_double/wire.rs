//! HTTP as the double speaks it: the requests that come in, its answers, and the signed events that it sends.

use super::Said;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

pub(super) fn event(id: &str, kind: &str, object: &Value, now_s: u64) -> String {
    let data = json!({ "object": object });
    json!({"id": id, "object": "event", "type": kind, "created": now_s, "data": data}).to_string()
}

/// Whom to tell.
#[derive(Clone)]
pub(super) struct Hook {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) secret: String,
    pub(super) copies: usize,
}

impl Hook {
    /// The receiver may be down for a moment, or for ever.
    pub(super) fn send_until_taken(&self, event: &str, now_s: u64) {
        for _ in 0..5 {
            if self.send(event, now_s).is_ok_and(|status| status / 100 == 2) {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Signs and sends an event once, and returns the status that is answered.
    pub(super) fn send(&self, event: &str, now_s: u64) -> io::Result<u16> {
        let timeout = Duration::from_secs(10);
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(format!("{now_s}.{event}").as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let mut connection = TcpStream::connect_timeout(&self.address, timeout)?;
        connection.set_read_timeout(Some(timeout))?;
        let (address, path, length) = (self.address, &self.path, event.len());
        let request = format!(
            "POST /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\
             Stripe-Signature: t={now_s},v1={signature}\r\n\r\n{event}"
        );
        connection.write_all(request.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(connection).read_line(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// An error as Stripe words it; its kind follows from the rest.
pub(super) fn refusal(status: u16, code: &str, param: &str) -> Said {
    let kind = match status {
        500 => "api_error",
        _ if code.starts_with("idempotency") => "idempotency_error",
        _ => "invalid_request_error",
    };
    let message = format!("{code} {param}");
    let error = json!({"type": kind, "code": code, "param": param, "message": message});
    (status, json!({ "error": error }))
}

pub(super) fn say((status, body): &Said) -> String {
    http(*status, &body.to_string())
}

pub(super) fn http(status: u16, body: &str) -> String {
    let retry = if status == 429 { "Stripe-Should-Retry: true\r\n" } else { "" };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{retry}");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) key: Option<String>,
    headers: BTreeMap<String, String>,
    /// All that a key stands for.
    pub(super) sent: String,
    form: BTreeMap<String, String>,
}

impl Request {
    /// The next one of a connection; `None` at its end.
    pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut lines = reader.by_ref().lines();
        let Some(first) = lines.next().transpose()? else { return Ok(None) };
        let (method, target) = first.trim_end_matches(" HTTP/1.1").split_once(' ').unwrap();
        let mut headers = BTreeMap::new();
        while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8(body).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, &body));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let form = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
        let (method, path, key) = (method.into(), path.into(), headers.remove("idempotency-key"));
        Ok(Some(Self { method, path, key, headers, sent: first.clone() + &body, form }))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The path's words after `/v1/`.
    pub(super) fn route(&self) -> Vec<&str> {
        self.path.strip_prefix("/v1/").unwrap_or_default().split('/').collect()
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, Said> {
        let text = self.form.get(name).map(String::as_str);
        text.ok_or_else(|| refusal(400, "parameter_missing", name))
    }

    pub(super) fn amount(&self, name: &str) -> Result<i64, Said> {
        let amount = self.text(name)?.parse().ok().filter(|amount| *amount >= 1);
        amount.ok_or_else(|| refusal(400, "parameter_invalid_integer", name))
    }

    pub(super) fn choice(&self, name: &str, choices: &[&str]) -> Result<&str, Said> {
        let choice = self.text(name)?;
        let known = choices.contains(&choice);
        known.then_some(choice).ok_or_else(|| refusal(400, "parameter_invalid", name))
    }

    pub(super) fn metadata(&self) -> BTreeMap<&str, &str> {
        let pairs = self.form.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("metadata[")?.strip_suffix(']')?;
            Some((name, value.as_str()))
        });
        pairs.collect()
    }
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at(2);
        bytes.extend(hex::decode(byte).unwrap());
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).unwrap()
}

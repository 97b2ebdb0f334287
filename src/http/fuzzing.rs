//! The door for fuzzing requests: what reads bodies, queries and headers, without a server.

use super::{
    Door, address,
    body::Body,
    headers,
    payments::{read_details, resolution::read_resolution},
    query::Query,
    webhooks::{read_filter, read_secret},
};
use crate::domain::{
    access::{Mode, Scope},
    id::PaymentId,
    time::Timestamp,
};
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// Reads `bytes` as the body of every request there is.
pub fn body(door: &Door, bytes: &[u8]) {
    let read = || Body::parse(bytes).ok();
    let Some(first) = read() else { return };
    // However a body is spelled, its fingerprint is one.
    let again = Body::parse(first.canonical()).map(|body| body.canonical().to_vec());
    assert!(again.is_ok_and(|again| again == first.canonical()), "two canonical forms");
    let id = PaymentId::new(Uuid::nil());
    drop(read_details(first, id, "north".into(), door));
    for shape in [change, resolve, endpoint, replay, merchant, key] {
        if let Some(mut body) = read() {
            shape(&mut body);
            drop(body.finish());
        }
    }
}

fn change(body: &mut Body) {
    drop((body.amount("amount"), body.free_text("reason", 500)));
}

fn resolve(body: &mut Body) {
    black_box(read_resolution(body));
}

fn endpoint(body: &mut Body) {
    drop((body.text("url", 2048), read_filter(body), read_secret(body)));
    drop((body.free_text("description", 1000), body.boolean("enabled")));
}

fn replay(body: &mut Body) {
    let from = body.text_or_number("from");
    drop(body.require("from", from));
}

fn merchant(body: &mut Body) {
    drop((body.text("id", 255), body.free_text("name", 255), body.boolean("enabled")));
}

fn key(body: &mut Body) {
    black_box(body.read("mode", 255, "live or test", Mode::parse));
    drop(body.list("scopes", "scopes", Scope::parse));
    drop((body.free_text("label", 100), body.read("expiresAt", 255, "a time", Timestamp::parse)));
    drop(body.pairs("metadata"));
}

/// Reads `text` as a query with every parameter there is, and as an idempotency key.
pub fn query(text: &str) {
    let mut query = Query::parse(text);
    drop((query.text("idempotencyKey"), query.limit(), query.time("from"), query.cut()));
    drop((query.event("after"), query.payment("after"), query.text("type")));
    drop(query.finish());
    if let Ok(key) = headers::read_key(text) {
        let quoted = key.as_str().replace('\\', "\\\\").replace('"', "\\\"");
        let quoted = headers::read_key(&format!("\"{quoted}\""));
        assert!(quoted.is_ok_and(|quoted| quoted == key), "a key that is another one quoted");
    }
}

/// Reads `bytes` as the value of every header there is, from a proxy that is believed.
pub fn header(door: &Door, bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let mut all = HeaderMap::new();
    for name in ["x-request-id", "x-forwarded-for"] {
        all.append(HeaderName::from_static(name), value.clone());
    }
    drop(headers::request_id(&all));
    let seen = address::asker(IpAddr::V4(Ipv4Addr::LOCALHOST), &all, &door.trusted_proxies);
    black_box(address::Origin::of(seen.address));
    all.append(AUTHORIZATION, value);
    let presented = all.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(headers::bearer);
    drop(presented.and_then(|presented| door.credentials.authenticate(presented)));
}

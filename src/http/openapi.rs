//! The OpenAPI document, made from what stands at the handlers (`#[utoipa::path]`) and at the types of bodies.
//!
//! A new route is: its line in `routes` of `super`, `#[utoipa::path]` at its handler, the handler's name under `paths`
//! here. What all routes have in common, such as the problems that any request can meet, [`complete`] adds; the codes
//! that only this one answers stand at it under `x-problems`.

mod complete;
mod examples;

use super::{
    access, docs, events, health, idempotency, ledger, metrics, payments, providers,
    reconciliation, reply, snapshots, webhooks,
};
use crate::wire::schema;
use serde_json::Value;
use std::sync::LazyLock;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Strongroom",
        description = "A payment core: charges once, books every cent twice, forgets nothing it has answered. Amounts \
                       are whole minor units of the currency; times are RFC 3339 in UTC; lists come newest first. A \
                       merchant's key sees and moves that merchant's money only, an admin's key sees all. An unknown \
                       field or parameter is refused. Every answer carries `X-Request-Id`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "This server.")),
    tags(
        (name = "Payments", description = "Charge, authorize, capture, void, refund, read."),
        (name = "Idempotency", description = "What became of a request."),
        (name = "Ledger", description = "The double-entry books, and their proof."),
        (name = "Events", description = "What happened, to be pulled, and what became of telling it."),
        (name = "Webhooks", description = "Where a merchant is told what happens."),
        (name = "Access", description = "Merchants, API keys, and what admins did."),
        (name = "Providers", description = "What payment providers tell by themselves."),
        (name = "Operation", description = "How the server is."),
        (name = "Documents", description = "This document, and what every error means."),
    ),
    security(("merchantKey" = []), ("adminKey" = [])),
    paths(
        payments::create,
        payments::list,
        payments::read,
        payments::audit::events,
        payments::capture,
        payments::void,
        payments::refund,
        payments::resolution::resolve,
        providers::webhook,
        ledger::trial_balance,
        ledger::account,
        idempotency::read,
        reconciliation::list,
        reconciliation::run,
        events::list,
        events::read,
        events::deliveries,
        events::redeliver,
        webhooks::list,
        webhooks::create,
        webhooks::read,
        webhooks::update,
        webhooks::delete,
        webhooks::rotate,
        webhooks::test,
        webhooks::replay,
        access::merchants,
        access::make_merchant,
        access::read_merchant,
        access::change_merchant,
        access::keys,
        access::make_key,
        access::revoke,
        access::admin_keys,
        access::make_admin_key,
        access::revoke_admin,
        access::audit,
        metrics::read,
        snapshots::make,
        health::health,
        health::ready,
        docs::document,
        docs::page,
        docs::errors,
        docs::error,
    ),
    components(schemas(reply::Document, schema::IdempotencyKeyText, schema::Moment, schema::TimeAsked))
)]
struct Api;

/// The whole document, made when it is first asked for.
pub(super) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    complete::complete(&mut document);
    document
});

/// The same, as it is sent.
pub(super) static TEXT: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_string());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::codes;
    use std::collections::BTreeSet;

    fn operations() -> Vec<(String, Value)> {
        let paths = DOCUMENT["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, item)| {
            let operations = item.as_object().unwrap().iter();
            operations.map(move |(method, it)| (format!("{method} {path}"), it.clone()))
        });
        all.collect()
    }

    #[test]
    fn every_code_that_an_operation_names_is_in_the_table_and_every_code_is_named() {
        let bare = serde_json::to_value(Api::openapi()).unwrap();
        for item in bare["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                for code in operation["x-problems"].as_array().into_iter().flatten() {
                    assert!(codes::find(code.as_str().unwrap()).is_some(), "{code}");
                }
            }
        }
        let text = serde_json::to_string(&operations()).unwrap();
        let named = |code: &str| text.contains(&format!("/docs/errors/{code}\""));
        let of_no_route = [&codes::METHOD_NOT_ALLOWED];
        for row in codes::ALL {
            let outside = of_no_route.iter().any(|other| other.code == row.code);
            assert!(outside || named(row.code), "no operation answers {}", row.code);
        }
    }

    #[test]
    fn every_operation_says_what_it_does_under_an_id_of_its_own() {
        let mut ids = BTreeSet::new();
        for (name, operation) in operations() {
            for member in ["operationId", "summary", "tags", "responses"] {
                assert!(!operation[member].is_null(), "{name} lacks {member}");
            }
            assert!(ids.insert(operation["operationId"].to_string()), "{name}");
            assert!(operation["x-problems"].is_null(), "{name}");
        }
    }

    #[test]
    fn an_answer_tells_of_the_headers_that_only_some_of_its_problems_have() {
        let headers = |path: &str, status: u16| {
            DOCUMENT["paths"][path]["post"]["responses"][status.to_string()]["headers"].clone()
        };
        let in_progress = headers("/api/payments", 409);
        let declined = headers("/api/payments/{id}/refund", 402);
        for (headers, name) in [
            (&in_progress, "Retry-After"),
            (&declined, "Idempotent-Replayed"),
            (&declined, "RateLimit"),
            (&declined, "RateLimit-Policy"),
            (&headers("/api/providers/{name}/webhook", 429), "RateLimit"),
        ] {
            assert!(headers[name].is_object(), "{name}");
        }
        assert!(headers("/api/merchants", 409)["Retry-After"].is_null());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    members.values().for_each(|member| walk(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        walk(&DOCUMENT, &mut found);
        assert!(found.len() > 100);
        for reference in found {
            let place = reference.strip_prefix('#').unwrap();
            assert!(DOCUMENT.pointer(place).is_some(), "{reference}");
        }
    }
}

//! An example of every text that has no form of its own, by the name of the field: the same noun is the same thing in all
//! bodies. Ids, times and lists of words have theirs in [`crate::wire::schema`].

use serde_json::{Map, Value, json};

/// What such fields hold, by their name or, where one name is two things, by that of the schema and it.
const TEXTS: [(&str, &str); 41] = [
    ("Alarm.code", "provider.failing"),
    ("Alarm.detail", "stripe has failed 5 times within 10 s and gets no new payments"),
    ("ApiKey.key", "sk_live_0199aabbccdd7abc8def0123456789ab_<43 more characters>"),
    ("Check.name", "balances_match_entries"),
    ("Deed.actor", "admin/key_0199aabbccdd7abc8def0123456789ab"),
    ("Fault.message", "is required"),
    ("KeyState.key", "order_12345"),
    ("Merchant.name", "The corner shop"),
    ("Problem.code", "validation_failed"),
    ("Problem.detail", "Nothing was done. See `errors` for each fault."),
    ("accountId", "merchant:merchant_1"),
    ("action", "key revoked"),
    ("actor", "merchant_1/web"),
    ("answer", "ok"),
    ("customerId", "customer_7"),
    ("description", "Order #12345"),
    (
        "failures",
        "merchant:merchant_1 USD: the running balance is 1 (pending 0), its entries add up to 0 (pending 0)",
    ),
    ("field", "amount"),
    ("id", "merchant_1"),
    ("idempotencyKey", "order_12345"),
    ("label", "checkout"),
    ("merchantId", "merchant_1"),
    ("message", "The card was declined."),
    ("mode", "test"),
    ("next", "pay_0199aabbccdd7abc8def0123456789ab"),
    ("paymentMethod", "tok_visa"),
    ("prefix", "sk_live_0199aabbccdd7abc8def0123456789ab"),
    ("provider", "stripe"),
    ("providerCode", "insufficient_funds"),
    ("providerReference", "pi_3Nx"),
    ("reason", "damaged"),
    ("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ("subject", "key_0199aabbccdd7abc8def0123456789ab of merchant_1"),
    ("title", "The request is not valid"),
    ("type", "/docs/errors/validation_failed"),
    ("url", "https://shop.example/webhooks"),
    ("what", "seen in the provider's dashboard"),
    // Parameters and headers.
    ("Location", "/api/payments/pay_0199aabbccdd7abc8def0123456789ab"),
    (
        "Stripe-Signature",
        "t=1763823845,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd",
    ),
    ("after", "merchant_1"),
    ("code", "validation_failed"),
];

/// Gives the fields of a schema their examples.
pub(super) fn of_fields(name: &str, schema: &mut Value) {
    for (field, of) in super::complete::members(schema, "/properties") {
        let qualified = format!("{name}.{field}");
        give(&qualified, field, of);
        if let Some(items) = of.get_mut("items") {
            give(&qualified, field, items);
        }
    }
}

/// Gives a parameter's schema its example, unless the parameter has one.
pub(super) fn of_parameter(parameter: &mut Value) {
    let name = parameter.get("name").and_then(Value::as_str).map(str::to_owned);
    let has_own = parameter.get("example").is_some();
    if let (Some(name), Some(of), false) = (name, parameter.get_mut("schema"), has_own) {
        give(&name, &name, of);
    }
}

/// Gives the headers of an answer their examples.
pub(super) fn of_headers(response: &mut Value) {
    for (name, header) in super::complete::members(response, "/headers") {
        if let Some(of) = header.get_mut("schema") {
            give(name, name, of);
        }
    }
}

fn give(qualified: &str, field: &str, of: &mut Value) {
    let example = |wanted: &str| TEXTS.iter().find(|(name, _)| *name == wanted);
    if lacks_example(of)
        && let Some((_, text)) = example(qualified).or_else(|| example(field))
        && let Some(members) = of.as_object_mut()
    {
        members.insert("examples".to_owned(), json!([text]));
    }
}

/// Whether a schema is of a text that nothing says how to fill.
fn lacks_example(schema: &Value) -> bool {
    let says = |members: &Map<String, Value>| {
        ["example", "examples", "enum"].iter().any(|word| members.contains_key(*word))
    };
    is_text(schema) && !schema.as_object().is_some_and(says)
}

fn is_text(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::openapi::DOCUMENT;
    use std::collections::BTreeSet;

    /// Every text of the document that has no example, by where it stands; pages and metrics are no such texts.
    fn lacking() -> BTreeSet<String> {
        fn walk(place: &str, value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    let has_own = members.contains_key("example");
                    for (name, member) in members {
                        let is_page =
                            name.starts_with("text/") || name.ends_with("openmetrics-text");
                        let is_map = matches!(&**name, "propertyNames" | "additionalProperties");
                        if is_page || is_map || (has_own && name == "schema") {
                            continue;
                        }
                        walk(&format!("{place}/{name}"), member, found);
                    }
                    if lacks_example(value) {
                        found.insert(place.to_owned());
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| {
                    let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
                    walk(&format!("{place}/{name}"), item, found);
                }),
                _ => {}
            }
        }
        let mut found = BTreeSet::new();
        walk("paths", &DOCUMENT["paths"], &mut found);
        walk("schemas", &DOCUMENT["components"]["schemas"], &mut found);
        found
    }

    #[test]
    fn every_text_has_an_example_and_every_example_a_text() {
        assert_eq!(lacking(), BTreeSet::new());
        let text = DOCUMENT.to_string();
        for (name, _) in TEXTS {
            let is_used = match name.split_once('.') {
                Some((schema, field)) => {
                    DOCUMENT["components"]["schemas"][schema]["properties"][field].is_object()
                }
                None => {
                    let places = [format!("\"{name}\":{{"), format!("\"name\":\"{name}\"")];
                    places.iter().any(|place| text.contains(place))
                }
            };
            assert!(is_used, "{name}");
        }
    }
}

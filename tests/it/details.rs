//! What a merchant may write on a payment, and how much of it.

use crate::server::TestServer;
use serde_json::{Map, Value, json};

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"amount": 100, "currency": "USD"});
    body[field] = value;
    body
}

fn pairs(count: usize, key_characters: usize, value_characters: usize) -> Value {
    let key = |number: usize| format!("{number:ü>key_characters$}");
    let value = || Value::from("é".repeat(value_characters));
    Value::Object((0..count).map(|number| (key(number), value())).collect())
}

#[test]
fn a_description_has_at_most_1000_characters() {
    let server = TestServer::start();
    for text in [String::new(), "d".repeat(1000), "☕".repeat(1000)] {
        let key = format!("{}_bytes", text.len());
        let payment = server.pay(&key, &with("description", json!(text))).of(201);
        assert_eq!(payment.json["description"], text);
    }
    let text = "☕".repeat(1001);
    let refused = server.pay("long", &with("description", json!(text)));
    let refused = refused.problem(400, "validation_failed");
    assert_eq!(refused.faulty_fields(), ["description"]);
}

#[test]
fn metadata_has_at_most_50_pairs_of_40_and_500_characters() {
    let server = TestServer::start();
    for (count, key, value) in [(0, 0, 0), (50, 40, 500), (1, 1, 0)] {
        let metadata = pairs(count, key, value);
        let name = format!("{count}_pairs");
        let payment = server.pay(&name, &with("metadata", metadata.clone()));
        assert_eq!(payment.of(201).json["metadata"], metadata);
    }
    for metadata in [
        pairs(51, 4, 4),
        pairs(1, 41, 4),
        pairs(1, 4, 501),
        json!({"": "no name"}),
        json!({"number": 1}),
        json!({"nothing": null}),
        json!({"nested": {"a": "b"}}),
        json!(["a", "b"]),
        json!("text"),
    ] {
        let refused = server.pay("wrong", &with("metadata", metadata));
        let refused = refused.problem(400, "validation_failed");
        for field in refused.faulty_fields() {
            assert!(field.starts_with("metadata"), "{field}");
        }
    }
    assert_eq!(server.all("/api/payments").len(), 3);
}

#[test]
fn metadata_comes_back_as_it_was_sent_also_after_a_kill() {
    let mut server = TestServer::start();
    let metadata = json!({"order id": "7", "Zeile": "a\nb\t\"c\" \\ \u{1F980}", "a": ""});
    let made = server.pay("order", &with("metadata", metadata.clone())).of(201);
    assert_eq!(made.json["metadata"], metadata);
    server.kill();
    server.restart();
    assert_eq!(server.payment(&made.id())["metadata"], metadata);
}

#[test]
fn a_currency_is_a_current_iso_4217_code_with_a_minor_unit() {
    let server = TestServer::start();
    for currency in ["EUR", "GBP", "JPY", "KWD", "ISK", "XOF"] {
        server.pay(currency, &with("currency", json!(currency))).of(201);
    }
    for currency in ["usd", "US", "USDX", "", "BTC", "XXX", "XTS", "XAU", "DEM", "US "] {
        let refused = server.pay("wrong", &with("currency", json!(currency)));
        let refused = refused.problem(400, "validation_failed");
        assert_eq!(refused.faulty_fields(), ["currency"], "{currency}");
    }
}

#[test]
fn a_customers_name_is_1_to_255_visible_characters_and_no_payments_id() {
    let server = TestServer::start();
    let longest = "c".repeat(255);
    let payment = server.pay("longest", &with("customerId", json!(longest))).of(201);
    let id = payment.id();
    for customer in ["", "with space", "tab\t", "ümlaut", &"c".repeat(256), &id] {
        let refused = server.pay("wrong", &with("customerId", json!(customer)));
        let refused = refused.problem(400, "validation_failed");
        assert_eq!(refused.faulty_fields(), ["customerId"], "{customer}");
    }
}

#[test]
fn null_means_left_out() {
    let server = TestServer::start();
    let optional =
        ["merchantId", "capture", "paymentMethod", "customerId", "description", "metadata"];
    let mut body: Map<_, _> =
        optional.map(|field| (field.to_owned(), Value::Null)).into_iter().collect();
    body.insert("amount".into(), json!(100));
    body.insert("currency".into(), json!("USD"));
    let payment = server.pay("nulls", &Value::Object(body)).of(201).json;
    assert_eq!(payment["status"], "completed");
    assert_eq!(payment["paymentMethod"], "tok_visa");
}

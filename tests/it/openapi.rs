//! The OpenAPI document says what the server does, no more and no less; the pages of errors are those of its codes.
//! `tests/openapi_check.sh` has other people's programs judge the same.

use crate::{
    client::{Client, Response},
    receiver::Receiver,
    server::TestServer,
    wait::eventually,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use regex::Regex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Headers that say the same of any answer.
const OF_HTTP: [&str; 7] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "content-security-policy",
    "referrer-policy",
    "x-content-type-options",
];

/// The document of a running server, and what it has been asked about.
struct Document {
    json: Value,
    covered: BTreeSet<String>,
}

impl Document {
    fn of(server: &TestServer) -> Self {
        let json = server.send("GET", "/api/openapi.json", &[], None).unwrap().of(200).json;
        assert_eq!(json["openapi"], "3.1.0");
        Self { json, covered: BTreeSet::new() }
    }

    /// Every `METHOD path`.
    fn operations(&self) -> BTreeSet<String> {
        let paths = self.json["paths"].as_object().unwrap().iter();
        let all = paths.flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        all.collect()
    }

    /// The answer, which must be one that the document has, with its headers, and no field that it has not.
    #[track_caller]
    fn check(&mut self, operation: &str, answer: Response) -> Response {
        let (method, path) = operation.split_once(' ').unwrap();
        let responses = &self.json["paths"][path][method.to_lowercase()]["responses"];
        let documented = &responses[answer.status.to_string()];
        assert!(documented.is_object(), "{operation}: {} {}", answer.status, answer.text());
        for (name, header) in documented["headers"].as_object().unwrap() {
            let place = header["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
            let header = place.map_or(header, |place| self.json.pointer(place).unwrap());
            let must = header["required"] == true || name == "Location";
            assert!(!must || answer.header(name).is_some(), "{operation} lacks {name}");
        }
        for name in answer.headers.keys().map(|name| name.as_str()) {
            let told = documented["headers"].as_object().unwrap();
            let told = told.keys().any(|told| told.eq_ignore_ascii_case(name));
            assert!(told || OF_HTTP.contains(&name), "{operation} does not tell of {name}");
        }
        if let Some(content) = documented["content"].as_object() {
            let sent = answer.header("Content-Type").unwrap().split(';').next().unwrap();
            let media = content.get(sent).unwrap_or_else(|| panic!("{operation} sends {sent}"));
            if sent.ends_with("json") {
                self.judge(operation, &media["schema"], &answer.json);
            }
        }
        self.covered.insert(operation.to_owned());
        answer
    }

    #[track_caller]
    fn judge(&self, operation: &str, schema: &Value, instance: &Value) {
        let mut components = self.json["components"].clone();
        for schema in components["schemas"].as_object_mut().unwrap().values_mut() {
            if schema["properties"].is_object() {
                schema["additionalProperties"] = false.into();
            }
        }
        let whole = json!({"allOf": [schema], "components": components});
        let validator = jsonschema::validator_for(&whole).unwrap();
        let faults: Vec<String> =
            validator.iter_errors(instance).map(|fault| fault.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new(), "{operation}: {instance:#}");
    }
}

/// Every `METHOD path` of the server's own table.
fn routes() -> BTreeSet<String> {
    let table = include_str!("../../src/http/mod.rs");
    let resource = Regex::new(r#"resource\(\s*"([^"]+)",\s*\[([^\]]*)\]"#).unwrap();
    let method = Regex::new(r#"\("([A-Z]+)",\s*web::([a-z]+)\("#).unwrap();
    let pattern = Regex::new(r"\{(\w+):[^}]*\}").unwrap();
    let mut found = BTreeSet::new();
    for resource in resource.captures_iter(table) {
        let path = pattern.replace_all(&resource[1], "{$1}");
        for method in method.captures_iter(&resource[2]) {
            assert_eq!(method[1].to_lowercase(), method[2], "what it says and what it takes");
            found.insert(format!("{} {path}", &method[1]));
        }
    }
    found
}

#[test]
fn every_route_is_in_the_document_and_everything_in_the_document_is_a_route() {
    let server = TestServer::start();
    let document = Document::of(&server);
    assert_eq!(document.operations(), routes());
    let placeholder = Regex::new(r"\{\w+\}").unwrap();
    for operation in document.operations() {
        let (method, path) = operation.split_once(' ').unwrap();
        let path = placeholder.replace_all(path, "malformed_json");
        let body = Some(b"{}".as_slice()).filter(|_| !["GET", "DELETE"].contains(&method));
        let answer = server.send(method, &path, &[], body).unwrap();
        assert_ne!(answer.status, 405, "{operation}");
        assert_ne!(answer.json["code"], "no_such_route", "{operation}");
    }
}

/// A payment in most states that there are, with their commands.
fn live_payments(document: &mut Document, server: &TestServer) -> String {
    let mut pay =
        |key: &str, body: Value| document.check("POST /api/payments", server.pay(key, &body));
    let usd = |amount: i64| json!({"amount": amount, "currency": "USD"});
    let full = json!({"amount": 4999, "currency": "EUR", "capture": "manual", "paymentMethod": "tok_visa",
        "customerId": "c_1", "description": "…", "metadata": {"a": "1"}, "merchantId": "merchant_1"});
    let held = pay("held", full.clone()).of(201).id();
    pay("held", full).of(201);
    pay("held", usd(1)).of(422);
    let void = pay("void", json!({"amount": 5, "currency": "JPY", "capture": "manual"})).id();
    pay("declined", usd(10_000)).of(201);
    pay("", usd(1)).of(400);
    pay("faulty", json!({"amount": 0, "sum": 1})).of(400);
    pay("other", json!({"amount": 1, "currency": "USD", "merchantId": "other"})).of(403);
    let unknown = json!({"amount": 7, "currency": "USD", "paymentMethod": "tok_timeout"});
    pay("out", unknown).of(202);
    let mut command = |name: &str, id: &str, key: &str, body: Value| {
        let operation = format!("POST /api/payments/{{id}}/{name}");
        document.check(&operation, server.command(name, id, key, &body))
    };
    command("capture", &held, "more", json!({"amount": 5000})).of(422);
    command("capture", &held, "all", json!({})).of(200);
    command("refund", &held, "part", json!({"amount": 1, "reason": "damaged"})).of(200);
    command("refund", &held, "more", json!({"amount": 4999})).of(422);
    command("void", &held, "", json!({})).of(409);
    command("void", &void, "", json!({})).of(200);
    command("capture", "pay_0", "", json!({})).of(404);
    let admin = server.admin();
    let resolution = json!({"outcome": "dismissed", "reason": "seen"});
    let resolve = |client: &Client| client.command("resolve", &held, "", &resolution);
    document.check("POST /api/payments/{id}/resolve", resolve(&admin)).of(409);
    document.check("POST /api/payments/{id}/resolve", resolve(server)).of(403);
    held
}

#[test]
fn what_the_server_answers_is_what_the_document_says() {
    let server = TestServer::start_with(&[("STRONGROOM__LIMITS__LOOPBACK", "true")]);
    let mut document = Document::of(&server);
    let receiver = Receiver::start();
    let endpoints = "/api/webhook-endpoints";
    let body = json!({"url": receiver.url(), "events": ["payment.*"], "description": "shop"});
    let made = document.check(&format!("POST {endpoints}"), server.post(endpoints, "", &body));
    let endpoint = made.of(201).id();
    let held = live_payments(&mut document, &server);
    receiver.wait_for(4);
    let admin = server.admin();
    let event = server.get("/api/events?type=payment.completed").json["data"][0]["id"].clone();
    let event = event.as_str().unwrap();
    for (operation, path, status) in [
        ("GET /api/payments", "/api/payments?limit=2&status=completed", 200),
        ("GET /api/payments", "/api/payments?status=nowhere", 400),
        ("GET /api/payments/{id}", &format!("/api/payments/{held}?at=2099-01-01T00:00:00Z"), 200),
        ("GET /api/payments/{id}", "/api/payments/pay_0", 404),
        ("GET /api/payments/{id}/events", &format!("/api/payments/{held}/events?limit=2"), 200),
        ("GET /api/idempotency/{key}", "/api/idempotency/held", 200),
        ("GET /api/idempotency/{key}", "/api/idempotency/unheard", 404),
        ("GET /api/ledger/{account}", "/api/ledger/merchant:merchant_1?limit=1", 200),
        ("GET /api/ledger/{account}", "/api/ledger/merchant:other", 404),
        ("GET /api/ledger", "/api/ledger", 403),
        ("GET /api/events", "/api/events?order=asc&limit=2", 200),
        ("GET /api/events/{id}", &format!("/api/events/{event}"), 200),
        ("GET /api/events/{id}/deliveries", &format!("/api/events/{event}/deliveries"), 200),
        ("GET /api/webhook-endpoints", endpoints, 200),
        ("GET /api/webhook-endpoints/{id}", &format!("{endpoints}/{endpoint}"), 200),
        ("GET /health", "/health", 200),
        ("GET /ready", "/ready", 200),
        ("GET /docs", "/docs", 200),
        ("GET /docs/errors", "/docs/errors", 200),
        ("GET /docs/errors/{code}", "/docs/errors/overloaded", 200),
        ("GET /docs/errors/{code}", "/docs/errors/unheard_of", 404),
        ("GET /api/openapi.json", "/api/openapi.json", 200),
    ] {
        document.check(operation, server.get(path)).of(status);
    }
    let post = |client: &Client, path: &str| client.post_text(path, "", "");
    let check = document.check("POST /api/reconcile", post(&admin, "/api/reconcile")).of(200);
    assert!(check.json["checks"].as_array().unwrap().len() > 2);
    for (operation, path) in [
        ("GET /api/ledger", "/api/ledger"),
        ("GET /api/reconcile", "/api/reconcile?limit=1"),
        ("GET /metrics", "/metrics"),
    ] {
        document.check(operation, admin.get(path)).of(200);
    }
    document.check("POST /api/snapshot", post(&admin, "/api/snapshot")).of(200);
    let redeliver = format!("/api/events/{event}/redeliver");
    document.check("POST /api/events/{id}/redeliver", post(&server, &redeliver)).of(202);
    of_an_endpoint(&mut document, &server, &format!("{endpoints}/{endpoint}"));
    of_access(&mut document, &admin);
    let told = post(&server, "/api/providers/nobody/webhook");
    document.check("POST /api/providers/{name}/webhook", told).of(404);
    assert_eq!(document.covered, document.operations());
}

fn of_access(document: &mut Document, admin: &Client) {
    let mut post = |operation: &str, path: &str, body: Value| {
        document.check(&format!("POST {operation}"), admin.post(path, "", &body))
    };
    let shop = json!({"id": "shop", "name": "The corner shop"});
    post("/api/merchants", "/api/merchants", shop.clone()).of(201);
    post("/api/merchants", "/api/merchants", shop).of(409);
    let (keys, own) = ("/api/merchants/{id}/keys", "/api/merchants/shop/keys");
    let scoped = json!({"label": "web", "mode": "test", "scopes": ["payments:read"], "expiresAt": "2099-01-01T00:00:00Z"});
    let key = post(keys, own, scoped).of(201).id();
    post(keys, own, json!({"label": 1})).of(400);
    let admin_key = post("/api/admin-keys", "/api/admin-keys", json!({"label": "alice"})).of(201);
    let admin_key = admin_key.id();
    for (operation, path, status) in [
        ("GET /api/merchants", "/api/merchants?limit=1", 200),
        ("GET /api/merchants/{id}", "/api/merchants/shop", 200),
        ("GET /api/merchants/{id}", "/api/merchants/merchant_1", 200),
        ("GET /api/merchants/{id}", "/api/merchants/nobody", 404),
        ("GET /api/merchants/{id}/keys", own, 200),
        ("GET /api/admin-keys", "/api/admin-keys", 200),
        ("GET /api/audit", "/api/audit?limit=2", 200),
    ] {
        document.check(operation, admin.get(path)).of(status);
    }
    let off = admin.patch("/api/merchants/shop", &json!({"enabled": false}));
    document.check("PATCH /api/merchants/{id}", off).of(200);
    let revoked = admin.delete(&format!("{own}/{key}"));
    document.check("DELETE /api/merchants/{id}/keys/{key}", revoked).of(200);
    let revoked = admin.delete(&format!("/api/admin-keys/{admin_key}"));
    document.check("DELETE /api/admin-keys/{key}", revoked).of(200);
}

fn of_an_endpoint(document: &mut Document, server: &TestServer, path: &str) {
    let at = |verb: &str| format!("POST /api/webhook-endpoints/{{id}}/{verb}");
    let post = |verb: &str, body: &Value| server.post(&format!("{path}/{verb}"), "", body);
    document.check(&at("test"), post("test", &json!({}))).of(200);
    document.check(&at("rotate-secret"), post("rotate-secret", &json!({}))).of(200);
    document.check(&at("replay"), post("replay", &json!({"from": 1}))).of(202);
    document.check(&at("replay"), post("replay", &json!({}))).of(400);
    let one = "/api/webhook-endpoints/{id}";
    let off = server.patch(path, &json!({"enabled": false}));
    document.check(&format!("PATCH {one}"), off).of(200);
    eventually("it is disabled", || {
        let answer = document.check(&at("replay"), post("replay", &json!({"from": 1})));
        (answer.status == 409).then_some(())
    });
    document.check(&format!("DELETE {one}"), server.delete(path)).of(204);
    document.check(&format!("DELETE {one}"), server.delete(path)).of(404);
}

#[test]
fn every_code_has_a_page_that_says_what_it_means_and_what_to_do_and_every_page_a_code() {
    let server = TestServer::start();
    let page = |path: &str| server.send("GET", path, &[], None).unwrap().of(200).text();
    let link = Regex::new("href=\"/docs/errors/([a-z_]+)\"").unwrap();
    let codes = |text: &str| -> BTreeSet<String> {
        link.captures_iter(text).map(|found| found[1].to_owned()).collect()
    };
    let listed = codes(&page("/docs/errors"));
    let named: BTreeSet<String> = {
        let text = Document::of(&server).json.to_string();
        let code = Regex::new("\"/docs/errors/([a-z_]+)\"").unwrap();
        code.captures_iter(&text).map(|found| found[1].to_owned()).collect()
    };
    let of_no_route = BTreeSet::from(["method_not_allowed".to_owned()]);
    assert_eq!(listed, named.union(&of_no_route).cloned().collect());
    assert!(listed.len() > 40);
    for code in listed {
        let text = page(&format!("/docs/errors/{code}"));
        assert!(text.contains(&format!("<code>{code}</code>")));
        for heading in ["What it means", "Whether anything was done", "What to do"] {
            assert!(text.contains(&format!("<h2>{heading}</h2>")), "{code}");
        }
    }
    for refused in
        [server.get("/api/payments/pay_1"), server.get("/nowhere"), server.delete("/docs")]
    {
        let kind = refused.json["type"].as_str().unwrap();
        assert!(page(kind).contains(refused.json["title"].as_str().unwrap()));
    }
    server.get("/docs/errors/unheard_of").problem(404, "no_such_route");
}

#[test]
fn the_pages_need_no_key_and_fetch_and_run_nothing() {
    let server = TestServer::start();
    for path in ["/docs", "/docs/errors", "/docs/errors/overloaded"] {
        let answer = server.send("GET", path, &[], None).unwrap().of(200);
        let policy = answer.header("Content-Security-Policy").unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        let text = answer.text();
        for absent in ["<script", "src=", "http://", "@import", "url(", "href=\"http", " style="] {
            assert!(!text.contains(absent), "{path} has {absent}");
        }
        // Nothing else lets a browser use the page's own style.
        let (_, style) = text.split_once("<style>").unwrap();
        let digest = Sha256::digest(style.split_once("</style>").unwrap().0);
        let admitted = format!("'sha256-{}'", BASE64_STANDARD.encode(digest));
        assert!(policy.contains(&admitted), "{policy} lacks {admitted}");
    }
    let text = server.get("/docs").text();
    for operation in Document::of(&server).operations() {
        let (method, path) = operation.split_once(' ').unwrap();
        assert!(text.contains(&format!("{method} <code>{path}</code>")), "{operation}");
    }
}

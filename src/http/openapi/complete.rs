//! What all operations have in common, written once and put into the document at each of them: the problems that any
//! request of its kind can meet, with an example of each; the headers of answers; links from what was answered to what
//! can be done with it. Bodies are closed: the server refuses unknown fields.

use super::{
    super::codes::{self, Code},
    examples,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// From an answer of a schema, by an expression, to the operations on paths that begin so, and whose parameter it is. None
/// from lists, which may be empty.
const LINKS: [(&str, &str, &str, &str); 8] = [
    ("Merchant", "$response.body#/id", "/api/merchants/{id}", "id"),
    ("Payment", "$response.body#/id", "/api/payments/{id}", "id"),
    ("Payment", "$response.body#/idempotencyKey", "/api/idempotency/{key}", "key"),
    ("Payment", "merchant:{$response.body#/merchantId}", "/api/ledger/{account}", "account"),
    ("KeyState", "$response.body#/paymentId", "/api/payments/{id}", "id"),
    ("Event", "$response.body#/id", "/api/events/{id}", "id"),
    ("Event", "$response.body#/data/id", "/api/payments/{id}", "id"),
    ("WebhookEndpoint", "$response.body#/id", "/api/webhook-endpoints/{id}", "id"),
];

/// What is said no with where the thing of the path is not there.
const MISSING: [(&str, &str); 4] = [
    ("/api/merchants/{id}", "merchant_not_found"),
    ("/api/payments/{id}", "payment_not_found"),
    ("/api/events/{id}", "event_not_found"),
    ("/api/webhook-endpoints/{id}", "webhook_endpoint_not_found"),
];

/// Completes the document that was made from the handlers.
pub(super) fn complete(document: &mut Value) {
    let links = links(document);
    let mut bodies = BTreeSet::new();
    for (path, item) in members(document, "/paths") {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete_operation(&Place { path, method, links: &links }, operation);
            let body = operation.pointer("/requestBody/content/application~1json/schema");
            bodies.extend(body.and_then(schema_name));
        }
    }
    for (name, schema) in members(document, "/components/schemas") {
        if bodies.contains(name) {
            insert(schema, "additionalProperties", false.into());
        }
        if let Some(of) = name.strip_prefix("Page_")
            && let Some(data) = schema.pointer_mut("/properties/data")
        {
            insert(data, "items", json!({"$ref": format!("#/components/schemas/{of}")}));
        }
        examples::of_fields(name, schema);
    }
    insert(document, "components", components(document));
}

/// Where an operation stands.
struct Place<'a> {
    path: &'a str,
    method: &'a str,
    links: &'a BTreeMap<String, Map<String, Value>>,
}

fn complete_operation(place: &Place<'_>, operation: &mut Value) {
    let problems = problems_of(place, operation);
    if let Some(members) = operation.as_object_mut() {
        members.remove("x-problems");
    }
    if let Some(body) = operation.get_mut("requestBody") {
        not_null(body.pointer_mut("/content/application~1json/schema"));
    }
    let request_id = json!({"$ref": "#/components/parameters/RequestId"});
    match operation.get_mut("parameters").and_then(Value::as_array_mut) {
        Some(parameters) => {
            parameters.iter_mut().for_each(|it| {
                not_null(it.get_mut("schema"));
                examples::of_parameter(it);
            });
            parameters.push(request_id);
        }
        None => insert(operation, "parameters", json!([request_id])),
    }
    if let Some(responses) = operation.get_mut("responses") {
        problems.iter().for_each(|(status, rows)| {
            insert(responses, &status.to_string(), problem_response(rows));
        });
    }
    let common = common_headers(operation);
    for (_, response) in members(operation, "/responses") {
        examples::of_headers(response);
        merge(response, "headers", common.clone());
        let schema = response.pointer("/content/application~1json/schema").and_then(schema_name);
        if let Some(links) = schema.and_then(|name| place.links.get(&name)) {
            insert(response, "links", links.clone().into());
        }
    }
}

/// What any answer of the operation may carry: its id, what is left of a limit, and that it was given before.
fn common_headers(operation: &Value) -> Value {
    let mut headers = json!({"X-Request-Id": header("RequestId")});
    // Whoever presents a key is told what is left for it, also with a refusal.
    if !operation.get("security").is_some_and(|choices| *choices == json!([{}])) {
        insert(&mut headers, "RateLimit", header("RateLimit"));
        insert(&mut headers, "RateLimit-Policy", header("RateLimitPolicy"));
    }
    if takes_a_key(operation) {
        insert(&mut headers, "Idempotent-Replayed", header("IdempotentReplayed"));
    }
    headers
}

/// A header of the components.
fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

fn takes_a_key(operation: &Value) -> bool {
    parameters(operation).any(|it| it.get("name").is_some_and(|name| name == "Idempotency-Key"))
}

fn parameters(operation: &Value) -> impl Iterator<Item = &Value> {
    operation.get("parameters").and_then(Value::as_array).into_iter().flatten()
}

/// Every problem that the operation can be answered with, by status.
fn problems_of(place: &Place<'_>, operation: &Value) -> BTreeMap<u16, Vec<&'static Code>> {
    let Place { path, method, .. } = *place;
    let own = operation.get("x-problems").and_then(Value::as_array).into_iter().flatten();
    let mut names: Vec<&str> = own.filter_map(Value::as_str).collect();
    if path == "/ready" || is_of_core(path) {
        names.push("not_serving");
    }
    if path == "/metrics" || is_of_core(path) {
        names.push("validation_failed");
    }
    // No requirement of its own means that of the whole document: a merchant's key or an admin's.
    let security = operation.get("security").map(Value::to_string);
    let security = security.as_deref().unwrap_or("[{\"merchantKey\":[]},{\"adminKey\":[]}]");
    if !security.contains("{}") {
        names.push("unauthenticated");
        if security.contains("merchantKey") {
            names.push("insufficient_scope");
        } else {
            names.push("forbidden");
        }
    }
    names.extend(["uri_too_long", "headers_too_large"]);
    if path != "/health" && path != "/ready" {
        names.push("rate_limited");
    }
    if operation.get("requestBody").is_some() {
        names.extend(["malformed_json", "body_incomplete", "body_too_slow", "body_too_large"]);
    }
    if is_of_core(path) && method != "get" && path != "/api/reconcile" {
        names.extend(["read_only", "overloaded", "storage_full", "disk_stalled"]);
        names.extend(["outcome_unknown", "internal_error"]);
        if names.contains(&"insufficient_scope") {
            names.push("merchant_disabled");
        }
    }
    if takes_a_key(operation) {
        names.extend(["idempotency_key_required", "idempotency_key_invalid"]);
        names.extend(["idempotency_key_ambiguous", "idempotency_key_reused"]);
        names.push("idempotency_key_in_progress");
    }
    names.extend(MISSING.iter().filter(|(of, _)| path.starts_with(of)).map(|(_, code)| code));
    let mut by_status: BTreeMap<u16, Vec<&'static Code>> = BTreeMap::new();
    for row in codes::ALL.iter().filter(|row| names.contains(&row.code)) {
        by_status.entry(row.status.as_u16()).or_default().push(row);
    }
    by_status
}

/// Whether the core answers, and not a page that is always the same.
fn is_of_core(path: &str) -> bool {
    path.starts_with("/api/") && path != "/api/openapi.json"
}

fn problem_response(rows: &[&'static Code]) -> Value {
    let titles: Vec<&str> = rows.iter().map(|row| row.title).collect();
    let codes: Vec<&str> = rows.iter().map(|row| row.code).collect();
    let examples = rows.iter().map(|row| (row.code.to_owned(), example(row)));
    let examples: Map<String, Value> = examples.collect();
    let mut headers = json!({});
    match rows.first().map(|row| row.status.as_u16()) {
        Some(401) => insert(&mut headers, "WWW-Authenticate", header("Challenge")),
        // Only one of a limit of its own says more: a key's stand in `common_headers`.
        Some(429) => {
            insert(&mut headers, "Retry-After", header("RetryAfter"));
            insert(&mut headers, "RateLimit", header("RateLimit"));
            insert(&mut headers, "RateLimit-Policy", header("RateLimitPolicy"));
        }
        Some(503) => insert(&mut headers, "Retry-After", header("RetryAfter")),
        Some(_) if codes.contains(&codes::IDEMPOTENCY_KEY_IN_PROGRESS.code) => {
            insert(&mut headers, "Retry-After", header("RetryAfterWhile"));
        }
        _ => {}
    }
    json!({
        "description": format!("{}.", titles.join("; ")),
        "headers": headers,
        "content": {"application/problem+json": {
            "schema": {"allOf": [
                {"$ref": "#/components/schemas/Problem"},
                {"type": "object", "properties": {"code": {"enum": codes}}},
            ]},
            "examples": examples,
        }},
    })
}

fn example(row: &Code) -> Value {
    let mut value = json!({
        "type": format!("/docs/errors/{}", row.code),
        "title": row.title,
        "status": row.status.as_u16(),
        "detail": row.meaning,
        "code": row.code,
    });
    if row.code == "validation_failed" {
        insert(&mut value, "errors", json!([{"field": "amount", "message": "is required"}]));
    }
    if row.code == "invalid_transition" {
        insert(&mut value, "from", "voided".into());
        insert(&mut value, "to", "completed".into());
    }
    if row.code.ends_with("_declined") {
        let message = "It could not be processed; nothing was done.";
        insert(&mut value, "failure", json!({"code": "processing_error", "message": message}));
    }
    json!({"summary": row.title, "value": value})
}

/// By the name of what is answered: the links of such an answer.
fn links(document: &mut Value) -> BTreeMap<String, Map<String, Value>> {
    let mut by_schema: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (path, item) in members(document, "/paths") {
        for operation in item.as_object().into_iter().flat_map(Map::values) {
            let Some(id) = operation.get("operationId").and_then(Value::as_str) else { continue };
            let here = LINKS.iter().filter(|(_, _, target, _)| path.starts_with(target));
            for (schema, expression, _, parameter) in here {
                let link = json!({"operationId": id, "parameters": {*parameter: expression}});
                by_schema.entry((*schema).to_owned()).or_default().insert(id.to_owned(), link);
            }
        }
    }
    by_schema
}

/// The components that the handlers' own types do not give.
fn components(document: &Value) -> Value {
    let mut components = document.get("components").cloned().unwrap_or_default();
    let bearer = |about: &str| json!({"type": "http", "scheme": "bearer", "description": about});
    let schemes = json!({
        "merchantKey": bearer("A merchant's key: sees and moves that merchant's money only."),
        "adminKey": bearer("An admin's key: sees and moves all."),
    });
    let about_id = "The request's id in the server's log: the caller's own, if it sent one of at most 128 visible ASCII \
                    characters, else a new one.";
    let told = |required: bool, about: &str, schema: Value| json!({"required": required, "description": about, "schema": schema});
    let id = json!({"type": "string", "minLength": 1, "maxLength": 128});
    let replayed = "`true` where this is an answer that was given before, byte for byte.";
    let retry = "After how many seconds to ask again.";
    let still = "With `idempotency_key_in_progress`: after how many seconds to ask again.";
    let left = "What is left of a limit: how many requests (`r`), and in how many seconds all are there again (`t`). \
                draft-ietf-httpapi-ratelimit-headers-10.";
    let policy = "The limit: how many requests at once after a pause (`q`), and in how many seconds they come back (`w`).";
    let headers = json!({
        "RequestId": told(true, about_id, id),
        "IdempotentReplayed": told(false, replayed, json!({"type": "string", "enum": ["true"]})),
        "RetryAfterWhile": told(false, still, json!({"type": "string", "pattern": "^[0-9]+$"})),
        "RateLimit": told(false, left, json!({"type": "string", "examples": ["\"key\";r=9999;t=1"]})),
        "RateLimitPolicy": told(false, policy, json!({"type": "string", "examples": ["\"key\";q=10000;w=2"]})),
        "RetryAfter": told(true, retry, json!({"type": "string", "pattern": "^[0-9]+$"})),
        "Challenge": told(true, "How to authenticate.", json!({"type": "string"})),
    });
    let request_id = json!({"RequestId": {
        "name": "X-Request-Id", "in": "header", "required": false, "schema": {"type": "string"},
        "description": about_id, "example": "checkout-7",
    }});
    insert(&mut components, "securitySchemes", schemes);
    insert(&mut components, "headers", headers);
    insert(&mut components, "parameters", request_id);
    components
}

/// A parameter is left out, never null; so is a whole body.
fn not_null(schema: Option<&mut Value>) {
    let Some(schema) = schema else { return };
    let is_null = |of: &Value| of.get("type").is_some_and(|kind| kind == "null");
    let choice = schema.get("oneOf").and_then(Value::as_array);
    let left = choice.and_then(|choice| choice.iter().find(|of| !is_null(of)).cloned());
    if let Some(left) = left {
        *schema = left;
    }
    let kinds = schema.get("type").and_then(Value::as_array);
    let left = kinds.and_then(|kinds| kinds.iter().find(|kind| *kind != "null").cloned());
    if let Some(left) = left {
        insert(schema, "type", left);
    }
}

/// The component that a schema refers to.
fn schema_name(schema: &Value) -> Option<String> {
    let reference = schema.get("$ref")?.as_str()?;
    reference.strip_prefix("#/components/schemas/").map(str::to_owned)
}

pub(super) fn members<'a>(
    value: &'a mut Value,
    pointer: &str,
) -> impl Iterator<Item = (&'a String, &'a mut Value)> {
    value.pointer_mut(pointer).and_then(Value::as_object_mut).into_iter().flatten()
}

fn insert(value: &mut Value, name: &str, member: Value) {
    if let Some(members) = value.as_object_mut() {
        members.insert(name.to_owned(), member);
    }
}

/// Adds the members of `more` to the object that stands under `name`.
fn merge(value: &mut Value, name: &str, more: Value) {
    let old = value.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let more = more.as_object().cloned().unwrap_or_default();
    insert(value, name, old.into_iter().chain(more).collect::<Map<_, _>>().into());
}

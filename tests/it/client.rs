//! A client of the server, under one API key. It shares no code with the server.

use crate::wait::{eventually, patience};
use serde_json::{Value, json};
use std::time::Duration;
use ureq::{
    Agent,
    http::{HeaderMap, Method, Request},
};

/// Asks on behalf of the holder of one API key, each request on a connection of its own.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    url: String,
    api_key: String,
}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The body as JSON; null if it is none.
    pub json: Value,
}

impl Client {
    pub fn new(url: &str, api_key: &str) -> Self {
        Self::configured(0, patience(), url, api_key)
    }

    /// Gives an answer up after `timeout`.
    pub fn hasty(timeout: Duration, url: &str, api_key: &str) -> Self {
        Self::configured(0, timeout, url, api_key)
    }

    /// Keeps its connection for the next request.
    pub fn keeping(url: &str, api_key: &str) -> Self {
        Self::configured(1, patience(), url, api_key)
    }

    fn configured(count: usize, timeout: Duration, url: &str, api_key: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_idle_connections(count)
            .proxy(None)
            .timeout_global(Some(timeout))
            .build();
        Self { agent: config.into(), url: url.to_owned(), api_key: api_key.to_owned() }
    }

    /// Sends a request exactly as given, with no header of its own.
    ///
    /// # Errors
    /// There was no answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Response, ureq::Error> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answered = match body {
            Some(body) => self.agent.run(request.body(body).unwrap()),
            None => self.agent.run(request.body(()).unwrap()),
        };
        let (parts, mut body) = answered?.into_parts();
        let body = body.read_to_vec()?;
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            json: serde_json::from_slice(&body).unwrap_or_default(),
            body,
        })
    }

    /// POSTs JSON, under an idempotency key unless that is empty.
    ///
    /// # Errors
    /// There was no answer.
    pub fn try_post(&self, path: &str, key: &str, body: &str) -> Result<Response, ureq::Error> {
        let bearer = format!("Bearer {}", self.api_key);
        let mut headers =
            vec![("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        if !key.is_empty() {
            headers.push(("Idempotency-Key", key));
        }
        self.send("POST", path, &headers, Some(body.as_bytes()))
    }

    /// POSTs a text as it is, under an idempotency key unless that is empty.
    #[track_caller]
    pub fn post_text(&self, path: &str, key: &str, body: &str) -> Response {
        self.try_post(path, key, body).expect("an answer")
    }

    #[track_caller]
    pub fn post(&self, path: &str, key: &str, body: &Value) -> Response {
        self.post_text(path, key, &body.to_string())
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.get_with(path, &[])
    }

    /// GETs with more headers than the key's.
    #[track_caller]
    pub fn get_with(&self, path: &str, more: &[(&str, &str)]) -> Response {
        let bearer = format!("Bearer {}", self.api_key);
        let mut headers = vec![("Authorization", bearer.as_str())];
        headers.extend(more);
        self.send("GET", path, &headers, None).expect("an answer")
    }

    /// PATCHes JSON.
    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Response {
        let bearer = format!("Bearer {}", self.api_key);
        let headers = [("Authorization", bearer.as_str())];
        self.send("PATCH", path, &headers, Some(body.to_string().as_bytes())).expect("an answer")
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Response {
        let bearer = format!("Bearer {}", self.api_key);
        self.send("DELETE", path, &[("Authorization", &bearer)], None).expect("an answer")
    }

    /// Makes a payment of this body.
    #[track_caller]
    pub fn pay(&self, key: &str, body: &Value) -> Response {
        self.post("/api/payments", key, body)
    }

    /// As [`Client::pay`], again for as long as the file that the journal goes on in is being made.
    #[track_caller]
    pub fn pay_in_time(&self, key: &str, body: &Value) -> Response {
        eventually("the journal goes on", || {
            Some(self.pay(key, body)).filter(|answer| answer.json["code"] != "overloaded")
        })
    }

    /// Waits until a request is being worked on under this key. Returns what is told of the key.
    #[track_caller]
    pub fn in_progress(&self, key: &str) -> Value {
        eventually("the request is being worked on", || {
            let found = self.get(&format!("/api/idempotency/{key}")).json;
            (found["state"] == "in_progress").then_some(found)
        })
    }

    /// Takes an amount of US cents.
    #[track_caller]
    pub fn charge(&self, key: &str, amount: i64) -> Response {
        self.pay(key, &json!({"amount": amount, "currency": "USD"}))
    }

    /// Takes an amount of US cents with a payment method of the sandbox.
    #[track_caller]
    pub fn charge_with(&self, method: &str, key: &str, amount: i64) -> Response {
        let body = json!({"amount": amount, "currency": "USD", "paymentMethod": method});
        self.pay(key, &body)
    }

    /// Holds an amount of US cents.
    #[track_caller]
    pub fn authorize(&self, key: &str, amount: i64) -> Response {
        let body = json!({"amount": amount, "currency": "USD", "capture": "manual"});
        self.pay(key, &body)
    }

    /// `capture`, `void` or `refund`.
    #[track_caller]
    pub fn command(&self, command: &str, payment: &str, key: &str, body: &Value) -> Response {
        self.post(&format!("/api/payments/{payment}/{command}"), key, body)
    }

    #[track_caller]
    pub fn capture(&self, payment: &str, key: &str, amount: i64) -> Response {
        self.command("capture", payment, key, &json!({"amount": amount}))
    }

    #[track_caller]
    pub fn capture_all(&self, payment: &str) -> Response {
        self.command("capture", payment, "", &json!({}))
    }

    #[track_caller]
    pub fn void(&self, payment: &str) -> Response {
        self.command("void", payment, "", &json!({}))
    }

    #[track_caller]
    pub fn refund(&self, payment: &str, key: &str, amount: i64) -> Response {
        self.command("refund", payment, key, &json!({"amount": amount}))
    }

    #[track_caller]
    pub fn refund_all(&self, payment: &str) -> Response {
        self.command("refund", payment, "", &json!({}))
    }

    /// The payment as it stands.
    #[track_caller]
    pub fn payment(&self, id: &str) -> Value {
        self.get(&format!("/api/payments/{id}")).of(200).json
    }

    /// The payment's status as it stands.
    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        self.payment(id)["status"].as_str().unwrap().to_owned()
    }

    /// Everything in a list, read page by page.
    #[track_caller]
    pub fn all(&self, path: &str) -> Vec<Value> {
        let join = if path.contains('?') { '&' } else { '?' };
        let mut all = Vec::new();
        let mut page = self.get(path).of(200).json;
        loop {
            all.extend(page["data"].as_array().unwrap().iter().cloned());
            let Some(next) = page["next"].as_str() else {
                return all;
            };
            page = self.get(&format!("{path}{join}after={next}")).of(200).json;
        }
    }

    /// An account's posted and pending balance in a currency; zero if it never held any.
    #[track_caller]
    pub fn balance(&self, account: &str, currency: &str) -> (i64, i64) {
        let account = self.get(&format!("/api/ledger/{account}")).of(200).json;
        let balances = account["balances"].as_array().unwrap().clone();
        let of = balances.iter().find(|balance| balance["currency"] == currency);
        of.map_or((0, 0), |balance| {
            let figure = |name: &str| balance[name].as_i64().unwrap();
            (figure("balance"), figure("pending"))
        })
    }

    /// Has the books counted anew and expects no fault.
    #[track_caller]
    pub fn reconciles(&self) -> Value {
        let run = self.post("/api/reconcile", "", &json!({})).of(200).json;
        assert_eq!(run["balanced"], true, "{run:#}");
        for check in run["checks"].as_array().unwrap() {
            assert_eq!(check["ok"], true, "{run:#}");
        }
        run
    }
}

impl Response {
    /// This response, which must have `status`.
    #[track_caller]
    pub fn of(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// This response, which must be a problem document (RFC 9457) with `status` and `code`.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Self {
        assert_eq!(self.json["code"], code, "{}", self.text());
        let problem = self.of(status);
        assert_eq!(problem.header("Content-Type"), Some("application/problem+json"));
        assert_eq!(problem.json["status"], status);
        for member in ["type", "title", "detail"] {
            let text = problem.json[member].as_str();
            assert!(text.is_some_and(|text| !text.is_empty()), "{member}");
        }
        problem
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The id of the payment, or whatever else it is.
    #[track_caller]
    pub fn id(&self) -> String {
        self.json["id"].as_str().unwrap().to_owned()
    }

    /// Whether the server says that this is an answer it gave before.
    pub fn is_replay(&self) -> bool {
        self.header("Idempotent-Replayed") == Some("true")
    }

    /// Each field that the problem document finds fault with.
    #[track_caller]
    pub fn faulty_fields(&self) -> Vec<&str> {
        let errors = self.json["errors"].as_array();
        let field = |error: &'static str, fault: &'_ Value| fault[error].as_str().is_some();
        let errors = errors.unwrap_or_else(|| panic!("no errors: {}", self.text()));
        assert!(errors.iter().all(|fault| field("message", fault)));
        errors.iter().map(|fault| fault["field"].as_str().unwrap()).collect()
    }
}

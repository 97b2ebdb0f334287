//! The ceiling: what HTTP alone costs on this machine. A bare actix-web server that parses the body of a payment, renders the
//! same reply as the real one, and does nothing else: no keys, no rules, no books, no disk.
//!
//! With a file to log to it does one thing more: before a POST is answered, as much of the reply as a journal entry takes is
//! durable there; what comes together is one write. That is the least a durable answer can cost.
//!
//! `benches/load/run.py` drives both beside the real server and prints every figure as a ratio to them.

mod log;

use actix_web::{
    App, HttpResponse, HttpServer,
    body::MessageBody,
    error::{Error, ErrorInternalServerError},
    http::header::{HeaderName, HeaderValue, LOCATION},
    web::{self, Data, Json},
};
use log::Log;
use mimalloc::MiMalloc;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};
use uuid::Uuid;

/// As in the real program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const AT: &str = "2026-11-22T23:28:19.722Z";
/// What the journal's entry of a charge takes, about.
const ENTRY_BYTES: usize = 400;
static REQUESTS: AtomicU64 = AtomicU64::new(1);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    amount: Option<i64>,
    currency: Option<String>,
    capture: Option<String>,
    description: Option<String>,
    merchant_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payment<'a> {
    id: &'a str,
    merchant_id: &'a str,
    amount: i64,
    currency: &'a str,
    status: &'a str,
    capture: &'a str,
    amount_capturable: i64,
    amount_captured: i64,
    amount_refunded: i64,
    payment_method: &'a str,
    customer_id: Option<&'a str>,
    provider: &'a str,
    provider_reference: &'a str,
    failure: Option<&'a str>,
    idempotency_key: &'a str,
    description: Option<&'a str>,
    metadata: Nothing,
    refunds: [Nothing; 0],
    expires_at: Option<&'a str>,
    created_at: &'a str,
    updated_at: &'a str,
    attempts: [Attempt<'a>; 1],
    needs_review: bool,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Attempt<'a> {
    id: &'a str,
    operation: &'a str,
    provider: &'a str,
    amount: i64,
    status: &'a str,
    provider_reference: &'a str,
    failure: Option<&'a str>,
    created_at: &'a str,
    updated_at: &'a str,
}

fn reply(mut response: actix_web::HttpResponseBuilder, asked: &Asked) -> HttpResponse {
    let number = u128::from(REQUESTS.fetch_add(1, Ordering::Relaxed));
    let number = Uuid::from_u128(0x01a2_1781_e1a9_75b6_0000_0000_0000_0000 | number);
    let id = format!("pay_{}", number.simple());
    let reference = format!("sbx_{}", number.simple());
    let amount = asked.amount.unwrap_or(4999);
    let body = Payment {
        id: &id,
        merchant_id: asked.merchant_id.as_deref().unwrap_or("merchant_1"),
        amount,
        currency: asked.currency.as_deref().unwrap_or("USD"),
        status: "completed",
        capture: asked.capture.as_deref().unwrap_or("automatic"),
        amount_capturable: 0,
        amount_captured: amount,
        amount_refunded: 0,
        payment_method: "tok_visa",
        customer_id: None,
        provider: "sandbox",
        provider_reference: &reference,
        failure: None,
        idempotency_key: "0123456789abcdef0123456789abcdef",
        description: asked.description.as_deref(),
        metadata: Nothing {},
        refunds: [],
        expires_at: None,
        created_at: AT,
        updated_at: AT,
        attempts: [Attempt {
            id: "att_01a21781e1a975008000000000008000",
            operation: "charge",
            provider: "sandbox",
            amount,
            status: "succeeded",
            provider_reference: &reference,
            failure: None,
            created_at: AT,
            updated_at: AT,
        }],
        needs_review: false,
    };
    let request = HeaderName::from_static("x-request-id");
    if let Ok(value) = HeaderValue::from_str(&number.simple().to_string()) {
        response.insert_header((request, value));
    }
    response.insert_header((LOCATION, format!("/api/payments/{id}"))).json(body)
}

async fn post(asked: Json<Asked>, log: Data<Option<Log>>) -> Result<HttpResponse, Error> {
    let response = reply(HttpResponse::Created(), &asked);
    let Some(log) = log.get_ref() else { return Ok(response) };
    let (head, body) = response.into_parts();
    let body = body.try_into_bytes().map_err(|_| ErrorInternalServerError("not rendered"))?;
    log.keep(body.slice(..body.len().min(ENTRY_BYTES))).await.map_err(ErrorInternalServerError)?;
    Ok(head.set_body(body).map_into_boxed_body())
}

async fn get() -> HttpResponse {
    let asked = Asked {
        amount: None,
        currency: None,
        capture: None,
        description: Some("Order #12345".to_owned()),
        merchant_id: None,
    };
    reply(HttpResponse::Ok(), &asked)
}

/// `ceiling [LOG]`: on as many threads as there are cores, and one more for the log.
#[actix_web::main]
async fn main() -> io::Result<()> {
    let log = std::env::args_os().nth(1).map(|path| Log::start(path.as_ref())).transpose()?;
    let log = Data::new(log);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(log.clone())
            .route("/api/payments", web::post().to(post))
            .route("/api/payments/{id}", web::get().to(get))
            .route("/api/payments/{id}/{what}", web::post().to(post))
    });
    let server = server.bind(("127.0.0.1", 0))?;
    for address in server.addrs() {
        writeln!(io::stdout(), "listening on http://{address}")?;
    }
    server.run().await
}

//! The ceiling: what HTTP alone costs on this machine. A bare actix-web server that parses the body of a payment, renders the
//! same reply as the real one, and does nothing else: no keys, no rules, no books, no disk.
//!
//! `benches/load/run.py` drives it beside the real server and prints every figure as a ratio to it.

use actix_web::{
    App, HttpResponse, HttpServer,
    http::header::{HeaderName, HeaderValue, LOCATION},
    web::{self, Json},
};
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

async fn post(asked: Json<Asked>) -> HttpResponse {
    reply(HttpResponse::Created(), &asked)
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

/// `ceiling [WORKERS]`: as many threads as there are cores, if not told otherwise.
#[actix_web::main]
async fn main() -> io::Result<()> {
    let server = HttpServer::new(|| {
        App::new()
            .route("/api/payments", web::post().to(post))
            .route("/api/payments/{id}", web::get().to(get))
            .route("/api/payments/{id}/{what}", web::post().to(post))
    });
    let workers = std::env::args().nth(1).and_then(|workers| workers.parse().ok());
    let server = match workers {
        Some(workers) => server.workers(workers),
        None => server,
    };
    let server = server.bind(("127.0.0.1", 0))?;
    for address in server.addrs() {
        writeln!(io::stdout(), "listening on http://{address}")?;
    }
    server.run().await
}

//! `strongroom listen`: a receiver of webhooks for a developer's own machine. It verifies what comes as a merchant's
//! server should, and prints it.

use crate::{
    clock::{Clock, SystemClock},
    credentials::new_webhook_secret,
    domain::webhook::{Secret, Signed},
};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::StatusCode, web};
use anyhow::Context;
use clap::Args;
use serde_json::Value;
use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
};

/// The longest body that is taken.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What `listen` is told.
#[derive(Args)]
pub struct Listen {
    /// Port on this machine; 0 takes a free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The endpoint's secret, whsec_…; several during a rotation [default: a new one, to be given to the endpoint].
    #[arg(long = "secret", value_name = "whsec_…", value_parser = secret)]
    secrets: Vec<Secret>,
    /// The status to answer verified webhooks with, to try out what a failure does.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    answer: u16,
}

fn secret(text: &str) -> Result<Secret, &'static str> {
    Secret::parse(text).ok_or("a secret is whsec_ and the base64 of 24 to 64 bytes")
}

/// Prints what comes until it is told to stop.
///
/// # Errors
/// The port cannot be listened on, or there is nowhere to print to.
pub fn run(arguments: Listen) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port))
        .with_context(|| format!("cannot listen on port {}", arguments.port))?;
    let address = listener.local_addr()?;
    let is_new = arguments.secrets.is_empty();
    let secrets = if is_new { vec![new_webhook_secret()?] } else { arguments.secrets };
    announce(address, is_new.then(|| secrets.first()).flatten())?;
    let status = StatusCode::from_u16(arguments.answer).unwrap_or(StatusCode::OK);
    let desk = web::Data::new(Desk { secrets, status, clock: Arc::new(SystemClock::default()) });
    let server = HttpServer::new(move || {
        let limit = web::PayloadConfig::new(BODY_BYTES_MAX);
        App::new().app_data(desk.clone()).app_data(limit).default_service(web::to(receive))
    });
    actix_rt::System::new().block_on(server.workers(1).listen(listener)?.run())?;
    Ok(())
}

fn announce(address: SocketAddr, new: Option<&Secret>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if let Some(secret) = new {
        let secret = secret.expose();
        writeln!(out, "make an endpoint with this body, by POST /api/webhook-endpoints:")?;
        writeln!(out, "{{\"url\": \"http://{address}/\", \"secret\": \"{secret}\"}}")?;
    }
    writeln!(out, "listening on http://{address}")?;
    out.flush()
}

struct Desk {
    secrets: Vec<Secret>,
    status: StatusCode,
    clock: Arc<dyn Clock>,
}

async fn receive(request: HttpRequest, body: web::Bytes, desk: web::Data<Desk>) -> HttpResponse {
    let verdict = desk.verify(&request, &body);
    // Without a terminal there is still somebody who waits for the answer.
    drop(print(&request, &body, &verdict, &*desk.clock));
    match verdict {
        Ok(()) => HttpResponse::build(desk.status).finish(),
        Err(why) => HttpResponse::BadRequest().body(why),
    }
}

impl Desk {
    fn verify(&self, request: &HttpRequest, body: &[u8]) -> Result<(), String> {
        let header = |name: &str| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.ok_or_else(|| format!("the header {name} is missing"))
        };
        let message = Signed {
            id: header("webhook-id")?,
            timestamp: header("webhook-timestamp")?,
            signatures: header("webhook-signature")?,
        };
        let now_s = self.clock.now().millis() / 1000;
        let mut verdict = Err(String::new());
        for secret in &self.secrets {
            verdict = secret.verify(&message, body, now_s).map_err(|why| why.to_string());
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }
}

/// One line that says what came, and the body as it came.
fn print(
    request: &HttpRequest,
    body: &[u8],
    verdict: &Result<(), String>,
    clock: &dyn Clock,
) -> io::Result<()> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    let id = request.headers().get("webhook-id").and_then(|value| value.to_str().ok());
    let number = json.get("sequence").and_then(Value::as_u64);
    let number = number.map(|number| format!(" number {number}")).unwrap_or_default();
    let verdict = match verdict {
        Ok(()) => "verified".to_owned(),
        Err(why) => format!("REFUSED: {why}"),
    };
    let mut out = io::stdout().lock();
    let (now, kind, id) = (clock.now(), text("type"), id.unwrap_or("?"));
    writeln!(out, "{now}  {}  {}{number}  {verdict}", printable(&kind), printable(id))?;
    writeln!(out, "    {}", printable(&String::from_utf8_lossy(body)))?;
    out.flush()
}

/// A text without power over a terminal: anybody on this machine can send one, a web page too.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_moves_no_cursor_and_begins_no_line() {
        assert_eq!(printable("a\u{1b}[2J\r\n\u{9b}b"), r"a\u{1b}[2J\r\n\u{9b}b");
        assert_eq!(printable("{\"name\": \"Zoë\"}"), "{\"name\": \"Zoë\"}");
    }
}

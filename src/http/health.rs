//! `/health`: the process lives. `/ready`: it takes payments, or says why not.

use super::{Door, reply::Problem};
use actix_web::{HttpResponse, web};
use serde::Serialize;

#[derive(Serialize)]
struct StatusBody {
    status: &'static str,
}

/// `GET /health`: says nothing about disks or providers, so that nobody restarts a process for what a restart cannot
/// mend.
pub(super) async fn health() -> HttpResponse {
    HttpResponse::Ok().json(StatusBody { status: "ok" })
}

/// `GET /ready`
pub(super) async fn ready(door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let engine = &door.core()?.engine;
    engine.disk_answers()?;
    let outstanding = engine.books.read().processing_count();
    engine.admission.ready(outstanding)?;
    Ok(HttpResponse::Ok().json(StatusBody { status: "ready" }))
}

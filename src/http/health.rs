//! `/health`: the process lives. `/ready`: it takes payments or shows books, or says why not.

use super::{Door, Writing, reply::Problem, wire::Time};
use crate::domain::{books::Position, id::Sequence};
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

/// How far books go that are only shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadOnlyBody {
    status: &'static str,
    read_only: bool,
    sequence: Sequence,
    at: Time,
}

/// `GET /ready`
pub(super) async fn ready(door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let core = door.core()?;
    let Some(Writing { engine, .. }) = &core.writing else {
        let Position { sequence, at, .. } = core.books.read().position();
        let body = ReadOnlyBody { status: "ready", read_only: true, sequence, at: Time(at) };
        return Ok(HttpResponse::Ok().json(body));
    };
    engine.disk_answers()?;
    let outstanding = core.books.read().processing_count();
    engine.admission.ready(outstanding)?;
    Ok(HttpResponse::Ok().json(StatusBody { status: "ready" }))
}

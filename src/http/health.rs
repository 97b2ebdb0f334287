//! `/health`: the process lives. `/ready`: it takes payments or shows books, or says why not; and what is wrong all the
//! same.

use super::{Door, Writing, reply::Problem, wire::Time};
use crate::{
    actors::alarms::Alarm,
    domain::{books::Position, id::Sequence},
};
use actix_web::{HttpResponse, web};
use serde::Serialize;

#[derive(Serialize)]
struct StatusBody {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<AlarmBody>,
}

#[derive(Serialize)]
struct AlarmBody {
    code: &'static str,
    detail: String,
    since: Time,
}

impl AlarmBody {
    fn of(Alarm { code, detail, since }: Alarm) -> Self {
        Self { code, detail, since: Time(since) }
    }
}

/// `GET /health`: says nothing about disks or providers, so that nobody restarts a process for what a restart cannot
/// mend.
pub(super) async fn health() -> HttpResponse {
    HttpResponse::Ok().json(StatusBody { status: "ok", alarms: Vec::new() })
}

/// How far books go that are only shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadOnlyBody {
    status: &'static str,
    read_only: bool,
    sequence: Sequence,
    at: Time,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<AlarmBody>,
}

/// `GET /ready`: an alarm does not keep payments out. Whether to go on is for the operator to say.
pub(super) async fn ready(door: web::Data<Door>) -> Result<HttpResponse, Problem> {
    let core = door.core()?;
    let alarms = core.alarms.all().into_iter().map(AlarmBody::of).collect();
    let Some(Writing { engine, .. }) = &core.writing else {
        let Position { sequence, at, .. } = core.books.read().position();
        let at = Time(at);
        let body = ReadOnlyBody { status: "ready", read_only: true, sequence, at, alarms };
        return Ok(HttpResponse::Ok().json(body));
    };
    engine.disk_answers()?;
    let outstanding = core.books.read().processing_count();
    engine.admission.ready(outstanding)?;
    Ok(HttpResponse::Ok().json(StatusBody { status: "ready", alarms }))
}

//! `/health`: the process lives. `/ready`: it takes payments or shows books, or says why not; and what is wrong all the
//! same.

use super::{Door, Writing, headers, reply::Problem, wire::Time};
use crate::{
    actors::alarms::Alarm,
    domain::{books::Position, id::Sequence},
};
use actix_web::{HttpRequest, HttpResponse, web};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    since: Time,
}

impl AlarmBody {
    /// The detail names accounts, amounts and files, so only an admin is shown it.
    fn of(Alarm { code, detail, since }: Alarm, is_admin: bool) -> Self {
        Self { code, detail: is_admin.then_some(detail), since: Time(since) }
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

/// `GET /ready`, for anyone; an admin's key shows the details of alarms. An alarm does not keep payments out. Whether to go on is for the operator to say.
pub(super) async fn ready(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    if door.drain.began() {
        return Err(Problem::draining());
    }
    let core = door.core()?;
    let is_admin = headers::admin(&request, &door).is_ok();
    let alarms = core.alarms.all().into_iter();
    let alarms = alarms.map(|alarm| AlarmBody::of(alarm, is_admin)).collect();
    let Some(Writing { engine, .. }) = &core.writing else {
        let Position { sequence, at, .. } = core.books.read().position();
        let at = Time(at);
        let body = ReadOnlyBody { status: "ready", read_only: true, sequence, at, alarms };
        return Ok(HttpResponse::Ok().json(body));
    };
    engine.disk_answers()?;
    engine.admission.ready(&core.books)?;
    Ok(HttpResponse::Ok().json(StatusBody { status: "ready", alarms }))
}

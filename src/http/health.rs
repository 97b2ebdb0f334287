//! `/health`: the process lives. `/ready`: it takes payments or shows books, or says why not; and what is wrong all the
//! same.

use super::{Door, Writing, headers, reply::Problem, wire::Time};
use crate::{
    actors::alarms::Alarm,
    domain::{books::Position, id::Sequence},
    wire::schema::{ServerStatus, TimeText},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

/// How the server is.
#[derive(Serialize, ToSchema, Default)]
#[serde(rename_all = "camelCase")]
#[schema(as = Status)]
struct StatusBody {
    #[schema(value_type = ServerStatus)]
    status: &'static str,
    /// Of a server that only shows books; so are the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    read_only: Option<bool>,
    /// The last entry of the journal that it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sequence: Option<Sequence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = TimeText, required = false)]
    at: Option<Time>,
    /// What is wrong all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<AlarmBody>,
}

/// Something that is wrong now.
#[derive(Serialize, ToSchema)]
#[schema(as = Alarm)]
struct AlarmBody {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
    #[schema(value_type = TimeText)]
    since: Time,
}

impl AlarmBody {
    /// The detail names accounts, amounts and files, so only an admin is shown it.
    fn of(Alarm { code, detail, since }: Alarm, is_admin: bool) -> Self {
        Self { code, detail: is_admin.then_some(detail), since: Time(since) }
    }
}

/// Tells that the process lives.
///
/// Says nothing about disks or providers, so that nobody restarts a process for what a restart cannot mend.
#[utoipa::path(get, path = "/health", tag = "Operation", operation_id = "readHealth", security(()),
    responses((status = 200, description = "It lives.", body = StatusBody)))]
pub(super) async fn health() -> HttpResponse {
    HttpResponse::Ok().json(StatusBody { status: "ok", ..StatusBody::default() })
}

/// Tells whether payments are taken, and what is wrong all the same.
///
/// For anyone; an admin's key shows the details of alarms. An alarm does not keep payments out: whether to go on is for the operator to say.
#[utoipa::path(get, path = "/ready", tag = "Operation", operation_id = "readReadiness", security((), ("adminKey" = [])),
    responses((status = 200, description = "It takes payments, or shows books.", body = StatusBody)),
    extensions(("x-problems" = json!(["draining", "overloaded", "storage_full", "disk_stalled"]))))]
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
        let (read_only, sequence, at) = (Some(true), Some(sequence), Some(at));
        let body = StatusBody { status: "ready", read_only, sequence, at, alarms };
        return Ok(HttpResponse::Ok().json(body));
    };
    engine.disk_answers()?;
    engine.admission.ready(&core.books)?;
    Ok(HttpResponse::Ok().json(StatusBody { status: "ready", alarms, ..StatusBody::default() }))
}

//! `/api/snapshot`: has a snapshot made now.

use super::{
    Door, access, headers,
    query::Query,
    reply::Problem,
    wire::{Text, Time},
};
use crate::{actors::snapshots::Made, domain::id::Sequence};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeBody {
    made: bool,
    snapshot: Option<SnapshotBody>,
    archived_segments: u64,
    started_at: Time,
    duration_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotBody {
    sequence: Sequence,
    chain_head: Text<crate::domain::entry::Hash>,
    payments: u64,
    bytes: u64,
}

impl MadeBody {
    fn of(made: &Made) -> Self {
        Self {
            made: made.now,
            snapshot: made.snapshot.as_ref().map(|snapshot| SnapshotBody {
                sequence: snapshot.position.sequence,
                chain_head: Text(snapshot.position.head),
                payments: snapshot.payments,
                bytes: snapshot.bytes,
            }),
            archived_segments: made.archived,
            started_at: Time(made.at),
            duration_ms: u64::try_from(made.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// `POST /api/snapshot`
pub(super) async fn make(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let actor = headers::admin(&request, &door)?;
    Query::of(&request)?.finish()?;
    let core = door.core()?;
    let snapshots = &core.writing()?.snapshots;
    access::asked(core, actor, "snapshot asked for").await;
    let made = snapshots.make().await.map_err(|error| Problem::no_snapshot(&error))?;
    Ok(HttpResponse::Ok().json(MadeBody::of(&made)))
}

//! `/api/snapshot`: has a snapshot made now.

use super::{
    Door, access, headers,
    query::Query,
    reply::Problem,
    wire::{Text, Time},
};
use crate::{
    actors::snapshots::Made,
    domain::id::Sequence,
    wire::schema::{HashText, TimeText},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

/// What came of asking for a snapshot.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SnapshotMade)]
struct MadeBody {
    made: bool,
    #[schema(required)]
    snapshot: Option<SnapshotBody>,
    archived_segments: u64,
    #[schema(value_type = TimeText)]
    started_at: Time,
    duration_ms: u64,
}

/// A snapshot of the books.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Snapshot)]
struct SnapshotBody {
    sequence: Sequence,
    #[schema(value_type = HashText)]
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

/// Makes a snapshot now (admin).
///
/// So that the next start is quick; they also come by themselves.
#[utoipa::path(post, path = "/api/snapshot", tag = "Operation", operation_id = "makeSnapshot",
    responses((status = 200, description = "The newest snapshot, and whether it was made now.", body = MadeBody)),
    security(("adminKey" = [])), extensions(("x-problems" = json!(["snapshot_failed"]))))]
pub(super) async fn make(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let actor = headers::admin(&request, &door)?;
    Query::of(&request).finish()?;
    let core = door.core()?;
    let snapshots = &core.writing()?.snapshots;
    access::asked(core, actor, "snapshot asked for").await;
    let made = snapshots.make().await.map_err(|error| Problem::no_snapshot(&error))?;
    Ok(HttpResponse::Ok().json(MadeBody::of(&made)))
}

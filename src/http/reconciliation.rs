//! `/api/reconcile`: has the books counted anew, and shows what the last counts found.

use super::{
    Door, access, headers,
    query::{Query, cut_page},
    reply::Problem,
    wire::{Text, Time},
};
use crate::{
    actors::reconciliation::{Run, Through},
    domain::{id::Sequence, reconciliation::Check},
    wire::{
        requests::Limit,
        schema::{CurrencyText, HashText, RunIdText, TimeText, Trigger},
    },
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

/// A count of all books anew.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReconciliationRun)]
struct RunBody<'a> {
    #[schema(value_type = RunIdText)]
    id: String,
    #[schema(value_type = Trigger)]
    trigger: &'static str,
    balanced: bool,
    currencies: Vec<CurrencyBody>,
    checks: Vec<CheckBody<'a>>,
    sequence: Sequence,
    #[schema(value_type = HashText)]
    chain_head: Text<crate::domain::entry::Hash>,
    #[schema(value_type = TimeText)]
    started_at: Time,
    duration_ms: u64,
}

/// What was debited and credited in a currency.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Turnover)]
struct CurrencyBody {
    #[schema(value_type = CurrencyText)]
    currency: &'static str,
    #[schema(value_type = i64)]
    total_debits: i128,
    #[schema(value_type = i64)]
    total_credits: i128,
    #[schema(value_type = i64)]
    difference: i128,
}

/// One thing that was checked.
#[derive(Serialize, ToSchema)]
#[schema(as = Check)]
struct CheckBody<'a> {
    name: &'static str,
    ok: bool,
    checked: u64,
    failures: Vec<&'a str>,
}

impl<'a> RunBody<'a> {
    fn of(run: &'a Run) -> Self {
        let turnover = run.report.turnover.iter();
        Self {
            id: format!("rec_{}", run.id.simple()),
            trigger: run.trigger.name(),
            balanced: run.report.balanced(),
            currencies: turnover
                .map(|(currency, turnover)| CurrencyBody {
                    currency: currency.code(),
                    total_debits: turnover.debits,
                    total_credits: turnover.credits,
                    difference: turnover.credits - turnover.debits,
                })
                .collect(),
            checks: run.report.checks.iter().map(CheckBody::of).collect(),
            sequence: run.report.position.sequence,
            chain_head: Text(run.report.position.head),
            started_at: Time(run.started_at),
            duration_ms: u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl<'a> CheckBody<'a> {
    fn of(check: &'a Check) -> Self {
        let failures = check.failures.iter().map(|failure| failure.what.as_str()).collect();
        Self { name: check.name, ok: check.ok(), checked: check.checked, failures }
    }
}

/// The last runs, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReconciliationRuns)]
struct RunsBody<'a> {
    data: Vec<RunBody<'a>>,
    #[schema(value_type = Option<RunIdText>, required)]
    next: Option<String>,
    #[schema(required)]
    reconciled_through: Option<ThroughBody>,
}

/// How far everything is known to be right, and how long ago that was so.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReconciledThrough)]
struct ThroughBody {
    sequence: Sequence,
    #[schema(value_type = TimeText)]
    at: Time,
    age_ms: u64,
}

impl ThroughBody {
    fn of(Through { sequence, at, age }: Through) -> Self {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self { sequence, at: Time(at), age_ms }
    }
}

/// Proves the books now (admin).
///
/// Counts everything anew, from the journal on disk, and compares.
#[utoipa::path(post, path = "/api/reconcile", tag = "Ledger", operation_id = "reconcile",
    responses((status = 200, description = "What was found.", body = RunBody)), security(("adminKey" = [])))]
pub(super) async fn run(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let actor = headers::admin(&request, &door)?;
    Query::of(&request).finish()?;
    let core = door.core()?;
    access::asked(core, actor, "reconciliation asked for").await;
    let run = core.reconciliations.run().await.ok_or_else(Problem::not_serving)?;
    Ok(HttpResponse::Ok().json(RunBody::of(&run)))
}

/// Lists the last reconciliation runs (admin).
///
/// Newest first, the background ones included, and how far the books are proven.
#[utoipa::path(get, path = "/api/reconcile", tag = "Ledger", operation_id = "listReconciliations",
    params(Limit, ("after" = Option<RunIdText>, Query, description = "The cursor from `next`.")),
    responses((status = 200, description = "A page of runs.", body = RunsBody)), security(("adminKey" = [])))]
pub(super) async fn list(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    headers::admin(&request, &door)?;
    let mut query = Query::of(&request);
    let limit = query.limit();
    let after = query.read("after", "a cursor from `next`", |text| {
        let id = text.strip_prefix("rec_").and_then(|id| uuid::Uuid::try_parse(id).ok())?;
        Some(format!("rec_{}", id.simple())).filter(|id| id == text)
    });
    query.finish()?;
    let core = door.core()?;
    let through = core.reconciliations.through();
    let runs = core.reconciliations.runs();
    let bodies = runs.iter().map(|run| RunBody::of(run));
    let mut rest: Vec<RunBody<'_>> = match after {
        None => bodies.collect(),
        Some(after) => bodies.skip_while(|run| run.id != after).skip(1).collect(),
    };
    let next = cut_page(&mut rest, limit, |run| run.id.clone());
    let reconciled_through = through.map(ThroughBody::of);
    Ok(HttpResponse::Ok().json(RunsBody { data: rest, next, reconciled_through }))
}

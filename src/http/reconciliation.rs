//! `/api/reconcile`: has the books counted anew, and shows what the last counts found.

use super::{
    Door, access, headers,
    query::Query,
    reply::Problem,
    wire::{PageBody, Text, Time},
};
use crate::{
    actors::reconciliation::{Run, Through},
    domain::{id::Sequence, reconciliation::Check},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunBody<'a> {
    id: String,
    trigger: &'static str,
    balanced: bool,
    currencies: Vec<CurrencyBody>,
    checks: Vec<CheckBody<'a>>,
    sequence: Sequence,
    chain_head: Text<crate::domain::entry::Hash>,
    started_at: Time,
    duration_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CurrencyBody {
    currency: &'static str,
    total_debits: i128,
    total_credits: i128,
    difference: i128,
}

#[derive(Serialize)]
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunsBody<'a> {
    #[serde(flatten)]
    page: PageBody<RunBody<'a>>,
    reconciled_through: Option<ThroughBody>,
}

/// How far everything is known to be right, and how long ago that was so.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThroughBody {
    sequence: Sequence,
    at: Time,
    age_ms: u64,
}

impl ThroughBody {
    fn of(Through { sequence, at, age }: Through) -> Self {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self { sequence, at: Time(at), age_ms }
    }
}

/// `POST /api/reconcile`
pub(super) async fn run(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let actor = headers::admin(&request, &door)?;
    Query::of(&request)?.finish()?;
    let core = door.core()?;
    access::asked(core, actor, "reconciliation asked for").await;
    let run = core.reconciliations.run().await.ok_or_else(Problem::not_serving)?;
    Ok(HttpResponse::Ok().json(RunBody::of(&run)))
}

/// `GET /api/reconcile`
pub(super) async fn list(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    headers::admin(&request, &door)?;
    let mut query = Query::of(&request)?;
    let (limit, after) = (query.limit(), query.text("after"));
    query.finish()?;
    let core = door.core()?;
    let through = core.reconciliations.through();
    let runs = core.reconciliations.runs();
    let bodies = runs.iter().map(|run| RunBody::of(run));
    let mut rest: Vec<RunBody<'_>> = match after {
        None => bodies.collect(),
        Some(after) => bodies.skip_while(|run| run.id != after).skip(1).collect(),
    };
    let more = rest.len() > limit;
    rest.truncate(limit);
    let next = rest.last().filter(|_| more).map(|run| run.id.clone());
    let reconciled_through = through.map(ThroughBody::of);
    let page = PageBody { data: rest, next };
    Ok(HttpResponse::Ok().json(RunsBody { page, reconciled_through }))
}

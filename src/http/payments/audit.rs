//! `/api/payments/{id}/events`: every move in a payment's life, for auditors.

use super::{
    super::{
        Door, headers,
        query::Query,
        wire::{PageBody, Text, Time},
    },
    Handled, visible,
};
use crate::{
    domain::{
        access::Scope,
        books::{Books, History},
        id::{DerivedId, Kind},
        ledger,
        payment::{Payment, Status},
    },
    wire::{
        requests::{AfterMove, Limit, OfPayment},
        schema::{HashText, PaymentStatus, TimeText, TransactionIdText},
    },
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// One move in a payment's life.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Transition)]
struct TransitionBody {
    #[schema(value_type = Option<PaymentStatus>, required)]
    from: Option<&'static str>,
    #[schema(value_type = PaymentStatus)]
    to: &'static str,
    #[schema(value_type = TimeText)]
    at: Time,
    /// The entry of the journal.
    sequence: u64,
    #[schema(value_type = String)]
    /// Which key, or which part of the server.
    actor: Arc<str>,
    #[schema(value_type = Option<TransactionIdText>, required)]
    transaction_id: Option<Text<DerivedId>>,
    #[schema(value_type = Option<HashText>, required)]
    block_hash: Option<String>,
}

/// Shows a payment's audit trail.
///
/// Every move with who made it, the ledger transaction that it posted, and the hash of the journal block that holds it.
#[utoipa::path(get, path = "/api/payments/{id}/events", tag = "Payments", operation_id = "listPaymentEvents",
    params(OfPayment, Limit, AfterMove),
    responses((status = 200, description = "A page of moves, newest first.", body = PageBody<TransitionBody>)))]
pub(in crate::http) async fn events(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::holder(&request, &door, Scope::PaymentsRead)?;
    let mut query = Query::of(&request);
    let limit = query.limit();
    let after: Option<u32> = query.read("after", "a cursor from `next`", |text| text.parse().ok());
    let after = after.and_then(|after| usize::try_from(after).ok());
    query.finish()?;
    let history = visible(&request, &door, &principal, History::clone)?;
    let mut moves = transitions(&door.core()?.books.read(), &history);
    let end = after.unwrap_or(moves.len()).min(moves.len());
    let start = end.saturating_sub(limit);
    let data = moves.drain(start..end).rev().collect();
    let next = (start > 0).then(|| start.to_string());
    Ok(HttpResponse::Ok().json(PageBody { data, next }))
}

/// Every move, oldest first. The ledger transaction stands at the move that posted it: the entry's last.
fn transitions(books: &Books, history: &History) -> Vec<TransitionBody> {
    let mut payment = Payment::pending(history.details.clone(), None);
    let mut all = Vec::new();
    for step in history.steps() {
        let moves = payment.transitions(&step.event);
        let last = moves.len().saturating_sub(1);
        let posts = ledger::transaction(&history.details, &step.event).is_some();
        let transaction = DerivedId::new(Kind::Transaction, step.at, step.sequence);
        all.extend(moves.into_iter().enumerate().map(|(place, (from, to))| TransitionBody {
            from: from.map(Status::name),
            to: to.name(),
            at: Time(step.at),
            sequence: step.sequence,
            actor: step.actor.clone(),
            transaction_id: (posts && place == last).then_some(Text(transaction)),
            block_hash: books.block_hash(step.sequence).map(|hash| hash.to_string()),
        }));
        payment.apply(&step.event, step.at, step.sequence);
    }
    all
}

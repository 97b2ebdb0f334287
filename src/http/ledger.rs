//! `/api/ledger`: accounts, as they stand or stood, and the trial balance.

use super::{
    Door, headers,
    query::{Query, cut_page},
    reply::Problem,
    wire::{Text, Time},
};
use crate::{
    credentials::Principal,
    domain::{
        access::{self, Scope},
        books::{Books, Line},
        id::{DerivedId, Kind, PaymentId, Sequence},
        ledger::{Account, Balances},
    },
    wire::{
        requests::{AsOf, Limit},
        schema::{
            AccountKind, CurrencyText, LedgerEntryIdText, PaymentIdText, Side, TimeText,
            TransactionIdText,
        },
    },
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// An account of the ledger, with its entries newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Account)]
struct AccountBody<'a> {
    account_id: &'a str,
    balances: Vec<BalanceBody>,
    entries: Vec<EntryBody>,
    #[schema(value_type = Option<LedgerEntryIdText>, required)]
    next: Option<String>,
}

/// A balance: credit is positive, debit negative. What is pending is held, or in doubt.
#[derive(Serialize, ToSchema)]
#[schema(as = Balance)]
struct BalanceBody {
    #[schema(value_type = CurrencyText)]
    currency: &'static str,
    #[schema(value_type = i64)]
    balance: i128,
    #[schema(value_type = i64)]
    pending: i128,
}

/// One leg of a ledger transaction.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LedgerEntry)]
struct EntryBody {
    #[schema(value_type = LedgerEntryIdText)]
    id: Text<DerivedId>,
    #[schema(value_type = TransactionIdText)]
    transaction_id: Text<DerivedId>,
    #[schema(value_type = PaymentIdText)]
    payment_id: Text<PaymentId>,
    account_id: String,
    amount: i64,
    #[schema(value_type = CurrencyText)]
    currency: &'static str,
    #[serde(rename = "type")]
    #[schema(value_type = Side)]
    side: &'static str,
    #[schema(value_type = TimeText)]
    created_at: Time,
    sequence: Sequence,
}

impl EntryBody {
    fn of(line: &Line, is_for_merchant: bool) -> Self {
        let account_id = match &line.account {
            Account::Merchant(id) if is_for_merchant => {
                Account::Merchant(access::name_outside(id).into()).to_string()
            }
            account => account.to_string(),
        };
        Self {
            id: Text(line.id),
            transaction_id: Text(line.transaction),
            payment_id: Text(line.payment),
            account_id,
            amount: line.amount,
            currency: line.currency.code(),
            side: if line.amount < 0 { "debit" } else { "credit" },
            created_at: Time(line.at),
            sequence: line.sequence,
        }
    }
}

/// Reads an account.
///
/// Its balances and entries, as they stand, or as they stood at a time or entry.
#[utoipa::path(get, path = "/api/ledger/{account}", tag = "Ledger", operation_id = "readAccount",
    params(("account" = String, Path, description = "`merchant:{merchantId}`, `customer:{customerId}`, `customer:{payment id}`; for an admin also `in_doubt:{provider}`.",
        pattern = "^(merchant|customer|in_doubt):.+$", example = "merchant:merchant_1"), Limit, AsOf,
        ("after" = Option<LedgerEntryIdText>, Query, description = "The cursor from `next`.")),
    responses((status = 200, description = "The account.", body = AccountBody)),
    extensions(("x-problems" = json!(["account_not_found"]))))]
pub(super) async fn account(
    request: HttpRequest,
    name: web::Path<String>,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let principal = headers::holder(&request, &door, Scope::LedgerRead)?;
    let mut query = Query::of(&request);
    let limit = query.limit();
    let before = query.read("after", "a cursor from `next`", |text| {
        let id = DerivedId::parse(text).filter(|id| id.kind == Kind::LedgerEntry)?;
        Some((id.sequence, id.index))
    });
    let cut = query.cut();
    query.finish()?;
    let merchant = match &principal {
        Principal::Merchant { id, .. } => Some(&**id),
        Principal::Admin { .. } => None,
    };
    // A merchant calls its account by its name outside, whichever payments its key is for.
    let inside = match (name.strip_prefix("merchant:"), merchant) {
        (Some(named), Some(merchant)) if named == access::name_outside(merchant) => {
            format!("merchant:{merchant}")
        }
        (Some(_), Some(_)) => return Err(Problem::no_such_account()),
        _ => name.clone(),
    };
    let books = door.core()?.books.read();
    if !is_there_for(&books, &inside, merchant) {
        return Err(Problem::no_such_account());
    }
    let mut balances = Balances::new();
    let mut lines = Vec::new();
    for account in books.accounts_named(&inside, merchant) {
        for (currency, balance) in books.balances(&account, cut) {
            let sum = balances.entry(currency).or_default();
            sum.posted += balance.posted;
            sum.pending += balance.pending;
        }
        lines.extend(books.lines(&account, cut, before).take(limit.saturating_add(1)));
    }
    drop(books);
    lines.sort_by_key(|line| std::cmp::Reverse((line.sequence, line.id.index)));
    let next = cut_page(&mut lines, limit, |line| line.id.to_string());
    Ok(HttpResponse::Ok().json(AccountBody {
        account_id: &name,
        balances: balances
            .into_iter()
            .map(|(currency, balance)| BalanceBody {
                currency: currency.code(),
                balance: balance.posted,
                pending: balance.pending,
            })
            .collect(),
        entries: lines.iter().map(|line| EntryBody::of(line, merchant.is_some())).collect(),
        next,
    }))
}

/// Whether the asker may look at the account of this name, used or not: an admin at all, a merchant at its own and its
/// customers'. The account of a payment's customer is the merchant's whose payment it is.
fn is_there_for(books: &Books, name: &str, merchant: Option<&str>) -> bool {
    match (name.split_once(':'), merchant) {
        (Some(("merchant" | "customer" | "in_doubt", id)), None) => !id.is_empty(),
        (Some(("merchant", id)), Some(merchant)) => merchant == id,
        (Some(("customer", id)), Some(merchant)) => match PaymentId::parse(id) {
            Some(payment) => {
                books.history(payment).is_some_and(|history| *history.details.merchant == *merchant)
            }
            None => !id.is_empty(),
        },
        _ => false,
    }
}

/// Every kind of account; the totals of each currency are zero.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TrialBalance)]
struct TrialBalanceBody {
    accounts: Vec<KindBody>,
    totals: Vec<BalanceBody>,
    in_doubt: Vec<DoubtBody>,
    sequence: Sequence,
}

/// What of a provider is in doubt: the pending balance of `in_doubt:{provider}`, and for how long.
#[derive(Serialize, ToSchema)]
#[schema(as = Doubt)]
struct DoubtBody {
    #[schema(value_type = String)]
    provider: Arc<str>,
    #[schema(value_type = CurrencyText)]
    currency: &'static str,
    #[schema(value_type = i64)]
    amount: i128,
    attempts: u64,
    #[schema(value_type = Option<TimeText>, required)]
    since: Option<Time>,
}

/// All accounts of a kind, in one currency.
#[derive(Serialize, ToSchema)]
#[schema(as = AccountKindTotal)]
struct KindBody {
    #[schema(value_type = AccountKind)]
    kind: &'static str,
    #[schema(value_type = CurrencyText)]
    currency: &'static str,
    #[schema(value_type = i64)]
    balance: i128,
    #[schema(value_type = i64)]
    pending: i128,
    count: u64,
}

/// Shows the trial balance (admin).
///
/// Sums of all accounts by kind and currency, and what is in doubt at each provider.
#[utoipa::path(get, path = "/api/ledger", tag = "Ledger", operation_id = "readTrialBalance",
    responses((status = 200, description = "The trial balance.", body = TrialBalanceBody)), security(("adminKey" = [])))]
pub(super) async fn trial_balance(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    headers::admin(&request, &door)?;
    Query::of(&request).finish()?;
    let books = door.core()?.books.read();
    let mut totals = Balances::new();
    let mut accounts = Vec::new();
    for ((kind, currency), total) in books.trial_balance() {
        let sum = totals.entry(*currency).or_default();
        sum.posted += total.balance.posted;
        sum.pending += total.balance.pending;
        accounts.push(KindBody {
            kind: kind.name(),
            currency: currency.code(),
            balance: total.balance.posted,
            pending: total.balance.pending,
            count: total.accounts,
        });
    }
    let totals = totals.into_iter().map(|(currency, sum)| BalanceBody {
        currency: currency.code(),
        balance: sum.posted,
        pending: sum.pending,
    });
    let sequence = books.position().sequence;
    let doubts = books.doubts().into_iter();
    let in_doubt = doubts.map(|((provider, currency), doubt)| DoubtBody {
        provider,
        currency: currency.code(),
        amount: doubt.amount,
        attempts: doubt.attempts,
        since: doubt.since.map(Time),
    });
    let (totals, in_doubt) = (totals.collect(), in_doubt.collect());
    Ok(HttpResponse::Ok().json(TrialBalanceBody { accounts, totals, in_doubt, sequence }))
}

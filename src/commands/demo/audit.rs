//! The comparison at the end: the clients' record against what the server shows.

use super::{
    clients::{self, Record},
    server::Server,
};
use anyhow::Context;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// What came of it.
pub(super) struct Findings {
    acknowledged: usize,
    open: usize,
    lost: Vec<String>,
    changed: Vec<String>,
    doubled: Vec<String>,
    wrong: Vec<String>,
    unbalanced: Vec<String>,
    retries: usize,
    payments: usize,
    recoveries: Vec<Duration>,
    chain_head: String,
}

impl Findings {
    /// Whether all that was acknowledged is there, once, and the books balance.
    pub(super) fn is_clean(&self) -> bool {
        let findings = [&self.lost, &self.changed, &self.doubled, &self.wrong, &self.unbalanced];
        findings.iter().all(|list| list.is_empty())
    }
}

/// Asks again for everything that was acknowledged or left open, and reads every payment.
pub(super) async fn audit(
    server: &Server,
    record: &mut Record,
    recoveries: Vec<Duration>,
) -> anyhow::Result<Findings> {
    let http = clients::http();
    let acknowledged = record.acknowledged();
    let (mut lost, mut changed) = (Vec::new(), std::mem::take(&mut record.changed));
    for asked in &mut record.asked {
        let mut again = asked.clone();
        again.send(&http, &server.url).await;
        match (&asked.told, &again.told) {
            (Some(first), Some(now)) if first == now => {}
            // Its payment, or what it asked for, is not there any more and was made anew or refused.
            (Some(_), None) => lost.push(asked.key.clone()),
            (Some(_), Some(_)) if asked.payment() != again.payment() => {
                lost.push(asked.key.clone())
            }
            (Some(_), Some(_)) => changed.push(asked.key.clone()),
            (None, _) => asked.told = again.told,
        }
    }
    let payments = all_payments(&http, &server.url).await?;
    let mut findings = Findings {
        acknowledged,
        open: record.asked.len() - acknowledged,
        lost,
        changed,
        doubled: doubled(&payments),
        wrong: wrong(&payments, record),
        unbalanced: Vec::new(),
        retries: record.retries,
        payments: payments.len(),
        recoveries,
        chain_head: server.chain_head.clone(),
    };
    let trial = clients::get(&http, &format!("{}/api/ledger", server.url)).await;
    let trial = trial.context("no trial balance")?;
    let totals = trial.get("totals").and_then(Value::as_array).context("no totals")?;
    for total in totals {
        let is_zero = |name| total.get(name).and_then(Value::as_i64) == Some(0);
        if !is_zero("balance") || !is_zero("pending") {
            findings.unbalanced.push(total.to_string());
        }
    }
    Ok(findings)
}

async fn all_payments(http: &awc::Client, url: &str) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = clients::get(http, &format!("{url}/api/payments?limit=100{after}")).await;
        let page = page.context("the payments cannot be listed")?;
        all.extend(page.get("data").and_then(Value::as_array).into_iter().flatten().cloned());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(all),
        }
    }
}

fn text<'a>(payment: &'a Value, name: &str) -> &'a str {
    payment.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Keys that made more than one payment.
fn doubled(payments: &[Value]) -> Vec<String> {
    let mut keys = BTreeSet::new();
    let again = payments.iter().filter(|payment| !keys.insert(text(payment, "idempotencyKey")));
    again.map(|payment| text(payment, "idempotencyKey").to_owned()).collect()
}

/// Payments whose figures are not what the acknowledged requests add up to, or that nobody asked for.
fn wrong(payments: &[Value], record: &Record) -> Vec<String> {
    let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for asked in &record.asked {
        let Some(payment) = asked.payment() else { continue };
        let amount = asked.body.get("amount").and_then(Value::as_i64).unwrap_or_default();
        let (captured, refunded) = expected.entry(payment).or_default();
        match asked.path.rsplit('/').next() {
            Some("capture") => *captured += amount,
            Some("refund") => *refunded += amount,
            _ if text(&asked.body, "capture") == "automatic" => *captured += amount,
            _ => {}
        }
    }
    let mut wrong = Vec::new();
    for payment in payments {
        let figure = |name| payment.get(name).and_then(Value::as_i64);
        let found = figure("amountCaptured").zip(figure("amountRefunded"));
        if expected.remove(text(payment, "id")) != found {
            wrong.push(text(payment, "id").to_owned());
        }
    }
    wrong.extend(expected.into_keys());
    wrong
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut recoveries: Vec<u128> = self.recoveries.iter().map(Duration::as_millis).collect();
        recoveries.sort_unstable();
        let at = |place: usize| recoveries.get(place).copied().unwrap_or_default();
        let (median, last) = (recoveries.len() / 2, recoveries.len().saturating_sub(1));
        let row = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            writeln!(f, "  {name:<36}{value}")
        };
        row(f, "kills", &recoveries.len())?;
        row(f, "requests acknowledged", &self.acknowledged)?;
        let found = self.acknowledged.saturating_sub(self.lost.len() + self.changed.len());
        row(f, "  found again, byte for byte", &found)?;
        row(f, "  lost", &list(&self.lost))?;
        row(f, "  answered differently", &list(&self.changed))?;
        row(f, "cut off by a kill, asked again", &self.open)?;
        row(f, "retries while it ran", &self.retries)?;
        row(f, "payments on the books", &self.payments)?;
        row(f, "  doubled", &list(&self.doubled))?;
        row(f, "  with wrong amounts", &list(&self.wrong))?;
        row(f, "currencies out of balance", &list(&self.unbalanced))?;
        let times = format!("{} / {} / {} ms", at(0), at(median), at(last));
        row(f, "start to ready, min/median/max", &times)?;
        row(f, "chain verified at every start, head", &self.chain_head)
    }
}

/// How many, and the first few by name.
fn list(names: &[String]) -> String {
    let first = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if names.is_empty() { "0".into() } else { format!("{} ({first} …)", names.len()) }
}

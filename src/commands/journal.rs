//! `strongroom journal print`: the entries of the journal, for a person or as JSON lines.
//!
//! The chain of hashes is checked on the way; what the entries say is shown as it stands, not judged.

use super::offline::Folder;
use crate::domain::{
    access::AccessRecord,
    entry::{Batch, Entry, PaymentRecord, Record, Stray},
    event::{Action, Answered, CaptureMode, Details, Event, Outcome},
    id::{PaymentId, Sequence},
    ledger::{Leg, Transaction},
    money::Currency,
    webhook::{Settings, WebhookEvent, WebhookRecord},
};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
};

/// What can be done with the journal.
#[derive(Subcommand)]
pub enum Journal {
    /// Show its entries, oldest first. Changes nothing.
    Print(Print),
}

/// Which entries, and how.
#[derive(Args)]
pub struct Print {
    #[command(flatten)]
    folder: Folder,
    /// From this entry on.
    #[arg(long, value_name = "SEQ")]
    from: Option<Sequence>,
    /// Up to this entry, itself included.
    #[arg(long, value_name = "SEQ")]
    to: Option<Sequence>,
    /// Only what happened to this payment.
    #[arg(long, value_name = "pay_…", value_parser = payment)]
    payment: Option<PaymentId>,
    /// Print a JSON object a line; amounts are whole minor units.
    #[arg(long)]
    json: bool,
}

fn payment(text: &str) -> Result<PaymentId, &'static str> {
    PaymentId::parse(text).ok_or("a payment is `pay_` and 32 hexadecimal digits")
}

/// Prints entries on stdout.
///
/// # Errors
/// The journal could not be read as far as was asked, or there was nowhere to print to.
pub fn run(journal: &Journal) -> anyhow::Result<()> {
    let Journal::Print(arguments) = journal;
    let folder = arguments.folder.open()?;
    let mut out = BufWriter::new(io::stdout().lock());
    for located in folder.read()? {
        let batch = located?.batch;
        for entry in batch.entries.iter().filter(|entry| arguments.selects(entry)) {
            match arguments.json {
                true => {
                    serde_json::to_writer(&mut out, &Line::of(entry, &batch))
                        .map_err(io::Error::from)?;
                    writeln!(out)?;
                }
                false => print(&mut out, entry, &batch)?,
            }
        }
        if batch.entries.last().map(|last| last.sequence) >= Some(arguments.last()) {
            break;
        }
    }
    Ok(out.flush()?)
}

impl Print {
    fn last(&self) -> Sequence {
        self.to.unwrap_or(Sequence::MAX)
    }

    fn selects(&self, entry: &Entry) -> bool {
        let of = match &entry.record {
            Record::Opened { .. }
            | Record::Sealed
            | Record::Webhook(_)
            | Record::Access(_)
            | Record::Stray(_) => None,
            Record::Payment(record) => Some(record.payment),
        };
        (self.from.unwrap_or(0)..=self.last()).contains(&entry.sequence)
            && (self.payment.is_none() || self.payment == of)
    }
}

fn print(out: &mut impl Write, entry: &Entry, batch: &Batch) -> io::Result<()> {
    let (sequence, at) = (entry.sequence, entry.at);
    match &entry.record {
        Record::Opened { epoch, software } => {
            writeln!(
                out,
                "{sequence}  {at}  opened for writing for time number {epoch}, by release {software}"
            )?;
        }
        Record::Sealed => {
            writeln!(out, "{sequence}  {at}  sealed: all before this was acknowledged")?;
        }
        Record::Payment(record) => {
            let PaymentRecord { payment, version, actor, .. } = record;
            let told = sentence(record);
            writeln!(out, "{sequence}  {at}  {payment} version {version}  {told}, by {actor}")?;
            if let Some(Transaction { currency, legs }) = &record.transaction {
                for leg in legs {
                    writeln!(out, "    {}", in_words(leg, *currency))?;
                }
            }
            if let Some(request) = &record.request {
                writeln!(out, "    key {} ({})", request.key, request.operation.name())?;
            }
        }
        Record::Webhook(WebhookRecord { actor, event }) => {
            let endpoint = event.endpoint().map(|id| format!(" {id}")).unwrap_or_default();
            let told = event.name().replace('_', " ");
            writeln!(out, "{sequence}  {at}  {told}{endpoint}, by {actor}")?;
        }
        Record::Access(AccessRecord { actor, event }) => {
            let (action, subject) = event.in_words();
            writeln!(out, "{sequence}  {at}  {action} {subject}, by {actor}")?;
        }
        Record::Stray(Stray { provider, event, reference, what }) => {
            writeln!(
                out,
                "{sequence}  {at}  {provider} told of {reference} (event {event}), which no payment is about: {what}"
            )?;
        }
    }
    writeln!(out, "    block {}", batch.hash)
}

/// What happened, with its figures.
fn sentence(record: &PaymentRecord) -> String {
    let happened = record.happened();
    // An event behind the first names no currency; its transaction does.
    let amount = |minor_units: i64| match &record.transaction {
        Some(Transaction { currency, .. }) => in_currency(minor_units, *currency),
        None => format!("{minor_units} minor units"),
    };
    match &record.event {
        Event::Submitted { details, outcome } => {
            let amount = in_currency(details.amount.minor_units(), details.currency);
            let how = match (outcome, details.capture) {
                (None, CaptureMode::Automatic) => " as a charge",
                (None, CaptureMode::Manual) => " as an authorization",
                (Some(_), _) => "",
            };
            let method = &details.payment_method;
            format!("{happened} {amount}{how} on {method}{}", reason(outcome.as_ref()))
        }
        Event::Settled(outcome) => format!("{happened}{}", reason(Some(outcome))),
        Event::Captured { amount: taken, released: 0 } => {
            format!("{happened} {}", amount(taken.minor_units()))
        }
        Event::Captured { amount: taken, released } => {
            format!("{happened} {}, released {}", amount(taken.minor_units()), amount(*released))
        }
        Event::Voided | Event::Expired => happened.into(),
        Event::Refunded { amount: given, reason: None } => {
            format!("{happened} {}", amount(given.minor_units()))
        }
        Event::Refunded { amount: given, reason: Some(reason) } => {
            format!("{happened} {} ({reason:?})", amount(given.minor_units()))
        }
        Event::Initiated(details) => {
            let amount = in_currency(details.amount.minor_units(), details.currency);
            let (capture, provider) = (details.capture.name(), &details.provider);
            format!("{happened} {amount}, capture {capture}, to {provider}")
        }
        Event::Asked { ask, .. } => match ask.action {
            Action::Capture { amount: asked, .. } | Action::Refund { amount: asked } => {
                format!("{happened} {} of {}", amount(asked.minor_units()), ask.provider)
            }
            Action::Authorize | Action::Void | Action::Expire => {
                format!("{happened} of {}", ask.provider)
            }
        },
        Event::Answered(answered) => answered_in_words(happened, answered),
        Event::Rerouted { answered, next } => {
            format!("{} and {happened} to {next}", answered_in_words("declined", answered))
        }
        Event::Noted(note) => format!("{happened}: {}", note.what()),
    }
}

fn answered_in_words(happened: &str, answered: &Answered) -> String {
    let Answered { attempt, ask, outcome, evidence, .. } = answered;
    let said = evidence.text().map(|text| format!(" {text:?}")).unwrap_or_default();
    format!(
        "{happened} by {} as asked by entry {attempt}{}, known by {}{said}",
        ask.provider,
        reason(Some(outcome)),
        evidence.name().replace('_', " ")
    )
}

fn reason(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => String::new(),
        Some(Outcome::Approved { reference }) => format!(" (provider's reference {reference:?})"),
        Some(Outcome::Declined(decline)) => format!(" ({})", decline.code()),
        Some(Outcome::DeclinedBy { decline, code }) => {
            format!(" ({}, provider's code {code:?})", decline.code())
        }
    }
}

/// A leg as an accountant reads it.
fn in_words(leg: &Leg, currency: Currency) -> String {
    let side = |amount: i64| if amount < 0 { "debit" } else { "credit" };
    let figure = |amount: i64| {
        let size = currency.decimal(i128::from(amount).abs());
        format!("{} {size} {currency}", side(amount))
    };
    let account = &leg.account;
    match (leg.posted, leg.pending) {
        (posted, 0) => format!("{account}  {}", figure(posted)),
        (0, pending) => format!("{account}  pending {}", figure(pending)),
        (posted, pending) => format!("{account}  {}, pending {}", figure(posted), figure(pending)),
    }
}

fn in_currency(minor_units: i64, currency: Currency) -> String {
    format!("{} {currency}", currency.decimal(minor_units.into()))
}

/// A line of JSON: names as in the API, amounts in whole minor units.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    sequence: Sequence,
    time: String,
    block_hash: String,
    #[serde(flatten)]
    entry: EntryObject<'a>,
}

#[derive(Serialize)]
#[serde(tag = "entry", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum EntryObject<'a> {
    Opened {
        epoch: u64,
        software: &'a str,
    },
    Sealed,
    Payment {
        payment_id: String,
        version: u32,
        actor: &'a str,
        /// In a word, as in an export.
        event: &'static str,
        /// What the event itself says; its fields differ by event.
        facts: Value,
        transaction: Option<TransactionObject>,
        idempotency_key: Option<&'a str>,
        operation: Option<&'static str>,
    },
    Webhook {
        endpoint_id: Option<String>,
        actor: &'a str,
        /// In a word.
        event: &'static str,
        /// What the event itself says, but for secrets.
        facts: Value,
    },
    Access {
        actor: &'a str,
        /// In a word or two.
        event: &'a str,
        /// To what.
        subject: String,
    },
    Stray {
        provider: &'a str,
        event_id: &'a str,
        provider_reference: &'a str,
        what: &'a str,
    },
}

#[derive(Serialize)]
struct TransactionObject {
    currency: &'static str,
    legs: Vec<LegObject>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LegObject {
    account_id: String,
    posted: i64,
    pending: i64,
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry, batch: &Batch) -> Self {
        Self {
            sequence: entry.sequence,
            time: entry.at.to_string(),
            block_hash: batch.hash.to_string(),
            entry: EntryObject::of(&entry.record),
        }
    }
}

impl<'a> EntryObject<'a> {
    fn of(record: &'a Record) -> Self {
        match record {
            Record::Opened { epoch, software } => Self::Opened { epoch: *epoch, software },
            Record::Sealed => Self::Sealed,
            Record::Payment(record) => Self::Payment {
                payment_id: record.payment.to_string(),
                version: record.version,
                actor: &record.actor,
                event: record.happened(),
                facts: facts(&record.event),
                transaction: record.transaction.as_ref().map(TransactionObject::of),
                idempotency_key: record.request.as_ref().map(|request| request.key.as_str()),
                operation: record.request.as_ref().map(|request| request.operation.name()),
            },
            Record::Webhook(WebhookRecord { actor, event }) => Self::Webhook {
                endpoint_id: event.endpoint().map(|id| id.to_string()),
                actor,
                event: event.name(),
                facts: webhook_facts(event),
            },
            Record::Access(AccessRecord { actor, event }) => {
                let (event, subject) = event.in_words();
                Self::Access { actor, event, subject }
            }
            Record::Stray(Stray { provider, event, reference, what }) => {
                Self::Stray { provider, event_id: event, provider_reference: reference, what }
            }
        }
    }
}

impl TransactionObject {
    fn of(transaction: &Transaction) -> Self {
        let legs = transaction.legs.iter().map(|leg| LegObject {
            account_id: leg.account.to_string(),
            posted: leg.posted,
            pending: leg.pending,
        });
        Self { currency: transaction.currency.code(), legs: legs.collect() }
    }
}

fn webhook_facts(event: &WebhookEvent) -> Value {
    let settings = |settings: &Settings| {
        json!({
            "url": settings.url,
            "events": settings.filter.names().collect::<Vec<_>>(),
            "description": settings.description,
        })
    };
    match event {
        WebhookEvent::Created(created) => {
            json!({"merchantId": created.merchant, "settings": settings(&created.settings)})
        }
        WebhookEvent::Updated { settings: new, .. } => json!({"settings": settings(new)}),
        WebhookEvent::Rotated { old_until, .. } => json!({"oldUntil": old_until.to_string()}),
        WebhookEvent::Disabled { reason, .. } => json!({"reason": reason.name()}),
        WebhookEvent::Enabled { .. } | WebhookEvent::Deleted { .. } => json!({}),
        WebhookEvent::Replayed { from, .. } => json!({"from": from}),
        WebhookEvent::Redelivered { number, sequence, .. } => {
            json!({"number": number, "sequence": sequence})
        }
        WebhookEvent::Progressed(changes) => {
            let endpoints = changes.iter().map(|change| {
                json!({
                    "endpointId": change.endpoint.to_string(),
                    "through": change.through,
                    "open": change.open.iter().map(|(number, _)| number).collect::<Vec<_>>(),
                    "closed": change.closed,
                    "dead": change.died.iter().map(|(number, _)| number).collect::<Vec<_>>(),
                })
            });
            json!({"endpoints": endpoints.collect::<Vec<_>>()})
        }
    }
}

fn facts(event: &Event) -> Value {
    let answer = |outcome: &Outcome| match outcome {
        Outcome::Approved { reference } => json!({"providerReference": reference}),
        Outcome::Declined(decline) => json!({"declined": decline.code()}),
        Outcome::DeclinedBy { decline, code } => {
            json!({"declined": decline.code(), "providerCode": code})
        }
    };
    let answered = |answered: &Answered| {
        json!({
            "attempt": answered.attempt,
            "provider": answered.ask.provider,
            "was": answered.was.name(),
            "answer": answer(&answered.outcome),
            "evidence": answered.evidence.name(),
            "evidenceText": answered.evidence.text(),
        })
    };
    let made = |details: &Details, outcome: Option<&Outcome>| {
        json!({
            "merchantId": details.merchant,
            "amount": details.amount,
            "currency": details.currency,
            "capture": details.capture.name(),
            "paymentMethod": details.payment_method,
            "customerId": details.customer,
            "description": details.description,
            "metadata": details.metadata.iter().cloned().collect::<BTreeMap<_, _>>(),
            "provider": details.provider,
            "holdMs": details.hold_ms,
            "answer": outcome.map(answer),
        })
    };
    match event {
        Event::Submitted { details, outcome } => made(details, outcome.as_ref()),
        Event::Initiated(details) => made(details, None),
        Event::Asked { ask, reason } => match ask.action {
            Action::Capture { amount, released } => {
                json!({"provider": ask.provider, "amount": amount, "released": released})
            }
            Action::Refund { amount } => {
                json!({"provider": ask.provider, "amount": amount, "reason": reason})
            }
            Action::Authorize | Action::Void | Action::Expire => json!({"provider": ask.provider}),
        },
        Event::Answered(it) => answered(it),
        Event::Rerouted { answered: it, next } => json!({"answered": answered(it), "next": next}),
        Event::Noted(note) => json!({"what": note.what()}),
        Event::Settled(outcome) => json!({"answer": answer(outcome)}),
        Event::Captured { amount, released } => json!({"amount": amount, "released": released}),
        Event::Voided | Event::Expired => json!({}),
        Event::Refunded { amount, reason } => json!({"amount": amount, "reason": reason}),
    }
}

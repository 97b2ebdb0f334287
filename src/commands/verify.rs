//! `strongroom verify`: nobody should have to take the server's word for the books.
//!
//! It reads the journal from its first byte, checks the chain of hashes, judges every entry by the rules that judged it
//! when it was written, has the books counted anew, and holds every snapshot against them. It changes nothing and repairs nothing.

use super::{offline::Folder, verdict::Verdict};
use crate::{
    domain::{
        books::KindTotal,
        ledger::{AccountKind, Turnover},
        money::Currency,
        reconciliation::Check,
    },
    journal::snapshot::Comparison,
};
use clap::Args;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

/// What `verify` is told.
#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    folder: Folder,
    /// Print one JSON object; amounts are whole minor units.
    #[arg(long)]
    json: bool,
}

/// Checks the journal and prints what was found on stdout.
///
/// # Errors
/// [`JournalError::Damaged`] if bytes or facts in the journal are not as they were written; another error if the recount
/// found the books wrong, or if the journal cannot be read.
pub fn run(arguments: &Verify) -> anyhow::Result<()> {
    let began = Instant::now();
    let journal = arguments.folder.open()?;
    let verdict = Verdict::on(&journal)?;
    let took = began.elapsed();
    let mut out = io::stdout().lock();
    let printed = match arguments.json {
        true => writeln!(out, "{}", verdict.json(journal.folder(), took)),
        false => verdict.print(journal.folder(), took, &mut out),
    };
    // What was found counts more than that nobody reads it.
    verdict.judge(journal.folder())?;
    Ok(printed?)
}

/// What was moved in one currency, and what each kind of account holds of it.
struct Totals {
    currency: Currency,
    turnover: Turnover,
    kinds: Vec<(AccountKind, KindTotal)>,
}

impl Verdict {
    fn print(&self, folder: &Path, took: Duration, out: &mut impl Write) -> io::Result<()> {
        let position = self.books.position();
        writeln!(
            out,
            "read {} entries of {} payments in {} segments ({} bytes) of {} in {} ms",
            position.sequence,
            self.books.payment_count(),
            self.segments,
            self.bytes,
            folder.display(),
            took.as_millis()
        )?;
        writeln!(
            out,
            "chain head {} at entry {}, {}",
            position.head, position.sequence, position.at
        )?;
        for Totals { currency, turnover, kinds } in self.totals() {
            let debits = currency.decimal(turnover.debits);
            let credits = currency.decimal(turnover.credits);
            writeln!(out, "{currency}: debits {debits}, credits {credits}")?;
            for (kind, total) in kinds {
                writeln!(
                    out,
                    "     {} {} accounts hold {}, and {} pending",
                    total.accounts,
                    kind.name(),
                    currency.decimal(total.balance.posted),
                    currency.decimal(total.balance.pending)
                )?;
            }
        }
        if let Some(torn) = &self.torn {
            writeln!(
                out,
                "torn tail: {} bytes from byte {} of {} on are left of a batch that a crash cut off; nobody was told of \
                 it, and the next start sets it aside",
                torn.bytes,
                torn.offset,
                torn.file.display()
            )?;
        }
        for check in &self.checks {
            let (name, checked, failed) = (check.name, check.checked, check.failed);
            writeln!(out, "{name}: {checked} checked, {failed} wrong")?;
        }
        for snapshot in self.snapshots.iter().filter(|it| it.difference.is_none()) {
            let (sequence, payments) = (snapshot.sequence, snapshot.payments);
            writeln!(
                out,
                "snapshot through entry {sequence}: {payments} payments, as the journal says"
            )?;
        }
        for finding in self.found() {
            writeln!(out, "found: {finding}")?;
        }
        match self.is_clean() {
            true => writeln!(out, "every hash, rule and sum holds"),
            false => Ok(()),
        }
    }

    fn json(&self, folder: &Path, took: Duration) -> Value {
        let position = self.books.position();
        let kind = |(kind, total): (AccountKind, KindTotal)| {
            json!({
                "kind": kind.name(),
                "balance": total.balance.posted,
                "pending": total.balance.pending,
                "count": total.accounts,
            })
        };
        let currency = |total: Totals| {
            json!({
                "currency": total.currency.code(),
                "debits": total.turnover.debits,
                "credits": total.turnover.credits,
                "accounts": total.kinds.into_iter().map(kind).collect::<Vec<_>>(),
            })
        };
        let check = |check: &Check| json!({"name": check.name, "checked": check.checked, "failed": check.failed});
        let torn = self.torn.as_ref().map(|torn| {
            json!({"file": torn.file.display().to_string(), "offset": torn.offset, "bytes": torn.bytes})
        });
        let snapshot = |it: &Comparison| {
            json!({
                "file": it.file.display().to_string(),
                "sequence": it.sequence,
                "payments": it.payments,
                "ok": it.difference.is_none(),
            })
        };
        json!({
            "ok": self.is_clean(),
            "folder": folder.display().to_string(),
            "entries": position.sequence,
            "payments": self.books.payment_count(),
            "segments": self.segments,
            "bytes": self.bytes,
            "chainHead": position.head.to_string(),
            "lastEntryAt": position.at.to_string(),
            "currencies": self.totals().into_iter().map(currency).collect::<Vec<_>>(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "tornTail": torn,
            "snapshots": self.snapshots.iter().map(snapshot).collect::<Vec<_>>(),
            "findings": self.found().map(|finding| finding.json()).collect::<Vec<_>>(),
            "durationMs": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn totals(&self) -> Vec<Totals> {
        let mut totals: BTreeMap<Currency, Totals> = BTreeMap::new();
        for (currency, turnover) in self.books.turnover() {
            let (currency, turnover) = (*currency, *turnover);
            totals.insert(currency, Totals { currency, turnover, kinds: Vec::new() });
        }
        for ((kind, currency), total) in self.books.trial_balance() {
            totals.entry(*currency).and_modify(|totals| totals.kinds.push((*kind, *total)));
        }
        totals.into_values().collect()
    }
}

//! `strongroom verify`: nobody should have to take the server's word for the books.
//!
//! It reads the journal from its first byte, checks the chain of hashes, judges every entry by the rules that judged it
//! when it was written, and then has the books counted anew. It changes nothing and repairs nothing.

use super::offline::{Folder, Offline};
use crate::{
    domain::{
        books::{Books, Breach, KindTotal},
        entry::{Batch, Record},
        id::{PaymentId, Sequence},
        ledger::{AccountKind, Turnover},
        money::Currency,
        reconciliation::{Check, Failure, Recount},
    },
    journal::{JournalError, Located, Position, Reader, Tail},
};
use clap::Args;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
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
    let mut verdict = verify(&journal)?;
    verdict.took = began.elapsed();
    let mut out = io::stdout().lock();
    let printed = match arguments.json {
        true => writeln!(out, "{}", verdict.json(journal.folder())),
        false => verdict.print(journal.folder(), &mut out),
    };
    // What was found counts more than that nobody reads it.
    match verdict.damage {
        Some(damage) => return Err(damage.into_error().into()),
        None if verdict.findings.is_empty() => {}
        None => anyhow::bail!(
            "the books are wrong in {} places: stop taking payments and keep a copy of {}",
            verdict.checks.iter().map(|check| check.failed).sum::<u64>(),
            journal.folder().display()
        ),
    }
    Ok(printed?)
}

/// What became of it.
#[derive(Default)]
struct Verdict {
    books: Books,
    segments: u64,
    bytes: u64,
    torn: Option<Tail>,
    /// The first thing in the journal that is not as it was written; nothing was read behind it.
    damage: Option<Finding>,
    /// What the recount looked at.
    checks: Vec<Check>,
    /// What it found wrong.
    findings: Vec<Finding>,
    took: Duration,
}

/// What was moved in one currency, and what each kind of account holds of it.
struct Totals {
    currency: Currency,
    turnover: Turnover,
    kinds: Vec<(AccountKind, KindTotal)>,
}

/// Something wrong, and where.
struct Finding {
    what: String,
    place: Option<Position>,
    sequence: Option<Sequence>,
    payment: Option<PaymentId>,
}

fn verify(journal: &Offline) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut reader = match journal.read() {
        Ok(reader) => reader,
        Err(error) => {
            verdict.damage = Some(Finding::of_damage(error.downcast()?)?);
            return Ok(verdict);
        }
    };
    let mut progress = Progress::new();
    verdict.damage = verdict.replay(&mut reader, &mut progress)?;
    verdict.segments = reader.segments().0;
    verdict.torn = reader.tail();
    if verdict.damage.is_none() {
        verdict.recount(&mut progress);
        locate(&mut verdict.findings, journal.read()?)?;
    }
    progress.end();
    Ok(verdict)
}

impl Verdict {
    /// Folds the journal into the books, up to the first damage.
    fn replay(
        &mut self,
        reader: &mut Reader,
        progress: &mut Progress,
    ) -> Result<Option<Finding>, JournalError> {
        while let Some(located) = reader.next() {
            let located = match located {
                Ok(located) => located,
                Err(error) => return Finding::of_damage(error).map(Some),
            };
            if let Some((sequence, payment, what)) = first_breach(&self.books, &located.batch) {
                let place = Some(position(&located));
                let sequence = Some(sequence);
                return Ok(Some(Finding { what, place, sequence, payment }));
            }
            self.bytes += located.bytes;
            self.books.apply(located.batch);
            progress.tell(|| {
                let (segment, segments) = reader.segments();
                let entries = self.books.position().sequence;
                format!("segment {segment} of {segments}, {entries} entries")
            });
        }
        Ok(None)
    }

    /// Counts everything anew from the payments' histories and compares it with what is kept.
    fn recount(&mut self, progress: &mut Progress) {
        const SLICE: usize = 4096;
        let mut recount = Recount::begin(&self.books);
        while recount.proceed(&self.books, SLICE) {
            progress.tell(|| "counting the books anew".into());
        }
        self.checks = recount.finish().checks;
        let failures = self.checks.iter().flat_map(|check| &check.failures);
        self.findings = failures.map(Finding::of).collect();
    }

    fn print(&self, folder: &Path, out: &mut impl Write) -> io::Result<()> {
        let position = self.books.position();
        writeln!(
            out,
            "read {} entries of {} payments in {} segments ({} bytes) of {} in {} ms",
            position.sequence,
            self.books.payment_count(),
            self.segments,
            self.bytes,
            folder.display(),
            self.took.as_millis()
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
        for finding in self.damage.iter().chain(&self.findings) {
            writeln!(out, "found: {finding}")?;
        }
        match self.damage.is_none() && self.findings.is_empty() {
            true => writeln!(out, "every hash, rule and sum holds"),
            false => Ok(()),
        }
    }

    fn json(&self, folder: &Path) -> Value {
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
        let found = self.damage.iter().chain(&self.findings);
        json!({
            "ok": self.damage.is_none() && self.findings.is_empty(),
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
            "findings": found.map(Finding::json).collect::<Vec<_>>(),
            "durationMs": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
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

/// The first entry of the batch that may not follow what is on the books, and why.
fn first_breach(books: &Books, batch: &Batch) -> Option<(Sequence, Option<PaymentId>, String)> {
    let refused = |breach: &Breach| format!("the rules refuse the entry: {breach}");
    batch.entries.iter().find_map(|entry| match &entry.record {
        Record::Opened { .. } | Record::Sealed => None,
        Record::Payment(record) => {
            let breach = books.check(record, entry.at).err()?;
            Some((entry.sequence, Some(record.payment), refused(&breach)))
        }
        Record::Webhook(record) => {
            let breach = books.check_webhook(record, usize::MAX).err()?;
            Some((entry.sequence, None, refused(&breach)))
        }
    })
}

fn position(located: &Located) -> Position {
    Position { file: located.file.clone(), offset: located.offset }
}

/// Finds the batches that the findings are about, by reading the journal once more.
fn locate(findings: &mut [Finding], reader: Reader) -> Result<(), JournalError> {
    if findings.iter().all(|finding| finding.sequence.is_none()) {
        return Ok(());
    }
    for located in reader {
        let located = located?;
        for finding in &mut *findings {
            let mut entries = located.batch.entries.iter();
            if entries.any(|entry| Some(entry.sequence) == finding.sequence) {
                finding.place = Some(position(&located));
            }
        }
    }
    Ok(())
}

impl Finding {
    fn of(failure: &Failure) -> Self {
        let (payment, sequence) = failure.at.unzip();
        Self { what: failure.what.clone(), place: None, sequence, payment }
    }

    /// The damage that a reader met; any other error is none.
    fn of_damage(error: JournalError) -> Result<Self, JournalError> {
        match error {
            JournalError::Damaged { file, offset, sequence, what } => Ok(Self {
                what: what.into(),
                place: Some(Position { file, offset }),
                sequence: Some(sequence),
                payment: None,
            }),
            error => Err(error),
        }
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "file": self.place.as_ref().map(|place| place.file.display().to_string()),
            "offset": self.place.as_ref().map(|place| place.offset),
            "sequence": self.sequence,
            "paymentId": self.payment.map(|payment| payment.to_string()),
        })
    }

    /// Damage as the journal tells it.
    fn into_error(self) -> JournalError {
        let Position { file, offset } =
            self.place.unwrap_or(Position { file: "".into(), offset: 0 });
        let sequence = self.sequence.unwrap_or_default();
        JournalError::Damaged { file, offset, sequence, what: self.what.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        if let Some(Position { file, offset }) = &self.place {
            write!(f, "; file {}, byte {offset}", file.display())?;
        }
        if let Some(sequence) = self.sequence {
            write!(f, ", entry {sequence}")?;
        }
        if let Some(payment) = self.payment {
            write!(f, ", {payment}")?;
        }
        Ok(())
    }
}

/// One line on the terminal that says how far the work is; nothing if it is short or nobody looks.
struct Progress {
    /// When the line is written next; `None` without a terminal.
    next: Option<Instant>,
    shown: bool,
}

impl Progress {
    const FIRST_AFTER: Duration = Duration::from_secs(1);
    const EVERY: Duration = Duration::from_millis(200);

    fn new() -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + Self::FIRST_AFTER);
        Self { next, shown: false }
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + Self::EVERY);
            self.shown = true;
            // A terminal that is gone is no reason to stop.
            drop(write!(io::stderr(), "\r\x1b[Kverifying: {}", line()));
        }
    }

    fn end(&self) {
        if self.shown {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        entry::{Entry, Hash, PaymentRecord},
        event::Event,
        time::Timestamp,
    };

    #[test]
    fn an_entry_that_the_rules_refuse_is_named_with_its_payment() {
        let payment = PaymentId::new(uuid::Uuid::from_u128(7));
        let record = PaymentRecord {
            payment,
            version: 1,
            actor: "merchant_1/test".into(),
            event: Event::Voided,
            transaction: None,
            request: None,
        };
        let at = Timestamp::from_millis(1);
        let opened = Record::Opened { epoch: 1, software: "0.1.0".into() };
        let entries = vec![
            Entry { sequence: 1, at, record: opened },
            Entry { sequence: 2, at, record: Record::Payment(record) },
        ];
        let batch = Batch { entries, hash: Hash::default() };
        let (sequence, of, what) = first_breach(&Books::default(), &batch).unwrap();
        assert_eq!((sequence, of), (2, Some(payment)));
        assert!(what.contains("no such payment"), "{what}");
    }

    #[test]
    fn a_finding_names_file_offset_sequence_and_payment() {
        let payment = PaymentId::new(uuid::Uuid::from_u128(7));
        let failure = Failure { what: "off by one".into(), at: Some((payment, 12)) };
        let mut finding = Finding::of(&failure);
        finding.place = Some(Position { file: "data/journal/1.seg".into(), offset: 8192 });
        assert_eq!(
            finding.to_string(),
            format!("off by one; file data/journal/1.seg, byte 8192, entry 12, {payment}")
        );
        assert_eq!(finding.json()["offset"], 8192);
        assert_eq!(finding.json()["paymentId"], payment.to_string());
    }
}

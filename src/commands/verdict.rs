//! The verdict on a journal: it is folded into the books from its first byte, every hash and rule checked on the way,
//! and the books are counted anew. `verify`, `backup` and `restore` ask for it; it changes nothing.

use super::offline::{Moment, Offline};
use crate::{
    domain::{
        books::{Books, Breach},
        entry::{Batch, Record},
        id::{PaymentId, Sequence},
        reconciliation::{Check, Failure, Recount},
    },
    journal::{
        JournalError, Located, Position, Reader, Tail,
        snapshot::{self, Comparison},
    },
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::path::Path;

/// What became of it.
#[derive(Default)]
pub(super) struct Verdict {
    /// What the journal adds up to.
    pub(super) books: Books,
    pub(super) segments: u64,
    /// How many bytes its batches take.
    pub(super) bytes: u64,
    pub(super) torn: Option<Tail>,
    /// The first thing in the journal that is not as it was written; nothing was read behind it.
    pub(super) damage: Option<Finding>,
    /// What the recount looked at.
    pub(super) checks: Vec<Check>,
    /// What it found wrong.
    pub(super) findings: Vec<Finding>,
    /// Each snapshot, held against the books.
    pub(super) snapshots: Vec<Comparison>,
}

/// Something wrong, and where.
#[derive(Clone)]
pub(super) struct Finding {
    what: String,
    place: Option<Position>,
    sequence: Option<Sequence>,
    payment: Option<PaymentId>,
}

/// The books as they stood at a moment, or as they stand, and how many bytes were read for them. Every hash and rule is
/// checked; nothing is counted anew.
///
/// # Errors
/// [`JournalError::Damaged`], or the journal cannot be read.
pub(super) fn books_at(journal: &Offline, at: Option<Moment>) -> anyhow::Result<(Books, u64)> {
    let mut verdict = Verdict::default();
    let progress = Progress::new("reading");
    verdict.damage = verdict.replay(&mut journal.read()?, at, &progress)?;
    match verdict.damage {
        Some(damage) => Err(damage.to_error().into()),
        None => Ok((verdict.books, verdict.bytes)),
    }
}

impl Verdict {
    /// Reads the journal and counts the books anew.
    pub(super) fn on(journal: &Offline) -> anyhow::Result<Self> {
        let mut verdict = Self::default();
        let mut reader = match journal.read() {
            Ok(reader) => reader,
            Err(error) => {
                verdict.damage = Some(Finding::of_damage(error.downcast()?)?);
                return Ok(verdict);
            }
        };
        let progress = Progress::new("verifying");
        verdict.damage = verdict.replay(&mut reader, None, &progress)?;
        verdict.segments = reader.segments().0;
        verdict.torn = reader.tail();
        if verdict.damage.is_none() {
            verdict.recount(&progress);
            locate(&mut verdict.findings, journal.read()?)?;
            progress.tell((1, 1), || "holding the snapshots against the journal".into());
            verdict.snapshots = snapshot::compare(journal.folders(), &verdict.books)?;
            // Beside a server that runs, one may have been made of later entries.
            let is_live = journal.through() < Sequence::MAX;
            let end = verdict.books.position().sequence;
            if let Some(ahead) = verdict.snapshots.extract_if(.., |it| it.sequence > end).next()
                && !is_live
            {
                verdict.damage = Some(Finding::of_lost_end(&ahead, end));
            }
        }
        Ok(verdict)
    }

    /// The error that is due if anything was found in `folder`.
    pub(super) fn judge(&self, folder: &Path) -> anyhow::Result<()> {
        match &self.damage {
            Some(damage) => Err(damage.to_error().into()),
            None if self.findings.is_empty() => match self.wrong_snapshots().count() {
                0 => Ok(()),
                count => anyhow::bail!(
                    "{count} snapshots do not say what the journal says: the journal is well and no money is touched; \
                     move them out of {} while the server is stopped, the next start reads the journal instead",
                    folder.join("snapshots").display()
                ),
            },
            None => anyhow::bail!(
                "the books are wrong in {} places: stop taking payments and keep a copy of {}",
                self.checks.iter().map(|check| check.failed).sum::<u64>(),
                folder.display()
            ),
        }
    }

    /// Whether nothing was found.
    pub(super) fn is_clean(&self) -> bool {
        self.found().next().is_none()
    }

    /// Everything that was found.
    pub(super) fn found(&self) -> impl Iterator<Item = Finding> {
        self.damage.iter().chain(&self.findings).cloned().chain(self.wrong_snapshots())
    }

    fn wrong_snapshots(&self) -> impl Iterator<Item = Finding> {
        self.snapshots.iter().filter_map(|it| {
            let difference = it.difference.as_ref()?;
            let (payment, sequence) = difference.at.unzip();
            Some(Finding {
                what: format!("the snapshot is not what the journal says: {}", difference.what),
                place: Some(Position { file: it.file.clone(), offset: 0 }),
                sequence: sequence.or(Some(it.sequence)),
                payment,
            })
        })
    }

    /// Folds the journal into the books, up to the first damage or the moment `until`, be it in the middle of a batch.
    fn replay(
        &mut self,
        reader: &mut Reader,
        until: Option<Moment>,
        progress: &Progress,
    ) -> Result<Option<Finding>, JournalError> {
        while let Some(located) = reader.next() {
            let mut located = match located {
                Ok(located) => located,
                Err(error) => return Finding::of_damage(error).map(Some),
            };
            let entries = &mut located.batch.entries;
            let read = entries.len();
            entries.retain(|entry| until.is_none_or(|until| until.holds(entry.sequence, entry.at)));
            let is_last = entries.len() < read;
            if let Some((sequence, payment, what)) = first_breach(&self.books, &located.batch) {
                let place = Some(position(&located));
                let sequence = Some(sequence);
                return Ok(Some(Finding { what, place, sequence, payment }));
            }
            self.bytes += located.bytes;
            self.books.apply(located.batch);
            let (segment, segments) = reader.segments();
            progress.tell((segment, segments), || {
                let entries = self.books.position().sequence;
                format!("segment {segment} of {segments}, {entries} entries")
            });
            if is_last {
                break;
            }
        }
        Ok(None)
    }

    /// Counts everything anew from the payments' histories and compares it with what is kept.
    fn recount(&mut self, progress: &Progress) {
        const SLICE: usize = 4096;
        let mut recount = Recount::begin(&self.books);
        while recount.proceed(&self.books, SLICE) {
            progress.tell((1, 1), || "counting the books anew".into());
        }
        self.checks = recount.finish().checks;
        let failures = self.checks.iter().flat_map(|check| &check.failures);
        self.findings = failures.map(Finding::of).collect();
    }
}

/// The first entry of the batch that may not follow what is on the books, and why.
fn first_breach(books: &Books, batch: &Batch) -> Option<(Sequence, Option<PaymentId>, String)> {
    let refused = |breach: &Breach| format!("the rules refuse the entry: {breach}");
    batch.entries.iter().find_map(|entry| match &entry.record {
        Record::Opened { .. } | Record::Sealed | Record::Stray(_) => None,
        Record::Access(record) => {
            let breach = books.check_access(record).err()?;
            Some((entry.sequence, None, refused(&breach)))
        }
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

    fn of_lost_end(snapshot: &Comparison, end: Sequence) -> Self {
        let what = format!(
            "the snapshot {} says that entries through {} were acknowledged, and the journal ends with entry {end}",
            snapshot.file.display(),
            snapshot.sequence
        );
        Self { what, place: None, sequence: Some(end.saturating_add(1)), payment: None }
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

    pub(super) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "file": self.place.as_ref().map(|place| place.file.display().to_string()),
            "offset": self.place.as_ref().map(|place| place.offset),
            "sequence": self.sequence,
            "paymentId": self.payment.map(|payment| payment.to_string()),
        })
    }

    /// Damage as the journal tells it.
    fn to_error(&self) -> JournalError {
        let nowhere = || Position { file: "".into(), offset: 0 };
        let Position { file, offset } = self.place.clone().unwrap_or_else(nowhere);
        let sequence = self.sequence.unwrap_or_default();
        JournalError::Damaged { file, offset, sequence, what: self.what.as_str().into() }
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

/// A bar on the terminal that says how far the work is; nothing if nobody looks. Gone when dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(doing: &'static str) -> Self {
        let bar = ProgressBar::new(1).with_prefix(doing);
        Self(match ProgressStyle::with_template("{prefix}: [{bar:30}] {msg}") {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(_) => bar,
        })
    }

    /// `done` of `all` parts of the work are done, or are about to be.
    pub(super) fn tell(&self, (done, all): (u64, u64), line: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_length(all);
            self.0.set_position(done);
            self.0.set_message(line());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
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
            form: crate::domain::payment::Form::default(),
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

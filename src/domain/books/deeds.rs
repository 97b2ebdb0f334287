//! Entries that are kept whole: who may come in, what admins did, and money of no payment.

use super::{Books, Breach};
use crate::domain::{
    access::{Access, AccessRecord, Deed},
    entry::{Entry, Record, Stray},
    event::CaptureMode,
    id::Sequence,
};

/// How many strays are remembered, to know one that is told again.
const STRAYS_KEPT: usize = 1000;

impl Books {
    /// Makes an entry that is kept whole part of the books.
    pub(super) fn keep(&mut self, entry: Entry) {
        match &entry.record {
            Record::Stray(stray) => {
                self.strays.push_back(stray.clone());
                if self.strays.len() > STRAYS_KEPT {
                    self.strays.pop_front();
                }
            }
            Record::Access(record) => {
                self.access.apply(record, entry.at);
                self.deeds.push(entry.sequence);
            }
            Record::Webhook(_) => self.deeds.push(entry.sequence),
            Record::Opened { .. } | Record::Sealed | Record::Payment(_) => {}
        }
        self.kept.insert(entry.sequence, entry);
    }

    /// Whether `record` may be written next.
    ///
    /// # Errors
    /// [`Breach::Access`] with what forbids it.
    pub fn check_access(&self, record: &AccessRecord) -> Result<(), Breach> {
        Ok(self.access.check(record)?)
    }

    /// Who may come in.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Whether this is one of the entries that are kept whole.
    #[must_use]
    pub fn keeps(&self, entry: &Entry) -> bool {
        self.kept.get(&entry.sequence) == Some(entry)
    }

    /// What admins did, newest first, before entry `before`.
    pub fn deeds(&self, before: Sequence) -> impl Iterator<Item = Deed> + '_ {
        let end = self.deeds.partition_point(|sequence| *sequence < before);
        let newest_first = self.deeds.range(0..end).rev();
        newest_first.filter_map(|sequence| self.deed(*sequence))
    }

    fn deed(&self, sequence: Sequence) -> Option<Deed> {
        let Some(Entry { at, record, .. }) = self.kept.get(&sequence) else {
            let (history, step) = self.entries.step(&self.payments, sequence)?;
            let holds = history.details.capture == CaptureMode::Manual;
            let action = format!("payment {}", step.event.happened(holds));
            let (at, actor) = (step.at, step.actor.clone());
            let subject = history.details.id.to_string();
            return Some(Deed { sequence, at, actor, action, subject });
        };
        let (actor, action, subject) = match record {
            Record::Access(AccessRecord { actor, event }) => {
                let (action, subject) = event.in_words();
                (actor, action.to_owned(), subject)
            }
            Record::Webhook(record) => {
                let endpoint = record.event.endpoint().map(|id| id.to_string());
                let action = record.event.name().replace('_', " ");
                (&record.actor, action, endpoint.unwrap_or_default())
            }
            _ => return None,
        };
        Some(Deed { sequence, at: *at, actor: actor.clone(), action, subject })
    }

    /// Whether a provider told of this money before, as far as that is remembered.
    #[must_use]
    pub fn knows_stray(&self, stray: &Stray) -> bool {
        self.strays.iter().any(|known| {
            known.provider == stray.provider
                && (known.event == stray.event
                    || (&known.reference, &known.what) == (&stray.reference, &stray.what))
        })
    }
}

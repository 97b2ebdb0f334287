//! Proving a snapshot: whether it says what the journal says.

use super::{Snapshot, contents::Kind, file_name, list};
use crate::{
    domain::{
        books::{Books, Historian, Step},
        id::{PaymentId, Sequence},
    },
    journal::{JournalError, buffer::bytes, disk::Source, folders::Folders},
};
use std::path::PathBuf;

/// A snapshot held against the books that the journal makes.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Its file.
    pub file: PathBuf,
    /// Through which entry it goes.
    pub sequence: Sequence,
    /// How many payments were compared.
    pub payments: u64,
    /// The first thing it says otherwise than the journal, or what is damaged.
    pub difference: Option<Difference>,
}

/// Holds every snapshot against `books`, which were folded from the journal alone and go at least as far.
pub fn compare(folders: &Folders, books: &Books) -> Result<Vec<Comparison>, JournalError> {
    let disk = &*folders.snapshots;
    let of = |sequence| {
        let name = file_name(sequence);
        let mut comparison =
            Comparison { file: disk.path(&name), sequence, payments: 0, difference: None };
        let compared = Snapshot::open(disk, name)
            .map_err(Difference::from)
            .and_then(|snapshot| snapshot.compare(books, &mut comparison.payments));
        comparison.difference = compared.err();
        comparison
    };
    let compared: Vec<Comparison> = list(folders)?.into_iter().map(of).collect();
    // A server that runs removes one when it has made another.
    let still_there = list(folders)?;
    Ok(compared.into_iter().filter(|it| still_there.contains(&it.sequence)).collect())
}

/// What a snapshot says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// For a person.
    pub what: String,
    /// The payment and the entry that it shows at, if it is about one.
    pub at: Option<(PaymentId, Sequence)>,
}

impl From<String> for Difference {
    fn from(what: String) -> Self {
        Self { what, at: None }
    }
}

impl Snapshot<'_> {
    fn compare(&self, books: &Books, payments: &mut u64) -> Result<(), Difference> {
        let position = self.contents.position;
        if books.block_hash(position.sequence) != Some(position.head) {
            return Err("the journal's block at its last entry has another hash".to_owned().into());
        }
        let mut historian = Historian::default();
        for part in &self.contents.parts {
            match part.kind {
                Kind::Payments => {
                    self.payments_of(part, Source::Device, |id, entries, _| {
                        let history = historian.history(entries)?;
                        *payments += 1;
                        self.compare_steps(books, id, history.steps())
                    })?;
                }
                // What endpoints had got by then is no longer known; it is no money.
                Kind::Endpoints => {
                    drop(self.endpoints_of(part, Source::Device)?);
                }
                Kind::Kept => {
                    let kept = self.kept_of(part, Source::Device)?;
                    if let Some(other) = kept.iter().find(|entry| !books.keeps(entry)) {
                        let sequence = other.sequence;
                        return Err(format!("entry {sequence} is not the journal's").into());
                    }
                }
                Kind::Blocks => {
                    let blocks = self.blocks_of(part, Source::Device)?;
                    let differs =
                        |(first, hash): &(Sequence, _)| books.block_hash(*first) != Some(*hash);
                    if let Some((first, _)) = blocks.into_iter().find(differs) {
                        let what = format!("the journal's block at entry {first} has another hash");
                        return Err(what.into());
                    }
                }
            }
        }
        let begun = |step: Option<&Step>| step.is_some_and(|it| it.sequence <= position.sequence);
        let all = books.histories(0).take_while(|history| begun(history.steps().first())).count();
        match bytes(all) == *payments {
            true => Ok(()),
            false => Err(format!("it holds {payments} payments, the journal {all}").into()),
        }
    }

    fn compare_steps(
        &self,
        books: &Books,
        id: PaymentId,
        steps: &[Step],
    ) -> Result<(), Difference> {
        let through = self.contents.position.sequence;
        let journal = books.history(id).map(|history| history.steps()).unwrap_or_default();
        let journal = journal.iter().take_while(|step| step.sequence <= through);
        let mut snapshot = steps.iter();
        for step in journal {
            if snapshot.next() != Some(step) {
                let what = format!("{id} is not as the journal's entry {} left it", step.sequence);
                return Err(Difference { what, at: Some((id, step.sequence)) });
            }
        }
        match snapshot.next() {
            None => Ok(()),
            Some(step) => {
                let what = format!("entry {} of {id} is not the journal's", step.sequence);
                Err(Difference { what, at: Some((id, step.sequence)) })
            }
        }
    }
}

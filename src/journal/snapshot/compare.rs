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
    /// The first thing it says otherwise, with the payment and the entry if it is about one.
    pub difference: Option<(String, Option<(PaymentId, Sequence)>)>,
}

/// Holds every snapshot against `books`, which were folded from the journal alone and go at least as far.
pub fn compare(folders: &Folders, books: &Books) -> Result<Vec<Comparison>, JournalError> {
    let disk = &*folders.snapshots;
    let of = |sequence| {
        let name = file_name(sequence);
        let mut comparison =
            Comparison { file: disk.path(&name), sequence, payments: 0, difference: None };
        let compared = Snapshot::open(disk, name)
            .map_err(|why| (why, None))
            .and_then(|snapshot| snapshot.compare(books, &mut comparison.payments));
        comparison.difference = compared.err();
        comparison
    };
    Ok(list(folders)?.into_iter().map(of).collect())
}

type Difference = (String, Option<(PaymentId, Sequence)>);

impl Snapshot<'_> {
    fn compare(&self, books: &Books, payments: &mut u64) -> Result<(), Difference> {
        let position = self.contents.position;
        if books.block_hash(position.sequence) != Some(position.head) {
            return Err(("the journal's block at its last entry has another hash".into(), None));
        }
        let mut historian = Historian::default();
        for part in &self.contents.parts {
            match part.kind {
                Kind::Payments => {
                    let plain =
                        self.payments_of(part, Source::Device).map_err(|why| (why, None))?;
                    for entries in plain {
                        let history = historian.history(entries).map_err(|why| (why, None))?;
                        self.compare_steps(books, history.details.id, history.steps())?;
                        *payments += 1;
                    }
                }
                // What endpoints had got by then is no longer known; it is no money.
                Kind::Endpoints => {
                    drop(self.endpoints_of(part, Source::Device).map_err(|why| (why, None))?);
                }
                Kind::Blocks => {
                    let blocks = self.blocks_of(part, Source::Device).map_err(|why| (why, None))?;
                    let differs =
                        |(first, hash): &(Sequence, _)| books.block_hash(*first) != Some(*hash);
                    if let Some((first, _)) = blocks.into_iter().find(differs) {
                        let what = format!("the journal's block at entry {first} has another hash");
                        return Err((what, None));
                    }
                }
            }
        }
        let begun = |step: Option<&Step>| step.is_some_and(|it| it.sequence <= position.sequence);
        let all = books.histories(0).take_while(|history| begun(history.steps().first())).count();
        match bytes(all) == *payments {
            true => Ok(()),
            false => Err((format!("it holds {payments} payments, the journal {all}"), None)),
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
                return Err((what, Some((id, step.sequence))));
            }
        }
        match snapshot.next() {
            None => Ok(()),
            Some(step) => {
                let what = format!("entry {} of {id} is not the journal's", step.sequence);
                Err((what, Some((id, step.sequence))))
            }
        }
    }
}

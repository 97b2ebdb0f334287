//! Starting from a snapshot: the newest one that is whole, its parts in parallel.

use super::{
    Snapshot,
    contents::{Contents, Kind, Part},
    file_name, list,
    part::Block,
};
use crate::{
    domain::{
        books::{Books, Historian, History},
        id::Sequence,
    },
    journal::{
        JournalError,
        buffer::index,
        disk::{Disk, Source},
        folders::Folders,
    },
};
use std::{
    collections::HashSet,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The books of the newest good snapshot.
pub struct Loaded {
    /// Empty if there is no good snapshot: then the journal tells it all.
    pub books: Books,
    /// The newer ones that are damaged.
    pub refused: Vec<Refused>,
}

/// A snapshot that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Through which entry it was to go.
    pub sequence: Sequence,
    /// Where it is.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Loads the newest snapshot that goes no further than `through`, is whole, and whose every entry the rules admit.
/// Changes nothing.
///
/// # Errors
/// The folder cannot be read, or the journal no longer holds segments that the snapshot was made of.
pub fn load(folders: &Folders, through: Sequence) -> Result<Loaded, JournalError> {
    let mut refused = Vec::new();
    for sequence in list(folders)?.into_iter().filter(|sequence| *sequence <= through) {
        let name = file_name(sequence);
        let loaded = Snapshot::open(&*folders.snapshots, name.clone())
            .and_then(|snapshot| Ok((snapshot.books()?, snapshot.contents)));
        match loaded {
            Ok((books, contents)) => {
                check_segments(folders, &contents)?;
                return Ok(Loaded { books, refused });
            }
            Err(why) => {
                let file = folders.snapshots.path(&name);
                tracing::error!(
                    file = %file.display(), %why,
                    "a snapshot is damaged and passed over: no money is lost, the journal is read from further back; \
                     check the disk"
                );
                refused.push(Refused { sequence, file, why });
            }
        }
    }
    Ok(Loaded { books: Books::default(), refused })
}

/// Renames a damaged snapshot, so that it never counts as one again and can be looked at.
pub fn set_aside(
    folders: &Folders,
    sequence: Sequence,
    why: String,
) -> Result<Refused, JournalError> {
    let (disk, name) = (&folders.snapshots, file_name(sequence));
    let aside = format!("{name}.damaged");
    disk.rename(&name, &aside)
        .and_then(|()| disk.sync_folder())
        .map_err(JournalError::io("rename", disk.path(&name)))?;
    let file = disk.path(&aside);
    tracing::error!(file = %file.display(), %why, "a damaged snapshot was set aside; check the disk");
    Ok(Refused { sequence, file, why })
}

/// Reads a snapshot back from the device. What was copied from `previous`, which was judged in its time, must have the
/// same bytes; all else is judged, entry by entry.
pub(super) fn verify(
    disk: &dyn Disk,
    name: String,
    written: &Contents,
    previous: Option<&Contents>,
    rest: &dyn Fn(),
) -> Result<(), String> {
    let snapshot = Snapshot::open(disk, name)?;
    if snapshot.contents != *written {
        return Err("its contents are not what was written".into());
    }
    let copied: HashSet<[u8; 32]> =
        previous.iter().flat_map(|it| &it.parts).map(|part| part.hash).collect();
    for part in &snapshot.contents.parts {
        rest();
        match part.kind {
            _ if copied.contains(&part.hash) => drop(snapshot.bytes_of(part, Source::Device)?),
            Kind::Payments => drop(snapshot.histories_of(part, Source::Device, rest)?),
            Kind::Blocks => drop(snapshot.blocks_of(part, Source::Device)?),
            Kind::Endpoints => drop(snapshot.endpoints_of(part, Source::Device)?),
            Kind::Kept => drop(snapshot.kept_of(part, Source::Device)?),
        }
    }
    Ok(())
}

/// Every segment that went into the snapshot must still be there: it is the audit trail.
fn check_segments(folders: &Folders, contents: &Contents) -> Result<(), JournalError> {
    let segments = folders.segments()?;
    match contents.segments.iter().find(|first| !segments.contains_key(first)) {
        None => Ok(()),
        Some(missing) => Err(JournalError::Damaged {
            file: folders.journal.path(&crate::journal::segment::file_name(*missing)),
            offset: 0,
            sequence: *missing,
            what: "the segment is missing, here and in the archive".into(),
        }),
    }
}

impl Snapshot<'_> {
    /// The books as the snapshot holds them.
    fn books(&self) -> Result<Books, String> {
        let (blocks, histories) = self.read_all()?;
        let endpoints = self.endpoints(Source::Cache)?;
        let kept = self.all_kept(Source::Cache)?;
        let books = Books::restore(self.contents.position, blocks, histories, endpoints, kept)?;
        match *books.turnover() == self.contents.turnover {
            true => Ok(books),
            false => Err("its payments do not add up to its debits and credits".into()),
        }
    }

    /// All payments and blocks, read by as many threads as there are cores.
    fn read_all(&self) -> Result<(Vec<Block>, Vec<History>), String> {
        let parts = self.contents.parts.iter();
        let in_bulk = |part: &&Part| matches!(part.kind, Kind::Payments | Kind::Blocks);
        let parts: Vec<&Part> = parts.filter(in_bulk).collect();
        let next = AtomicUsize::new(0);
        let read: Mutex<Vec<(usize, Result<PartRead, String>)>> = Mutex::default();
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        thread::scope(|scope| {
            for _ in 0..threads.min(parts.len()) {
                scope.spawn(|| {
                    while let number = next.fetch_add(1, Ordering::Relaxed)
                        && let Some(part) = parts.get(number)
                    {
                        let content = self.read_part(part);
                        read.lock().unwrap_or_else(PoisonError::into_inner).push((number, content));
                    }
                });
            }
        });
        let mut read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        read.sort_unstable_by_key(|(number, _)| *number);
        if read.len() != parts.len() {
            return Err("a thread that read it died".into());
        }
        let mut blocks = Vec::new();
        let mut histories = Vec::new();
        histories.reserve_exact(index(self.contents.payments));
        for (_, part) in read {
            match part? {
                PartRead::Blocks(part) => blocks.extend(part),
                PartRead::Payments(part) => histories.extend(part),
            }
        }
        Ok((blocks, histories))
    }

    fn read_part(&self, part: &Part) -> Result<PartRead, String> {
        Ok(match part.kind {
            Kind::Payments => PartRead::Payments(self.histories_of(part, Source::Cache, &|| ())?),
            Kind::Blocks | Kind::Endpoints | Kind::Kept => {
                PartRead::Blocks(self.blocks_of(part, Source::Cache)?)
            }
        })
    }

    /// In the order in which the payments came onto the books.
    fn histories_of(
        &self,
        part: &Part,
        source: Source,
        rest: &dyn Fn(),
    ) -> Result<Vec<History>, String> {
        let mut historian = Historian::default();
        let mut histories = Vec::with_capacity(index(part.items.min(part.plain)));
        self.payments_of(part, source, |_, entries, _| {
            rest();
            histories.push(historian.history(entries)?);
            Ok::<_, String>(())
        })?;
        histories.sort_by_key(|history| history.steps().first().map(|step| step.sequence));
        Ok(histories)
    }
}

enum PartRead {
    Payments(Vec<History>),
    Blocks(Vec<Block>),
}

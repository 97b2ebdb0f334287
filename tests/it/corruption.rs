//! Damage to a data folder, case by case: every flipped bit, every cut, every block that is zeroed, doubled, swapped,
//! stale or written to the wrong place. Each is *refused* (exit code 3, naming the file, nothing changed), or the start
//! comes to the same books and answers, byte for byte. None is silently wrong.
//!
//! Every bit of a young journal, of a snapshot, of the archive and of the watermark is flipped, where it carries
//! something; of the filling (zeros, and the text that only fills segments) one bit in 64 bytes, and one bit a byte where
//! what reads it is the same. `CORRUPTION=all` flips every bit of every file, and takes every pair of blocks of a larger
//! folder.

mod folder;

use crate::wait::give_way;
use folder::{Ended, Folder, Start, folders, start, truth};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use strongroom::{
    commands::exit_code,
    domain::{books::Books, entry::Hash},
    journal::{
        JournalError, Reader,
        disk::{Disk, simulated::SimulatedDisk},
        snapshot,
    },
};

const BLOCK: usize = 4096;

/// What happens to a folder. Files are numbers into its list, blocks are numbers within a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flipped {
        file: usize,
        bit: usize,
    },
    Cut {
        file: usize,
        length: usize,
    },
    Gone {
        file: usize,
    },
    Filled {
        place: Place,
        with: u8,
    },
    /// The second place holds what belongs to the first.
    Doubled {
        from: Place,
        to: Place,
    },
    Swapped(Place, Place),
    /// The write of the first place went to the second, and the first is as it was before that write.
    Misdirected {
        from: Place,
        to: Place,
    },
    /// The place holds what it held earlier: a number into the folder's past.
    Stale {
        place: Place,
        past: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    file: usize,
    block: usize,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// No start: exit code 3, nothing changed.
    Refused,
    /// The start set bytes aside behind all that was acknowledged.
    TailSetAside,
    /// The start passed a damaged snapshot over, and said so.
    SnapshotPassedOver,
    /// The start did not read it, `strongroom verify` and the reconciliation find it.
    FoundByReadingAll,
    /// It carries nothing: reading all of it from the first byte comes to the same.
    Harmless,
    /// The bytes are the same.
    Same,
}

/// A folder that is damaged in many ways, one after the other.
struct Subject {
    folder: Folder,
    files: Vec<(String, Vec<u8>)>,
    /// The books that each snapshot holds, and the empty ones, by their last entry: a start from any of them and the
    /// journal behind it comes to the truth.
    starts: BTreeMap<u64, Hash>,
}

impl Subject {
    fn new(folder: Folder) -> Self {
        let names = folder.disk.list().unwrap().into_iter();
        let names = names.filter(|name| !name.starts_with("ahead-"));
        let files = names.map(|name| (name.clone(), folder.disk.bytes_of(&name).unwrap()));
        let files: Vec<_> = files.collect();
        let (disk, mut starts) = (folder.disk.copy(), BTreeMap::new());
        let mut snapshots = files.iter().map(|file| &file.0).filter(|name| name.ends_with(".snap"));
        loop {
            let books = snapshot::load(&folders(&disk), u64::MAX).unwrap().books;
            starts.insert(books.position().sequence, books.digest());
            assert!(start(&disk.copy()).unwrap().truth == folder.truth);
            match snapshots.next_back() {
                Some(newest) => disk.remove(newest).unwrap(),
                None => return Self { files, folder, starts },
            }
        }
    }

    fn of_kind(&self, ending: &str) -> impl Iterator<Item = usize> {
        let files = self.files.iter().enumerate();
        files.filter(move |(_, (name, _))| name.ends_with(ending)).map(|(number, _)| number)
    }

    fn block(&self, place: Place) -> &[u8] {
        self.files[place.file].1.chunks(BLOCK).nth(place.block).unwrap()
    }

    fn places(&self) -> Vec<Place> {
        let of = |(file, (_, content)): (usize, &(String, Vec<u8>))| {
            (0..content.len().div_ceil(BLOCK)).map(move |block| Place { file, block })
        };
        self.files.iter().enumerate().flat_map(of).collect()
    }

    /// The files that are changed, with their new contents; `None`: removed.
    fn changed(&self, damage: Damage) -> Vec<(usize, Option<Vec<u8>>)> {
        let over = |place: Place, with: &[u8]| {
            let mut content = self.files[place.file].1.clone();
            let start = place.block * BLOCK;
            let length = with.len().min(content.len() - start);
            content[start..start + length].copy_from_slice(&with[..length]);
            content
        };
        let both = |a: Place, with_a: &[u8], b: Place, with_b: &[u8]| {
            if a.file != b.file {
                return vec![(a.file, Some(over(a, with_a))), (b.file, Some(over(b, with_b)))];
            }
            let mut content = over(a, with_a);
            let start = b.block * BLOCK;
            let length = with_b.len().min(content.len() - start);
            content[start..start + length].copy_from_slice(&with_b[..length]);
            vec![(a.file, Some(content))]
        };
        match damage {
            Damage::Flipped { file, bit } => {
                let mut content = self.files[file].1.clone();
                content[bit / 8] ^= 1 << (bit % 8);
                vec![(file, Some(content))]
            }
            Damage::Cut { file, length } => vec![(file, Some(self.files[file].1[..length].into()))],
            Damage::Gone { file } => vec![(file, None)],
            Damage::Filled { place, with } => vec![(place.file, Some(over(place, &[with; BLOCK])))],
            Damage::Doubled { from, to } => vec![(to.file, Some(over(to, self.block(from))))],
            Damage::Swapped(a, b) => both(a, self.block(b), b, self.block(a)),
            Damage::Misdirected { from, to } => both(from, &[0; BLOCK], to, self.block(from)),
            Damage::Stale { place, past } => {
                let before = self.folder.past[past].1.chunks(BLOCK).nth(place.block).unwrap();
                vec![(place.file, Some(over(place, before)))]
            }
        }
    }

    /// What becomes of the damage; panics if it is silently wrong.
    fn judge(&self, damage: Damage) -> Outcome {
        let changed = self.changed(damage);
        if changed.iter().all(|(file, content)| content.as_ref() == Some(&self.files[*file].1)) {
            return Outcome::Same;
        }
        let disk = self.folder.disk.copy();
        for (file, content) in &changed {
            match content {
                Some(content) => disk.put(&self.files[*file].0, content),
                None => disk.remove(&self.files[*file].0).unwrap(),
            }
        }
        match damage {
            Damage::Flipped { file, .. } | Damage::Cut { file, .. } if self.is(file, ".snap") => {
                self.load(&disk, damage)
            }
            // Most of them need not be started from: no start reads what is in the archive.
            Damage::Flipped { file, bit: at } | Damage::Cut { file, length: at }
                if self.is(file, ".zst") && !at.is_multiple_of(64) =>
            {
                self.read_all(&disk, damage)
            }
            _ => self.start(&disk, damage),
        }
    }

    fn is(&self, file: usize, ending: &str) -> bool {
        self.files[file].0.ends_with(ending)
    }

    fn start(&self, disk: &SimulatedDisk, damage: Damage) -> Outcome {
        let started = disk.copy();
        let calls = started.calls();
        match start(&started) {
            Err(error) => {
                assert_eq!(started.calls(), calls, "{damage:?}: a refused start changed something");
                self.check_refusal(damage, error);
                Outcome::Refused
            }
            Ok(Start { truth, torn, damaged_snapshots }) => {
                assert!(truth == self.folder.truth, "{damage:?}: silently wrong");
                match (torn, damaged_snapshots) {
                    (true, _) => Outcome::TailSetAside,
                    (false, 1..) => Outcome::SnapshotPassedOver,
                    (false, 0) => self.read_all(disk, damage),
                }
            }
        }
    }

    /// What starts make of a damaged snapshot, the newer ones gone: what they make of the folder without it, which
    /// [`Subject::new`] has seen to come to the truth. In a folder with a newer one, only reading all finds it.
    fn load(&self, disk: &SimulatedDisk, damage: Damage) -> Outcome {
        let file = file_of(damage);
        let newer: Vec<_> = self.of_kind(".snap").filter(|other| *other > file).collect();
        newer.iter().for_each(|newer| disk.remove(&self.files[*newer].0).unwrap());
        let loaded = snapshot::load(&folders(disk), u64::MAX).unwrap();
        let position = loaded.books.position();
        assert!(self.starts.get(&position.sequence) == Some(&loaded.books.digest()), "{damage:?}");
        match (loaded.refused.len(), newer.len()) {
            (0, _) => self.read_all(disk, damage),
            (_, 0) => Outcome::SnapshotPassedOver,
            (_, _) => Outcome::FoundByReadingAll,
        }
    }

    /// A refusal is damage with its place: the file, and a byte that is not behind the first changed one.
    fn check_refusal(&self, damage: Damage, error: JournalError) {
        let JournalError::Damaged { file, offset, .. } = &error else {
            panic!("{damage:?}: {error}");
        };
        if let Damage::Flipped { file: number, bit } = damage {
            assert!(file.ends_with(&self.files[number].0), "{damage:?}: {error}");
            assert!(usize::try_from(*offset).unwrap() <= bit / 8, "{damage:?}: {error}");
        }
        assert_eq!(exit_code(&error.into()), 3);
    }

    /// What `strongroom verify` and the reconciliation make of it: all is read from the first byte.
    fn read_all(&self, disk: &SimulatedDisk, damage: Damage) -> Outcome {
        let folders = folders(disk);
        let mut books = Books::default();
        let read = Reader::open(&folders).and_then(|reader| {
            for located in reader.expect("a journal") {
                books.replay(&located?.batch).expect("batches that follow");
            }
            snapshot::compare(&folders, &books)
        });
        match read {
            Err(JournalError::Damaged { .. }) => Outcome::FoundByReadingAll,
            Err(error) => panic!("{damage:?}: {error}"),
            Ok(compared) if compared.iter().any(|it| it.difference.is_some()) => {
                Outcome::FoundByReadingAll
            }
            Ok(_) => {
                assert!(truth(&books) == self.folder.truth, "{damage:?}: silently wrong");
                Outcome::Harmless
            }
        }
    }

    /// Judges them all, prints how many came to what, and gives it back by file ending.
    fn sweep(&self, what: &str, damages: &[Damage]) -> BTreeMap<(String, Outcome), usize> {
        let (next, counts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let work = || {
            let mut own: BTreeMap<(String, Outcome), usize> = BTreeMap::new();
            while let Some(damage) = damages.get(next.fetch_add(1, Ordering::Relaxed)) {
                let file = &self.files[file_of(*damage)].0;
                let kind = file.split_once('.').map_or(&**file, |(_, ending)| ending);
                *own.entry((kind.to_owned(), self.judge(*damage))).or_default() += 1;
            }
            for (key, count) in own {
                *counts.lock().unwrap().entry(key).or_default() += count;
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .for_each(|worker| worker.join().expect("a damage that is silently wrong"));
        });
        let counts = counts.into_inner().unwrap();
        println!("{what}: {} cases", damages.len());
        for ((kind, outcome), count) in &counts {
            println!("    {kind:<10} {outcome:?}: {count}");
        }
        counts
    }
}

fn file_of(damage: Damage) -> usize {
    match damage {
        Damage::Flipped { file, .. } | Damage::Cut { file, .. } | Damage::Gone { file } => file,
        Damage::Filled { place, .. } | Damage::Stale { place, .. } => place.file,
        Damage::Doubled { to, .. } | Damage::Misdirected { to, .. } => to.file,
        Damage::Swapped(a, _) => a.file,
    }
}

fn everything() -> bool {
    std::env::var("CORRUPTION").is_ok_and(|what| what == "all")
}

/// Which bits of a byte are flipped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bits {
    All,
    /// One, the next byte's the next.
    OnePerByte,
}

/// The bits of every byte; of a line of 64 bytes that are all alike one in all, unless `everything` is asked for.
fn bits(subject: &Subject, file: usize, bits: Bits) -> Vec<Damage> {
    let mut flipped = Vec::new();
    for (number, line) in subject.files[file].1.chunks(64).enumerate() {
        let filling = line.len() == 64 && line.iter().all(|byte| *byte == line[0]);
        let (first, count) = (number * 512, line.len() * 8);
        match (filling, bits) {
            _ if everything() => flipped.extend(first..first + count),
            (true, _) => flipped.push(first + number * 83 % 512),
            (false, Bits::All) => flipped.extend(first..first + count),
            (false, Bits::OnePerByte) => flipped.extend((first..first + count).step_by(9)),
        }
    }
    flipped.into_iter().map(|bit| Damage::Flipped { file, bit }).collect()
}

/// Every length; of a segment, one in 127, unless `everything` is asked for.
fn cuts(subject: &Subject, file: usize) -> Vec<Damage> {
    let (name, content) = &subject.files[file];
    let step = if name.ends_with(".seg") && !everything() { 127 } else { 1 };
    (0..content.len()).step_by(step).map(|length| Damage::Cut { file, length }).collect()
}

#[test]
fn every_flipped_bit_of_a_young_journal_is_refused() {
    give_way();
    for ended in [Ended::Killed, Ended::Closed] {
        let subject = Subject::new(Folder::build(1, 1, ended));
        let all = 0..subject.files.len();
        let damages: Vec<_> = all
            .flat_map(|file| match subject.is(file, ".snap") {
                true => bits(&subject, file, Bits::OnePerByte),
                false => bits(&subject, file, Bits::All),
            })
            .collect();
        let counts = subject.sweep(&format!("flipped bits of a young folder, {ended:?}"), &damages);
        let of = |kind: &str, outcome| counts.get(&(kind.into(), outcome)).copied().unwrap_or(0);
        assert!(of("seg", Outcome::Refused) > 10_000);
        assert_eq!(of("seg", Outcome::Harmless) + of("seg", Outcome::FoundByReadingAll), 0);
        assert_eq!(of("watermark", Outcome::Refused), 512);
    }
}

#[test]
fn every_flipped_bit_of_snapshots_and_archive_is_found_or_harmless() {
    give_way();
    let subject = Subject::new(Folder::build(3, 1, Ended::Killed));
    let newest = subject.of_kind(".snap").max();
    let all = 0..subject.files.len();
    let damages: Vec<_> = all
        .flat_map(|file| {
            let is_older = subject.is(file, ".snap") && Some(file) != newest;
            match is_older || subject.is(file, ".seg") {
                true => bits(&subject, file, Bits::OnePerByte),
                false => bits(&subject, file, Bits::All),
            }
        })
        .collect();
    let counts = subject.sweep("flipped bits of a grown folder", &damages);
    let of = |kind: &str, outcome| counts.get(&(kind.into(), outcome)).copied().unwrap_or(0);
    assert!(of("seg", Outcome::Refused) > 1_000);
    assert_eq!(of("seg", Outcome::Harmless) + of("seg", Outcome::FoundByReadingAll), 0);
    assert!(of("snap", Outcome::SnapshotPassedOver) > 1_000);
    assert_eq!(of("snap", Outcome::Harmless), 0);
    assert!(of("seg.zst", Outcome::FoundByReadingAll) > 1_000);
}

#[test]
fn every_cut_and_every_missing_file_is_found_or_harmless() {
    give_way();
    let ways: &[Ended] =
        if everything() { &[Ended::Killed, Ended::Closed] } else { &[Ended::Killed] };
    for ended in ways {
        let subject = Subject::new(Folder::build(3, 1, *ended));
        let gone = (0..subject.files.len()).map(|file| Damage::Gone { file });
        let cut = (0..subject.files.len()).flat_map(|file| cuts(&subject, file));
        let damages: Vec<_> = gone.chain(cut).collect();
        let counts = subject.sweep(&format!("cuts, {ended:?}"), &damages);
        let only =
            |kind: &str| counts.keys().filter(|it| it.0 == kind).map(|it| it.1).collect::<Vec<_>>();
        assert_eq!(only("seg"), [Outcome::Refused]);
        // Without it, or with nothing in it, nothing is said.
        assert_eq!(only("watermark"), [Outcome::Refused, Outcome::Harmless]);
        assert_eq!(counts[&("watermark".to_owned(), Outcome::Harmless)], 2);
    }
}

#[test]
fn every_block_that_is_wiped_stale_doubled_swapped_or_misplaced_is_found_or_harmless() {
    give_way();
    let (segments, payments) = if everything() { (6, 6) } else { (4, 2) };
    let subject = Subject::new(Folder::build(segments, payments, Ended::Killed));
    let places = subject.places();
    let filled = |with| places.iter().map(move |place| Damage::Filled { place: *place, with });
    let mut damages: Vec<_> = filled(0).chain(filled(0xff)).collect();
    for (past, (name, content)) in subject.folder.past.iter().enumerate() {
        for file in subject.of_kind(name) {
            let blocks = 0..content.len().min(subject.files[file].1.len()).div_ceil(BLOCK);
            damages
                .extend(blocks.map(|block| Damage::Stale { place: Place { file, block }, past }));
        }
    }
    let counts = subject.sweep("wiped and stale blocks", &damages);
    assert!(counts.keys().any(|it| it.1 == Outcome::Refused));
    let pairs = places.iter().flat_map(|a| places.iter().map(|b| (*a, *b)));
    let pairs = pairs.filter(|(a, b)| a != b && subject.block(*a) != subject.block(*b));
    let step = if everything() { 1 } else { 17 };
    let pairs = pairs.step_by(step).flat_map(|(from, to)| {
        [Damage::Doubled { from, to }, Damage::Swapped(from, to), Damage::Misdirected { from, to }]
    });
    subject.sweep("doubled, swapped and misdirected blocks", &pairs.collect::<Vec<_>>());
}

//! The rules of snapshots, on a simulated disk.

mod file;
mod odd;
mod real_disk;

use super::*;
use crate::{
    domain::{
        access::{AccessEvent, AccessRecord},
        books::Books,
        command::Command,
        entry::{Batch, PaymentRecord, Record},
        event::{CaptureMode, Details, Event, Evidence, Note, Outcome},
        id::PaymentId,
        idempotency::{Fingerprint, Key, Operation, Request},
        ledger,
        money::{Amount, Currency},
        payment::{self, Form, Payment},
        time::Timestamp,
    },
    journal::{
        Options, Reader, Recovered,
        disk::{
            Source,
            simulated::{Fault, SimulatedDisk},
        },
        new_file::NewFile,
        recover,
    },
};
use part::{Added, PartWriter};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::sync::Arc;
use uuid::Uuid;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_763_823_845_000 + millis)
}

fn on(disk: &SimulatedDisk) -> Folders {
    Folders::all_in(Arc::new(disk.clone()))
}

/// The books as a start finds them: from the newest good snapshot that goes no further than `through`, and the journal
/// behind it.
fn start(folders: &Folders, through: Sequence) -> Result<(Books, Recovered), JournalError> {
    let mut books = load(folders, through)?.books;
    let options =
        Options { segment_bytes: 64 * 1024, batch_bytes_max: 32 * 1024, software: "0.1.0".into() };
    let covered = books.position();
    let mut visit = |batch: &Batch| books.replay(batch);
    let recovered = recover(folders, options, at(1_000_000), covered, &mut visit)?;
    Ok((books, recovered))
}

/// Payments that come, change, and rest, as a journal and as books.
struct Shop {
    folders: Folders,
    books: Books,
    journal: Recovered,
    random: StdRng,
    now: u64,
}

impl Shop {
    fn open(folders: Folders, seed: u64) -> Self {
        let (books, journal) = start(&folders, Sequence::MAX).unwrap();
        Self { folders, books, journal, random: StdRng::seed_from_u64(seed), now: 0 }
    }

    /// Trades until that many entries were written.
    fn trade(&mut self, entries: u64) {
        let end = self.books.position().sequence + entries;
        while self.books.position().sequence < end {
            self.now += u64::from(self.random.random_range(0u8..5));
            let count = self.random.random_range(1..6);
            let mut records: Vec<Record> = Vec::new();
            for _ in 0..count {
                let record = self.record();
                let known = |other: &Record| matches!((other, &record), (Record::Payment(a), Some(b)) if a.payment == b.payment);
                if !records.iter().any(known) {
                    records.extend(record.map(Record::Payment));
                }
            }
            if self.random.random_bool(0.1) {
                let what = format!("something at {}", self.now);
                let event = AccessEvent::Asked(what.into());
                records.push(Record::Access(AccessRecord { actor: "admin/test".into(), event }));
            }
            if records.is_empty() {
                records.push(Record::Sealed);
            }
            let batch = self.journal.writer.append(records, at(self.now)).unwrap();
            self.books.replay(&batch).unwrap();
            // Or segments could not be changed this fast.
            self.journal.writer.settle();
        }
    }

    /// Something that may happen next to an old payment or a new one.
    fn record(&mut self) -> Option<PaymentRecord> {
        let count = u32::try_from(self.books.payment_count()).unwrap();
        let old = count > 0 && self.random.random_bool(0.4);
        let payment = match old {
            true => {
                let slot = self.random.random_range(0..count);
                self.books.histories(slot).next()?.payment()
            }
            false => Payment::pending(self.details(), None),
        };
        let approved = || Outcome::Approved { reference: "r".into() };
        let some = Amount::new(self.random.random_range(1..400));
        let out = payment.out().next().map(|attempt| attempt.sequence);
        let ask = |change| Command::Ask { provider: "outside".into(), change: Box::new(change) };
        let command = match (old, self.random.random_range(0..9)) {
            (false, 0) => Command::Initiate(payment.details.clone()),
            (false, kind) => Command::Submit {
                details: payment.details.clone(),
                outcome: (kind > 1).then(approved),
            },
            (true, 0..=2) if out.is_some() => {
                Command::Answer { attempt: out?, outcome: approved(), evidence: Evidence::LookUp }
            }
            (true, 6) => ask(Command::Capture(some)),
            (true, 7) => ask(Command::Refund { amount: some, reason: None }),
            (true, 8) => Command::Note(Note::Reviewed { what: "looked at".into() }),
            (true, 0) => Command::Settle(approved()),
            (true, 1) => Command::Capture(some),
            (true, 2) => Command::Void,
            (true, 3) => Command::Expire,
            (true, _) => Command::Refund { amount: some, reason: Some("a reason".into()) },
        };
        let event = payment::decide(&payment, command, at(self.now)).ok()?;
        let key = format!("{:032x}", self.random.random::<u128>());
        Some(PaymentRecord {
            payment: payment.details.id,
            version: payment.version + 1,
            actor: "north/test".into(),
            transaction: ledger::transaction(&payment.details, &event),
            event,
            request: Some(Request {
                key: Key::new(&key).unwrap(),
                fingerprint: Fingerprint::of("POST", "/", b"{}"),
                operation: Operation::Create,
            }),
            form: if self.now.is_multiple_of(2) { Form::First } else { Form::Second },
        })
    }

    fn details(&mut self) -> Arc<Details> {
        let mut pick = |names: &[&'static str]| names[self.random.random_range(0..names.len())];
        let (merchant, currency, customer) =
            (pick(&["north", "south"]), pick(&["EUR", "JPY", "KWD"]), pick(&["", "anna"]));
        // Mostly in the order of time, and not always: two threads make ids.
        let early = u128::from(self.random.random_range(0u8..20));
        let id = (u128::from(self.now) + 100 - early) << 80 | u128::from(self.random.next_u64());
        Arc::new(Details {
            id: PaymentId::new(Uuid::from_u128(id)),
            merchant: merchant.into(),
            amount: Amount::new(1000).unwrap(),
            currency: Currency::for_payment(currency).unwrap(),
            capture: [CaptureMode::Automatic, CaptureMode::Manual][self.random.random_range(0..2)],
            payment_method: "tok_visa".into(),
            customer: (!customer.is_empty()).then(|| customer.into()),
            description: Some("d".repeat(self.random.random_range(0..300)).into()),
            metadata: Box::default(),
            provider: "sandbox".into(),
            hold_ms: 50,
        })
    }

    fn take(&self) -> Option<Taken> {
        take(&self.folders, self.books.position().sequence, &|| ()).unwrap()
    }
}

/// A disk with a journal of several segments and two snapshots, the second one with a tail behind it.
fn disk_with_two_snapshots(seed: u64) -> (SimulatedDisk, Shop) {
    let disk = SimulatedDisk::default();
    let mut shop = Shop::open(on(&disk), seed);
    for entries in [120, 80] {
        shop.trade(entries);
        shop.take().unwrap();
    }
    shop.trade(40);
    (disk, shop)
}

#[test]
fn a_snapshot_and_its_tail_an_older_one_and_its_longer_tail_and_the_journal_alone_make_the_same_books()
 {
    for seed in 0..10 {
        let disk = SimulatedDisk::default();
        let mut shop = Shop::open(on(&disk), seed);
        for _ in 0..5 {
            let entries = shop.random.random_range(1..200);
            shop.trade(entries);
            if shop.random.random_bool(0.7) {
                shop.take();
            }
        }
        let snapshots = list(&shop.folders).unwrap();
        let mut ways: Vec<Sequence> = snapshots.clone();
        ways.push(0);
        let mut digests = Vec::new();
        for through in ways {
            let (books, recovered) = start(&on(&disk.copy()), through).unwrap();
            drop(recovered);
            digests.push(books.digest());
        }
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {snapshots:?}");
        assert_eq!(digests.len(), snapshots.len() + 1);
    }
}

#[test]
fn what_two_snapshots_cover_goes_to_the_archive_and_is_read_from_there() {
    let (disk, shop) = disk_with_two_snapshots(1);
    let names = disk.list().unwrap();
    let archived: Vec<_> = names.iter().filter(|name| name.ends_with(".seg.zst")).collect();
    assert!(!archived.is_empty(), "{names:?}");
    let older = list(&shop.folders).unwrap()[1];
    let kept = names.iter().filter_map(|name| crate::journal::segment::first_of(name));
    let first_kept = kept.min().unwrap();
    assert!(first_kept <= older + 1, "the older snapshot's tail is all there");
    let read = Reader::open(&on(&disk.copy())).unwrap().unwrap();
    let mut books = Books::default();
    for located in read {
        books.replay(&located.unwrap().batch).unwrap();
    }
    assert_eq!(books.digest(), shop.books.digest());
    assert_eq!(books.payment_count(), shop.books.payment_count());
}

#[test]
fn two_snapshots_are_kept_and_nothing_new_makes_none() {
    let (disk, mut shop) = disk_with_two_snapshots(2);
    assert_eq!(list(&shop.folders).unwrap().len(), 2);
    let taken = shop.take().unwrap();
    assert_eq!(taken.snapshot.payments, u64::try_from(shop.books.payment_count()).unwrap());
    assert!(shop.take().is_none());
    shop.journal.writer.append(vec![Record::Sealed], at(0)).unwrap();
    assert!(
        take(&shop.folders, taken.snapshot.position.sequence + 1, &|| ()).unwrap().is_none(),
        "a seal is no news"
    );
    let snapshots = list(&shop.folders).unwrap();
    assert_eq!(snapshots.len(), 2);
    assert_eq!(snapshots[0], taken.snapshot.position.sequence);
    let newest = newest(&shop.folders).unwrap().unwrap();
    assert_eq!((newest.position, newest.bytes), (taken.snapshot.position, taken.snapshot.bytes));
    assert!(
        !disk.list().unwrap().iter().any(|name| name.ends_with(".tmp") && name.contains("snap"))
    );
}

#[test]
fn a_journal_read_along_with_its_writer_shows_what_is_durable_through_every_change_of_segments() {
    let disk = SimulatedDisk::default();
    let mut shop = Shop::open(on(&disk), 3);
    let through = shop.books.position().sequence;
    let mut reader = Reader::follow(&shop.folders, through).unwrap().unwrap();
    let mut books = Books::default();
    for round in 0..8 {
        for located in reader.by_ref() {
            books.replay(&located.unwrap().batch).unwrap();
        }
        assert_eq!(books.digest(), shop.books.digest(), "round {round}");
        shop.trade(80);
        if round % 2 == 1 {
            shop.take();
        }
        reader.go_on(shop.books.position().sequence).unwrap();
    }
}

#[test]
fn any_changed_byte_and_any_cut_of_a_snapshot_is_seen_and_the_older_one_is_used() {
    let (disk, shop) = disk_with_two_snapshots(4);
    let snapshots = list(&shop.folders).unwrap();
    let name = file_name(snapshots[0]);
    let content = disk.bytes_of(&name).unwrap();
    let refused = |changed: &[u8]| {
        let copy = disk.copy();
        copy.put(&name, changed);
        let loaded = load(&on(&copy), Sequence::MAX).unwrap();
        assert_eq!(loaded.refused.len(), 1);
        assert_eq!(loaded.refused[0].sequence, snapshots[0]);
        loaded.books.position().sequence
    };
    for place in (0..content.len()).step_by(13).chain(content.len() - 80..content.len()) {
        let mut changed = content.clone();
        changed[place] ^= 0x10;
        assert_eq!(refused(&changed), snapshots[1], "byte {place}");
    }
    for length in (0..content.len()).step_by(97) {
        assert_eq!(refused(&content[..length]), snapshots[1], "cut at {length}");
    }
}

#[test]
fn with_both_snapshots_damaged_the_journal_and_its_archive_tell_it_all() {
    let (disk, shop) = disk_with_two_snapshots(5);
    for sequence in list(&shop.folders).unwrap() {
        disk.put(&file_name(sequence), b"no snapshot");
    }
    let loaded = load(&on(&disk), Sequence::MAX).unwrap();
    assert_eq!((loaded.refused.len(), loaded.books.payment_count()), (2, 0));
    let (books, recovered) = start(&on(&disk.copy()), Sequence::MAX).unwrap();
    assert_eq!(books.payment_count(), shop.books.payment_count());
    assert_eq!(recovered.report.last_sequence, shop.books.position().sequence + 1);
}

#[test]
fn a_snapshot_that_rots_before_the_next_is_made_is_set_aside_and_not_built_upon() {
    let (disk, mut shop) = disk_with_two_snapshots(6);
    let newest = list(&shop.folders).unwrap()[0];
    let mut content = disk.bytes_of(&file_name(newest)).unwrap();
    content[200] ^= 1;
    disk.put(&file_name(newest), &content);
    let taken = shop.take().unwrap();
    assert_eq!(taken.damaged.len(), 1);
    assert!(disk.list().unwrap().contains(&format!("{}.damaged", file_name(newest))));
    shop.trade(10);
    let (books, recovered) = start(&on(&disk.copy()), Sequence::MAX).unwrap();
    drop(recovered);
    assert_eq!(load(&shop.folders, Sequence::MAX).unwrap().refused, []);
    let (alone, _recovered) = start(&on(&disk.copy()), 0).unwrap();
    assert_eq!(books.digest(), alone.digest());
}

#[test]
fn a_crash_or_an_error_at_any_moment_of_a_snapshot_loses_nothing() {
    let calls = {
        let (disk, shop) = disk_with_two_snapshots(7);
        let before = disk.calls();
        shop.take().unwrap();
        disk.calls() - before
    };
    assert!(calls > 20, "{calls}");
    for call in 1..=calls {
        for fault in [Fault::PowerFails, Fault::SyncFails, Fault::Refused] {
            let (disk, shop) = disk_with_two_snapshots(7);
            disk.fail_at(call, fault);
            let taken = take(&shop.folders, shop.books.position().sequence, &|| ());
            let mut random = StdRng::seed_from_u64(call);
            let after = match fault {
                Fault::PowerFails => {
                    assert!(taken.is_err());
                    disk.crash(&mut |choices| random.random_range(0..choices))
                }
                _ => disk.copy(),
            };
            let (alone, _recovered) = start(&on(&after.copy()), 0).unwrap();
            let (books, recovered) = start(&on(&after), Sequence::MAX).unwrap();
            drop(recovered);
            assert_eq!(books.digest(), alone.digest(), "call {call} of {calls}, {fault:?}");
            assert_eq!(books.payment_count(), shop.books.payment_count());
            // And the next one is made as if nothing had been.
            let through = books.position().sequence;
            take(&on(&after), through, &|| ()).unwrap();
            let loaded = load(&on(&after), Sequence::MAX).unwrap();
            assert!(loaded.books.position().sequence >= through - 1, "call {call}, {fault:?}");
        }
    }
}

#[test]
fn a_segment_that_is_missing_here_and_in_the_archive_is_damage_though_a_snapshot_covers_it() {
    let (disk, _shop) = disk_with_two_snapshots(8);
    for suffix in [".seg.zst", ".seg"] {
        let copy = disk.copy();
        let names = copy.list().unwrap();
        let name = names.iter().find(|name| name.ends_with(suffix)).unwrap();
        copy.remove(name).unwrap();
        let error = start(&on(&copy), Sequence::MAX).err().unwrap();
        assert!(matches!(error, JournalError::Damaged { .. }), "{name}: {error}");
    }
}

#[test]
fn a_flipped_bit_in_a_segment_that_is_not_archived_is_damage_though_a_snapshot_covers_it() {
    let (disk, shop) = disk_with_two_snapshots(9);
    let newest = list(&shop.folders).unwrap()[0];
    let firsts = disk.list().unwrap();
    let first = firsts.iter().filter_map(|name| crate::journal::segment::first_of(name)).min();
    assert!(first.unwrap() < newest);
    let name = crate::journal::segment::file_name(first.unwrap());
    let mut content = disk.bytes_of(&name).unwrap();
    content[4096 + 300] ^= 1;
    disk.put(&name, &content);
    let error = start(&on(&disk), Sequence::MAX).err().unwrap();
    assert!(matches!(error, JournalError::Damaged { offset: 4096, .. }), "{error}");
}

#[test]
fn a_journal_that_ends_before_its_snapshot_or_is_another_one_is_refused() {
    let (disk, shop) = disk_with_two_snapshots(10);
    let taken = shop.take().unwrap();
    let names = disk.list().unwrap();
    let last = names.iter().rfind(|name| name.ends_with(".seg")).unwrap();
    let content = disk.bytes_of(last).unwrap();
    let end = content.iter().rposition(|byte| *byte > 0).unwrap() / 4096 * 4096;
    let mut cut = content.clone();
    cut[end..].fill(0);
    let shorter = disk.copy();
    shorter.put(last, &cut);
    shorter.remove("watermark").unwrap();
    let error = start(&on(&shorter), Sequence::MAX).err().unwrap();
    assert!(error.to_string().contains("a snapshot says that entries through"), "{error}");

    let (other, _) = disk_with_two_snapshots(11);
    let mixed = other.copy();
    for sequence in list(&on(&other)).unwrap() {
        mixed.remove(&file_name(sequence)).unwrap();
    }
    let name = file_name(taken.snapshot.position.sequence);
    mixed.put(&name, &disk.bytes_of(&name).unwrap());
    assert!(matches!(start(&on(&mixed), Sequence::MAX), Err(JournalError::Damaged { .. })));
}

/// The snapshot written anew, with every hash right, and the entries of payments as `change` leaves them.
fn forge(disk: &SimulatedDisk, name: &str, mut change: impl FnMut(&mut part::Entries)) {
    let snapshot = Snapshot::open(disk, name.into()).unwrap();
    let mut contents = snapshot.contents.clone();
    let mut file = NewFile::begin(disk, name).unwrap();
    file.append(&Contents::header()).unwrap();
    let mut writer = PartWriter::new(file, &|| ());
    for part in &contents.parts {
        match part.kind {
            contents::Kind::Payments => {
                let forge = |id, mut entries: part::Entries, _: part::Encoded<'_>| {
                    change(&mut entries);
                    let (mut added, mut scratch) = (Added::default(), Vec::new());
                    for placed in entries {
                        added.push(placed, &mut scratch).unwrap();
                    }
                    writer.payment(id, &[added.encoded()]).unwrap();
                    Ok::<_, String>(())
                };
                snapshot.payments_of(part, Source::Cache, forge).unwrap();
            }
            contents::Kind::Blocks => {
                for block in snapshot.blocks_of(part, Source::Cache).unwrap() {
                    writer.block(block).unwrap();
                }
            }
            contents::Kind::Kept => {
                for entry in snapshot.kept_of(part, Source::Cache).unwrap() {
                    writer.kept(&entry).unwrap();
                }
            }
            contents::Kind::Endpoints => {
                for endpoint in snapshot.endpoints_of(part, Source::Cache).unwrap() {
                    writer.endpoint(&endpoint).unwrap();
                }
            }
        }
    }
    let (mut file, parts) = writer.finish().unwrap();
    contents.parts = parts;
    let tail = contents.encode(file.length());
    file.append(&tail).unwrap();
    file.publish().unwrap();
}

#[test]
fn a_snapshot_that_says_otherwise_than_the_journal_is_found_though_its_hashes_and_sums_are_right() {
    let (disk, shop) = disk_with_two_snapshots(12);
    let honest = compare(&shop.folders, &shop.books).unwrap();
    assert_eq!(honest.len(), 2);
    assert!(honest.iter().all(|it| it.difference.is_none() && it.payments > 0), "{honest:?}");
    let newest = list(&shop.folders).unwrap()[0];
    let mut forged = false;
    forge(&disk, &file_name(newest), |entries| {
        if !forged && let Event::Submitted { details, .. } = &mut entries[0].record.event {
            Arc::make_mut(details).description = Some("another".into());
            forged = true;
        }
    });
    assert_eq!(load(&shop.folders, Sequence::MAX).unwrap().refused, [], "it can be loaded");
    let compared = compare(&shop.folders, &shop.books).unwrap();
    let Difference { what, at } = compared[0].difference.clone().unwrap();
    assert!(what.contains("is not as the journal's entry"), "{what}");
    assert!(at.is_some());
    assert!(compared[1].difference.is_none());
}

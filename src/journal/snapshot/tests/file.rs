//! The file of a snapshot: its version, its bounds, its parts, and that it is read back.

use super::*;
use crate::{
    domain::books::{Placed, Position},
    journal::buffer::bytes,
};
use contents::{Contents, HEADER_BYTES, Kind, Part};
use sha2::{Digest, Sha256};

/// What the snapshot of an empty journal with these segments would say about itself.
fn empty(segments: Vec<Sequence>) -> Contents {
    Contents {
        store: Uuid::nil(),
        position: Position::default(),
        entries: [0; 2],
        payments: 0,
        turnover: Default::default(),
        segments,
        parts: Vec::new(),
    }
}

#[test]
fn a_snapshot_that_this_release_cannot_read_is_refused_and_one_of_a_later_format_that_it_can_is_not()
 {
    let disk = SimulatedDisk::default();
    let opens = |place: usize, value: u8| {
        let mut header = Contents::header();
        header[place] = value;
        let mut tail = empty(Vec::new()).encode(bytes(HEADER_BYTES));
        tail.truncate(tail.len() - 32);
        let content = [header, tail].concat();
        disk.put("snapshot", &[&*content, &Sha256::digest(&content)].concat());
        Snapshot::open(&disk, "snapshot".into()).map(drop)
    };
    assert_eq!(opens(0, b'S'), Ok(()), "as it is");
    assert_eq!(opens(8, 2), Ok(()), "a later format");
    let not_known = "it is of format 1; this release knows format 1".to_owned();
    for (place, value) in [(10, 2), (11, 1), (12, 9)] {
        assert_eq!(opens(place, value), Err(not_known.clone()), "{place}");
    }
    assert_eq!(opens(0, b's'), Err("it is no snapshot".into()));
}

#[test]
fn what_a_snapshot_of_a_large_journal_says_about_itself_is_read() {
    let disk = SimulatedDisk::default();
    let contents = empty((0..200_000).collect());
    let mut file = Contents::header();
    file.extend(contents.encode(bytes(HEADER_BYTES)));
    disk.put("snapshot", &file);
    assert_eq!(Contents::read(&disk, "snapshot"), Ok(contents));
}

#[test]
fn a_file_too_short_for_a_snapshot_is_cut_off() {
    let disk = SimulatedDisk::default();
    for length in [0, 1, 39, 40, 55] {
        disk.put("snapshot", &vec![0; length]);
        let read = Contents::read(&disk, "snapshot");
        assert_eq!(read, Err("it is cut off".into()), "{length} bytes");
    }
}

#[test]
fn a_part_that_grows_is_parted_evenly_and_leaves_no_crumbs() {
    let disk = SimulatedDisk::default();
    let mut shop = Shop::open(on(&disk), 22);
    let record = loop {
        match shop.record() {
            Some(record) if matches!(record.event, Event::Submitted { .. }) => break record,
            _ => {}
        }
    };
    let mut added = Added::default();
    added.push(Placed { sequence: 1, at: at(0), record }, &mut Vec::new()).unwrap();
    let each = added.size() + 4;
    let count = 10_000 / each;
    let mut writer = PartWriter::new(NewFile::begin(&disk, "parts").unwrap(), &|| ());
    writer.expect(count * each).unwrap();
    for number in 0..count {
        let id = PaymentId::new(Uuid::from_u128(u128::try_from(number).unwrap()));
        writer.payment(id, &[added.encoded()]).unwrap();
    }
    let (_, parts) = writer.finish().unwrap();
    let plain: Vec<u64> = parts.iter().map(|part| part.plain).collect();
    assert_eq!(plain.iter().sum::<u64>(), bytes(count * each), "as long as was reckoned");
    assert_eq!(plain.len(), 2, "{plain:?}");
    assert!(plain.iter().all(|plain| *plain >= 4096), "{plain:?}");
}

#[test]
fn the_blocks_of_many_snapshots_stand_in_few_parts() {
    let disk = SimulatedDisk::default();
    let mut shop = Shop::open(on(&disk), 23);
    for _ in 0..5 {
        for _ in 0..50 {
            let batch = shop.journal.writer.append(vec![Record::Sealed], at(shop.now)).unwrap();
            shop.books.replay(&batch).unwrap();
            shop.journal.writer.settle();
        }
        shop.trade(10);
        shop.take().unwrap();
    }
    let newest = file_name(list(&shop.folders).unwrap()[0]);
    let parts = Snapshot::open(&disk, newest).unwrap().contents.parts;
    let plain = parts.iter().filter(|part| part.kind == Kind::Blocks).map(|part| part.plain);
    let plain: Vec<u64> = plain.collect();
    let (_, full) = plain.split_last().unwrap();
    assert!(full.len() > 1 && full.iter().all(|plain| *plain >= 4096), "{plain:?}");
}

#[test]
fn a_part_that_holds_more_or_less_than_it_counts_is_refused() {
    let (disk, shop) = disk_with_two_snapshots(24);
    let snapshot = Snapshot::open(&disk, file_name(list(&shop.folders).unwrap()[0])).unwrap();
    let of = |kind| snapshot.contents.parts.iter().find(move |part| part.kind == kind).unwrap();
    let (payments, kept) = (of(Kind::Payments), of(Kind::Kept));
    let payments_of = |part: &Part| {
        snapshot.payments_of(part, Source::Device, |_, _, _| Ok::<_, String>(())).is_ok()
    };
    let kept_of = |part: &Part| snapshot.kept_of(part, Source::Device).is_ok();
    assert!(payments_of(payments) && kept_of(kept));
    for entries in [payments.entries - 1, payments.entries + 1] {
        assert!(!payments_of(&Part { entries, ..payments.clone() }), "{entries} entries");
    }
    for more in [0, 2] {
        let items = |part: &Part| part.items + more - 1;
        assert!(!payments_of(&Part { items: items(payments), ..payments.clone() }));
        assert!(!kept_of(&Part { items: items(kept), ..kept.clone() }));
    }
}

#[test]
fn a_snapshot_that_the_rules_do_not_make_is_found_when_it_is_read_back() {
    let (disk, shop) = disk_with_two_snapshots(25);
    let name = file_name(list(&shop.folders).unwrap()[0]);
    let contents = |name: &str| Snapshot::open(&disk, name.into()).unwrap().contents;
    let honest = contents(&name);
    let verify = |written: &Contents, previous: Option<&Contents>| {
        load::verify(&disk, name.clone(), written, previous, &|| ())
    };
    assert_eq!(verify(&honest, None), Ok(()));
    forge(&disk, &name, |entries| entries.reverse());
    let forged = contents(&name);
    assert!(verify(&honest, None).is_err(), "it is not what was written");
    assert!(verify(&forged, None).is_err(), "payments begin with their last entries");
    assert_eq!(verify(&forged, Some(&forged)), Ok(()), "what is copied was judged in its time");
    assert!(verify(&forged, Some(&honest)).is_err(), "this was not copied");
}

#[test]
fn a_start_from_a_snapshot_reads_nothing_that_is_archived() {
    let (disk, shop) = disk_with_two_snapshots(26);
    let archived: Vec<String> =
        disk.list().unwrap().into_iter().filter(|name| name.ends_with(".seg.zst")).collect();
    assert!(!archived.is_empty());
    for name in archived {
        disk.put(&name, b"rotten");
    }
    assert!(start(&on(&disk.copy()), 0).is_err());
    let (books, _recovered) = start(&on(&disk), Sequence::MAX).unwrap();
    assert_eq!(books.payment_count(), shop.books.payment_count());
}

#[test]
fn a_snapshot_may_rest_at_every_batch_every_payment_and_in_the_archive() {
    let (disk, mut shop) = disk_with_two_snapshots(27);
    shop.trade(120);
    let segments = || disk.list().unwrap().iter().filter(|name| name.ends_with(".zst")).count();
    let (before, rests) = (segments(), std::cell::Cell::new(0));
    let archived_after = std::cell::Cell::new(None);
    let rest = || {
        rests.set(rests.get() + 1);
        let is_published =
            list(&shop.folders).unwrap().first() == Some(&shop.books.position().sequence);
        if is_published && archived_after.get().is_none() {
            archived_after.set(Some(rests.get()));
        }
    };
    take(&shop.folders, shop.books.position().sequence, &rest).unwrap().unwrap();
    let merged = archived_after.get().expect("it rests while segments go to the archive");
    // Each payment once where it is merged, and once where it is read back.
    assert!(merged > shop.books.payment_count() * 2, "{merged}");
    let archived = segments() - before;
    assert!(archived > 0 && rests.get() - merged > archived * 3, "{archived}: {}", rests.get());
}

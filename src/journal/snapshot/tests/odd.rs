//! What seldom happens to snapshots and the archive: leftovers, rot, old files that are put back.

use super::*;
use crate::{
    domain::{
        books::Position,
        id::EndpointId,
        webhook::{
            Change, Created, Endpoint, EventType, Filter, Open, Origin, Pattern, Secret, Settings,
            WebhookEvent, WebhookRecord,
        },
    },
    journal::{
        buffer::{AlignedBuffer, bytes},
        disk::{Writes, simulated::Fullness},
        segment::{self, first_of},
    },
};

#[test]
fn an_old_snapshot_that_is_put_back_goes_on_in_the_archive() {
    let disk = SimulatedDisk::default();
    let mut shop = Shop::open(on(&disk), 14);
    shop.trade(60);
    let oldest = file_name(shop.take().unwrap().snapshot.position.sequence);
    let content = disk.bytes_of(&oldest).unwrap();
    for _ in 0..2 {
        shop.trade(120);
        shop.take().unwrap();
    }
    for sequence in list(&shop.folders).unwrap() {
        disk.remove(&file_name(sequence)).unwrap();
    }
    disk.put(&oldest, &content);
    let (books, _recovered) = start(&on(&disk.copy()), Sequence::MAX).unwrap();
    assert_eq!(books.payment_count(), shop.books.payment_count());
    let (alone, _recovered) = start(&on(&disk.copy()), 0).unwrap();
    assert_eq!(books.digest(), alone.digest());
}

#[test]
fn what_a_killed_process_left_of_a_snapshot_goes_when_the_next_is_made() {
    let (disk, shop) = disk_with_two_snapshots(15);
    disk.put("00000000000000000007.snap.tmp", b"half a snaps");
    disk.put("ahead-99.tmp", b"the journal's");
    shop.take().unwrap();
    let names = disk.list().unwrap();
    assert!(!names.iter().any(|name| name.ends_with(".snap.tmp")), "{names:?}");
    assert!(names.contains(&"ahead-99.tmp".to_owned()));
}

#[test]
fn a_long_stretch_without_payments_does_not_keep_those_behind_it_from_snapshots() {
    let (_disk, mut shop) = disk_with_two_snapshots(16);
    shop.take().unwrap();
    // More than is merged at once: each takes a block.
    for _ in 0..100 {
        let batch = shop.journal.writer.append(vec![Record::Sealed], at(shop.now)).unwrap();
        shop.books.replay(&batch).unwrap();
        shop.journal.writer.settle();
    }
    assert!(shop.take().is_none());
    shop.trade(10);
    let through = shop.books.position().sequence;
    assert_eq!(shop.take().unwrap().snapshot.position.sequence, through);
}

#[test]
fn a_few_large_entries_are_not_merged_at_once_either() {
    let disk = SimulatedDisk::default();
    let mut shop = Shop::open(on(&disk), 19);
    shop.trade(5);
    // Fewer entries than are merged at once, and more bytes.
    for _ in 0..20 {
        let event = AccessEvent::Asked("x".repeat(16 * 1024).into());
        let record = Record::Access(AccessRecord { actor: "admin/test".into(), event });
        let batch = shop.journal.writer.append(vec![record], at(shop.now)).unwrap();
        shop.books.replay(&batch).unwrap();
        shop.journal.writer.settle();
    }
    shop.trade(5);
    let taken = shop.take().unwrap();
    assert_eq!(taken.snapshot.position.sequence, shop.books.position().sequence);
    let snapshots = disk.list().unwrap().into_iter().filter(|name| name.ends_with(".snap"));
    assert_eq!(snapshots.count(), 2, "each stretch ends with one");
}

#[test]
fn a_segment_that_has_rotted_is_not_archived_and_said() {
    let (disk, mut shop) = disk_with_two_snapshots(17);
    shop.trade(120);
    shop.take().unwrap();
    shop.trade(10);
    let names = disk.list().unwrap();
    let first = names.iter().filter_map(|name| first_of(name)).min().unwrap();
    let name = segment::file_name(first);
    let mut content = disk.bytes_of(&name).unwrap();
    content[4096 + 300] ^= 1;
    disk.put(&name, &content);
    let error = take(&shop.folders, shop.books.position().sequence, &|| ()).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { offset: 4096, .. }), "{error}");
    assert_eq!(disk.bytes_of(&name), Some(content), "it stays as it is");
}

#[test]
fn who_reads_along_reads_the_archive_from_the_device_too() {
    let (disk, shop) = disk_with_two_snapshots(18);
    let names = disk.list().unwrap();
    let archived = names.iter().find(|name| name.ends_with(".seg.zst")).unwrap();
    // The cache shows what never got to the device.
    let file = disk.open(archived, Writes::Cached).unwrap();
    disk.fail_at(1, Fault::SyncFails);
    let mut zeros = AlignedBuffer::zeroed(64);
    zeros.truncate(64);
    assert!(file.write(0, &zeros).is_err());
    let through = shop.books.position().sequence;
    let reader = Reader::follow(&shop.folders, through).unwrap().unwrap();
    assert!(reader.map(Result::unwrap).count() > 0);
    assert!(Reader::open(&shop.folders).is_err(), "others read the cache");
}

/// An endpoint of the merchant `north` that wants `pattern`, and what was reported of it.
fn endpoint_records(number: u8, pattern: Pattern) -> Vec<Record> {
    let endpoint = EndpointId::new(Uuid::from_u128(number.into()));
    let created = Created {
        endpoint,
        merchant: "north".into(),
        settings: Settings {
            url: "https://shop.example".into(),
            filter: Filter::new(vec![pattern]).unwrap(),
            description: None,
        },
        secret: Secret::new(&[number; 32]).unwrap(),
        origin: Origin::Api,
    };
    let progressed = Change {
        endpoint,
        generation: 0,
        through: 3,
        cursor: 9,
        open: vec![(2, Open::new(8))],
        closed: vec![],
        died: vec![(1, Open::new(7))],
        delivered: 1,
        failed: number.into(),
        failing_since: Some(at(5)),
    };
    let events =
        [WebhookEvent::Created(Box::new(created)), WebhookEvent::Progressed(vec![progressed])];
    let record = |event| Record::Webhook(WebhookRecord { actor: "north/test".into(), event });
    events.into_iter().map(record).collect()
}

#[test]
fn webhook_endpoints_stand_in_a_snapshot_as_the_journal_made_them() {
    let disk = SimulatedDisk::default();
    let mut shop = Shop::open(on(&disk), 19);
    for (number, pattern) in [
        (1, Pattern::Everything),
        (2, Pattern::Exactly(EventType::Refunded)),
        (3, Pattern::Payments),
    ] {
        let batch = shop.journal.writer.append(endpoint_records(number, pattern), at(0)).unwrap();
        shop.books.replay(&batch).unwrap();
        shop.trade(60);
        shop.take().unwrap();
    }
    let endpoints =
        |books: &Books| books.webhooks().endpoints().cloned().collect::<Vec<Endpoint>>();
    let (books, _recovered) = start(&on(&disk.copy()), Sequence::MAX).unwrap();
    assert_eq!(endpoints(&books), endpoints(&shop.books));
    assert_eq!(endpoints(&books).len(), 3);
    assert!(endpoints(&books).iter().any(|endpoint| endpoint.admitted > 0));
}

#[test]
fn a_snapshot_leaves_to_the_journal_the_room_that_it_needs_next() {
    let (disk, shop) = disk_with_two_snapshots(20);
    disk.set_full(Fullness::Full);
    let through = shop.books.position().sequence;
    let error = take(&shop.folders, through, &|| ()).unwrap_err();
    assert!(matches!(error, JournalError::Snapshot { .. }), "{error}");
    disk.set_full(Fullness::Room);
    disk.set_free(256 * 1024 * 1024);
    assert!(
        take(&shop.folders, through, &|| ()).is_err(),
        "nothing would be left of it for the journal"
    );
    disk.set_free(260 * 1024 * 1024);
    assert!(shop.take().is_some());
}

#[test]
fn all_that_was_archived_and_set_aside_is_told_however_many_stretches_it_took() {
    let disk = SimulatedDisk::default();
    let mut shop = Shop::open(on(&disk), 21);
    shop.trade(60);
    shop.take().unwrap();
    shop.trade(60);
    let only = file_name(list(&shop.folders).unwrap()[0]);
    disk.put(&only, b"no snapshot");
    // More than is merged at once: each of these takes a block.
    for _ in 0..140 {
        shop.trade(1);
    }
    let taken = shop.take().unwrap();
    assert_eq!(taken.damaged.len(), 1, "{:?}", taken.damaged);
    let names = disk.list().unwrap();
    let archived = names.iter().filter(|name| name.ends_with(".seg.zst")).count();
    assert!(archived > 1, "{names:?}");
    assert_eq!(usize::try_from(taken.archived), Ok(archived));
}

#[test]
fn figures_that_add_up_to_more_than_a_number_holds_are_refused() {
    let id = PaymentId::new(Uuid::nil());
    let part = |items, entries| contents::Part {
        kind: contents::Kind::Payments,
        offset: bytes(contents::HEADER_BYTES),
        length: 0,
        plain: 0,
        items,
        entries,
        first: id,
        last: id,
        hash: [0; 32],
    };
    let disk = SimulatedDisk::default();
    let opens = |entries, parts: &[contents::Part]| {
        let contents = Contents {
            store: Uuid::nil(),
            position: Position::default(),
            entries,
            payments: 0,
            turnover: Default::default(),
            segments: Vec::new(),
            parts: parts.to_vec(),
        };
        let mut file = Contents::header();
        file.extend(contents.encode(bytes(contents::HEADER_BYTES)));
        disk.put("forged", &file);
        Snapshot::open(&disk, "forged".into()).is_ok()
    };
    assert!(opens([0, 0], &[part(0, 0)]));
    assert!(!opens([u64::MAX, 1], &[]));
    assert!(!opens([0, 0], &[part(u64::MAX, 0), part(1, 0)]));
    assert!(!opens([0, 0], &[part(0, u64::MAX), part(0, 1)]));
}

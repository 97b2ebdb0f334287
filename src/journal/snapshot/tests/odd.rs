//! What seldom happens to snapshots and the archive: leftovers, rot, old files that are put back.

use super::*;
use crate::journal::{
    buffer::AlignedBuffer,
    disk::Writes,
    segment::{self, first_of},
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
    let error = take(&shop.folders, shop.books.position().sequence).unwrap_err();
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

//! Disks that fail, fill up, and come back.

use super::*;
use crate::domain::{books::Position, entry::Record};
use crate::journal::{
    buffer::AlignedBuffer,
    disk::{
        Writes,
        simulated::{Fault, Fullness},
    },
    entry,
};
use std::time::{Duration, Instant};

fn sealed() -> Vec<Record> {
    vec![Record::Sealed]
}

#[test]
fn after_a_failed_sync_nothing_is_appended_and_recovery_trusts_the_device_not_the_cache() {
    let disk = SimulatedDisk::default();
    let (recovered, mut told) = open(&disk, at(0)).unwrap();
    let mut writer = recovered.writer;
    told.push(writer.append(samples::all(), at(1)).unwrap());
    disk.fail_at(1, Fault::SyncFails);
    let failed = writer.append(sealed(), at(2)).unwrap_err();
    assert!(matches!(failed, JournalError::Io { .. }), "{failed}");
    assert!(matches!(writer.append(sealed(), at(3)), Err(JournalError::Stopped)));
    assert_eq!(writer.last_sequence(), told[1].entries.last().unwrap().sequence);
    drop(writer);
    let (recovered, read) = open(&disk, at(4)).unwrap();
    assert_eq!(read[..2], told, "the cache still shows a third batch");
    drop(recovered);
    let (_, after_power_failure) = open(&disk.crash(&mut |_| 0), at(5)).unwrap();
    assert_eq!(after_power_failure[..3], read);
}

#[test]
fn a_stopped_writer_promises_no_room() {
    let disk = SimulatedDisk::default();
    let mut writer = open(&disk, at(0)).unwrap().0.writer;
    disk.fail_at(1, Fault::Refused);
    writer.append(sealed(), at(1)).unwrap_err();
    let one_segment = 64 * 1024 - 4096;
    assert!(writer.space().free() <= one_segment, "only the one ahead");
    assert!(matches!(writer.append(sealed(), at(2)), Err(JournalError::Stopped)));
}

#[test]
fn a_full_disk_is_refused_cleanly_until_there_is_room_again() {
    let disk = SimulatedDisk::default();
    let mut writer = open(&disk, at(0)).unwrap().0.writer;
    disk.set_full(Fullness::Full);
    let space = writer.space();
    let mut told = 0;
    let full = loop {
        match writer.append(vec![samples::large(7_000)], at(1)) {
            Ok(batch) => told = batch.entries[0].sequence,
            Err(error) => break error,
        }
        writer.settle();
    };
    assert!(matches!(full, JournalError::NoSpace { .. }), "{full}");
    assert!(space.reserve(60_000).is_none());
    assert_eq!(writer.last_sequence(), told);
    writer.append(sealed(), at(2)).unwrap();

    disk.set_full(Fullness::Room);
    let deadline = Instant::now() + Duration::from_secs(30);
    while space.reserve(30_000).is_none() {
        assert!(Instant::now() < deadline, "the journal does not see that there is room");
        std::thread::yield_now();
    }
    writer.append(vec![samples::large(7_000)], at(3)).unwrap();
    drop(writer);
    let (recovered, _) = open(&disk, at(4)).unwrap();
    assert_eq!(recovered.report.last_sequence, told + 3);
}

#[test]
fn what_was_reserved_can_be_appended_even_if_the_disk_fills_up() {
    let disk = SimulatedDisk::default();
    let mut writer = open(&disk, at(0)).unwrap().0.writer;
    let space = writer.space();
    disk.set_full(Fullness::Full);
    let mut promises = Vec::new();
    // Sizes that do not divide a segment, so that its end is wasted.
    let record = || vec![samples::large(14_000)];
    while let Some(promise) = space.reserve(14_100) {
        promises.push(promise);
    }
    assert!(promises.len() == 5, "{}", promises.len());
    while let Some(promise) = promises.pop() {
        writer.append(record(), at(1)).unwrap();
        drop(promise);
        writer.settle();
    }
    assert_eq!(space.reserved(), 0);
}

#[test]
fn a_journal_cannot_be_founded_on_a_full_disk_but_later_it_can() {
    let disk = SimulatedDisk::default();
    disk.set_full(Fullness::Full);
    let Err(full) = open(&disk, at(0)) else {
        panic!("founded on a full disk");
    };
    assert!(matches!(full, JournalError::NoSpace { .. }), "{full}");
    disk.set_full(Fullness::Room);
    assert_eq!(open(&disk, at(1)).unwrap().0.report.epoch, 1);
}

#[test]
fn a_batch_or_an_entry_that_is_too_large_is_refused_and_harms_nothing() {
    let disk = SimulatedDisk::default();
    let mut writer = open(&disk, at(0)).unwrap().0.writer;
    for size in [33_000, 40_000, 2_000_000] {
        let refused = writer.append(vec![samples::large(size)], at(1)).unwrap_err();
        assert!(matches!(refused, JournalError::TooLarge { .. }), "{refused}");
    }
    assert_eq!(writer.append(sealed(), at(1)).unwrap().entries[0].sequence, 2);
    let beside = entry::encoded_bytes(&samples::large(20_000)).unwrap() - 20_000;
    let largest = options().batch_bytes_max - beside;
    assert!(writer.append(vec![samples::large(largest + 1)], at(1)).is_err());
    writer.append(vec![samples::large(largest)], at(1)).expect("the largest that is taken");
    drop(writer);
    assert_eq!(open(&disk, at(2)).unwrap().1.len(), 4);
}

#[test]
fn options_that_cannot_work_are_refused() {
    let with = |segment_bytes, batch_bytes_max| Options {
        segment_bytes,
        batch_bytes_max,
        software: "0.1.0".into(),
    };
    let start = |options| {
        let disk = Arc::new(SimulatedDisk::default());
        recover(&Folders::all_in(disk), options, at(0), Default::default(), &mut |_| Ok(()))
    };
    // The last two: a block less than a segment must have, and a byte more than fits one.
    for options in [
        with(4096, 100),
        with(65_537, 100),
        with(65_536, 61_440),
        with(1 << 40, 1),
        with(61_440, 100),
        with(65_536, 61_329),
    ] {
        assert!(matches!(start(options), Err(JournalError::Options { .. })));
    }
    start(with(65_536, 61_328)).expect("the smallest segment, and a batch that fills it");
}

#[test]
fn what_a_start_goes_on_behind_is_durable_though_a_killed_process_left_it_in_the_cache() {
    let disk = SimulatedDisk::default();
    let mut writer = open(&disk, at(0)).unwrap().0.writer;
    let before = disk.bytes_of(FIRST).unwrap();
    let place = index(writer.position().offset);
    let told = writer.append(sealed(), at(1)).unwrap();
    let batch = &disk.bytes_of(FIRST).unwrap()[place..index(writer.position().offset)];
    drop(writer);
    disk.put(FIRST, &before);
    let file = disk.open(FIRST, Writes::Cached).unwrap();
    file.write(bytes(place), &AlignedBuffer::blocks_of(batch)).unwrap();
    let (recovered, read) = open(&disk, at(2)).unwrap();
    assert_eq!(read[1], told);
    drop(recovered);
    let (_, after_power_failure) = open(&disk.crash(&mut |_| 0), at(3)).unwrap();
    assert_eq!(after_power_failure[..3], read);
}

#[test]
fn a_journal_that_is_gone_while_a_snapshot_of_it_is_there_is_not_founded_anew() {
    let disk = SimulatedDisk::default();
    let covered = Position { sequence: 7, ..Position::default() };
    let journal = (&folders(&disk), covered);
    let start = recover_as(STORE, journal, options(), at(0), &mut |_| Ok(()));
    assert!(matches!(start, Err(JournalError::Damaged { sequence: 1, .. })));
    assert_eq!((disk.calls(), disk.list().unwrap().len()), (0, 0), "nothing was changed");
}

#[test]
fn files_of_others_do_not_keep_a_journal_from_being_founded_beside_them() {
    let disk = SimulatedDisk::default();
    disk.put("README", b"somebody's");
    assert_eq!(open(&disk, at(0)).unwrap().0.report.epoch, 1);
    assert_eq!(disk.bytes_of("README").unwrap(), b"somebody's");
}

//! Copies of a journal: whole at every moment, never of another history, and never with what is damaged.

use super::{crash::outcomes, *};
use crate::{
    domain::id::Sequence,
    journal::{
        Reader, archive,
        backup::{Copied, CopyError, Extent, Note, copy, durable_through, extent},
        disk::simulated::Fault,
        segment,
    },
};

/// A server's life that fills `segments` further segments, and one batch more.
fn live(disk: &SimulatedDisk, now: u64, segments: usize) {
    let (recovered, _) = open(disk, at(now)).unwrap();
    let mut writer = recovered.writer;
    for number in 0..segments * 3 {
        writer.append(vec![samples::large(20_000)], at(now + bytes(number))).unwrap();
        writer.settle();
    }
    writer.append(samples::all(), at(now + 100)).unwrap();
}

fn all(disk: &SimulatedDisk) -> Vec<Batch> {
    let reader = Reader::open(&folders(disk)).unwrap().expect("a journal");
    reader.map(|located| located.unwrap().batch).collect()
}

fn end(disk: &SimulatedDisk) -> Extent {
    extent(&folders(disk), Sequence::MAX).unwrap().expect("a journal")
}

fn copy_all(from: &SimulatedDisk, to: &SimulatedDisk) -> Result<Copied, CopyError> {
    copy(&folders(from), &folders(to), &end(from), &mut |_, _| {})
}

/// The first entries of all segments, the raw and the archived ones.
fn forms(disk: &SimulatedDisk) -> (Vec<Sequence>, Vec<Sequence>) {
    let names = folders(disk).journal.list().unwrap();
    let raw = names.iter().filter_map(|name| segment::first_of(name)).collect();
    (raw, names.iter().filter_map(|name| archive::first_of(name)).collect())
}

/// Moves all segments but the last two to the archive.
fn archive_old(disk: &SimulatedDisk) {
    let (mut raw, _) = forms(disk);
    raw.sort_unstable();
    for first in raw.iter().rev().skip(2) {
        archive::put(&folders(disk), *first, &|| ()).unwrap();
    }
}

#[test]
fn a_copy_holds_every_batch_and_the_next_one_takes_only_what_is_new() {
    let (source, copied) = (SimulatedDisk::default(), SimulatedDisk::default());
    live(&source, 0, 2);
    let first = copy_all(&source, &copied).unwrap();
    assert_eq!((all(&copied), end(&copied)), (all(&source), end(&source)));
    assert_eq!((first.segments, first.already_there, first.bytes), (3, 0, 3 * 64 * 1024));
    let again = copy_all(&source, &copied).unwrap();
    assert_eq!((again.segments, again.already_there, again.bytes), (0, 3, 0));
    live(&source, 1_000, 3);
    archive_old(&source);
    copied.put("00000000000000000099.seg.tmp", b"what a copy that was cut short left");
    let next = copy_all(&source, &copied).unwrap();
    assert_eq!(all(&copied), all(&source));
    assert!(!copied.list().unwrap().iter().any(|name| name.ends_with(".tmp")));
    // The two sealed ones stay as they are; the third had been cut and is copied anew.
    assert_eq!((next.segments, next.already_there), (4, 2));
    let (raw, archived) = forms(&copied);
    assert!(raw.len() > 2 && !archived.is_empty());
    assert!(raw.iter().all(|first| !archived.contains(first)), "a segment is kept once");
    // A copy can be copied, and written on.
    let restored = SimulatedDisk::default();
    copy_all(&copied, &restored).unwrap();
    assert_eq!(all(&restored), all(&source));
    live(&restored, 2_000, 1);
    assert_eq!(durable_through(&folders(&restored)).unwrap(), Some(end(&restored).last.sequence));
}

#[test]
fn a_copy_is_cut_after_any_batch_be_its_segment_archived_or_not() {
    let source = SimulatedDisk::default();
    live(&source, 0, 4);
    archive_old(&source);
    let batches = all(&source);
    for (number, batch) in batches.iter().enumerate() {
        let through = batch.entries.last().unwrap().sequence;
        let end = extent(&folders(&source), through).unwrap().unwrap();
        assert_eq!((end.last.sequence, end.last.head), (through, batch.hash));
        let cut = SimulatedDisk::default();
        copy(&folders(&source), &folders(&cut), &end, &mut |_, _| {}).unwrap();
        assert_eq!(all(&cut), batches[..=number]);
    }
}

#[test]
fn a_copy_that_is_cut_short_at_any_call_is_a_journal_and_the_next_one_completes_it() {
    let (source, before) = (SimulatedDisk::default(), SimulatedDisk::default());
    live(&source, 0, 1);
    copy_all(&source, &before).unwrap();
    let old = all(&before);
    live(&source, 1_000, 3);
    archive_old(&source);
    let new = all(&source);
    let mut calls = 0;
    for fault in [Fault::PowerFails, Fault::SyncFails, Fault::Refused] {
        for call in 1.. {
            let copied = before.copy();
            copied.fail_at(call, fault);
            let made = copy_all(&source, &copied);
            outcomes(4, call, |choose| {
                let crashed = copied.crash(choose);
                let held = all(&crashed);
                assert!(held.len() >= old.len() && new.starts_with(&held), "call {call}");
                if made.is_ok() {
                    assert!(held == new, "call {call}: done, and not durable");
                }
                copy_all(&source, &crashed).unwrap();
                assert!(all(&crashed) == new, "call {call}");
                let (raw, archived) = forms(&crashed);
                assert!(raw.iter().all(|first| !archived.contains(first)), "call {call}");
            });
            calls += 1;
            if made.is_ok() {
                break;
            }
        }
    }
    assert!(calls > 50, "{calls}");
}

#[test]
fn no_call_that_fails_goes_untold_in_a_copy() {
    let (source, copied) = (SimulatedDisk::default(), SimulatedDisk::default());
    live(&source, 0, 1);
    archive_old(&source);
    let calls = {
        let copied = copied.copy();
        copy_all(&source, &copied).unwrap();
        copied.calls()
    };
    for call in 1..=calls {
        let copied = copied.copy();
        copied.fail_at(call, Fault::Refused);
        assert!(copy_all(&source, &copied).is_err(), "call {call} of {calls}");
    }
}

#[test]
fn a_segment_that_cannot_be_copied_is_named_and_not_looked_for_in_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let source = Folders::open(folder.path(), DirectIo::Never).unwrap();
    drop(recover(&source, options(), at(0), Default::default(), &mut |_| Ok(())).unwrap());
    let end = extent(&source, Sequence::MAX).unwrap().unwrap();
    let segment = source.journal.path(FIRST);
    std::fs::remove_file(&segment).unwrap();
    std::fs::create_dir(&segment).unwrap();
    match copy(&source, &folders(&SimulatedDisk::default()), &end, &mut |_, _| {}) {
        Err(CopyError::Journal(JournalError::Io { file, .. })) => assert_eq!(file, segment),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_copy_never_takes_over_what_is_of_another_history() {
    let source = SimulatedDisk::default();
    live(&source, 0, 1);
    let older = source.copy();
    live(&source, 1_000, 1);
    let copied = SimulatedDisk::default();
    copy_all(&source, &copied).unwrap();
    let names = |disk: &SimulatedDisk| {
        let names = folders(disk).journal.list().unwrap();
        names.iter().map(|name| disk.bytes_of(name)).collect::<Vec<_>>()
    };
    let kept = names(&copied);
    let refused = |from: &SimulatedDisk| copy_all(from, &copied).unwrap_err();
    let ahead = refused(&older);
    assert!(matches!(ahead, CopyError::NotItsHistory { .. }), "{ahead}");
    // The older state went on by itself, further than the copy.
    live(&older, 5_000, 5);
    let other = refused(&older);
    assert!(matches!(other, CopyError::NotItsHistory { .. }), "{other}");
    let stranger = SimulatedDisk::default();
    let founded =
        recover(&folders(&stranger), options(), at(0), Default::default(), &mut |_: &Batch| Ok(()));
    drop(founded.unwrap());
    let stranger = refused(&stranger);
    assert!(matches!(stranger, CopyError::OtherStore { .. }), "{stranger}");
    assert!(names(&copied) == kept, "a refused copy changes nothing");
}

#[test]
fn a_damaged_segment_is_never_copied() {
    let source = SimulatedDisk::default();
    live(&source, 0, 3);
    let mut content = source.bytes_of(FIRST).unwrap();
    content[3 * 4096 + 200] ^= 1;
    source.put(FIRST, &content);
    let copied = SimulatedDisk::default();
    let damaged = copy_all(&source, &copied).unwrap_err();
    let CopyError::Journal(JournalError::Damaged { offset, sequence, .. }) = damaged else {
        panic!("{damaged}");
    };
    assert_eq!((offset % 4096, sequence > 1), (0, true));
    assert_eq!(folders(&copied).journal.list().unwrap(), Vec::<String>::new());
}

#[test]
fn how_far_a_journal_is_durable_is_unknown_without_a_watermark_and_never_guessed() {
    let disk = SimulatedDisk::default();
    assert_eq!(durable_through(&folders(&disk)).unwrap(), None);
    live(&disk, 0, 0);
    assert_eq!(durable_through(&folders(&disk)).unwrap(), Some(end(&disk).last.sequence));
    let folder = tempfile::tempdir().unwrap();
    let real: Arc<dyn Disk> = Arc::new(RealDisk::open(folder.path(), DirectIo::Never).unwrap());
    std::fs::create_dir(folder.path().join("watermark")).unwrap();
    assert!(durable_through(&Folders::all_in(real)).is_err(), "it is there and cannot be read");
}

#[test]
fn what_a_backup_says_about_itself_is_read_back_or_missing_or_damaged() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Note::read(folder.path()).unwrap(), None);
    let note = Note {
        store: STORE,
        through: 7,
        last_entry_at: at(1).to_string(),
        chain_head: "00".repeat(32),
        verified_at: at(2).to_string(),
    };
    note.write(folder.path()).unwrap();
    assert_eq!(Note::read(folder.path()).unwrap(), Some(note));
    let file = folder.path().join("BACKUP");
    std::fs::write(&file, b"{").unwrap();
    assert!(matches!(Note::read(folder.path()), Err(JournalError::Damaged { .. })));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(matches!(Note::read(folder.path()), Err(JournalError::Io { .. })));
}

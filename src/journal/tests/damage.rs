//! What recovery makes of bytes that are not as they were written.

use super::*;
use crate::{
    domain::entry::Hash,
    journal::{
        disk::simulated::Fault,
        frame,
        reader::Reader,
        watermark::{self, Watermark},
    },
};

/// A journal of several batches, none of them sealed, and its batches.
fn journal() -> (SimulatedDisk, Vec<Batch>) {
    let disk = SimulatedDisk::default();
    let (recovered, mut batches) = open(&disk, at(0)).unwrap();
    let mut writer = recovered.writer;
    let mut records = samples::all().into_iter();
    for count in [1, 3, 2] {
        let records = records.by_ref().take(count).collect();
        batches.push(writer.append(records, at(10)).unwrap());
    }
    let records = vec![samples::large(5_000), samples::large(200)];
    batches.push(writer.append(records, at(20)).unwrap());
    drop(writer);
    (disk, batches)
}

/// Where each batch begins, and where the last one ends.
fn offsets(disk: &SimulatedDisk) -> (Vec<usize>, usize) {
    let reader = Reader::open(&folders(disk)).unwrap().unwrap();
    let places: Vec<_> = reader
        .map(|located| located.unwrap())
        .map(|located| (index(located.offset), index(located.bytes)))
        .collect();
    let (last, bytes) = places[places.len() - 1];
    (places.iter().map(|place| place.0).collect(), last + bytes)
}

/// The journal after a power failure that lost the watermark, with its one segment changed.
fn changed(disk: &SimulatedDisk, change: impl FnOnce(&mut Vec<u8>)) -> SimulatedDisk {
    let copy = SimulatedDisk::default();
    let mut content = disk.bytes_of(FIRST).unwrap();
    change(&mut content);
    copy.put(FIRST, &content);
    copy
}

fn put_watermark(disk: &SimulatedDisk, batch: &Batch) {
    let watermark =
        Watermark { sequence: batch.entries.last().unwrap().sequence, hash: batch.hash };
    disk.put(watermark::FILE, &watermark.encode());
}

#[test]
fn a_cut_at_any_byte_of_the_last_batch_drops_it_whole_or_not_at_all() {
    let (disk, batches) = journal();
    let (offsets, end) = offsets(&disk);
    let original = disk.bytes_of(FIRST).unwrap();
    let start = offsets[4];
    let content_end = start + original[start..end].iter().rposition(|byte| *byte > 0).unwrap() + 1;
    let mut refused = 0;
    for cut in start..end {
        let disk = changed(&disk, |content| content[cut..].fill(0));
        // No write leaves a part of a sector, and the header is part of the first.
        let (recovered, read) = match open(&disk, at(30)) {
            Ok(opened) => opened,
            Err(error) => {
                assert!((start + 1..start + frame::HEADER_BYTES).contains(&cut), "{cut}: {error}");
                refused += 1;
                continue;
            }
        };
        let kept = if cut < content_end { 4 } else { 5 };
        assert_eq!(read[..read.len() - 1], batches[..kept], "cut at {cut}");
        let torn = recovered.report.torn;
        assert_eq!(torn.is_some(), (start + 1..content_end).contains(&cut), "cut at {cut}");
    }
    assert!(refused > 64, "{refused}");
}

#[test]
fn torn_bytes_are_set_aside_and_then_zeroed_and_the_journal_goes_on() {
    let (disk, batches) = journal();
    let (offsets, end) = offsets(&disk);
    let start = offsets[4];
    let disk = changed(&disk, |content| content[start + 5_000] ^= 1);
    let torn_bytes = disk.bytes_of(FIRST).unwrap()[start..end].to_vec();
    let mut reader = Reader::open(&folders(&disk)).unwrap().unwrap();
    assert_eq!(reader.by_ref().count(), 4);
    let tail = reader.tail().unwrap();
    assert_eq!((tail.offset, tail.bytes), (bytes(start), bytes(torn_bytes.len())));
    let (recovered, read) = open(&disk, at(30)).unwrap();
    assert_eq!(read[..4], batches[..4]);
    let torn = recovered.report.torn.clone().unwrap();
    assert_eq!((torn.offset, torn.bytes), (bytes(start), bytes(torn_bytes.len())));
    let name = torn.set_aside_as.file_name().unwrap().to_str().unwrap();
    let sequence = batches[4].entries[0].sequence;
    assert_eq!(name, format!("torn-{sequence}-{}.bytes", at(30).millis()));
    assert_eq!(disk.bytes_of(name).unwrap(), torn_bytes);
    let content = disk.bytes_of(FIRST).unwrap();
    assert!(content[start + BLOCK_BYTES..].iter().all(|byte| *byte == 0));
    drop(recovered);
    let (recovered, again) = open(&disk, at(31)).unwrap();
    assert_eq!(again[..5], read[..]);
    assert_eq!(recovered.report.torn, None);
}

#[test]
fn torn_bytes_take_no_name_that_others_have() {
    let (disk, batches) = journal();
    let (offsets, _) = offsets(&disk);
    let disk = changed(&disk, |content| content[offsets[4] + 5_000] ^= 1);
    let sequence = batches[4].entries[0].sequence;
    let name = |millis: u64| format!("torn-{sequence}-{}.bytes", at(millis).millis());
    disk.put(&name(30), b"of an earlier start");
    disk.put(&name(31), b"of another one");
    let torn = open(&disk, at(30)).unwrap().0.report.torn.unwrap();
    assert_eq!(torn.set_aside_as.file_name().unwrap().to_str(), Some(&*name(32)));
    assert_eq!(disk.bytes_of(&name(30)).unwrap(), b"of an earlier start");
}

#[test]
fn torn_bytes_are_never_zeroed_before_they_are_safe_elsewhere() {
    let (disk, _) = journal();
    let (offsets, end) = offsets(&disk);
    let torn = offsets[4]..end;
    let disk = changed(&disk, |content| content[torn.start + 5_000] ^= 1);
    let torn_bytes = disk.bytes_of(FIRST).unwrap()[torn.clone()].to_vec();
    for call in 1..10 {
        let disk = disk.copy();
        disk.fail_at(call, Fault::PowerFails);
        let recovered = open(&disk, at(30));
        crash::outcomes(64, call, |choose| {
            let crashed = disk.crash(choose);
            let names = crashed.list().unwrap();
            let aside = names.iter().filter(|name| name.starts_with("torn-"));
            let aside = aside.map(|name| crashed.bytes_of(name).unwrap());
            let in_place = crashed.bytes_of(FIRST).unwrap()[torn.clone()].to_vec();
            let safe = aside.chain([in_place]).any(|content| content == torn_bytes);
            assert!(safe, "lost by a crash at call {call}");
        });
        drop(recovered);
    }
}

#[test]
fn a_flipped_bit_before_the_last_batch_stops_the_start_and_says_where() {
    let (disk, batches) = journal();
    let (offsets, _) = offsets(&disk);
    for place in 0..offsets[4] {
        let disk = changed(&disk, |content| content[place] ^= 1 << (place % 8));
        let error = refused(&disk).to_string();
        let (offset, sequence) = match offsets.iter().rposition(|offset| *offset <= place) {
            Some(batch) => (offsets[batch], batches[batch].entries[0].sequence),
            None => (0, 1),
        };
        let says = format!("{FIRST}, byte {offset}, entry {sequence} expected");
        assert!(error.contains(&says), "byte {place}: {error}");
        assert!(error.contains("journal is damaged"), "byte {place}: {error}");
    }
}

#[test]
fn a_flipped_bit_in_the_last_batch_never_passes_and_is_damage_if_it_was_acknowledged() {
    let (disk, batches) = journal();
    let (offsets, end) = offsets(&disk);
    for place in offsets[4]..end {
        let flipped = changed(&disk, |content| content[place] ^= 1 << (place % 8));
        match open(&flipped.copy(), at(30)) {
            Ok((recovered, read)) => {
                assert_eq!(read[..read.len() - 1], batches[..4], "byte {place}");
                assert!(recovered.report.torn.is_some(), "byte {place}");
            }
            Err(error) => assert!(matches!(error, JournalError::Damaged { .. }), "{error}"),
        }
        put_watermark(&flipped, &batches[4]);
        let JournalError::Damaged { offset, .. } = refused(&flipped) else {
            panic!("byte {place} is not damage");
        };
        assert_eq!(offset, bytes(offsets[4]));
    }
}

#[test]
fn acknowledged_entries_that_are_gone_without_a_trace_are_damage() {
    let (disk, batches) = journal();
    let (offsets, _) = offsets(&disk);
    let disk = changed(&disk, |content| content[offsets[3]..].fill(0));
    assert!(open(&disk.copy(), at(30)).is_ok(), "nothing tells that there was more");
    put_watermark(&disk, &batches[3]);
    let error = refused(&disk).to_string();
    assert!(error.contains("were acknowledged"), "{error}");
}

#[test]
fn a_stale_or_empty_watermark_is_no_obstacle_and_one_that_is_none_is_damage() {
    let (disk, batches) = journal();
    let (offsets, _) = offsets(&disk);
    let disk = changed(&disk, |content| content[offsets[4] + 200..].fill(0));
    put_watermark(&disk, &batches[3]);
    assert!(open(&disk.copy(), at(30)).is_ok());
    let written = disk.bytes_of(watermark::FILE).unwrap();
    for content in [&b""[..], &[0; 64]] {
        disk.put(watermark::FILE, content);
        assert!(open(&disk.copy(), at(30)).is_ok());
    }
    for content in [&[255; 64], &written[..63], &[written.as_slice(), &[1]].concat()] {
        disk.put(watermark::FILE, content);
        assert!(refused(&disk).to_string().contains("the watermark is not what was written"));
    }
}

#[test]
fn another_history_than_the_acknowledged_one_is_damage() {
    let (disk, mut batches) = journal();
    let disk = changed(&disk, |_| {});
    batches[2].hash.0[0] ^= 1;
    put_watermark(&disk, &batches[2]);
    let error = refused(&disk).to_string();
    assert!(error.contains("another batch was acknowledged"), "{error}");
}

#[test]
fn a_watermark_without_segments_is_damage_and_so_are_set_aside_bytes() {
    let (_, batches) = journal();
    let disk = SimulatedDisk::default();
    put_watermark(&disk, &batches[0]);
    assert!(refused(&disk).to_string().contains("segments are missing"));
    let disk = SimulatedDisk::default();
    disk.put("torn-3-1.bytes", &[1]);
    assert!(refused(&disk).to_string().contains("segments are missing"));
}

#[test]
fn a_batch_from_elsewhere_never_passes_for_a_batch_of_this_place() {
    let (disk, _) = journal();
    let (offsets, end) = offsets(&disk);
    let block = |content: &[u8], at: usize| content[at..at + BLOCK_BYTES].to_vec();
    // Written to the wrong offset: the second batch over the third, then behind the end.
    for target in [offsets[2], end] {
        let disk = changed(&disk, |content| {
            let stray = block(content, offsets[1]);
            content[target..target + BLOCK_BYTES].copy_from_slice(&stray);
        });
        assert!(refused(&disk).to_string().contains("damaged"));
    }
    // The same batch of another store.
    let other = SimulatedDisk::default();
    let uuid = Uuid::from_u128(9);
    recover_as(uuid, (&folders(&other), Default::default()), options(), at(0), &mut |_| Ok(()))
        .unwrap();
    let stray = block(&other.bytes_of(FIRST).unwrap(), offsets[0]);
    let disk = changed(&disk, |content| {
        content[offsets[0]..offsets[1]].copy_from_slice(&stray);
    });
    assert!(refused(&disk).to_string().contains("damaged"));
}

#[test]
fn a_whole_batch_that_does_not_follow_is_damage_even_at_the_end() {
    let (disk, batches) = journal();
    let (offsets, _) = offsets(&disk);
    let place = frame::Place { store: STORE, segment: 1, offset: bytes(offsets[4]) };
    let right = frame::header_at(&disk.bytes_of(FIRST).unwrap()[offsets[4]..], &place).unwrap();
    let forged = |header: frame::Header| {
        changed(&disk, |content| {
            let end = offsets[4] + frame::HEADER_BYTES + index(u64::from(right.payload_bytes));
            frame::seal(&mut content[offsets[4]..end], &header, &place);
        })
    };
    assert_eq!(open(&forged(right), at(30)).unwrap().1[..5], batches);
    let wrong = [
        (frame::Header { previous: Hash([1; 32]), ..right }, "does not follow the one before"),
        (frame::Header { first: right.first + 1, ..right }, "begins with entry"),
        (frame::Header { first: right.first - 1, ..right }, "begins with entry"),
        (frame::Header { epoch: 0, ..right }, "after writer 1 had taken over"),
        (frame::Header { at: at(5), ..right }, "goes back"),
        (frame::Header { count: 1, ..right }, "does not match its entries"),
    ];
    for (header, says) in wrong {
        let error = refused(&forged(header)).to_string();
        assert!(error.contains(says), "{error}");
        assert!(error.contains(&format!("byte {}", offsets[4])), "{error}");
    }
}

#[test]
fn a_batch_that_the_books_refuse_is_damage_with_its_place() {
    let (disk, batches) = journal();
    let (offsets, _) = offsets(&disk);
    let last = batches[3].entries[0].sequence;
    let result = recover(&folders(&disk), options(), at(30), Default::default(), &mut |batch| {
        let wrong = batch.entries[0].sequence == last;
        if wrong { Err("no such payment".into()) } else { Ok(()) }
    });
    let Err(error) = result else {
        panic!("not refused");
    };
    let says = format!("no such payment (file {}", disk.path(FIRST).display());
    assert!(error.to_string().contains(&says), "{error}");
    assert!(error.to_string().contains(&format!("byte {}", offsets[3])), "{error}");
}

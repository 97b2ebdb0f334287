//! More than one segment: rotation, and segments that are not where they belong.

use super::*;
use crate::domain::entry::{Hash, Record};
use crate::journal::segment;

/// A journal over several segments.
fn long_journal(store: Uuid) -> (SimulatedDisk, Vec<Batch>) {
    let disk = SimulatedDisk::default();
    let mut batches = Vec::new();
    let mut visit = |batch: &Batch| {
        batches.push(batch.clone());
        Ok(())
    };
    let recovered =
        recover_as(store, (&folders(&disk), Default::default()), options(), at(0), &mut visit);
    let mut writer = recovered.unwrap().writer;
    for size in (1_000..20_000).step_by(1_000) {
        batches.push(writer.append(vec![samples::large(size)], at(1)).unwrap());
        writer.settle();
    }
    (disk, batches)
}

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".seg"));
    names
}

/// The disk without the file.
fn without(disk: &SimulatedDisk, name: &str) -> SimulatedDisk {
    let copy = disk.copy();
    copy.remove(name).unwrap();
    copy
}

#[test]
fn a_journal_goes_on_over_many_segments() {
    let (disk, batches) = long_journal(STORE);
    let names = segments(&disk);
    assert!(names.len() > 3, "{names:?}");
    let (recovered, read) = open(&disk, at(2)).unwrap();
    assert_eq!(read[..batches.len()], batches);
    assert_eq!(recovered.report.segments, bytes(names.len()));
    assert_eq!(disk.list().unwrap().iter().filter(|name| segment::is_ahead(name)).count(), 1);
}

#[test]
fn a_start_goes_on_in_a_new_segment_when_the_last_one_is_full() {
    let disk = SimulatedDisk::default();
    let (recovered, _) = open(&disk, at(0)).unwrap();
    let mut writer = recovered.writer;
    while writer.space().free() > 64 * 1024 - 4096 || segments(&disk).len() < 2 {
        writer.append(vec![Record::Sealed], at(1)).unwrap();
        writer.settle();
        if writer.position().offset == 64 * 1024 {
            break;
        }
    }
    assert_eq!(writer.position().offset, 64 * 1024, "full to the last block");
    drop(writer);
    let (recovered, _) = open(&disk, at(2)).unwrap();
    assert_eq!(recovered.report.segments, 2);
    drop(recovered);
    assert_eq!(open(&disk, at(3)).unwrap().0.report.segments, 2);
}

#[test]
fn a_missing_segment_is_named() {
    let (disk, _) = long_journal(STORE);
    let names = segments(&disk);
    for (missing, name) in names.iter().enumerate() {
        let error = refused(&without(&disk, name)).to_string();
        let says = match missing + 1 < names.len() {
            true => format!("number {} is missing", missing + 1),
            false => "were acknowledged".into(),
        };
        assert!(error.contains(&says), "{name}: {error}");
    }
}

#[test]
fn swapped_renamed_or_foreign_segments_are_refused() {
    let (disk, _) = long_journal(STORE);
    let (other, _) = long_journal(Uuid::from_u128(9));
    let names = segments(&disk);
    let (second, third) = (&names[1], &names[2]);

    let swapped = disk.copy();
    swapped.put(second, &disk.bytes_of(third).unwrap());
    swapped.put(third, &disk.bytes_of(second).unwrap());
    assert!(refused(&swapped).to_string().contains("number 2 is missing"));

    let foreign = disk.copy();
    foreign.put(second, &other.bytes_of(second).unwrap());
    assert!(refused(&foreign).to_string().contains("belongs to store"));

    let renamed = disk.copy();
    renamed.rename(second, "00000000000000000003.seg").unwrap();
    assert!(refused(&renamed).to_string().contains("its name lies"));

    let stray = disk.copy();
    stray.put("copy of.seg", &disk.bytes_of(second).unwrap());
    assert!(refused(&stray).to_string().contains("damaged"));

    let short = disk.copy();
    let content = disk.bytes_of(second).unwrap();
    short.put(second, &content[..content.len() - 4096]);
    assert!(refused(&short).to_string().contains("it was made 65536 bytes long"));
}

#[test]
fn a_cut_in_an_older_segment_is_damage_even_in_its_last_batch() {
    let (disk, _) = long_journal(STORE);
    let name = &segments(&disk)[0];
    let mut content = disk.bytes_of(name).unwrap();
    let last = content.iter().rposition(|byte| *byte > 0).unwrap();
    content[last] = 0;
    disk.put(name, &content);
    assert!(refused(&disk).to_string().contains("later segments follow"));
}

#[test]
fn a_segment_that_does_not_follow_is_damage() {
    let (disk, _) = long_journal(STORE);
    let name = &segments(&disk)[1];
    let content = disk.bytes_of(name).unwrap();
    let right = segment::Header::decode(&content).unwrap();
    let wrong = [
        (segment::Header { previous: Hash([1; 32]), ..right }, "its hash differs"),
        (segment::Header { first: right.first + 1, ..right }, "begins with entry"),
        (segment::Header { epoch: 0, ..right }, "after writer 1 had taken over"),
        (segment::Header { number: 3, ..right }, "number 2 is missing"),
    ];
    for (header, says) in wrong {
        let disk = disk.copy();
        let mut content = content.clone();
        content[..4096].copy_from_slice(&header.encode());
        disk.put(name, &content);
        let error = refused(&disk).to_string();
        assert!(error.contains(says), "{error}");
        assert!(error.contains(&**name), "{error}");
    }
    // A wrong first entry, and a name that says the same.
    let first = right.first + 1;
    let mut content = content;
    content[..4096].copy_from_slice(&segment::Header { first, ..right }.encode());
    let disk = without(&disk, name);
    disk.put(&segment::file_name(first), &content);
    let error = refused(&disk).to_string();
    assert!(error.contains(&format!("entry {} expected", right.first)), "{error}");
}

#[test]
fn leftovers_of_prepared_segments_are_cleared_away() {
    let (disk, _) = long_journal(STORE);
    disk.put("ahead-99.tmp", b"half a segm");
    let (_recovered, _) = open(&disk, at(5)).unwrap();
    let ahead: Vec<_> =
        disk.list().unwrap().into_iter().filter(|name| segment::is_ahead(name)).collect();
    let next = segments(&disk).len() + 1;
    assert_eq!(ahead, [segment::ahead_name(bytes(next))]);
}

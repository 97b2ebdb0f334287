//! A reader that goes along with the writer.

use super::*;
use crate::domain::{entry::Record, id::Sequence};
use crate::journal::{Reader, Writer, archive, segment};

/// Records that take somewhat more than `bytes` together.
fn records(bytes: usize) -> Vec<Record> {
    const EACH_MAX: usize = 900_000;
    let each = |start: usize| samples::large(EACH_MAX.min(bytes - start));
    (0..bytes).step_by(EACH_MAX).map(each).collect()
}

/// Reads on through `through`.
fn read_on(reader: &mut Reader, through: Sequence) -> Result<Vec<Batch>, JournalError> {
    reader.go_on(through)?;
    reader.map(|located| located.map(|located| located.batch)).collect()
}

/// A journal of large segments on a real disk, with its writer.
fn large(folder: &std::path::Path, direct: DirectIo) -> (Folders, Writer) {
    let folders = Folders::open(folder, direct).unwrap();
    let options = Options {
        segment_bytes: 8 * 1024 * 1024,
        batch_bytes_max: 4 * 1024 * 1024,
        software: "0.1.0".into(),
    };
    let recovered = recover(&folders, options, at(0), Default::default(), &mut |_| Ok(()));
    (folders, recovered.unwrap().writer)
}

#[test]
fn what_is_appended_is_read_at_once_in_batches_of_any_size_and_over_many_segments() {
    for direct in [DirectIo::WhereAvailable, DirectIo::Never] {
        let folder = tempfile::tempdir().unwrap();
        let (folders, mut writer) = large(folder.path(), direct);
        let mut reader = Reader::follow(&folders, 1).unwrap().unwrap();
        assert_eq!(reader.by_ref().count(), 1);
        // Some fill more than is read at once, some several times that, and few fit a segment.
        for bytes in [10, 900_000, 1_500_000, 3_000_000, 10, 10, 3_900_000, 2_100_000, 3_000_000] {
            let written = writer.append(records(bytes), at(1)).unwrap();
            let last = written.entries.last().unwrap().sequence;
            assert_eq!(read_on(&mut reader, last).unwrap(), std::slice::from_ref(&written));
            assert_eq!(reader.position().head, written.hash);
            writer.settle();
        }
        assert!(reader.segments().0 > 2, "{:?}", reader.segments());
        let small = |_| writer.append(vec![Record::Sealed], at(1)).unwrap();
        let written: Vec<Batch> = (0..400).map(small).collect();
        let last = written.last().unwrap().entries[0].sequence;
        assert_eq!(read_on(&mut reader, last).unwrap(), written);
    }
}

#[test]
fn damage_behind_what_was_read_is_found_when_the_reader_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (folders, mut writer) = large(folder.path(), DirectIo::WhereAvailable);
    let mut reader = Reader::follow(&folders, 1).unwrap().unwrap();
    assert_eq!(reader.by_ref().count(), 1);
    let place = writer.position();
    let sequence = writer.append(records(2_000_000), at(1)).unwrap().entries[0].sequence;
    let file = std::fs::File::options().write(true).open(&place.file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"?", place.offset + 1_900_000).unwrap();
    match read_on(&mut reader, sequence) {
        Err(JournalError::Damaged { file, offset, sequence: expected, .. }) => {
            assert_eq!((file, offset, expected), (place.file, place.offset, sequence));
        }
        other => panic!("{other:?}"),
    }
}

/// A journal of several segments on a real disk, the first entries of these, and its last entry.
fn several(folder: &std::path::Path) -> (Folders, Vec<Sequence>, Sequence) {
    let (folders, mut writer) = large(folder, DirectIo::WhereAvailable);
    let mut last = 0;
    for _ in 0..8 {
        let written = writer.append(records(3_000_000), at(1)).unwrap();
        last = written.entries.last().unwrap().sequence;
        writer.settle();
    }
    let mut firsts: Vec<Sequence> =
        folders.journal.list().unwrap().iter().filter_map(|name| segment::first_of(name)).collect();
    firsts.sort_unstable();
    assert!(firsts.len() > 3, "{firsts:?}");
    (folders, firsts, last)
}

#[test]
fn a_segment_that_goes_to_the_archive_meanwhile_is_read_there() {
    let folder = tempfile::tempdir().unwrap();
    let (folders, firsts, last) = several(folder.path());
    let mut all = Reader::open(&folders).unwrap().unwrap();
    let mut reader = Reader::follow(&folders, last).unwrap().unwrap();
    let (newest, older) = firsts.split_last().unwrap();
    for first in older {
        archive::put(&folders, *first, &|| ()).unwrap();
    }
    assert_eq!(all.by_ref().map(Result::unwrap).count(), 9);
    archive::put(&folders, *newest, &|| ()).unwrap();
    assert_eq!(reader.by_ref().map(Result::unwrap).count(), 9);
    assert!(read_on(&mut reader, last).unwrap().is_empty());
}

#[test]
fn a_segment_that_goes_to_the_archive_between_two_reads_of_it_is_read_on_there() {
    let folder = tempfile::tempdir().unwrap();
    let (folders, firsts, last) = several(folder.path());
    let mut reader = Reader::follow(&folders, 1).unwrap().unwrap();
    assert_eq!(reader.by_ref().count(), 1);
    // Now a part of the first segment is in memory.
    reader.go_on(last).unwrap();
    archive::put(&folders, firsts[0], &|| ()).unwrap();
    assert_eq!(reader.map(Result::unwrap).count(), 8);
}

#[test]
fn a_segment_that_cannot_be_read_is_named_and_not_looked_for_in_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let (folders, firsts, last) = several(folder.path());
    let file = |first: &Sequence| folders.journal.path(&segment::file_name(*first));
    let named = |mut reader: Reader| match reader.find_map(Result::err) {
        Some(JournalError::Io { file, .. }) => file,
        other => panic!("{other:?}"),
    };
    let mut cut = Reader::follow(&folders, 1).unwrap().unwrap();
    assert_eq!(cut.by_ref().count(), 1);
    cut.go_on(last).unwrap();
    let content = std::fs::read(file(&firsts[0])).unwrap();
    std::fs::write(file(&firsts[0]), &content[..2 * 1024 * 1024]).unwrap();
    assert_eq!(named(cut), file(&firsts[0]), "cut since a part of it was read");
    std::fs::write(file(&firsts[0]), &content).unwrap();

    let folder_at = |path: &std::path::Path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    };
    let (all, followed) = (Reader::open(&folders), Reader::follow(&folders, last));
    let newest = file(firsts.last().unwrap());
    std::fs::remove_file(&newest).unwrap();
    assert_eq!(named(all.unwrap().unwrap()), newest, "only older ones go to the archive");
    folder_at(&file(&firsts[1]));
    assert_eq!(named(followed.unwrap().unwrap()), file(&firsts[1]), "it is a folder");
}

#[test]
fn who_reads_along_reads_a_window_of_a_long_segment_and_knows_how_long_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (folders, firsts, last) = several(folder.path());
    let long = folders.journal.path(&segment::file_name(firsts[1]));
    let file = std::fs::File::options().write(true).open(&long).unwrap();
    let length = file.metadata().unwrap().len();
    for wrong in [length - 4096, length + 4096] {
        file.set_len(wrong).unwrap();
        let error = Reader::follow(&folders, last).unwrap().unwrap().find_map(Result::err);
        let Some(JournalError::Damaged { file, what, .. }) = error else { panic!("{error:?}") };
        assert_eq!(file, long);
        assert!(what.starts_with(&format!("the file is {wrong} bytes long")), "{what}");
    }
    file.set_len(length).unwrap();
    let read = Reader::follow(&folders, last).unwrap().unwrap();
    assert_eq!(read.map(Result::unwrap).count(), 9);
}

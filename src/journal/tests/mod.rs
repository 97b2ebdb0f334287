//! The rules of the journal, each seen to hold on a simulated or a real disk.
//!
//! What concerns one file alone is tested at the bottom of that file.

mod backup;
mod crash;
mod damage;
mod device;
mod faults;
mod follow;
mod format;
mod growth;
mod samples;

use super::{
    DirectIo, Disk, Folders, JournalError, Options, RealDisk, Recovered,
    buffer::{BLOCK_BYTES, bytes, index},
    disk::simulated::SimulatedDisk,
    recovery::{recover, recover_as},
};
use crate::domain::{entry::Batch, time::Timestamp};
use std::sync::Arc;
use uuid::Uuid;

const STORE: Uuid = Uuid::from_u128(0x5704_0000_0000_4000_8000_0000_0000_0001);

fn options() -> Options {
    Options { segment_bytes: 64 * 1024, batch_bytes_max: 32 * 1024, software: "0.1.0".into() }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_763_823_845_000 + millis)
}

/// All folders on one disk.
fn folders(disk: &SimulatedDisk) -> Folders {
    Folders::all_in(Arc::new(disk.clone()))
}

/// A recovery, with all that was visited.
fn open(disk: &SimulatedDisk, now: Timestamp) -> Result<(Recovered, Vec<Batch>), JournalError> {
    let mut batches = Vec::new();
    let recovered =
        recover_as(STORE, (&folders(disk), Default::default()), options(), now, &mut |batch| {
            batches.push(batch.clone());
            Ok(())
        })?;
    recovered.writer.settle();
    Ok((recovered, batches))
}

/// The message of a start that is refused, which must change nothing.
fn refused(disk: &SimulatedDisk) -> JournalError {
    let calls = disk.calls();
    let Err(error) = open(disk, at(9_000)) else {
        panic!("the start is not refused");
    };
    assert_eq!(disk.calls(), calls, "a refused start changes nothing");
    error
}

const FIRST: &str = "00000000000000000001.seg";

#[test]
fn what_was_appended_is_read_back_as_it_was_on_every_kind_of_disk() {
    let folder = tempfile::tempdir().unwrap();
    let real = |name: &str, direct| -> Arc<dyn Disk> {
        Arc::new(RealDisk::open(&folder.path().join(name), direct).unwrap())
    };
    let disks: [Arc<dyn Disk>; 3] = [
        real("direct", DirectIo::WhereAvailable),
        real("cached", DirectIo::Never),
        Arc::new(SimulatedDisk::default()),
    ];
    for disk in disks {
        let mut written = Vec::new();
        for start in 0..3 {
            let mut read = Vec::new();
            let mut visit = |batch: &Batch| {
                read.push(batch.clone());
                Ok(())
            };
            let recovered = recover(
                &Folders::all_in(Arc::clone(&disk)),
                options(),
                at(start * 100),
                Default::default(),
                &mut visit,
            );
            let mut writer = recovered.unwrap().writer;
            written.push(read.last().unwrap().clone());
            assert_eq!(read, written);
            for count in 1..=3 {
                let records = samples::all().into_iter().take(count * 2).collect();
                let now = at(start * 100 + 1);
                written.push(writer.append(records, now).unwrap());
            }
        }
    }
}

#[test]
fn sequences_have_no_gaps_and_time_never_goes_back() {
    let disk = SimulatedDisk::default();
    let (recovered, _) = open(&disk, at(500)).unwrap();
    let mut writer = recovered.writer;
    writer.append(samples::all(), at(100)).unwrap();
    writer.append(samples::all(), at(700)).unwrap();
    drop(writer);
    let (recovered, batches) = open(&disk, at(600)).unwrap();
    let entries: Vec<_> = batches.iter().flat_map(|batch| &batch.entries).collect();
    for (entry, sequence) in entries.iter().zip(1..) {
        assert_eq!(entry.sequence, sequence);
    }
    let times: Vec<_> = batches.iter().map(|batch| batch.entries[0].at).collect();
    assert_eq!(times, [at(500), at(500), at(700), at(700)]);
    let report = recovered.report;
    assert_eq!(report.entries, bytes(entries.len()));
    assert_eq!((report.epoch, report.segments), (2, 1));
    let end = recovered.writer.position().offset;
    assert_eq!(report.bytes, end - bytes(BLOCK_BYTES), "all behind the segment's header");
    assert_eq!(report.last_at, at(700));
    assert_eq!(report.chain_head, batches[3].hash);
    assert_eq!((report.store, report.torn), (STORE, None));
}

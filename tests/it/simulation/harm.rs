//! What befalls disks and clocks.

use super::{
    audit,
    run::Run,
    server::{folders, recover},
    world::{LifeClock, Time},
};
use rand::{RngExt, rngs::SmallRng};
use strongroom::{
    clock::Clock,
    journal::{Disk, Folders, Reader, disk::simulated::Fault},
};

/// A fault of the disk.
pub fn fault(dice: &mut SmallRng) -> Fault {
    match dice.random_range(0..10) {
        0..4 => Fault::PowerFails,
        4..6 => Fault::SyncFails,
        6 => Fault::Refused,
        7 => Fault::Interrupted,
        _ => Fault::CutShort,
    }
}

/// The machine's clock is set, or the machine sleeps.
pub fn clock(time: &Time, dice: &mut SmallRng) {
    match dice.random_range(0..4) {
        0 => time.set_wall(dice.random_range(0..100_000_000)),
        1 => time.set_wall(-dice.random_range(0..100_000_000)),
        2 => time.set_wall(dice.random_range(-20_000..20_000)),
        _ => time.pass(dice.random_range(0..3_600_000)),
    }
}

/// Flips bits of what is on the disk, on a copy: a start refuses that, or it changed nothing that anybody was told.
pub fn flip_bits(run: &mut Run) {
    let copy = run.disk.copy();
    let Some((name, place)) = aim(run) else { return };
    let bits = 1 << run.dice.random_range(0..8);
    if !copy.flip(&name, place, bits) {
        return;
    }
    run.tally.flips += 1;
    let clock = LifeClock::new(run.time.time.clone());
    match recover(&copy, run.setup, &clock) {
        Err(_) => run.tally.refused_flips += 1,
        Ok(recovery) => {
            audit::answers_stand(&run.clients, &recovery.books, clock.now());
            audit::told_events_stand(&recovery.books, &run.endpoint);
            drop(recovery.journal);
            // What a start does not read is found by whoever reads all.
            if name.ends_with(".seg.zst") && !is_whole(&recovery.folders) {
                run.tally.refused_flips += 1;
                return;
            }
            audit::journal_agrees(&recovery.folders, &recovery.books);
        }
    }
}

/// Whether all of the journal can be read.
fn is_whole(folders: &Folders) -> bool {
    Reader::open(folders).is_ok_and(|reader| reader.into_iter().flatten().all(|it| it.is_ok()))
}

/// A byte of a batch that later ones follow, or of any file but the journal's segments. What a power failure left of the
/// last batch can't be told from one that a bit flipped in, if the watermark was lost with it.
fn aim(run: &mut Run) -> Option<(String, usize)> {
    let folders = folders(&run.disk);
    let names = run.disk.list().ok()?;
    if run.dice.random_bool(0.7) {
        let located: Vec<_> = Reader::open(&folders).ok()??.map_while(Result::ok).collect();
        let number = run.dice.random_range(0..located.len().checked_sub(1)?.max(1));
        let located = located.get(number)?;
        let name = located.file.file_name()?.to_str()?.to_owned();
        let offset = usize::try_from(located.offset).ok()?;
        let length = usize::try_from(located.bytes).ok()?;
        return Some((name, offset + run.dice.random_range(0..length)));
    }
    let others: Vec<&String> = names.iter().filter(|name| !name.ends_with(".seg")).collect();
    let name = (*others.get(run.dice.random_range(0..others.len().max(1)))?).clone();
    let length = usize::try_from(run.disk.length(&name).ok()?).ok()?;
    (length > 0).then(|| (name, run.dice.random_range(0..length)))
}

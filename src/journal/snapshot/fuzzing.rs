//! The door for fuzzing snapshots: whatever the bytes, their hashes are right, so that all that reads them is reached.

use super::{
    Snapshot,
    contents::{Contents, HEADER_BYTES, Kind, Part},
};
use crate::{
    domain::{
        books::{Books, Historian, Position},
        id::PaymentId,
    },
    journal::{
        buffer::bytes,
        disk::{Source, simulated::SimulatedDisk},
    },
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const NAME: &str = "fuzzed.snap";

/// Reads `content` as a whole snapshot file, and as the contents of one.
pub fn file(content: &[u8]) {
    let disk = SimulatedDisk::default();
    disk.put(NAME, content);
    drop(Snapshot::open(&disk, NAME.into()).map(|snapshot| read_all(&snapshot)));
    let mut sealed = Contents::header();
    sealed.extend(Contents::seal(content.into(), bytes(HEADER_BYTES)));
    disk.put(NAME, &sealed);
    drop(Snapshot::open(&disk, NAME.into()).map(|snapshot| read_all(&snapshot)));
}

/// Reads `plain` as what a part of each kind holds, which counts `items` things and `entries` entries.
pub fn part(plain: &[u8], items: u64, entries: u64) {
    let Ok(content) = zstd::bulk::compress(plain, 1) else { return };
    let nil = PaymentId::new(Uuid::nil());
    let part = |kind| Part {
        kind,
        offset: 0,
        length: bytes(content.len()),
        plain: bytes(plain.len()),
        items,
        entries,
        first: nil,
        last: nil,
        hash: Sha256::digest(&content).into(),
    };
    let disk = SimulatedDisk::default();
    disk.put(NAME, &content);
    let kinds = [Kind::Payments, Kind::Blocks, Kind::Endpoints, Kind::Kept];
    let contents = Contents {
        store: Uuid::nil(),
        position: Position { sequence: u64::MAX, ..Position::default() },
        entries: [entries, 0],
        payments: items,
        turnover: Default::default(),
        segments: Vec::new(),
        parts: kinds.map(part).into(),
    };
    read_all(&Snapshot { disk: &disk, name: NAME.into(), contents });
}

/// All that a start reads of a snapshot.
fn read_all(snapshot: &Snapshot<'_>) {
    let (mut histories, mut blocks) = (Vec::new(), Vec::new());
    for part in &snapshot.contents.parts {
        match part.kind {
            Kind::Payments => {
                let mut historian = Historian::default();
                let read = snapshot.payments_of(part, Source::Cache, |_, entries, _| {
                    histories.push(historian.history(entries)?);
                    Ok::<_, String>(())
                });
                drop(read);
            }
            Kind::Blocks => blocks.extend(snapshot.blocks_of(part, Source::Cache)),
            Kind::Endpoints | Kind::Kept => {}
        }
    }
    let endpoints = snapshot.endpoints(Source::Cache).unwrap_or_default();
    let kept = snapshot.all_kept(Source::Cache).unwrap_or_default();
    // Threads are costly, so only where there is something.
    if !(histories.is_empty() && endpoints.is_empty() && kept.is_empty()) {
        let blocks = blocks.concat();
        drop(Books::restore(snapshot.contents.position, blocks, histories, endpoints, kept));
    }
}

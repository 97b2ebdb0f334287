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

//! What the real disk asks of the operating system: where bytes are read from, and when they are durable.
//!
//! Where there is no device behind the files (a tmpfs), nothing can be asked of one, and most of this is not seen.

use super::*;
use crate::journal::{
    buffer::AlignedBuffer,
    disk::{Fill, Source, Writes},
};
use rustix::{
    fs::{Advice, Mode, OFlags, fadvise},
    io::{Errno, ReadWriteFlags, preadv2},
};
use std::{
    fs::File,
    io::{IoSliceMut, Read},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const KINDS: [DirectIo; 2] = [DirectIo::WhereAvailable, DirectIo::Never];

/// How many bytes the device was asked for meanwhile, by this thread.
fn asked_of_the_device(read: impl FnOnce()) -> u64 {
    let so_far = || {
        let mut figures = String::new();
        File::open("/proc/thread-self/io").unwrap().read_to_string(&mut figures).unwrap();
        let of_reads = figures.lines().find_map(|line| line.strip_prefix("read_bytes: "));
        of_reads.unwrap().parse::<u64>().unwrap()
    };
    let before = so_far();
    read();
    so_far() - before
}

/// Whether the cache holds the byte.
fn is_cached(path: &Path, offset: u64) -> bool {
    let mut byte = [0];
    let file = File::open(path).unwrap();
    match preadv2(&file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
        Ok(1) => true,
        Err(Errno::AGAIN) => false,
        other => panic!("{other:?}"),
    }
}

/// Has the cache let go of all that is on the device.
fn forget(path: &Path) {
    fadvise(File::open(path).unwrap(), 0, None, Advice::DontNeed).unwrap();
}

/// Whether `look` succeeds at some time: now and then the cache holds a page for reasons of its own, as for a moment one
/// that it just looked for, so once in five times will do.
fn at_some_time(look: impl Fn() -> bool) -> bool {
    (0..5).any(|_| {
        let seen = look();
        if !seen {
            thread::sleep(Duration::from_millis(100));
        }
        seen
    })
}

/// Whether the cache holds the byte no more when it was asked to forget after `change`. It holds what is not on the
/// device.
fn can_be_forgotten(path: &Path, offset: u64, change: impl Fn()) -> bool {
    at_some_time(|| {
        change();
        forget(path);
        !is_cached(path, offset)
    })
}

/// Whether there is a device behind the file.
fn has_device(path: &Path) -> bool {
    File::open(path).unwrap().sync_all().unwrap();
    forget(path);
    asked_of_the_device(|| drop(std::fs::read(path).unwrap())) > 0
}

/// A file of 16 blocks, none of them zeros, on the device and in the cache.
fn file_of(disk: &RealDisk) -> PathBuf {
    disk.create_zeroed("file", 65_536, Fill::AtOnce).unwrap();
    let content: Vec<u8> = (1..=16).flat_map(|block| [block; 4096]).collect();
    let file = disk.open("file", Writes::Durable).unwrap();
    file.write(0, &AlignedBuffer::blocks_of(&content)).unwrap();
    std::fs::read(disk.path("file")).unwrap();
    disk.path("file")
}

/// How the file is open just now.
fn flags(path: &Path) -> OFlags {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap);
    let this =
        |file: &std::fs::DirEntry| std::fs::read_link(file.path()).is_ok_and(|to| to == path);
    let number = files.into_iter().find(this).unwrap().file_name().into_string().unwrap();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    OFlags::from_bits_retain(u32::from_str_radix(flags, 8).unwrap())
}

#[test]
fn the_way_past_the_cache_is_taken_where_there_is_one_unless_it_was_ruled_out() {
    for direct in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path(), direct).unwrap();
        disk.create_zeroed("file", 4096, Fill::AtOnce).unwrap();
        let path = disk.path("file");
        let past = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let there_is_one = rustix::fs::open(&path, past, Mode::empty()).is_ok();
        let expected = there_is_one && direct == DirectIo::WhereAvailable;
        let _file = disk.open("file", Writes::Durable).unwrap();
        let way = OFlags::DIRECT | OFlags::DSYNC;
        let flags = flags(&path);
        assert_eq!(flags.intersection(way), if expected { way } else { OFlags::empty() });
        assert!(flags.contains(OFlags::WRONLY | OFlags::CLOEXEC));
    }
}

/// A folder with the file in it, if there is a device behind it.
fn on_a_device(direct: DirectIo) -> Option<(TempDir, RealDisk, PathBuf)> {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path(), direct).unwrap();
    let path = file_of(&disk);
    has_device(&path).then_some((folder, disk, path))
}

#[test]
fn a_read_from_the_device_asks_it_for_every_block_though_the_cache_shows_them_all() {
    for direct in KINDS {
        let Some((_folder, disk, path)) = on_a_device(direct) else { return };
        for (offset, length) in [(0, 65_536), (4096, 4096), (4100, 5000), (65_496, 40), (100, 50)] {
            std::fs::read(&path).unwrap();
            let asked = asked_of_the_device(|| {
                disk.read_part("file", offset, length, Source::Device).unwrap();
            });
            let blocks = (offset + bytes(length)).div_ceil(4096) - offset / 4096;
            assert!(asked >= blocks * 4096, "{direct:?}, {length} at {offset}: {asked}");
        }
        std::fs::read(&path).unwrap();
        let asked = asked_of_the_device(|| drop(disk.read("file", Source::Device).unwrap()));
        assert!(asked >= 65_536, "{direct:?}: {asked}");
    }
}

#[test]
fn a_read_past_the_cache_leaves_nothing_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path(), DirectIo::WhereAvailable).unwrap();
    let path = file_of(&disk);
    let _file = disk.open("file", Writes::Durable).unwrap();
    if !has_device(&path) || !flags(&path).contains(OFlags::DIRECT) {
        return;
    }
    let leaves_nothing = at_some_time(|| {
        forget(&path);
        disk.read_part("file", 4096, 4096, Source::Device).unwrap();
        disk.read("file", Source::Device).unwrap();
        !is_cached(&path, 4096)
    });
    assert!(leaves_nothing);
    disk.read_part("file", 4096, 4096, Source::Cache).unwrap();
    assert!(is_cached(&path, 4096));
}

#[test]
fn what_was_called_durable_need_not_go_to_the_device_any_more() {
    for direct in KINDS {
        let Some((_folder, disk, path)) = on_a_device(direct) else { return };
        let block = AlignedBuffer::blocks_of(&[7; 4096]);
        let file = disk.open("file", Writes::Durable).unwrap();
        let write = || file.write(4096, &block).unwrap();
        assert!(can_be_forgotten(&path, 4096, write), "{direct:?}, written");
        let file = disk.open("file", Writes::Cached).unwrap();
        let write_and_sync = || {
            file.write(8192, &block).unwrap();
            file.sync().unwrap();
        };
        assert!(can_be_forgotten(&path, 8192, write_and_sync), "{direct:?}, synced");
    }
}

#!/usr/bin/env bash
# Real disks fill up under load: the suite's own tests of a full disk run on a small tmpfs and on a small ext4 in a file,
# where a file really takes all the room there is. For Linux and root: it mounts.
. "$(dirname "$0")/common.sh"

cannot() { echo "cannot run here: $*" >&2; exit 2; }
[ "$(id -u)" = 0 ] || cannot "mounting needs root"
need mkfs.ext4 e2fsprogs
(cd "$root" && cargo test --locked --quiet --test it --no-run)

# suite FOLDER: one test at a time, since each fills the disk.
suite() {
    (cd "$root" && DISK="$1" cargo test --locked --quiet --test it -- --test-threads=1 \
        a_full_disk_takes_no_new_payments what_was_begun_before_the_disk_filled_up a_disk_that_fills_up_and_is_freed)
}

mkdir tmpfs ext4
mount -t tmpfs -o size=24m tmpfs tmpfs || cannot "mounting a tmpfs is not allowed (CAP_SYS_ADMIN)"
mounts+=("$PWD/tmpfs")
suite "$PWD/tmpfs"
echo "a full tmpfs loses nothing"

truncate -s 40M image
mkfs.ext4 -q -m 0 image
mount -o loop image ext4 || cannot "there are no loop devices, so no ext4 of its own"
mounts+=("$PWD/ext4")
suite "$PWD/ext4"
echo "a full ext4 loses nothing"

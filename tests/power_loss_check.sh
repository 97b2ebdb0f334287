#!/usr/bin/env bash
# The power fails under load: the data lies on a file system of our own (tests/lossyfs, over FUSE) that forgets what was
# not synced, and the suite's own kill -9 runs on it, with the same clients and the same checker. First the disk lies
# (it says that all is synced and nothing is), and the checker must notice. CRASHES= for more than 20 power cuts.
# For Linux and root: it mounts. PROGRAM= for another build of the program than the suite's own. `--calls` has every call to the file system fail once instead.
. "$(dirname "$0")/common.sh"

[ "$(id -u)" = 0 ] || { echo "cannot run here: mounting needs root" >&2; exit 2; }
[ -c /dev/fuse ] || { echo "cannot run here: there is no /dev/fuse" >&2; exit 2; }

target="$(realpath "${CARGO_TARGET_DIR:-$root/target}")"
cargo build --locked --quiet --release --manifest-path "$root/tests/lossyfs/Cargo.toml" --target-dir "$target/lossyfs"
(cd "$root" && cargo test --locked --quiet --test it --no-run)

# disk NAME: mounts an empty one at NAME and sets DISK.
disk() {
    mkdir "$1"
    "$target/lossyfs/release/lossyfs" "$PWD/$1" >"$1.log" 2>&1 &
    processes+=($!)
    mounts+=("$PWD/$1")
    for _ in $(seq 100); do [ -e "$1/.fail" ] && break; sleep 0.1; done
    [ -e "$1/.fail" ] || { echo "cannot run here: mounting by FUSE is not allowed" >&2; exit 2; }
    export DISK="$PWD/$1"
}
suite() { (cd "$root" && cargo test --locked --quiet --test it "$@" -- --nocapture); }

disk lying
echo yes >lying/.lie
if CRASHES=12 suite kill_9_under_load >lying.txt 2>&1; then
    echo "a disk that lies went unnoticed" >&2
    exit 1
fi
grep -qE "is damaged|and then forgotten|can't be done any more|what was told|did not start" lying.txt || { cat lying.txt >&2; exit 1; }
echo "a disk that lies is noticed"

disk lossy
suite kill_9_under_load
echo "what was acknowledged outlives every power cut"

if [ "${1:-}" = --calls ]; then
    disk calls
    CALLS="${CALLS:-1}" suite whichever_call
    echo "whichever call fails, nothing acknowledged is lost"
fi

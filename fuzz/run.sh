#!/usr/bin/env bash
# Runs every fuzz target for so many seconds each (60 unless told), from the seeds that `fuzz/seeds.sh` makes of the
# golden files and from what earlier runs found. The stable toolchain does: nothing here needs a sanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTC_BOOTSTRAP=1
seconds="${1:-60}"
fuzz/seeds.sh
cargo fuzz build --sanitizer none
for target in $(cargo fuzz list); do
    printf '\n== %s\n' "$target"
    cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
        -print_final_stats=1 -verbosity=0
done

#!/usr/bin/env bash
# How memory, disk and restart time grow with history, and what a snapshot costs the payments taken meanwhile.
#
#     cargo install oha --locked        (once)
#     benches/growth.sh [PAYMENTS]      (default: 1000000; takes some minutes and 2 GB of disk, and stops by itself)
#
# One server in a temporary folder, its safe configuration, on loopback. All figures are of this machine in this run.
set -euo pipefail
cd "$(dirname "$0")/.."

payments=${1:-1000000}
command -v oha >/dev/null || { echo "oha is missing: cargo install oha --locked" >&2; exit 1; }
cargo build --release --locked
program=$PWD/target/release/strongroom
folder=$(mktemp -d)
cp config.toml "$folder/"
cd "$folder"
server=
trap '[ -z "$server" ] || pull_the_plug; rm -rf "$folder"' EXIT

# Snapshots are made when this script says so, and nothing else runs in the background meanwhile.
export STRONGROOM__SNAPSHOTS__EVERY=30d STRONGROOM__SNAPSHOTS__EVERY_BYTES=1099511627776
export STRONGROOM__RECONCILIATION__FULL_EVERY=30d STRONGROOM__LOG__LEVEL=error
admin='Authorization: Bearer ak_test_admin'
merchant='Authorization: Bearer sk_test_merchant_1'
body='{"amount":4999,"currency":"USD","description":"Order #12345"}'

start() {
    "$program" serve --listen 127.0.0.1:0 >said 2>log &
    server=$!
    for _ in $(seq 600); do
        url=$(sed -n 's/^listening on //p' said)
        [ -z "$url" ] || return 0
        kill -0 "$server" 2>/dev/null || { cat log >&2; exit 1; }
        sleep 0.1
    done
    echo "the server does not start" >&2
    exit 1
}

# As a power failure would.
pull_the_plug() {
    kill -9 "$server"
    wait "$server" 2>/dev/null || true
    server=
}

figure() { python3 -c "import json,sys; d=json.load(open('$1')); print($2)"; }

charge() { # how: -n COUNT or -z TIME; connections
    oha --no-tui --output-format json -c "$2" $1 -m POST -H "$merchant" -H 'Content-Type: application/json' -d "$body" \
        --rand-regex-url "$url/api/payments\\?idempotencyKey=[0-9a-f]{32}" >load.json
    figure load.json "'' if set(d['statusCodeDistribution']) == {'201'} else sys.exit('not all charges were taken')" >/dev/null
}

snapshot() { curl -sf -X POST "$url/api/snapshot" -H "$admin" >snapshot.json; }

# Once the allocator has given back what the start needed.
memory_kib() { sleep 10; sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$server/status"; }

median() { sort -n | sed -n "$((($1 + 1) / 2))p"; }

# Starts three times and says the median time to recover, in ms.
restart_ms() {
    for _ in 1 2 3; do
        start
        sed -n 's/^recovered .* in \([0-9]*\) ms$/\1/p' said
        pull_the_plug
    done | median 3
}

row() { printf '%-66s %s\n' "$1" "$2"; }

start
empty_kib=$(memory_kib)
have=0
for goal in $((payments / 10)) "$payments"; do
    charge "-n $((goal - have))" 64
    have=$goal
    grown_kib=$(memory_kib)
    pull_the_plug
    rm -rf data/snapshots.aside
    [ ! -d data/snapshots ] || mv data/snapshots data/snapshots.aside
    row "restart with $goal payments from the journal alone, ms" "$(restart_ms)"
    if [ -d data/snapshots.aside ]; then
        rm -rf data/snapshots
        mv data/snapshots.aside data/snapshots
    fi
    start
    snapshot
    row "snapshot at $goal payments, ms" "$(figure snapshot.json "d['durationMs']")"
    row "its size, bytes a payment" "$(figure snapshot.json "d['snapshot']['bytes'] // $goal")"
    pull_the_plug
    row "restart with $goal payments from the snapshot, ms" "$(restart_ms)"
    start
done
row "memory, bytes a payment, taken as they came" "$(((grown_kib - empty_kib) * 1024 / payments))"
row "memory, bytes a payment, after a restart" "$((($(memory_kib) - empty_kib) * 1024 / payments))"
"$program" verify --data data --json >verified.json 2>/dev/null
row "journal, bytes a payment" "$(figure verified.json "d['bytes'] // d['payments']")"
row "verified, with every hash, rule and sum" "$(figure verified.json "d['ok']")"

for connections in 1 16; do
    for round in 1 2 3 4 5; do
        for with in 0 1; do
            if [ $with = 1 ]; then
                while curl -sf -X POST "$url/api/snapshot" -H "$admin" -o /dev/null; do echo; done >made &
                maker=$!
            fi
            charge "-z 5s -w" "$connections"
            if [ $with = 1 ]; then
                kill "$maker" 2>/dev/null || true
                wait "$maker" 2>/dev/null || true
            fi
            figure load.json "d['latencyPercentiles']['p50'] * 1e6, d['latencyPercentiles']['p99'] * 1e6" >>"with$with"
        done
        paste -d' ' with0 with1 | tr -d '(),' | tail -1 >>"pairs$connections"
    done
    python3 - "$connections" "pairs$connections" <<'PYTHON'
import statistics, sys
rows = [[float(x) for x in line.split()] for line in open(sys.argv[2])]
of = lambda column: statistics.median(row[column] for row in rows)
for name, without, during in (("p50", 0, 2), ("p99", 1, 3)):
    ratio = statistics.median(row[during] / row[without] for row in rows)
    what = f"{name} of charges at {sys.argv[1]} connections without, with snapshots all the time, us"
    print(f"{what:<66} {of(without):.0f}, {of(during):.0f}: x {ratio:.2f} (median of {len(rows)})")
PYTHON
done

#!/usr/bin/env bash
# Independent accountants look at the ledger: a workload runs against the real server, its export is fed to hledger and
# bean-check, and hledger's balance of every account must be that of the API, to the last minor unit. An export from
# which a posting or a whole transaction was taken must be refused by both.
set -euo pipefail
cd "$(dirname "$0")/.."

PAYMENTS="${PAYMENTS:-6000}"

# Sees to it that a program is there, if need be from this Debian package.
need() {
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        (apt-get install -y -q "$2" || { apt-get update -q && apt-get install -y -q "$2"; }) >&2 || true
    fi
    if [ "$1" = bean-check ] && ! command -v bean-check >/dev/null; then
        python3 -m pip install --quiet 'beancount<3' >&2 || true
    fi
    command -v "$1" >/dev/null || { echo "$1 is missing: install the package $2" >&2; exit 1; }
}
need python3 python3
need hledger hledger
need bean-check beancount

cargo build --locked --quiet
strongroom="$(realpath "${CARGO_TARGET_DIR:-target}")/debug/strongroom"
check="$PWD/tests/export_check.py"

folder="$(mktemp -d)"
server=
cleanup() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"

cat >config.toml <<'TOML'
[[merchants]]
id = "merchant_1"
keys = [{ name = "test", sha256 = "fe52edf6566f148eb4be7a4f888f61f2d9b00401b5b467a603ce3200d4b4e250" }]

[[merchants]]
id = "Merchant-1"
keys = [{ name = "test", sha256 = "6bc2894e9de0b69fc9d585132179fb1a0e8a58d8c663411e839de8573b83edea" }]

[[admins]]
name = "test"
sha256 = "e2528cddbc34f1e0ab9b5a0d0630b7eab94890e843bda8b00583a3125e4e3cff"
TOML

export STRONGROOM__LOG__LEVEL=warn STRONGROOM__PROVIDER__SANDBOX__DECLINE_AT=1000000000
export STRONGROOM__JOURNAL__SEGMENT_BYTES=1048576 STRONGROOM__JOURNAL__BATCH_BYTES_MAX=262144
"$strongroom" serve --config config.toml --listen 127.0.0.1:0 >said 2>log &
server=$!
for _ in $(seq 300); do
    url="$(sed -n 's/^listening on //p' said)"
    [ -z "$url" ] || break
    kill -0 "$server" 2>/dev/null || { cat log >&2; exit 1; }
    sleep 0.1
done
[ -n "$url" ] || { echo "the server did not start" >&2; cat log >&2; exit 1; }

python3 "$check" work "$url" "$PAYMENTS" expected.json
kill -TERM "$server"
wait "$server"
server=

"$strongroom" verify --data data
for format in hledger beancount csv jsonl; do
    "$strongroom" export --data data --format "$format" >"export.$format"
done

hledger -f export.hledger balance --flat --empty --no-total -O csv >balances.csv
python3 "$check" compare expected.json balances.csv export.csv export.jsonl
bean-check export.beancount
echo "bean-check agrees"

refuses() {
    if "$@" >refusal 2>&1; then
        echo "was accepted, though something is missing: $*" >&2
        exit 1
    fi
}
for part in posting transaction; do
    for format in hledger beancount; do
        python3 "$check" take "$part" "export.$format" "broken.$format"
    done
    refuses hledger -f broken.hledger balance
    refuses bean-check broken.beancount
    echo "both object when a $part is missing"
done

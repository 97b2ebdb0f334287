#!/usr/bin/env bash
# An independent provider keeps books beside ours: a real server charges, holds, captures, voids and refunds at
# localstripe (PyPI), other people's stand-in for Stripe. Every payment, refund and balance there must be what our books
# say, to the minor unit; each request must have reached it once, and its signed webhooks must have been accepted. A
# refund and a charge made behind the server's back must be objected to.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! python3 -c 'import ensurepip, venv' 2>/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q >&2 && apt-get install -y -q python3 python3-venv >&2
fi
python3 -c 'import ensurepip, venv' || { echo "python3 with venv is missing: install python3-venv" >&2; exit 1; }

cargo build --locked --quiet
strongroom="$(realpath "${CARGO_TARGET_DIR:-target}")/debug/strongroom"
check="$PWD/tests/localstripe_check.py"

folder="$(mktemp -d)"
processes=()
cleanup() {
    [ "$1" = 0 ] || tail -n 30 "$folder"/*.log >&2 2>/dev/null || true
    for process in "${processes[@]}"; do { kill -9 "$process" && wait "$process"; } 2>/dev/null || true; done
    rm -rf "$folder"
}
trap 'cleanup $?' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$folder/python"
"$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check localstripe==1.15.10
cd "$folder"

# Prints the address at which the process $1 listens, which it told in $2.out.
address() {
    for _ in $(seq 300); do
        sed -n 's/^listening on //p' "$2.out" 2>/dev/null | grep . && return
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    echo "$2 did not start" >&2
    exit 1
}

python/bin/python "$check" serve >localstripe.out 2>localstripe.log &
processes+=($!)
localstripe="$(address $! localstripe)"

cat >config.toml <<TOML
[providers.stripe]
kind = "stripe"
url = "$localstripe"
secret_key = "sk_test_localstripe"
webhook_secret = "whsec_localstripe"
[[routes]]
providers = "stripe"
TOML
STRONGROOM__PROVIDER__ANSWER_WITHIN_MS=10000 \
    "$strongroom" serve --config config.toml --listen 127.0.0.1:0 --data data >server.out 2>server.log &
processes+=($!)
server="$(address $! server)"

python3 "$check" compare "$server" "$localstripe" localstripe.log

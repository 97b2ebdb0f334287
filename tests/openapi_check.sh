#!/usr/bin/env bash
# Other people's programs judge the OpenAPI document and the server that it is about: spectral (npm) lints the document,
# schemathesis (PyPI) makes some thousands of requests out of it, valid ones, wrong ones and chains of them, with a
# merchant's key and an admin's, and holds every answer against it: no 5xx, no status, header or field that is not there.
# EXAMPLES=200 asks for more of each kind, SEED=1 for others.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in python3 node npm curl; do
    if ! command -v "$tool" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q >&2 && apt-get install -y -q python3 python3-venv nodejs npm curl >&2
    fi
    command -v "$tool" >/dev/null || { echo "$tool is missing: install it" >&2; exit 1; }
done

cargo build --locked --quiet
strongroom="$(realpath "${CARGO_TARGET_DIR:-target}")/debug/strongroom"
check="$PWD/tests/openapi_check"

folder="$(mktemp -d)"
processes=()
cleanup() {
    for process in "${processes[@]}"; do kill -9 "$process" 2>/dev/null || true; done
    rm -rf "$folder"
}
trap cleanup EXIT

python3 -m venv "$folder/python"
"$folder/python/bin/python" -m pip install --quiet schemathesis==4.32.5
npm install --silent --no-fund --no-audit --prefix "$folder" @stoplight/spectral-cli@6.16.3
cp "$check"/* "$folder"
cd "$folder"

# Starts a server on a data folder of its own and sets `url`. Declines nothing, so that there is money to move.
start() {
    STRONGROOM__JOURNAL__SEGMENT_BYTES=1048576 STRONGROOM__JOURNAL__BATCH_BYTES_MAX=262144 \
        STRONGROOM__PROVIDER__SANDBOX__DECLINE_AT=1000000000000 \
        "$strongroom" serve --listen 127.0.0.1:0 --data "$1" >"$1.out" 2>"$1.log" &
    processes+=($!)
    disown
    for _ in $(seq 300); do
        url="$(sed -n 's/^listening on //p' "$1.out")"
        [ -z "$url" ] || return 0
        kill -0 "${processes[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    cat "$1.log" >&2
    exit 1
}

for key in sk_test_merchant_1 ak_test_admin; do
    start "$key"
    if [ ! -e openapi.json ]; then
        curl --silent --fail --output openapi.json "$url/api/openapi.json"
        node_modules/.bin/spectral lint --ruleset spectral.yaml --fail-severity warn openapi.json
    fi
    STRONGROOM_CHECK_KEY="$key" python/bin/st --config-file schemathesis.toml run "$url/api/openapi.json" \
        --seed "${SEED:-20261122}" --max-examples "${EXAMPLES:-30}" --no-color
done
python/bin/python reached.py openapi.json sk_test_merchant_1.log ak_test_admin.log

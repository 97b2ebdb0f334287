#!/usr/bin/env bash
# Independent verifiers look at the signatures: a real server delivers real webhooks to a receiver, and the official
# Standard Webhooks libraries for Python (PyPI) and JavaScript (npm) must accept each of them, and refuse a changed body,
# a wrong secret and an old timestamp.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in python3 node npm; do
    if ! command -v "$tool" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q >&2 && apt-get install -y -q python3 python3-venv nodejs npm >&2
    fi
    command -v "$tool" >/dev/null || { echo "$tool is missing: install it" >&2; exit 1; }
done

cargo build --locked --quiet
strongroom="$(realpath "${CARGO_TARGET_DIR:-target}")/debug/strongroom"
check="$PWD/tests/webhooks_check"

folder="$(mktemp -d)"
processes=()
cleanup() {
    for process in "${processes[@]}"; do kill -9 "$process" 2>/dev/null || true; done
    rm -rf "$folder"
}
trap cleanup EXIT

python3 -m venv "$folder/python"
"$folder/python/bin/python" -m pip install --quiet standardwebhooks==1.1.0
npm install --silent --no-fund --no-audit --prefix "$folder" standardwebhooks@1.1.1

python="$folder/python/bin/python"
cd "$folder"
STRONGROOM__JOURNAL__SEGMENT_BYTES=1048576 STRONGROOM__JOURNAL__BATCH_BYTES_MAX=262144 \
    "$strongroom" serve --listen 127.0.0.1:0 --data data >server.out 2>server.log &
processes+=($!)
for _ in $(seq 300); do
    url="$(sed -n 's/^listening on //p' server.out)"
    [ -z "$url" ] || break
    kill -0 "${processes[0]}" || { cat server.log >&2; exit 1; }
    sleep 0.1
done

# Makes payments and writes what was delivered, one JSON object a line, and the secrets of before and after a rotation.
"$python" "$check.py" deliver "$url" >deliveries.jsonl
"$python" "$check.py" verify deliveries.jsonl
NODE_PATH="$folder/node_modules" node "$check.cjs" deliveries.jsonl

#!/usr/bin/env bash
# Where fuzzing starts: what stands in the golden files, the configuration, and one request of each kind.
set -euo pipefail
cd "$(dirname "$0")/.."

for target in frame entry snapshot bodies requests config stripe books export; do
    mkdir -p "fuzz/corpus/$target"
done
for golden in tests/golden/journal-v*/*; do
    name="$(basename "$(dirname "$golden")")-$(basename "$golden")"
    head -c 16384 "$golden" >"fuzz/corpus/frame/$name"
    for target in entry snapshot; do
        head -c 8192 "$golden" >"fuzz/corpus/$target/$name"
    done
done
cp config.toml fuzz/corpus/config/shipped
body() { printf '%s' "$2" >"fuzz/corpus/bodies/$1"; }
body create '{"amount":4999,"currency":"USD","capture":"manual","paymentMethod":"tok_visa","customerId":"c","description":"d","metadata":{"k":"v"}}'
body refund '{"amount":1,"reason":"r"}'
body resolve '{"outcome":"succeeded","attemptId":"att_01a20596d1077400800000000000c000","providerReference":"p","reason":"r"}'
body endpoint '{"url":"https://shop.example/","events":["payment.*"],"secret":"whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw","enabled":true}'
body key '{"label":"l","mode":"test","scopes":["payments:read"],"expiresAt":"2030-01-01T00:00:00Z"}'
request() { printf '%s' "$2" >"fuzz/corpus/requests/$1"; }
request key '"order \"1\""'
request query 'limit=5&after=evt_01a20596d1077400800000000000c000&at=2026-11-22T15:04:05Z&idempotencyKey=a%20b'
request proxy '203.0.113.7, 10.0.0.1, ::1'
request bearer 'Bearer sk_test_merchant_1'

#!/usr/bin/env bash
# The machine's clock is set back under the program as it is built, by libfaketime: a day, while it runs and over a start.
# No payment's time steps back, the chain holds, and what was answered is answered again byte for byte.
. "$(dirname "$0")/common.sh"

need curl curl
need python3 python3
library="$(ls /usr/lib/*/faketime/libfaketime.so.1 2>/dev/null || true)"
[ -n "$library" ] || install libfaketime
library="$(ls /usr/lib/*/faketime/libfaketime.so.1)" || { echo "libfaketime is missing" >&2; exit 1; }

# faked DATA: starts a server whose clock stands in the file `clock`.
faked() {
    export LD_PRELOAD="$library" FAKETIME_TIMESTAMP_FILE="$PWD/clock" FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
    serve "$1"
    unset LD_PRELOAD FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE FAKETIME_DONT_FAKE_MONOTONIC
}
charge() {
    curl --silent --show-error --fail --max-time 10 "$url/api/payments" --header "Authorization: Bearer sk_test_merchant_1" \
        --header "Idempotency-Key: $1" --data '{"amount": 500, "currency": "EUR"}' >"$1.answer${2:-}"
}

echo "+0" >clock
faked data
charge first
for hours in 1 24; do
    echo "-${hours}h" >clock
    charge "back$hours"
done
kill -9 "${processes[-1]}"
wait "${processes[-1]}" 2>/dev/null || true
faked data
charge restarted
for key in first back1 back24 restarted; do
    charge "$key" .again
    cmp "$key.answer" "$key.answer.again"
done
python3 - first back1 back24 restarted <<'P'
import json, sys
times = [json.load(open(f"{key}.answer"))["createdAt"] for key in sys.argv[1:]]
assert times == sorted(times), times
P
"$strongroom" verify --data data >/dev/null
grep -q 'clock' data.log || { echo "the log says nothing of the clock" >&2; exit 1; }
echo "a clock that is set back takes no time back"

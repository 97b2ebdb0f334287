#!/usr/bin/env bash
# An independent provider keeps books beside ours: a real server charges, holds, captures, voids and refunds at
# localstripe (PyPI), other people's stand-in for Stripe. Every payment, refund and balance there must be what our books
# say, to the minor unit; each request must have reached it once, and its signed webhooks must have been accepted. A
# refund and a charge made behind the server's back must be objected to.
. "$(dirname "$0")/common.sh"

check="$root/tests/localstripe_check.py"

python_with localstripe==1.15.10

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
STRONGROOM__PROVIDER__ANSWER_WITHIN_MS=10000 serve data --config config.toml

python3 "$check" compare "$url" "$localstripe" localstripe.log

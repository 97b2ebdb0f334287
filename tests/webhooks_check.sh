#!/usr/bin/env bash
# Independent verifiers look at the signatures: a real server delivers real webhooks to a receiver, and the official
# Standard Webhooks libraries for Python (PyPI) and JavaScript (npm) must accept each of them, and refuse a changed body,
# a wrong secret and an old timestamp.
. "$(dirname "$0")/common.sh"

check="$root/tests/webhooks_check"

python_with standardwebhooks==1.1.0
npm_with standardwebhooks@1.1.1
serve data

# Makes payments and writes what was delivered, one JSON object a line, and the secrets of before and after a rotation.
python/bin/python "$check.py" deliver "$url" >deliveries.jsonl
python/bin/python "$check.py" verify deliveries.jsonl
NODE_PATH="$PWD/node_modules" node "$check.cjs" deliveries.jsonl

#!/usr/bin/env bash
# Other people's programs judge the OpenAPI document and the server that it is about: spectral (npm) lints the document,
# schemathesis (PyPI) makes some thousands of requests out of it, valid ones, wrong ones and chains of them, with a
# merchant's key and an admin's, and holds every answer against it: no 5xx, no status, header or field that is not there.
# EXAMPLES=200 asks for more of each kind, SEED=1 for others.
. "$(dirname "$0")/common.sh"

need curl curl
python_with schemathesis==4.32.5
npm_with @stoplight/spectral-cli@6.16.3
cp "$root"/tests/openapi_check/* .

# Declines nothing, so that there is money to move.
export STRONGROOM__PROVIDER__SANDBOX__DECLINE_AT=1000000000000
for key in sk_test_merchant_1 ak_test_admin; do
    serve "$key"
    if [ ! -e openapi.json ]; then
        curl --silent --fail --output openapi.json "$url/api/openapi.json"
        node_modules/.bin/spectral lint --ruleset spectral.yaml --fail-severity warn openapi.json
    fi
    STRONGROOM_CHECK_KEY="$key" python/bin/st --config-file schemathesis.toml run "$url/api/openapi.json" \
        --seed "${SEED:-20261122}" --max-examples "${EXAMPLES:-30}" --no-color
done
python/bin/python reached.py openapi.json sk_test_merchant_1.log ak_test_admin.log

#!/usr/bin/env bash
# Prometheus' own tool looks at the metrics of a real server with some traffic (charges, replays, mismatches, refunds,
# an unknown outcome, a webhook endpoint that fails), in the form that it is served by default, and at the alert rules,
# which must fire when they should and at no other time. The dashboard must be JSON.
. "$(dirname "$0")/common.sh"

need curl curl
need python3 python3
if ! command -v promtool >/dev/null; then
    install --no-install-recommends prometheus
    # Debian starts what it installs where there is a service manager; only the tool is wanted.
    if command -v systemctl >/dev/null; then systemctl disable --now prometheus >&2 2>/dev/null || true; fi
fi
need promtool prometheus

STRONGROOM__WEBHOOKS__SCHEDULE="10ms, 10ms" serve data

# ask METHOD PATH KEY BODY
ask() {
    curl --silent --show-error --max-time 10 --request "$1" "$url$2" --header "Authorization: Bearer sk_test_merchant_1" \
        --header "Content-Type: application/json" ${3:+--header "Idempotency-Key: $3"} --data "$4"
}
metrics() {
    curl --silent --show-error --fail --max-time 10 "$url/metrics" --header "Authorization: Bearer ak_test_admin" "$@"
}

# Nobody listens on port 1.
ask POST /api/webhook-endpoints "" '{"url": "http://127.0.0.1:1/hook"}' >/dev/null
for number in 1 2 3; do
    charged="$(ask POST /api/payments "charge-$number" '{"amount": 500, "currency": "EUR"}')"
    ask POST /api/payments "charge-$number" '{"amount": 500, "currency": "EUR"}' >/dev/null
    ask POST /api/payments "charge-$number" '{"amount": 501, "currency": "EUR"}' >/dev/null
    id="$(python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])' <<<"$charged")"
    ask POST "/api/payments/$id/refund" "refund-$number" '{"amount": 200}' >/dev/null
done
ask POST /api/payments unknown '{"amount": 500, "currency": "EUR", "paymentMethod": "tok_timeout"}' >/dev/null
ask GET /nowhere "" "" >/dev/null
for _ in $(seq 100); do
    metrics >metrics.txt
    ! grep -q '^strongroom_webhooks_dead_letters [1-9]' metrics.txt || break
    sleep 0.1
done

# Every kind of series is there, so that nothing passes by its absence.
for series in 'http_requests_total{route="/api/payments",method="POST",status="201"}' \
    'idempotency_claims_total{result="replay"} 3' 'idempotency_claims_total{result="mismatch"} 3' \
    'payments{status="partially_refunded"} 3' 'webhooks_dead_letters' 'snapshots_made_total' \
    'provider_call_duration_seconds_count{provider="sandbox",operation="charge",outcome="done"}' \
    'webhooks_attempt_duration_seconds_count{result="connection_failed"}'; do
    grep -qF "strongroom_$series" metrics.txt || { echo "strongroom_$series is missing" >&2; exit 1; }
done
promtool check metrics <metrics.txt
metrics --header "Accept: application/openmetrics-text;version=1.0.0" | tail -n 1 | grep -qx '# EOF'

promtool check rules "$root/ops/alerts.yml"
(cd "$root/ops" && promtool test rules alerts_test.yml)
python3 -m json.tool "$root/ops/grafana.json" >/dev/null
echo "promtool finds nothing wrong with the metrics and the alert rules"

#!/usr/bin/env bash
# Independent accountants look at the ledger: a workload runs against the real server, its export is fed to hledger and
# bean-check, and hledger's balance of every account must be that of the API, to the last minor unit. An export from
# which a posting or a whole transaction was taken must be refused by both.
. "$(dirname "$0")/common.sh"

PAYMENTS="${PAYMENTS:-6000}"
check="$root/tests/export_check.py"

need python3 python3
need hledger hledger
# Where there is no such package, of PyPI.
command -v bean-check >/dev/null || install beancount
command -v bean-check >/dev/null || python3 -m pip install --quiet 'beancount<3' >&2 || true
need bean-check beancount

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
serve data --config config.toml

python3 "$check" work "$url" "$PAYMENTS" expected.json
kill -TERM "${processes[0]}"
wait "${processes[0]}"
processes=()

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

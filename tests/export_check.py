"""The parts of export_check.sh that need a language: the workload, and the comparison. Standard library only.

    work URL PAYMENTS EXPECTED      pays over HTTP, then writes down what the API says of every account
    compare EXPECTED BALANCES CSV JSONL
                                    every account of hledger, and of both tables, against what the API said
    take posting|transaction IN OUT copies an export without one posting or transaction from its middle
"""

import csv
import http.client
import json
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

KEYS = {"merchant_1": "sk_test_merchant_1", "Merchant-1": "sk_test_merchant_2"}
ADMIN = "ak_test_admin"
# Currencies and their decimal places, by ISO 4217.
PLACES = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3, "CLF": 4}
CUSTOMERS = ["alice", "bob", "Bob", "a:b", "a-3Ab", "a%3Ab", "x;y", "(z)", "q\"uote", "c,d", "=1+1", "-", "*"]
CLIENTS = 8


class Api:
    """One connection, kept open."""

    def __init__(self, url):
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def ask(self, method, path, api_key, body=None, key=None):
        headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status not in (200, 201):
            raise SystemExit(f"{method} {path}: {answer.status} {content.decode()}")
        return json.loads(content)


def pay(url, numbers):
    """One client's share of the payments: charges, holds, captures in full and in part, voids, refunds, retries."""
    api = Api(url)
    for number in numbers:
        chance = random.Random(number)
        merchant = chance.choice(list(KEYS))

        def post(path, body, key):
            return api.ask("POST", path, KEYS[merchant], body, f"{number}-{key}")

        amount = chance.choice([chance.randint(2, 99), chance.randint(2, 99_999_999)])
        body = {"amount": amount, "currency": chance.choice(list(PLACES))}
        if chance.random() < 0.5:
            body["customerId"] = chance.choice(CUSTOMERS)
        if chance.random() < 0.5:
            body["capture"] = "manual"
        if chance.random() < 0.05:
            body["paymentMethod"] = "tok_declined"
        payment = post("/api/payments", body, "pay")
        if chance.random() < 0.05 and post("/api/payments", body, "pay") != payment:
            raise SystemExit(f"a retry got another answer: {payment}")
        path = f"/api/payments/{payment['id']}"
        taken = payment["amountCaptured"]
        if payment["status"] == "authorized":
            move = chance.random()
            if move < 0.2:
                post(f"{path}/void", {}, "void")
            elif move < 0.9:
                part = amount if move < 0.5 else chance.randint(1, amount)
                taken = post(f"{path}/capture", {"amount": part}, "capture")["amountCaptured"]
        for refund in range(chance.choice([0, 0, 1, 2])):
            part = chance.randint(1, max(taken, 1))
            if part <= taken:
                taken -= part
                post(f"{path}/refund", {"amount": part}, f"refund{refund}")


def work(url, payments, expected):
    with ThreadPoolExecutor(CLIENTS) as pool:
        shares = [range(first, int(payments), CLIENTS) for first in range(CLIENTS)]
        list(pool.map(lambda share: pay(url, share), shares))
    accounts = [(merchant, f"merchant:{merchant}") for merchant in KEYS]
    api = Api(url)
    for merchant, api_key in KEYS.items():
        after = ""
        while after is not None:
            page = api.ask("GET", f"/api/payments?limit=100{after}", api_key)
            for payment in page["data"]:
                customer = payment["customerId"] or payment["id"]
                accounts.append((merchant, f"customer:{customer}"))
            after = page["next"] and f"&after={page['next']}"
    accounts = sorted(set(accounts))

    def look(share):
        api = Api(url)
        return [
            (merchant, name, api.ask("GET", f"/api/ledger/{quote(name)}?limit=1", KEYS[merchant])["balances"])
            for merchant, name in share
        ]

    with ThreadPoolExecutor(CLIENTS) as pool:
        shares = [accounts[first::CLIENTS] for first in range(CLIENTS)]
        found = [account for share in pool.map(look, shares) for account in share]
    with open(expected, "w", encoding="utf-8") as file:
        json.dump(found, file)
    print(f"{payments} payments were asked for; the API told the balances of {len(found)} accounts")


def minor_units(text, currency):
    """The exact whole number behind a decimal of this currency."""
    match = re.fullmatch(r"(-?)(\d+)(?:\.(\d+))?", text)
    part = (match and match[3]) or ""
    if not match or len(part) != PLACES[currency]:
        raise SystemExit(f"{text} {currency} has not the decimal places of its currency")
    return int(match[1] + match[2] + part)


def hledger_name(merchant, name):
    kind, own = name.split(":", 1)
    if kind == "merchant" or own.startswith("pay_"):
        return name
    return f"customer:{merchant}:{quote(own, safe='@+').replace('~', '%7E')}"


def differences(what, expected, found):
    """Compares two {account: {currency: minor units}}, in which zero is the same as nothing."""
    wrong = 0
    for account in sorted(set(expected) | set(found)):
        ours, theirs = ({c: a for c, a in side.get(account, {}).items() if a} for side in (expected, found))
        if ours != theirs:
            wrong += 1
            print(f"{what}: {account}: the API says {ours}, the export {theirs}", file=sys.stderr)
    if wrong:
        raise SystemExit(f"{what} differs in {wrong} accounts")
    print(f"{what} agrees with the API in all {len(expected)} accounts")


def compare(expected, balances, table, lines):
    with open(expected, encoding="utf-8") as file:
        api = {(merchant, name): sums for merchant, name, sums in json.load(file)}
    if len(api) < 100 or len({sum["currency"] for sums in api.values() for sum in sums}) != len(PLACES):
        raise SystemExit("the workload is not what it should be")

    # For hledger a debit is positive; for the API a credit is.
    hledger = {}
    with open(balances, encoding="utf-8", newline="") as file:
        for account, amounts in list(csv.reader(file))[1:]:
            amounts = [amount.split(" ") for amount in amounts.split(", ") if amount != "0"]
            hledger[account] = {currency: -minor_units(amount, currency) for amount, currency in amounts}
    posted = {hledger_name(*account): {s["currency"]: s["balance"] for s in sums} for account, sums in api.items()}
    differences("hledger", posted, hledger)

    for column, field in (("posted", "balance"), ("pending", "pending")):
        told = {account: {s["currency"]: s[field] for s in sums} for account, sums in api.items()}
        from_csv, from_json = {}, {}
        with open(table, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                account = from_csv.setdefault((row["merchantId"], row["accountId"]), {})
                currency = row["currency"]
                account[currency] = account.get(currency, 0) + minor_units(row[column], currency)
        with open(lines, encoding="utf-8") as file:
            for transaction in map(json.loads, file):
                currency = transaction["currency"]
                for leg in transaction["legs"]:
                    account = from_json.setdefault((transaction["merchantId"], leg["accountId"]), {})
                    account[currency] = account.get(currency, 0) + leg[f"{column}MinorUnits"]
        differences(f"csv, {column},", told, from_csv)
        differences(f"jsonl, {column},", told, from_json)


def take(part, source, target):
    with open(source, encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    # A transaction that moved money and opens no account: two legs, each with an amount.
    leg = re.compile(r"^ +\S+:\S+  -?[\d.]+ [A-Z]{3}(  ;.*)?$")
    whole = [
        place
        for place, block in enumerate(blocks)
        if re.match(r"\d{4}-\d\d-\d\d \* .*pay_", block) and sum(map(bool, map(leg.match, block.split("\n")))) == 2
    ]
    place = whole[len(whole) // 2]
    if part == "transaction":
        del blocks[place]
    else:
        rows = blocks[place].split("\n")
        rows.remove(next(row for row in rows if leg.match(row)))
        blocks[place] = "\n".join(rows)
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n\n".join(blocks))


if __name__ == "__main__":
    {"work": work, "compare": compare, "take": take}[sys.argv[1]](*sys.argv[2:])

"""The parts of localstripe_check.sh that need a language. Standard library only, but for localstripe itself in `serve`.

    serve                            runs localstripe on a free port of the loopback address, in memory only
    compare SERVER LOCALSTRIPE LOG   pays over the server's HTTP API, compares its books with localstripe and the LOG
"""

import http.client
import json
import random
import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

MERCHANT, ADMIN, STRIPE = "sk_test_merchant_1", "ak_test_admin", "sk_test_localstripe"
CURRENCIES = ["EUR", "JPY", "USD"]
# The lives of payments, each lived twice in every currency. A share is of the amount, or of what is left to refund.
LIVES = [
    "charge", "charge, refund", "charge, refund 30%", "charge, refund 1%, refund 50%", "charge, refund 40%, refund",
    "hold", "hold, void", "hold, capture", "hold, capture 60%", "hold, capture, refund 20%",
    "hold, capture 60%, refund", "hold, capture 1%, refund 50%, refund", "charge declined", "hold declined",
]
# What a payment intent is called while our payment is called so.
STATUSES = {"authorized": "requires_capture", "voided": "canceled", "failed": "requires_payment_method"}
STATUSES |= dict.fromkeys(["completed", "partially_refunded", "refunded"], "succeeded")


def serve():
    import logging
    import socket
    from aiohttp import web
    from localstripe import resources, server
    # Quirk: at each change it writes all it has to /tmp/localstripe.pickle, whatever TMPDIR says. Two runs would meet.
    resources.Store.dump_to_disk = lambda store: None
    logging.basicConfig(level=logging.INFO)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(server.app, sock=listener, print=None)


def send(method, url, api_key, body=None, key=None):
    host, _, path = url.removeprefix("http://").partition("/")
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    headers |= {"Idempotency-Key": key} if key else {}
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request(method, f"/{path}", None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def ask(method, url, api_key, body=None):
    status, _, content = send(method, url, api_key, body)
    if status not in (200, 201):
        raise SystemExit(f"{method} {url}: {status} {content.decode()}")
    return json.loads(content or "null")


def listing(localstripe, kind):
    return ask("GET", f"{localstripe}/v1/{kind}?limit=1000000", STRIPE)["data"]


def live(server, number, sent):
    """Lives one payment's life, and keeps in `sent` what was asked and answered."""
    chance = random.Random(number)
    first, *moves = LIVES[number // len(CURRENCIES) % len(LIVES)].split(", ")
    amount = chance.choice([chance.randint(100, 9_999), chance.randint(100, 99_999_999)])

    def post(path, body, key, status, *figures):
        answer, _, content = send("POST", server + path, MERCHANT, body, key)
        sent.append((path, body, key, answer, content))
        payment = json.loads(content)
        got = tuple(payment.get(name) for name in ("status", "amountCaptured", "amountRefunded"))
        refunds = {refund["status"] for refund in payment.get("refunds", [])}
        if (answer, got) != (status, figures) or refunds - {"succeeded"}:
            raise SystemExit(f"POST {path} {body} of {first}, {moves}: {answer} {content.decode()}, not {figures}")
        return payment

    verb, _, declined = first.partition(" ")
    method = "pm_card_chargeCustomerFail" if declined else "pm_card_visa"
    currency, capture = CURRENCIES[number % len(CURRENCIES)], "manual" if verb == "hold" else "automatic"
    body = {"amount": amount, "currency": currency, "paymentMethod": method, "capture": capture}
    name = "failed" if declined else "authorized" if verb == "hold" else "completed"
    captured, refunded = amount if name == "completed" else 0, 0
    payment = post("/api/payments", body, f"{number}-pay", 201, name, captured, 0)
    if declined and payment["failure"]["code"] != "card_declined":
        raise SystemExit(f"declined for another reason: {payment}")
    for step, move in enumerate(moves):
        verb, _, share = move.partition(" ")
        whole = captured - refunded if verb == "refund" else amount
        part = max(1, whole * int(share[:-1]) // 100) if share else whole
        captured = part if verb == "capture" else captured
        refunded += part if verb == "refund" else 0
        name = "refunded" if refunded == captured else "partially_refunded"
        name = {"void": "voided", "capture": "completed", "refund": name}[verb]
        path = f"/api/payments/{payment['id']}/{verb}"
        post(path, {"amount": part} if share else {}, f"{number}-{step}", 200, name, captured, refunded)


def await_webhooks(localstripe, log):
    """Quirk: localstripe tells an event once, a second after it, and only its log says how that was answered."""
    events, answers, deadline = len(listing(localstripe, "events")), Counter(), time.monotonic() + 30
    while sum(answers.values()) < events and time.monotonic() < deadline:
        time.sleep(0.1)
        answers = Counter(re.findall(r'webhook "[\w.]+" (.+)', open(log).read()))
    if not events or answers != {"successfully delivered": events}:
        raise SystemExit(f"of {events} webhooks: {dict(answers)}")
    return events


def repeat(server, log, sent):
    """Sends each request again under its key: the answer is the same, and each has reached localstripe just once."""
    for path, body, key, status, content in sent:
        again, headers, repeated = send("POST", server + path, MERCHANT, body, key)
        if (again, repeated, headers["Idempotent-Replayed"]) != (status, content, "true"):
            raise SystemExit(f"a retry of {path} {body} got another answer: {again} {repeated.decode()}")
    reached = open(log).read().count('"POST /v1/')
    return [] if reached == len(sent) else [f"{len(sent)} requests reached localstripe {reached} times"]


def as_localstripe_has_it(intent, refunds):
    charge = intent["latest_charge"] or {"id": None, "captured": False}
    refunds = [refund for refund in refunds if refund["charge"] == charge["id"]]
    # Quirk: there is no amount_received. A capture of a part takes the whole and gives the rest back, by a refund that
    # alone names no payment intent. A declined charge is called captured, too.
    released = sum(refund["amount"] for refund in refunds if not refund["payment_intent"])
    captured = charge["amount"] - released if charge["captured"] and charge["status"] == "succeeded" else 0
    asked = [(r["amount"], str(r["metadata"].get("strongroom_payment"))) for r in refunds if r["payment_intent"]]
    return intent["currency"].upper(), intent["amount"], intent["status"], captured, sorted(asked)


def objections(server, localstripe, payments):
    """Whatever is not at localstripe as it is in our books, or not right in our books alone."""
    found, held, net, intents, refunds = [], Counter(), Counter(), {}, listing(localstripe, "refunds")

    def same(what, ours, right):
        if ours != right:
            found.append(f"{what}: the books say {ours}, not {right}")

    for intent in listing(localstripe, "payment_intents"):
        intents.setdefault(intent["metadata"].get("strongroom_payment"), []).append(intent["id"])
        held[intent["currency"].upper()] += intent["amount"] if intent["status"] == "requires_capture" else 0
    for payment in payments:
        own, reference, status = intents.pop(payment["id"], []), payment["providerReference"], payment["status"]
        # Quirk: the answer to a declined charge names the charge, not the payment intent, so we may not know it.
        named = own[:1] if status == "failed" and reference is None else [reference]
        same(f"{payment['id']}, intents", named, own or ["one"])
        back = sorted((refund["amount"], payment["id"]) for refund in payment["refunds"])
        ours = payment["currency"], payment["amount"], STATUSES.get(status), payment["amountCaptured"], back
        for intent in own:
            theirs = ask("GET", f"{localstripe}/v1/payment_intents/{intent}", STRIPE)
            same(payment["id"], ours, as_localstripe_has_it(theirs, refunds))
    same("intents without a payment", {}, intents)
    # The books that localstripe keeps itself: what was captured less what was refunded, to whatever intent.
    for transaction in listing(localstripe, "balance_transactions"):
        net[transaction["currency"].upper()] += transaction["amount"]
    balances = ask("GET", f"{server}/api/ledger/merchant:merchant_1?limit=1", MERCHANT)["balances"]
    balances = {sum["currency"]: (sum["balance"], sum["pending"]) for sum in balances}
    same("merchant:merchant_1", balances, {currency: (net[currency], held[currency]) for currency in CURRENCIES})
    trial = ask("GET", f"{server}/api/ledger", ADMIN)
    for what, sums in (("doubt", [a for a in trial["accounts"] if a["kind"] == "in_doubt"]), ("all", trial["totals"])):
        sums = sorted((sum["currency"], sum["balance"], sum["pending"]) for sum in sums)
        same(f"trial balance, {what}", sums, [(currency, 0, 0) for currency in CURRENCIES])
    metrics = send("GET", f"{server}/metrics", ADMIN)[2].decode()
    same("payments in", re.findall(r"payments_in_(\w+) (\d+)", metrics), [("doubt", "0"), ("review", "0")])
    same("balanced", ask("POST", f"{server}/api/reconcile", ADMIN)["balanced"], True)
    return found


def compare(server, localstripe, log):
    hook = {"url": f"{server}/api/providers/stripe/webhook", "secret": "whsec_localstripe"}
    ask("POST", f"{localstripe}/_config/webhooks/strongroom", STRIPE, hook)
    count, sent = 2 * len(LIVES) * len(CURRENCIES), []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: live(server, number, sent), range(count)))
    events = await_webhooks(localstripe, log)
    found = repeat(server, log, sent)
    payments = ask("GET", f"{server}/api/payments?limit=100", MERCHANT)["data"]
    found += objections(server, localstripe, payments)
    if found or len(payments) != count:
        raise SystemExit("\n".join([*found, f"localstripe and the books of {len(payments)} payments differ"]))
    # The comparison must be able to fail: a refund and a charge of which the server knows nothing.
    paid = next(payment for payment in payments if payment["status"] == "completed")
    refund = {"amount": 1, "payment_intent": paid["providerReference"]}
    charge = {"amount": 2, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    for kind, body in (("refunds", refund), ("payment_intents", charge)):
        ask("POST", f"{localstripe}/v1/{kind}", STRIPE, {**body, "metadata": {"strongroom_payment": paid["id"]}})
        known, found = found, objections(server, localstripe, payments)
        for what in (paid["id"], "merchant:merchant_1"):
            if not any(line.startswith(what) for line in found if line not in known):
                raise SystemExit(f"{kind} behind our back: no objection to {what} in {found}")
    sums = Counter()
    for payment in payments:
        sums[payment["currency"]] += payment["amountCaptured"] - payment["amountRefunded"]
    print(f"localstripe agrees with the books: {count} payments, {len(sent)} requests, {events} webhooks, captured "
          f"less refunded {dict(sorted(sums.items()))}; a refund and a charge behind our back were objected to")


if __name__ == "__main__":
    {"serve": serve, "compare": compare}[sys.argv[1]](*sys.argv[2:])

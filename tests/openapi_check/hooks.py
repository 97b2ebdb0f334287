"""What schemathesis cannot know from a schema, put right in requests that are meant to be valid.

Each of these is a rule that JSON Schema cannot say. Requests that are meant to be wrong are sent as they were made.
"""

import collections
import itertools
import os
import re
import uuid

import schemathesis

count = itertools.count()
authorized = collections.deque(maxlen=100)
keys = {"revokeMerchantKey": collections.deque(maxlen=100), "revokeAdminKey": collections.deque(maxlen=100)}
VISIBLE = re.compile(r"[!#-~][!-~]{0,254}")
IS_ADMIN = os.environ["STRONGROOM_CHECK_KEY"].startswith("ak_")


def without_card_numbers(text):
    """Free text may hold no card number; long runs of digits could be one."""
    if sum(character.isdigit() for character in text) < 13:
        return text
    return "".join("x" if character.isdigit() else character for character in text)


def whole(value):
    """JSON Schema's integers include 1.0; amounts do not (the suite holds that)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def mend_body(operation, body):
    body = {name: whole(value) for name, value in body.items()}
    for name in ("description", "reason", "paymentMethod", "customerId", "label", "name"):
        if isinstance(body.get(name), str):
            body[name] = without_card_numbers(body[name])
    if isinstance(body.get("metadata"), dict):
        pairs = body["metadata"].items()
        body["metadata"] = {without_card_numbers(key): without_card_numbers(value) for key, value in pairs}
    # A URL must lead to where webhooks may go. Nobody listens there: what is tried is refused at once.
    if body.get("url") is not None:
        body["url"] = "http://127.0.0.1:9/hook"
    # A key is made for a time to come.
    if isinstance(body.get("expiresAt"), str):
        body["expiresAt"] = "2099-12-31T23:59:59Z"
    # Most merchants are new.
    if operation == "createMerchant" and next(count) % 3 > 0:
        body["id"] = f"merchant_{uuid.uuid4().hex}"
    # Most payments are authorized only, so that there is something to capture and to void.
    if operation == "createPayment" and "capture" in body and next(count) % 3 > 0:
        body["capture"] = "manual"
    # Which merchants there are is no matter of form. An admin has to name one.
    if body.get("merchantId") is not None or (IS_ADMIN and operation in ("createPayment", "createWebhookEndpoint")):
        body["merchantId"] = "merchant_1"
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation.definition.raw.get("operationId")
    if case.meta is None:
        return
    if case.meta.generation.mode.is_negative:
        if operation == "createPayment" and "Idempotency-Key" not in case.headers:
            # Without the header, the key in the query would be a right one.
            case.query.pop("idempotencyKey", None)
        return
    if isinstance(case.body, dict):
        case.body = mend_body(operation, case.body)
    names = {parameter.name for parameter in case.operation.iter_parameters()}
    if "Idempotency-Key" in names:
        # Keys that were made at random are few and short, and meet again under another body: a correct 422.
        case.headers["Idempotency-Key"] = f"check_{uuid.uuid4()}"
        case.query.pop("idempotencyKey", None)
    if operation in ("capturePayment", "voidPayment") and authorized and next(count) % 2:
        # Ids that were made at random are nobody's: every other one is that of a payment that waits for it.
        case.path_parameters["id"] = authorized.pop()
    if keys.get(operation) and next(count) % 2:
        case.path_parameters.update(keys[operation].pop())
    if operation == "readIdempotencyKey" and not VISIBLE.fullmatch(case.path_parameters["key"]):
        # Chains hand on texts from other answers, and some are no keys.
        case.path_parameters["key"] = "nobodys"
    if operation in ("listPayments", "listEvents"):
        # A cursor is only valid if a page gave it.
        case.query.pop("after", None)
    if "merchantId" in names and (IS_ADMIN or case.query.get("merchantId") is not None):
        case.query["merchantId"] = "merchant_1"


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code != 201:
        return
    operation, made = case.operation.definition.raw.get("operationId"), response.json()
    if operation == "createPayment" and made["status"] == "authorized":
        authorized.append(made["id"])
    if operation == "createMerchantKey":
        keys["revokeMerchantKey"].append({"id": made["merchantId"], "key": made["id"]})
    if operation == "createAdminKey":
        keys["revokeAdminKey"].append({"key": made["id"]})

"""The Python half of webhooks_check.sh: receives real webhooks, and has the official library judge them."""

import base64
import http.server
import json
import queue
import sys
import threading
import urllib.request

KEY = "sk_test_merchant_1"
WRONG = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def deliver(url):
    got = queue.Queue()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            names = ("webhook-id", "webhook-timestamp", "webhook-signature")
            got.put(({name: self.headers[name] for name in names}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask(path, body, key=None):
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
        return json.load(urllib.request.urlopen(request))

    def pay(key, description):
        body = {"amount": 4999, "currency": "USD", "description": description}
        return ask("/api/payments", body, key)

    def tell(secrets):
        headers, body = got.get(timeout=30)
        line = {"headers": headers, "body": base64.b64encode(body).decode(), "secrets": secrets}
        print(json.dumps(line))

    hook = {"url": f"http://127.0.0.1:{server.server_port}/hook"}
    endpoint = ask("/api/webhook-endpoints", hook)
    old = endpoint["secret"]
    pay("a", "plain")
    tell([old])
    pay("b", 'Größe "M" \\ \u2028 \U0001f600 </script>')
    tell([old])
    ask(f"/api/webhook-endpoints/{endpoint['id']}/test", {})
    tell([old])
    new = ask(f"/api/webhook-endpoints/{endpoint['id']}/rotate-secret", {})["secret"]
    pay("c", "during a rotation")
    tell([old, new])


def verify(path):
    import standardwebhooks

    def accepts(secret, body, headers):
        try:
            standardwebhooks.Webhook(secret).verify(body, headers)
            return True
        except standardwebhooks.WebhookVerificationError:
            return False

    lines = [json.loads(line) for line in open(path)]
    assert len(lines) == 4, len(lines)
    for line in lines:
        headers, body = line["headers"], base64.b64decode(line["body"])
        old = dict(headers, **{"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)})
        changed = body.replace(b"evt_", b"evt-", 1)
        assert changed != body
        for secret in line["secrets"]:
            assert accepts(secret, body, headers), headers
            assert not accepts(secret, changed, headers), "a changed body"
            assert not accepts(secret, body, old), "an old timestamp"
        assert not accepts(WRONG, body, headers), "a wrong secret"
    print(f"standardwebhooks (PyPI) verified {len(lines)} webhooks and refused every forgery")


if __name__ == "__main__":
    {"deliver": deliver, "verify": verify}[sys.argv[1]](sys.argv[2])

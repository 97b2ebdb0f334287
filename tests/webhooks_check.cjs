// The JavaScript half of webhooks_check.sh: has the official library judge the webhooks that were delivered.
const assert = require("node:assert");
const fs = require("node:fs");
const { Webhook } = require("standardwebhooks");

const WRONG = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

function accepts(secret, body, headers) {
    try {
        new Webhook(secret).verify(body, headers);
        return true;
    } catch (error) {
        assert.strictEqual(error.constructor.name, "WebhookVerificationError");
        return false;
    }
}

const lines = fs.readFileSync(process.argv[2], "utf8").trim().split("\n").map((line) => JSON.parse(line));
assert.strictEqual(lines.length, 4);
for (const { headers, body: encoded, secrets } of lines) {
    const body = Buffer.from(encoded, "base64").toString("utf8");
    const old = { ...headers, "webhook-timestamp": String(Number(headers["webhook-timestamp"]) - 301) };
    for (const secret of secrets) {
        assert(accepts(secret, body, headers));
        assert(!accepts(secret, body.replace("evt_", "evt-"), headers), "a changed body");
        assert(!accepts(secret, body, old), "an old timestamp");
    }
    assert(!accepts(WRONG, body, headers), "a wrong secret");
}
console.log(`standardwebhooks (npm) verified ${lines.length} webhooks and refused every forgery`);

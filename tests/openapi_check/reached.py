"""From the server's own log: every call was answered with success at least once, and nothing with a 5xx.

What no stranger can bring about is named below. Prints how often each call was answered how.
"""

import collections
import json
import sys

DOCUMENT, *LOGS = sys.argv[1:]

# A provider proves itself by a signature; there is next to nothing to resolve in the sandbox; and only by chance an event
# is asked for that an endpoint was there to get. The suite has these.
UNREACHABLE = {"receiveProviderEvent", "resolvePayment", "redeliverEvent"}

answers = collections.defaultdict(collections.Counter)
for name in LOGS:
    for line in open(name, encoding="utf-8"):
        entry = json.loads(line)
        if entry.get("message") == "request":
            path = entry["route"].replace(":.+}", "}")
            answers[f"{entry['method']} {path}"][entry["status"]] += 1

faults = []
requests = sum(sum(statuses.values()) for statuses in answers.values())
for call, statuses in answers.items():
    faults += [f"{call} was answered {status}" for status in statuses if status >= 500]
paths = json.load(open(DOCUMENT, encoding="utf-8"))["paths"]
for path, item in paths.items():
    for method, operation in item.items():
        call = f"{method.upper()} {path}"
        statuses = dict(sorted(answers[call].items()))
        print(f"{call}: {statuses}")
        reached = any(200 <= status < 300 for status in statuses)
        if not reached and operation["operationId"] not in UNREACHABLE:
            faults.append(f"{call} was never answered with success")
print(f"{requests} requests")
if faults:
    sys.exit("\n".join(faults))

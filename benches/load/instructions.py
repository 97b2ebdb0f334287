#!/usr/bin/env python3
"""How many instructions a durable charge takes, thread by thread and step by step, counted by valgrind's callgrind.

    benches/load/instructions.py        (or: just bench; needs valgrind, Debian's package)

The count hardly depends on what else the machine does (two runs differ by about one in a hundred), so the table in
benches/instructions.txt, which this rewrites, shows in a diff what a change made dearer. Only what runs in the process is
counted, not the kernel's part, and not as on every processor: valgrind offers no SHA instructions, so hashing counts for
more than it takes.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.parse
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONNECTIONS, WARM_UP, CHARGES = 16, 320, 3200
BODY = b'{"amount":4999,"currency":"USD","description":"Order #12345"}'

# What is looked for in which thread: a step, and the function it happens in, with all that it calls.
STEPS = {
    "HTTP worker": [
        ("HTTP: heads, bodies, routing, answers", r"h1::dispatcher::Dispatcher<.*Future>::poll "),
        ("  who asks, and the request's body", r"payments::Incoming::receive::"),
        ("  the answer as JSON", r"Serialize for strongroom::wire::PaymentBody>::serialize"),
        ("  the log line", r"tracing_core::event::Event::dispatch "),
        ("  the request's fingerprint", r"idempotency::Fingerprint::of "),
        ("the payment's actor: ask the provider, decide, record", r"payment::Work::perform::"),
        ("  decide", r"domain::payment::decide "),
    ],
    "ledger": [
        ("judge against the books, gather", r"Handler<.*Appends>>::handle "),
        ("encode, hash, write", r"journal::writer::Writer::append "),
        ("apply to the books", r"domain::books::Books::apply "),
    ],
    "reconciliation": [("prove what was written", r"reconciliation::engine::Engine::run ")],
}


def charge(connection):
    key = uuid.uuid4().hex
    head = (
        f"POST /api/payments?idempotencyKey={key} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk_test_merchant_1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    connection.sendall(head.encode() + BODY)


def answer(connection):
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536)
    head, body = got.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(65536)
    if not head.startswith(b"HTTP/1.1 201"):
        sys.exit(f"not charged: {head!r} {body!r}")


def drive(connections, count):
    for _ in range(count // len(connections)):
        for connection in connections:
            charge(connection)
        for connection in connections:
            answer(connection)


def counted(file):
    """A thread's instructions in all, and of each function with what it calls."""
    text = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--show-percs=no", str(file)],
        capture_output=True, text=True, check=True,
    ).stdout
    functions = re.findall(r"^ *([\d,]+) +(\S.*)$", text, re.MULTILINE)
    return [(int(count.replace(",", "")), name + " ") for count, name in functions]


def per_charge(folder):
    """Rows of (step, instructions a charge)."""
    threads = {}
    for file in sorted(folder.glob("counts-*")):
        functions = counted(file)
        total = max((count for count, _ in functions), default=0)
        for thread, steps in STEPS.items():
            found = [max((n for n, name in functions if re.search(of, name)), default=0) for _, of in steps]
            if found[0] and total > threads.get(thread, (0,))[0]:
                threads[thread] = (total, found)
    yield "all threads", sum(total for total, _ in threads.values()) // CHARGES
    for thread, steps in STEPS.items():
        if thread not in threads:
            sys.exit(f"{thread}: nothing was counted")
        total, found = threads[thread]
        yield thread, total // CHARGES
        for (step, of), count in zip(steps, found):
            if not count:
                sys.exit(f"{step}: no function is {of}")
            yield "  " + step, count // CHARGES


def main():
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing: install Debian's package valgrind")
    subprocess.run(["cargo", "build", "--release", "--locked", "--package", "strongroom"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]
        command += [f"--callgrind-out-file={folder}/counts", str(ROOT / "target/release/strongroom")]
        command += ["serve", "--listen", "127.0.0.1:0", "--data", "data"]
        # One worker, so that all of what it does is in one thread's count.
        variables = os.environ | {"STRONGROOM__HTTP__WORKERS": "1"}
        with open(folder / "log", "wb") as log:
            server = subprocess.Popen(
                command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            lines = (line.split()[-1] for line in server.stdout if line.startswith("listening on "))
            address = urllib.parse.urlsplit(next(lines))
            where = (address.hostname, address.port)
            connections = [socket.create_connection(where) for _ in range(CONNECTIONS)]
            drive(connections, WARM_UP)
            for switch, count in (("on", CHARGES), ("off", 0)):
                subprocess.run(["callgrind_control", "-i", switch, str(server.pid)], stdout=subprocess.DEVNULL, check=True)
                drive(connections, count)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
        rows = list(per_charge(folder))
    lines = [f"{step:62} {count:8,}" for step, count in rows]
    text = "\n".join([f"{'instructions a durable charge':62} {'':8}".rstrip(), *lines, ""])
    (ROOT / "benches/instructions.txt").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()

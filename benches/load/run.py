#!/usr/bin/env python3
"""How fast: durable payments, measured beside what HTTP alone costs on the same machine in the same minutes.

    cargo install oha --locked        (once)
    just load                         (or: benches/load/run.py; some ten minutes, and it stops by itself)

Builds, starts the server as it is shipped (config.toml: keys, idempotency, journal with durable writes, ledger, webhook
events, log) on a fresh folder and the ceiling (ceiling.rs: parses the same body, renders the same reply, nothing else)
beside it, and drives both in turn with the same oha: A B A B, the other one stopped meanwhile. Charges are measured
beside the logged ceiling too, which makes a part of each reply durable before it answers, and does nothing else: the
least that a durable answer can cost here. Every figure is the median of its rounds. After every run the books have to
hold exactly as many payments as oha was told 201, and in the end the merchants' balances every cent of them.

Prints a table; results.json and latency.svg go to --out. Only Python's own library is needed.
"""

import argparse
import atexit
import contextlib
import http.client
import json
import mmap
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import plot  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
MERCHANT = "sk_test_merchant_1"
ADMIN = "ak_test_admin"
AMOUNT = 4999
CHARGE = {"amount": AMOUNT, "currency": "USD", "description": "Order #12345"}
BLOCK = 4096


class Program:
    """A server process that is driven: it runs only while it is measured."""

    def __init__(self, name, command, folder):
        self.log = open(folder / f"{name}.log", "wb")
        self.process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        # However this program ends, nothing is left behind.
        atexit.register(self.process.kill)
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.url = line.split()[-1]
                break
        else:
            sys.exit(f"{name} does not start: {self.log.name}")

    def ask(self, method, path, body=None, key=ADMIN):
        address = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body and json.dumps(body), {"Authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status >= 400:
                sys.exit(f"{method} {path}: {answer.status} {text}")
            return text

    def metric(self, name):
        """The sum of all metrics whose name and labels begin so."""
        lines = self.ask("GET", "/metrics").splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith(name)))

    def ids(self, status, count):
        """The newest `count` payments of a status, or as many as there are."""
        ids, after = [], ""
        while len(ids) < count:
            page = json.loads(self.ask("GET", f"/api/payments?status={status}&limit=100{after}"))
            ids += [payment["id"] for payment in page["data"]]
            if not page["next"]:
                break
            after = "&after=" + page["next"]
        return ids[:count]

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+) kB", status)[1]) * 1024

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        self.go_on()
        self.process.terminate()
        return self.process.wait(timeout=60)


class Load:
    """One way to drive a server, the same for the real one and the ceiling."""

    def __init__(self, name, path="", connections=64, body=CHARGE, **how):
        self.name, self.path, self.connections, self.body = name, path, connections, body
        # Bodies or paths to choose from at random.
        self.bodies, self.paths = how.pop("bodies", None), how.pop("paths", None)
        # How many requests, at most how many a second; else as many as there is time for.
        self.count, self.rate = how.pop("count", None), how.pop("rate", None)
        self.key = how.pop("key", MERCHANT)
        self.status = how.pop("status", "201")
        # What an answer that is no replay is worth on the merchants' accounts, and whether it is a payment more.
        self.worth, self.makes = how.pop("worth", 0), how.pop("makes", False)
        assert not how, how

    def command(self, program, seconds, folder):
        command = ["oha", "--no-tui", "--output-format", "json", "-c", str(self.connections)]
        command += ["-n", str(self.count)] if self.count else ["-z", f"{seconds}s", "-w"]
        if self.rate:
            command += ["-q", str(self.rate), "--latency-correction"]
        command += ["-H", f"Authorization: Bearer {self.key}"]
        if self.body or self.bodies:
            command += ["-m", "POST", "-H", "Content-Type: application/json"]
        if self.bodies:
            (folder / "bodies").write_text("\n".join(json.dumps(body) for body in self.bodies))
            command += ["-Z", str(folder / "bodies")]
        elif self.body:
            command += ["-d", json.dumps(self.body)]
        if self.paths:
            (folder / "paths").write_text("\n".join(program.url + path for path in self.paths))
            return command + ["--urls-from-file", str(folder / "paths")]
        return command + ["--rand-regex-url", program.url + self.path]

    def begin(self, program, seconds, folder):
        return subprocess.Popen(self.command(program, seconds, folder), stdout=subprocess.PIPE, text=True)

    def end(self, oha, status):
        """What oha saw. It calls every answer a success, so the statuses are looked at here."""
        figures = json.loads(oha.communicate()[0])
        told = figures["statusCodeDistribution"]
        if set(told) != {status} or figures["errorDistribution"]:
            sys.exit(f"{self.name}: not all were answered {status}: {told} {figures['errorDistribution']}")
        percentiles = figures["latencyPercentiles"]
        return {
            "answers": told[status],
            "perSecond": told[status] / figures["summary"]["total"],
            "p50ms": percentiles["p50"] * 1e3,
            "p99ms": percentiles["p99"] * 1e3,
            "slowestMs": figures["summary"]["slowest"] * 1e3,
        }


def charge(connections=64, name=None, **how):
    how = {"worth": AMOUNT, "makes": True} | how
    return Load(name or f"charge, {connections}", r"/api/payments\?idempotencyKey=[0-9a-f]{32}", connections, **how)


class Kit:
    """Both servers, and what was measured."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.rows, self.by_rate, self.facts = {}, [], {"durableWriteMs": durable_write_ms(folder)}
        # What the merchants must have in the end.
        self.money = 0
        release = ROOT / "target/release"
        self.real = Program("real", [release / "strongroom", "serve", "--listen", "127.0.0.1:0"], folder)
        self.ceiling = Program("ceiling", [release / "ceiling"], folder)
        self.ceiling.pause()
        self.logged = Program("logged", [release / "ceiling", folder / "replies"], folder)
        self.logged.pause()

    def on_real(self, *loads, at_rest=True):
        """A run against the real server, and the check that the books hold what was told. It begins when what the run
        before left to the background, snapshots above all, has been done; `history` measures what that costs."""
        if at_rest:
            self.settle()
        claims, payments = 'strongroom_idempotency_claims_total{result="fresh"}', "strongroom_payments{"
        before = [self.real.metric(claims), self.real.metric(payments)]
        figures, each = self.drive(self.real, loads)
        fresh, made = (self.real.metric(name) - was for name, was in zip((claims, payments), before))
        told = sum(one["answers"] for one, load in zip(each, loads) if load.makes)
        if told != made:
            sys.exit(f"{loads[0].name}: {told} were told 201, the books hold {made}")
        for one, load in zip(each, loads):
            # Random keys are all fresh; what is picked from a list may be picked twice, and is a replay then.
            self.money += load.worth * (fresh - told if load.paths and load.body else one["answers"])
        return figures

    def on_ceiling(self, *loads, ceiling=None):
        ceiling = ceiling or self.ceiling
        self.real.pause()
        ceiling.go_on()
        figures, _ = self.drive(ceiling, loads)
        ceiling.pause()
        self.real.go_on()
        return figures

    def drive(self, program, loads):
        """Runs loads at once: their figures together, and each one's."""
        cpu = program.cpu_seconds()
        running = []
        for number, load in enumerate(loads):
            folder = self.folder / f"load-{number}"
            folder.mkdir(exist_ok=True)
            running.append(load.begin(program, self.options.seconds, folder))
        each = []
        for load, oha in zip(loads, running):
            # The ceiling answers a POST by 201, whatever it is about.
            status = load.status if program is self.real else "201" if load.body else "200"
            each.append(load.end(oha, status))
        cpu = program.cpu_seconds() - cpu
        answers = sum(one["answers"] for one in each)
        together = {
            "answers": answers,
            "perSecond": sum(one["perSecond"] for one in each),
            # Of several loads the slowest one's.
            "p50ms": max(one["p50ms"] for one in each),
            "p99ms": max(one["p99ms"] for one in each),
            "slowestMs": max(one["slowestMs"] for one in each),
            "cpuMicros": cpu / answers * 1e6,
        }
        return together, each

    def measure(self, loads):
        """Rounds of ceiling and server in turn. `loads` makes a round's load, or loads, by its number."""
        rounds = []
        for number in range(self.options.rounds):
            made = loads(number)
            made = made if isinstance(made, tuple) else (made,)
            ceiling = self.on_ceiling(*made)
            # Before the real one, whose last run the disk may still be busy with.
            logged = [self.on_ceiling(*made, ceiling=self.logged)] if all(load.makes for load in made) else []
            rounds.append([ceiling, self.on_real(*made), *logged])
        self.note(made[0].name, rounds)

    def note(self, name, rounds, beside="the ceiling"):
        """Each round: the other's figures, the real one's, and, if it was measured, the logged ceiling's."""

        def medians(which):
            figures = ("perSecond", "p50ms", "p99ms", "cpuMicros")
            return {figure: statistics.median(one[which][figure] for one in rounds) for figure in figures}

        def ratio(which):
            return statistics.median(one[1]["perSecond"] / one[which]["perSecond"] for one in rounds)

        row = medians(1) | {"beside": beside, "other": medians(0), "ratio": ratio(0)}
        if len(rounds[0]) > 2:
            row |= {"logged": medians(2), "ratioToLogged": ratio(2)}
        row["rounds"] = [dict(zip(("other", "real", "logged"), one)) for one in rounds]
        self.rows[name] = row
        print(line(name, row), file=sys.stderr)

    def settle(self):
        """Waits until what goes on in the background has been done."""
        for _ in range(300):
            before = self.real.cpu_seconds()
            time.sleep(1)
            if self.real.cpu_seconds() - before < 0.1:
                return
        sys.exit("the server has been at work for five minutes that nobody asked for")

    def end(self):
        for program in (self.ceiling, self.logged, self.real):
            program.stop()

    def check_money(self):
        accounts = json.loads(self.real.ask("GET", "/api/ledger"))["accounts"]
        have = sum(account["balance"] for account in accounts if account["kind"] == "merchant")
        if have != self.money:
            sys.exit(f"the merchants have {have} minor units and were told {self.money}")


def durable_write_ms(folder):
    """A durable 4 KiB write on this disk, in ms: appended and synced; and in place by O_DIRECT|O_DSYNC, as the journal does."""
    block, blocks = mmap.mmap(-1, 4096), 1000
    block.write(os.urandom(len(block)))

    def timed(path, flags, write):
        file, times = os.open(path, os.O_RDWR | os.O_CREAT | flags), []
        for number in range(blocks):
            begun = time.perf_counter()
            write(file, number)
            times.append((time.perf_counter() - begun) * 1e3)
        os.close(file)
        return {"median": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]}

    def append(file, _):
        os.write(file, block)
        os.fdatasync(file)

    appended = timed(folder / "appended", 0, append)
    with open(folder / "written", "wb") as file:
        file.write(bytes(blocks * len(block)))
        file.flush()
        os.fsync(file.fileno())
    flags = os.O_DIRECT | os.O_DSYNC
    in_place = timed(folder / "written", flags, lambda file, number: os.pwrite(file, block, number * len(block)))
    return {"appendAndSync": appended, "inPlace": in_place}


def charges(kit):
    for connections in (1, 16, 64, 256):
        kit.measure(lambda _, n=connections: charge(n))


def other_calls(kit):
    def of(pool, operation, number, **how):
        paths = [f"/api/payments/{id}/{operation}?idempotencyKey={operation}_{number}_{id}" for id in pool]
        return Load(f"{operation}, 64", paths=paths, status="200", **how)

    # Of ten payments one is captured or refunded, so few of oha's picks are picked twice; those are replays.
    def a_tenth(status):
        pool = kit.real.ids(status, 200_000)
        return pool, len(pool) // 10

    def capture(number):
        pool, count = a_tenth("authorized")
        return of(pool, "capture", number, body={"amount": AMOUNT}, worth=AMOUNT, count=count)

    def refund(number):
        pool, count = a_tenth("completed")
        return of(pool, "refund", number, body={"amount": 1}, worth=-1, count=count)

    def read(connections=64):
        paths = [f"/api/payments/{id}" for id in kit.real.ids("completed", 20_000)]
        return Load(f"read a payment, {connections}", paths=paths, connections=connections, body=None, status="200")

    def mixed(number):
        pool = kit.real.ids("completed", 200_000)
        back = of(pool, "refund", f"mixed_{number}", body={"amount": 1}, worth=-1, connections=8)
        return charge(32, "mixed: 32 charge, 24 read, 8 refund"), read(24), back

    kit.measure(lambda _: charge(name="authorize, 64", body=CHARGE | {"capture": "manual"}, worth=0))
    kit.measure(capture)
    kit.measure(refund)
    kit.measure(lambda _: read())
    key = "the_same_key_again_and_again"
    kit.real.ask("POST", f"/api/payments?idempotencyKey={key}", CHARGE, MERCHANT)
    kit.money += AMOUNT
    kit.measure(lambda _: Load("replay of one key, 64", rf"/api/payments\?idempotencyKey={key}"))
    kit.measure(mixed)


def merchants(kit):
    """One hot merchant beside a thousand, both asked for by an admin, so that the body alone says whose payment it is."""
    names = [f"shop_{number}" for number in range(1000)]
    for name in names:
        kit.real.ask("POST", "/api/merchants", {"id": name})
    hot = charge(name="one merchant, 64", key=ADMIN, body=CHARGE | {"merchantId": names[0]})
    bodies = [CHARGE | {"merchantId": name} for name in names]
    many = charge(name="a thousand merchants, 64", key=ADMIN, bodies=bodies)
    pairs = []
    for number in range(2 * kit.options.rounds):
        # In turn, so that neither always has the books that the other one has filled.
        if number % 2:
            pairs.append((kit.on_real(many), kit.on_real(hot)))
        else:
            pairs.append((kit.on_real(hot), kit.on_real(many))[::-1])
    kit.note("one merchant, 64", pairs, beside="a thousand merchants, 64")


def customers(kit, count):
    """Charges of so many customers, three of each in all, which get an account: what that costs in memory, too."""
    bodies = [CHARGE | {"customerId": f"customer_{number}"} for number in range(count)]
    kit.settle()
    before = kit.real.memory_bytes(), kit.real.metric("strongroom_payments{")
    kit.measure(lambda _: charge(name=f"charge, 64, {count:,} customers", bodies=bodies, count=count))
    kit.settle()
    made = kit.real.metric("strongroom_payments{") - before[1]
    kit.facts["memoryBytesPerPaymentOfCustomers"] = (kit.real.memory_bytes() - before[0]) / made


def rates(kit):
    """Latency at fixed rates that do not wait for answers, up to what 64 connections could do."""
    most = kit.rows["charge, 64"]["perSecond"]
    for share in (10, 25, 50, 75, 90):
        rate = int(most * share / 100)
        kit.measure(lambda _: charge(name=f"charge at {share} % of the most", rate=rate))
        row = kit.rows[f"charge at {share} % of the most"]
        kit.by_rate.append((row["perSecond"], row["p50ms"], row["p99ms"]))


def history(kit, payments):
    """Whether anything grows with history: the same load on the books as they are now and on full ones."""
    def measured(name):
        kit.measure(lambda _: charge(name=name))

    kit.settle()
    empty = kit.real.memory_bytes(), kit.real.metric("strongroom_payments{")
    measured("charge, 64, before")
    more = payments - kit.real.metric("strongroom_payments{")
    kit.settle()
    cpu = kit.real.cpu_seconds()
    # In pieces: whenever its list of answers doubles, the generator itself stands still, 10 ms at 131,072 of them and 50 at
    # 524,288, also with the bare handler.
    piece = 100_000
    counts = [min(piece, more - done) for done in range(0, more, piece)]
    runs = [kit.on_real(charge(name="history", count=count), at_rest=False) for count in counts]
    kit.facts["slowestMsInHistory"] = max(run["slowestMs"] for run in runs)
    kit.settle()
    # With all that was done later: snapshots, archive, reconciliation.
    kit.facts["cpuMicrosPerPayment"] = (kit.real.cpu_seconds() - cpu) / more * 1e6
    grown = kit.real.memory_bytes() - empty[0]
    kit.facts["memoryBytesPerPayment"] = grown / (payments - empty[1])
    measured(f"charge, 64, on {payments:,} payments")


COLUMNS = ("", "a second", "x ceiling", "x logged", "p50 (p99) ms", "logged's", "CPU us (ceiling's, logged's)")


def line(name, row):
    def latency(of):
        return f"{of['p50ms']:.2f} ({of['p99ms']:.1f})"

    other, logged = row["other"], row.get("logged")
    ratio = f"{row['ratio']:.2f}" + ("" if row["beside"] == "the ceiling" else f" of {row['beside']}")
    cells = [name, f"{row['perSecond']:,.0f}", ratio, f"{row['ratioToLogged']:.2f}" if logged else "", latency(row)]
    cells += [latency(logged) if logged else ""]
    costs = [f"{of['cpuMicros']:.0f}" for of in (other, logged) if of]
    return "| " + " | ".join([*cells, f"{row['cpuMicros']:.0f} ({', '.join(costs)})"]) + " |"


def table(kit):
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + "---|" * len(COLUMNS)
    yield from (line(name, row) for name, row in kit.rows.items())
    yield ""
    for way, name in (("inPlace", "in place, O_DIRECT and O_DSYNC"), ("appendAndSync", "append and fdatasync")):
        times = kit.facts["durableWriteMs"][way]
        yield f"durable 4 KiB write, {name}: median {times['median']:.3f} ms, p99 {times['p99']:.3f} ms"
    if memory := kit.facts.get("memoryBytesPerPaymentOfCustomers"):
        yield f"memory: {memory:.0f} bytes a payment of those with customers"
    if memory := kit.facts.get("memoryBytesPerPayment"):
        yield f"memory: {memory:.0f} bytes a settled payment"
        yield f"CPU: {kit.facts['cpuMicrosPerPayment']:.0f} us a payment, over all of them, with all that the background did"
        yield f"slowest answer to any of them: {kit.facts['slowestMsInHistory']:.0f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default 3)")
    parser.add_argument("--seconds", type=float, default=4, help="how long a round runs each server (default 4)")
    parser.add_argument("--history", type=int, default=0, help="also on books of so many payments (5000000: 3 GB of disk)")
    parser.add_argument("--only", choices=("charges",), help="leave the rest out")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/load", help="where the results go")
    options = parser.parse_args()
    # Told to stop, it leaves as after an error: with nothing left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    if not shutil.which("oha"):
        sys.exit("oha is missing: cargo install oha --locked")
    for package in ("ceiling", "strongroom"):
        subprocess.run(["cargo", "build", "--release", "--locked", "--package", package], cwd=ROOT, check=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="load-", dir=options.out) as folder:
        folder = pathlib.Path(folder)
        shutil.copy(ROOT / "config.toml", folder)
        kit = Kit(options, folder)
        try:
            kit.on_ceiling(charge())
            kit.on_ceiling(charge(), ceiling=kit.logged)
            kit.on_real(charge(name="warm-up"))
            charges(kit)
            if not options.only:
                other_calls(kit)
                merchants(kit)
                rates(kit)
                customers(kit, 100_000)
            if options.history:
                history(kit, options.history)
            kit.check_money()
        finally:
            kit.end()
    print("\n".join(table(kit)))
    facts = kit.facts | {"machine": platform.platform(), "cores": os.cpu_count(), "rows": kit.rows}
    (options.out / "results.json").write_text(json.dumps(facts, indent=1) + "\n")
    if not options.only:
        (options.out / "latency.svg").write_text(plot.latency(kit.by_rate))


if __name__ == "__main__":
    main()

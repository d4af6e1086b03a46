"""How cost grows: the same work at more and more sessions, files, events and bytes, up to where a site would be large.

    scripts/bench --scaling                  all of it
    scripts/bench --scaling sessions files   only these

Points are done once each, in ascending order, and what is shown at each is a median of a few; memory is the most that was seen of all of a
server's processes together, looked at while the work runs.
"""

import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from . import events
from .growth import Figure
from .servers import OpenSSH, Sealdrop, Server

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Site(Sealdrop):
    """The demo's directory, served without the demo: it can be started anew."""

    def __init__(self, bench):
        Server.__init__(self, bench)
        self.config = self.dir / "demo/config/sealdrop.toml"
        self.up, self.down = "/radiology", "/inbox/partner"
        self.make()
        self.start()
        self.settle_count()

    def make(self):
        command = [self.bench.program, "demo", "--dir", self.dir / "demo", "--listen", f"127.0.0.1:{self.port}", "--keep", "--json"]
        self.process = self.spawn(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.ready = json.loads(self.process.stdout.readline())
        self.halt()

    def start(self):
        """Seconds until the first client would be greeted."""
        begun = time.monotonic()
        with (self.dir / "log").open("ab") as log:
            command = [self.bench.program, "serve", "--config", self.config, "--while-stdin"]
            self.process = self.spawn(command, stdout=subprocess.DEVNULL, stderr=log)
        while not self.greets():
            if self.process.poll() is not None or time.monotonic() - begun > 120:
                sys.exit(f"sealdrop does not start: {(self.dir / 'log').read_text(encoding='utf-8', errors='replace')[-1000:]}")
            time.sleep(0.005)
        return time.monotonic() - begun

    def greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 60) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def halt(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        # Of a demo that ended before it listened to signals, the daemon ends a moment later.
        deadline = time.monotonic() + 60
        while self.group.pids() and time.monotonic() < deadline:
            time.sleep(0.005)

    def events(self):
        command = [self.bench.program, "status", "--json", "--config", self.config]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["events"]

    def keeper_memory(self):
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text(encoding="ascii")
        return next(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))

    def on_disk(self):
        """What the ledger takes there."""
        said = subprocess.run(["du", "-sk", self.dir / "demo/state/ledger"], check=True, capture_output=True, text=True).stdout
        return int(said.split()[0]) << 10


class Peak:
    """The most memory that a server's processes had together while this was open."""

    EVERY = 0.2

    def __init__(self, server):
        self.server, self.most, self.over = server, 0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self):
        while True:
            self.most = max(self.most, self.server.group.memory())
            if self.over.wait(self.EVERY):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *failure):
        self.over.set()
        self.thread.join()


class Client:
    """One session of stock sftp that is told command after command: what one of them takes is seen without the login."""

    def __init__(self, server, pulling=False):
        command = ["sftp", "-q", "-c", server.cipher, *server.options(pulling), "-b", "-", f"{server.user(pulling)}@127.0.0.1"]
        self.server = server
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self):
        self.take()
        return self

    def __exit__(self, *failure):
        self.process.stdin.close()
        if failure[0]:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def tell(self, command=""):
        self.told, self.said, self.begun = command, b"", time.monotonic()
        os.write(self.process.stdin.fileno(), f"{command}\npwd\n".lstrip().encode())

    def done(self):
        """Reads what sftp says: whether `pwd` behind the command is answered, and so the command done."""
        more = os.read(self.process.stdout.fileno(), 1 << 20)
        if not more:
            sys.exit(f"sftp failed on {self.server.name} at `{self.told}`: {self.process.stderr.read().decode(errors='replace')}")
        # The end of what was said will do: a listing is long.
        self.said = self.said[-200:] + more
        return b"Remote working directory" in self.said and self.said.endswith(b"\n")

    def take(self, command=""):
        """Seconds until it was done."""
        self.tell(command)
        while not self.done():
            pass
        return time.monotonic() - self.begun


def all_take(told):
    """Each client its command, all at once: the seconds each took."""
    with selectors.DefaultSelector() as waiting:
        for client, command in told:
            waiting.register(client.process.stdout, selectors.EVENT_READ, client)
            client.tell(command)
        seconds, begun = [], told[0][0].begun
        while waiting.get_map():
            for key, _ in waiting.select():
                if key.data.done():
                    waiting.unregister(key.fileobj)
                    seconds.append(time.monotonic() - begun)
    return seconds


class Kind:
    """One thing that grows."""

    name = what = axis = ""
    figures = ()
    servers = (Site, OpenSSH)
    # Said below the table.
    note = ""

    def points(self, bench):
        raise NotImplementedError

    def begin(self, bench):
        """Before the first point."""
        bench.fresh()

    def at(self, server, point):
        """Does the work at this point: the figures by their keys."""
        raise NotImplementedError

    def measure(self, bench):
        self.begin(bench)
        rows = []
        for point in sorted(set(self.points(bench))):
            row = {}
            for kind in self.servers:
                row[kind.name] = self.at(bench.server(kind), point)
                shown = "  ".join(f"{figure.title} {row[kind.name][figure.key]:,.4g}" for figure in self.figures)
                print(f"{self.name:<10} {point:>14,} {kind.name:<10} {shown}", file=sys.stderr)
            rows.append((point, row))
        return {"kind": self, "rows": rows}


class SessionsAtOnce(Kind):
    name, what, axis = "sessions", "sessions at once, half of them pushing and half pulling 1 GiB in all; one alone pushes", "sessions"
    figures = (Figure("speed", "MiB/s", "speed", plot=True), Figure("slowest", "slowest ÷ mean", "share"),
               Figure("memory", "peak PSS, MiB", "memory", plot=True))
    note = "All have logged in before, sixteen at a time, and begin together. Of two users, each has half of the sessions."
    ROUNDS, WAVE = 3, 16

    def points(self, bench):
        # With another scale the same: it is what is measured.
        return [1, 2, 4, 8, 16, 32, 64, 128, 200]

    def at(self, server, point):
        server.bench.fresh()
        server = server.bench.server(type(server))
        size = max(MIB, server.bench.size(GIB) // point)
        local = server.bench.file(f"share-{point}", size)
        server.run([f"put {local} {server.up}/share"])
        speeds, slowest = [], []
        with ExitStack() as open_clients, Peak(server) as peak:
            clients = self.logged_in(server, point, open_clients)
            for number in range(self.ROUNDS):
                commands = [f"get {server.down}/share /dev/null" if session % 2 else f"put {local} {server.up}/push-{number}-{session}"
                            for session in range(point)]
                seconds = all_take(list(zip(clients, commands)))
                speeds.append(size * point / MIB / max(seconds))
                each = [size / one for one in seconds]
                slowest.append(min(each) / statistics.mean(each))
        local.unlink()
        return {"speed": statistics.median(speeds), "slowest": min(slowest), "memory": peak.most / MIB}

    def logged_in(self, server, count, open_clients):
        clients = []
        for first in range(0, count, self.WAVE):
            wave = [Client(server, pulling=session % 2 == 1) for session in range(first, min(first + self.WAVE, count))]
            clients += [open_clients.enter_context(client) for client in wave]
        return clients


class FilesInAFolder(Kind):
    """Hard links, as for the row `listing` of the table."""

    name, what, axis = "files", "names in one folder", "names"
    figures = (Figure("seconds", "listing, s", "time", plot=True), Figure("speed", "entries/s", "speed"),
               Figure("put", "one more put, ms", "time", plot=True), Figure("memory", "peak PSS, MiB", "memory"))
    LINKS = 60_000

    def points(self, bench):
        return [bench.size(count) for count in (1, 100, 1000, 10_000, 100_000, 200_000)]

    def begin(self, bench):
        super().begin(bench)
        self.there = {}

    def at(self, server, point):
        self.grow(server, point)
        times = 3 if point >= 10_000 else 10
        with Peak(server) as peak, Client(server) as client:
            client.take(f"ls -1f {server.up}/list")
            seconds = statistics.median(client.take(f"ls -1f {server.up}/list") for _ in range(times))
            file = server.bench.file("small", 1000)
            puts = [client.take(f"put {file} {server.up}/list/more-{point}-{number}") for number in range(10)]
        return {"seconds": seconds, "speed": point / seconds, "put": statistics.median(puts) * 1000, "memory": peak.most / MIB}

    def grow(self, server, count):
        folder = server.tree() / server.up.strip("/") / "list"
        if server not in self.there:
            server.run([f"mkdir {server.up}/list", f"put {server.bench.file('small', 1000)} {server.up}/list/first"])
        for number in range(self.there.get(server, 1), count):
            if number % self.LINKS == 1:
                subprocess.run(["cp", "-p", folder / "first", folder / f"entry-{number:06}"], check=True)
                continue
            os.link(folder / f"entry-{number - (number - 1) % self.LINKS:06}", folder / f"entry-{number:06}")
        self.there[server] = max(count, self.there.get(server, 1))


class EventsInTheLedger(Kind):
    name, what, axis = "ledger", "events in the ledger, all of this month", "events"
    figures = (Figure("put", "small put, ms", "time", plot=True), Figure("start", "start, s", "time", plot=True),
               Figure("memory", "keeper at rest, PSS in MiB", "memory", plot=True), Figure("disk", "on disk, MiB", "memory"))
    servers = (Site,)
    note = ("The events are times that clients set. A million by another way, and verified: "
            "`SEALDROP_TEST_EVENTS=1000000 cargo test --release --lib ledger::tests::scale -- --nocapture` "
            "([ledger.md](ledger.md#limits)).")
    STEP = 50_000

    def points(self, bench):
        return [0] + [bench.size(count) for count in (1000, 10_000, 100_000, 1_000_000)]

    def at(self, server, point):
        self.fill(server, point)
        starts = []
        for _ in range(3):
            server.halt()
            starts.append(server.start())
        time.sleep(1)
        server.settle_count()
        memory, disk = server.keeper_memory(), server.on_disk()
        file = server.bench.file("small", 1000)
        with Client(server) as client:
            puts = [client.take(f"put {file} {server.up}/at-{point}-{number}") for number in range(20)]
        put, start = statistics.median(puts) * 1000, statistics.median(starts)
        return {"put": put, "start": start, "memory": memory / MIB, "disk": disk / MIB}

    def fill(self, server, count):
        """In steps: what is set without waiting for the ledger would pile up before it."""
        while (missing := count - server.events()) > 0:
            before = server.events()
            events.fill(server, min(self.STEP, missing))
            deadline = time.monotonic() + 60
            while server.events() < min(count, before + self.STEP):
                if time.monotonic() > deadline:
                    sys.exit("the ledger does not take what clients do")
                time.sleep(0.1)


class SizeOfAFile(Kind):
    name, what, axis = "size", "one file, put and then got", "size"
    figures = (Figure("put", "put, ms", "time"), Figure("put_speed", "put, MiB/s", "speed", plot=True),
               Figure("get", "get, ms", "time"), Figure("get_speed", "get, MiB/s", "speed", plot=True),
               Figure("cpu", "CPU s/GiB, put and get", "share", least=4 * MIB),
               Figure("memory", "peak PSS, MiB", "memory"))
    note = "Up to 1 GiB is sent from memory, beyond from the disk that the servers write to as well."
    SIZES = (1, KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, GIB, 4 * GIB, 10 * GIB, 50 * GIB, 100 * GIB)
    bytes = True

    def __init__(self, largest):
        self.largest, self.kept = largest, None

    def points(self, bench):
        sizes = [size for size in self.SIZES if size < self.largest] + [self.largest]
        return [size if size <= MIB else bench.size(size) for size in sizes]

    def at(self, server, point):
        if point >= 64 * MIB:
            # Each of the large on a disk of its own, which has no room for those of both servers.
            server.bench.fresh()
            server = server.bench.server(type(server))
        local = self.source(server.bench, point)
        times = 20 if point <= MIB else 5 if point <= 256 * MIB else 2 if point <= GIB else 1
        begun = server.group.cpu()
        with Peak(server) as peak:
            with Client(server) as client:
                put = statistics.median(client.take(f"put {local} {server.up}/{point}-{n}") for n in range(times))
            with Client(server, pulling=True) as client:
                get = statistics.median(client.take(f"get {server.down}/{point}-{n} /dev/null") for n in range(times))
        used = server.group.cpu() - begun
        mib = point / MIB
        return {"put": put * 1000, "put_speed": mib / put, "get": get * 1000, "get_speed": mib / get,
                "cpu": used / times / (point / GIB), "memory": peak.most / MIB}

    def source(self, bench, size):
        """In memory while there is room for it; that of the point before goes."""
        if self.kept and self.kept[0] == size:
            return self.kept[1]
        if self.kept:
            self.kept[1].unlink()
        self.kept = size, bench.file(f"size-{size}", size) if size <= GIB else self.large(bench, size)
        return self.kept[1]

    @staticmethod
    def large(bench, size):
        path = bench.dir.with_suffix(f".{size}")
        bench.disk.also(path)
        block = os.urandom(64 * MIB)
        with path.open("wb") as out:
            for at in range(0, size, len(block)):
                out.write(block[:min(len(block), size - at)])
        return path


def all_kinds(largest):
    return [SessionsAtOnce(), FilesInAFolder(), EventsInTheLedger(), SizeOfAFile(largest)]


def room(kinds, scale):
    """Bytes that the servers' disk needs for these, and what is sent from beside it."""
    largest = max((kind.largest * scale for kind in kinds if isinstance(kind, SizeOfAFile)), default=0)
    return int(max(3 * GIB + min(scale, 1) * 9 * GIB, largest * 1.05 + 3 * GIB)), int(largest) if largest > GIB else 0

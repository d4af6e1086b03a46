"""What is measured. A work is done by each server in turn, round by round, so that what else the machine does falls on all."""

import os
import subprocess
import sys
import time
from pathlib import Path

from . import light
from .servers import OnGocryptfs, OpenSSH, RcloneCrypt, Sealdrop, take_memory

GIB = 1 << 30


class Work:
    """One row of the table."""

    name = ""
    what = ""
    # The target of issue and documentation: what ratio of speed to the first peer is to be reached.
    target = None
    peers = (OpenSSH,)
    # What one figure counts, for the table.
    unit = "MiB/s"

    def make_ready(self):
        """Before any work is done: what takes long, and what may be missing."""

    def prepare(self, server):
        """Once for each server, before anything is measured."""

    def once(self, server, number):
        """Does the work once; how much of `unit` times seconds was done."""
        raise NotImplementedError

    def measure(self, bench, rounds):
        bench.fresh()
        kinds = [kind for kind in (Sealdrop, *self.peers) if available(kind)]
        servers = [bench.server(kind) for kind in kinds]
        figures = {server.name: {"seconds": [], "cpu": [], "speed": []} for server in servers}
        for server in servers:
            self.prepare(server)
            self.once(server, "warm")
        for number in range(rounds):
            for server in servers if number % 2 == 0 else reversed(servers):
                server.settle()
                take_memory()
                cpu, begun = server.group.cpu(), time.monotonic()
                amount = self.once(server, number)
                seconds = time.monotonic() - begun
                server.settle()
                mine = figures[server.name]
                mine["seconds"].append(seconds)
                mine["cpu"].append(server.group.cpu() - cpu)
                mine["speed"].append(amount / seconds)
                print(f"{self.name:<12} round {number + 1}/{rounds}  {server.name:<22} {seconds:8.2f} s  {amount / seconds:10.1f} {self.unit}",
                      file=sys.stderr)
        return {"work": self, "figures": figures}


def available(kind):
    places = os.environ["PATH"].split(":")
    missing = [needed for needed in kind.needs if not any(Path(place, needed).exists() for place in places)]
    if missing:
        print(f"there is no {' and no '.join(missing)}: {kind.name} is left out", file=sys.stderr)
    return not missing


class Put(Work):
    name, what, target = "put", "put one file of 1 GiB by stock sftp, aes256-gcm", 1.5

    def once(self, server, number):
        size = server.bench.size(GIB)
        server.run([f"put {server.bench.file('big', size)} {server.up}/big-{number}"])
        return size / (1 << 20)


class Get(Work):
    name, what, target = "get", "get one file of 1 GiB", 1.3

    def prepare(self, server):
        server.run([f"put {server.bench.file('big', server.bench.size(GIB))} {server.up}/get-me"])

    def once(self, server, number):
        server.run([f"get {server.down}/get-me /dev/null"], pulling=True)
        return server.bench.size(GIB) / (1 << 20)


class Many(Work):
    """2,000 files of 512 KiB."""

    unit = "files/s"
    SIZE = 512 << 10

    def folder(self, server):
        return server.bench.folder("many", server.bench.size(2000), self.SIZE)


class PutMany(Many):
    name, what, target = "put-many", "put -r 2,000 files of 512 KiB, receipts and durable at CLOSE; OpenSSH without fsync", 1.0
    more = ()

    def once(self, server, number):
        server.run([f"mkdir {server.up}/study-{number}", f"put -r {self.folder(server)}/* {server.up}/study-{number}/"], more=self.more)
        return server.bench.size(2000)


class PutManyDurable(PutMany):
    """`-f` makes OpenSSH's client ask for fsync after each file, of both servers."""

    name, what, target = "put-durable", "the same, each file made durable by OpenSSH too (sftp -f)", 2.0
    more = ("-f",)


class GetMany(Many):
    name, what, target = "get-many", "get -r 2,000 files of 512 KiB", 1.2

    def prepare(self, server):
        server.run([f"mkdir {server.up}/study", f"put -r {self.folder(server)}/* {server.up}/study/"])

    def once(self, server, number):
        into = Path(f"/dev/shm/sealdrop-bench-{os.getpid()}-into")
        into.mkdir()
        try:
            server.run([f"get -r {server.down}/study {into}"], pulling=True)
        finally:
            subprocess.run(["rm", "-rf", into], check=True)
        return server.bench.size(2000)


class Sessions(Work):
    """Half of them push, half pull, all at once."""

    target = 2.0

    def __init__(self, count):
        self.count = count
        self.name, self.what = f"sessions-{count}", f"{count} sessions, half of them pushing and half pulling 1 GiB in all"
        self.shares = []

    def prepare(self, server):
        self.size = max(1 << 20, server.bench.size(GIB) // self.count)
        server.run([f"put {server.bench.file(f'share-{self.count}', self.size)} {server.up}/share"])

    def once(self, server, number):
        local = server.bench.file(f"share-{self.count}", self.size)
        begun, running, ended = time.monotonic(), {}, []
        for session in range(self.count):
            pulling = session % 2 == 1
            line = f"get {server.down}/share /dev/null" if pulling else f"put {local} {server.up}/push-{number}-{session}"
            running[session] = server.sftp([line], pulling=pulling, stderr=subprocess.DEVNULL)
        while running:
            for session, process in list(running.items()):
                if process.poll() is not None:
                    if process.returncode:
                        sys.exit(f"a session of {self.count} failed on {server.name}")
                    ended.append(time.monotonic() - begun)
                    del running[session]
            time.sleep(0.01)
        # A session's speed is what it moved in the time until it ended.
        speeds = [self.size / seconds for seconds in ended]
        self.shares.append((server.name, min(speeds) / (sum(speeds) / len(speeds))))
        return self.size * self.count / (1 << 20)


class Logins(Work):
    name, what, target, unit = "logins", "logins by stock sftp, up to an open channel", 4.0, "logins/s"
    COUNT = 40

    def once(self, server, number):
        count = max(4, server.bench.size(self.COUNT))
        for _ in range(count):
            server.run(["pwd"])
        return count


class LightLogins(Work):
    """By `scripts/benchmark/logins.rs`, four at once. The server does almost all of the work, so that it is what is measured."""

    target, unit = 6.0, "logins/s"
    COUNT, AT_ONCE = 400, 4

    def __init__(self, name, kex):
        self.name, self.wanted = name, kex
        self.what = f"logins by a light client, {light.short(kex)}"
        # Of each time, beside whom, and the client's own seconds of processor time.
        self.client_cpu = []

    def make_ready(self):
        self.client = light.client()
        # OpenSSH has mlkem768x25519-sha256 from 9.9 on, and what it had before, our client does not have.
        self.of_openssh = self.wanted if light.openssh_knows(self.wanted) else light.FALLBACK
        if self.of_openssh != self.wanted:
            self.what += f"; of OpenSSH, which does not know it, {light.short(self.of_openssh)}"

    def once(self, server, number):
        kex = self.of_openssh if isinstance(server, OpenSSH) else self.wanted
        done = light.log_in(self.client, server, kex, max(8, server.bench.size(self.COUNT)), self.AT_ONCE)
        if number != "warm":
            self.client_cpu.append((server.name, done["client_cpu"]))
        return done["count"]


class Listing(Work):
    """All names of a folder are hard links to a few files: what is measured is the listing."""

    name, what, target, unit = "listing", "a listing of 100,000 entries", 1.0, "entries/s"

    def prepare(self, server):
        server.run([f"mkdir {server.up}/list", f"put {server.bench.file('small', 1000)} {server.up}/list/first"])
        count, folder = server.bench.size(100_000), server.tree() / server.up.strip("/") / "list"
        source = folder / "first"
        for number in range(count):
            if number % 60_000 == 0:
                source = folder / f"source-{number}"
                subprocess.run(["cp", "-p", folder / "first", source], check=True)
            os.link(source, folder / f"entry-{number:06}")

    def once(self, server, number):
        server.run([f"ls -1f {server.up}/list"])
        return server.bench.size(100_000)


class FarAway(Work):
    """Through a line that holds everything back by 50 ms, either way (`delay`)."""

    target = 1.0
    DELAY = 0.05

    def __init__(self, way):
        self.way = way
        self.name, self.what = f"far-{way}", f"{way} 256 MiB over a round trip of 100 ms"

    def size(self, server):
        return server.bench.size(GIB // 4)

    def prepare(self, server):
        server.run([f"put {server.bench.file('quarter', self.size(server))} {server.up}/far"])

    def once(self, server, number):
        if self.way == "put":
            self.far(server, [f"put {server.bench.file('quarter', self.size(server))} {server.up}/far-{number}"])
        else:
            self.far(server, [f"get {server.down}/far /dev/null"], pulling=True)
        return self.size(server) / (1 << 20)

    def far(self, server, lines, pulling=False):
        near = server.port
        line = subprocess.Popen([sys.executable, Path(__file__).with_name("delay.py"), str(near), str(self.DELAY)], stdout=subprocess.PIPE)
        try:
            server.port = int(line.stdout.readline())
            server.run(lines, pulling=pulling)
        finally:
            server.port = near
            line.terminate()
            line.wait()


class EqualPut(Put):
    name, what, target, peers = "equal-put", "put 1 GiB; the others encrypt at rest too", 2.0, (OnGocryptfs, RcloneCrypt)


class EqualGet(Get):
    name, what, target, peers = "equal-get", "get 1 GiB; the others decrypt too", 2.0, (OnGocryptfs, RcloneCrypt)


class Memory(Work):
    """Not a speed: how much each further session adds, idle and in the middle of a transfer."""

    name, what, unit = "memory", "proportional set size of each further session, idle and transferring", "KiB"
    IDLE, BUSY = 40, 8

    def measure(self, bench, rounds):
        bench.fresh()
        figures = {}
        for kind in (Sealdrop, OpenSSH):
            server = bench.server(kind)
            server.run(["pwd"])
            server.settle()
            figures[server.name] = {"idle": [self.idle(server)], "busy": [self.busy(server)]}
        return {"work": self, "figures": figures}

    def idle(self, server):
        before = server.group.memory()
        clients = []
        for _ in range(self.IDLE):
            command = ["sftp", "-q", *server.options(), "-b", "-", f"{server.user(False)}@127.0.0.1"]
            client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            client.stdin.write(b"pwd\n")
            client.stdin.flush()
            # The answer of `pwd`: the session is up. The command itself is echoed first.
            while not client.stdout.readline().startswith(b"Remote"):
                pass
            clients.append(client)
        grown = server.group.memory() - before
        for client in clients:
            client.communicate(b"bye\n")
        server.settle()
        return grown / self.IDLE / 1024

    def busy(self, server):
        before = server.group.memory()
        local = server.bench.file("big", server.bench.size(GIB))
        # 2 MiB a second each: slow enough to be in the middle when it is looked at.
        clients = [server.sftp([f"put {local} {server.up}/busy-{number}"], more=("-l", "16384"), stderr=subprocess.DEVNULL)
                   for number in range(self.BUSY)]
        time.sleep(8)
        grown = server.group.memory() - before
        for client in clients:
            client.kill()
            client.wait()
        server.settle()
        return grown / self.BUSY / 1024


def all_works():
    return [Put(), Get(), PutMany(), PutManyDurable(), GetMany(), Sessions(8), Sessions(64), Logins(), LightLogins("logins-curve", light.CURVE),
            LightLogins("logins-mlkem", light.HYBRID), Memory(), FarAway("put"), FarAway("get"), Listing(), EqualPut(), EqualGet()]

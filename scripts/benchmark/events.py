"""Events by the ten thousand: SFTP over stock ssh that sets the times of a file over and over, without waiting for each answer.

Of what a client can do it is the cheapest that the audit log has an event of, and it changes nothing else in the ledger.
"""

import itertools
import struct
import subprocess
import threading

INIT, STATUS, SETSTAT = 1, 101, 9
TIMES = 0x08
SESSIONS, IN_FLIGHT = 16, 64


def fill(server, count):
    """At least `count` more events on `server`, by several sessions at once."""
    file = server.bench.file("one-byte", 1)
    server.run([f"put {file} /shared/times-{number}" for number in range(SESSIONS)])
    each, failures = -(-count // SESSIONS), []
    sessions = [threading.Thread(target=session, args=(server, number, each, failures)) for number in range(SESSIONS)]
    for running in sessions:
        running.start()
    for running in sessions:
        running.join()
    if failures:
        raise failures[0]


def session(server, number, count, failures):
    command = ["ssh", *server.options(), "-s", f"{server.user(False)}@127.0.0.1", "sftp"]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            try:
                set_times(client, f"/shared/times-{number}".encode(), count)
            finally:
                client.stdin.close()
                client.stdout.close()
    except (OSError, EOFError) as failure:
        failures.append(failure)


def set_times(client, path, count):
    send(client, struct.pack(">BI", INIT, 3))
    receive(client)
    asked, answered = 0, 0
    for asked in range(count):
        stamp = 1_600_000_000 + asked
        body = struct.pack(">BII", SETSTAT, asked, len(path)) + path + struct.pack(">III", TIMES, stamp, stamp)
        send(client, body, flush=asked % 16 == 0)
        if asked - answered >= IN_FLIGHT:
            client.stdin.flush()
            answered += done(client)
    client.stdin.flush()
    for _ in itertools.repeat(None, count - answered):
        done(client)


def send(client, body, flush=True):
    client.stdin.write(struct.pack(">I", len(body)) + body)
    if flush:
        client.stdin.flush()


def receive(client):
    head = client.stdout.read(4)
    if len(head) < 4:
        raise EOFError("the server ended a session that makes events")
    return client.stdout.read(struct.unpack(">I", head)[0])


def done(client):
    answer = receive(client)
    kind, _, code = struct.unpack(">BII", answer[:9])
    if kind != STATUS or code != 0:
        raise OSError(f"setting a file's times was answered with {answer[9:]!r}")
    return 1

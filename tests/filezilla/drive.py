"""Stands in for FileZilla before its fzsftp: starts it, logs in, passes on commands, answers what it asks.

fzsftp does not open local files: it asks for the next piece of one and finds it in memory shared with FileZilla, and it
asks how much it may send, and whether it knows the server's key. Every line of its begins with a letter for what it is.

drive.py HOST PORT USER KEY KNOWN_HOSTS < commands, a line each; the exit status is 1 if one was refused.
"""

import base64, hashlib, mmap, os, shlex, subprocess, sys

DONE, ERROR, LISTED, HOST_KEY, HOST_KEY_CHANGED = "1", "2", "8", "9", ":"
QUOTA_DOWN, QUOTA_UP, OPEN, NEXT, FINISH, KEY = "@", "A", "K", "L", "M", "I"
SHARED = 1 << 16

host, port, user, key, known_hosts = sys.argv[1:]
fd = os.memfd_create("shared")
os.ftruncate(fd, SHARED)
memory = mmap.mmap(fd, SHARED)
program = subprocess.Popen(
    ["fzsftp", "-v"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[fd]
)


def fingerprints():
    for line in open(known_hosts):
        digest = hashlib.sha256(base64.b64decode(line.split()[2])).digest()
        yield "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def say(line):
    program.stdin.write(line.encode() + b"\n")
    program.stdin.flush()


def hear():
    """A line, or one of the two questions that have none."""
    first = program.stdout.read(1).decode()
    if first in (QUOTA_DOWN, QUOTA_UP):
        return first, ""
    if not first:
        sys.exit("fzsftp has ended")
    return first, program.stdout.readline().decode().rstrip("\n")


def do(line):
    """One command to its end; whether it was done."""
    words = shlex.split(line)
    local, offered, sending = None, "", words[0] in ("put", "reput")
    say(line)
    while True:
        kind, text = hear()
        if kind == QUOTA_DOWN:
            say("-0-")
        elif kind == QUOTA_UP:
            say("-1-")
        elif kind == OPEN:
            local = open(words[1] if sending else words[2], "rb" if sending else "wb")
            local.seek(int(text))
            say(f"-{fd} {SHARED}")
        elif kind == NEXT and sending:
            piece = local.read(SHARED)
            memory[: len(piece)] = piece
            say(f"-0 {len(piece)}" if piece else "-")
        elif kind == NEXT:
            local.write(memory[: int(text)])
            say(f"-0 {SHARED}")
        elif kind == FINISH:
            local.write(memory[: int(text)])
            local.close()
            say("-1")
        elif kind == KEY:
            offered = text.split()[-1]
        elif kind in (HOST_KEY, HOST_KEY_CHANGED):
            program.stdout.readline()
            say("y" if offered in fingerprints() else "")
        elif kind == LISTED:
            program.stdout.readline()
            print(program.stdout.readline().decode().rstrip("\n"))
        elif kind == ERROR:
            print(text, file=sys.stderr)
        elif kind == DONE:
            return text.startswith("1")


commands = [f'keyfile "{key}"', f'open "{user}@{host}" {port}'] + sys.stdin.read().splitlines()
sys.exit(0 if all(do(line) for line in commands) else 1)

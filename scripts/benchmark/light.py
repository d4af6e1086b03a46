"""The light client of some rows: `logins.rs` beside this file, which logs in again and again and costs little beside the server."""

import functools
import json
import os
import pwd
import subprocess
import sys

from .servers import ROOT

CURVE, HYBRID = "curve25519-sha256", "mlkem768x25519-sha256"
# What is measured of an OpenSSH that does not know the other.
FALLBACK = CURVE


@functools.cache
def client():
    """Its program, built if it has to be: as whoever called sudo, so that nothing in target/ becomes root's."""
    who = pwd.getpwuid(int(os.environ.get("SUDO_UID", os.geteuid())))
    environment = {**os.environ, "HOME": who.pw_dir, "PATH": f"{who.pw_dir}/.cargo/bin:{os.environ['PATH']}"}
    command = ["cargo", "build", "--release", "--locked", "--example", "logins", "--message-format=json-render-diagnostics"]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, user=who.pw_uid, group=who.pw_gid, stdout=subprocess.PIPE, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as failure:
        sys.exit(f"the light client is not built: {failure}")
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return next(said["executable"] for said in messages if said.get("target", {}).get("name") == "logins" and said.get("executable"))


def short(kex):
    return kex.removesuffix("-sha256")


@functools.cache
def openssh_knows(kex):
    return kex in subprocess.run(["ssh", "-Q", "kex"], capture_output=True, text=True, check=True).stdout.split()


def log_in(program, server, kex, count, at_once):
    """What it says: how many logins, the seconds, and the processor time that it took itself."""
    command = [program, f"127.0.0.1:{server.port}", server.user(False), server.key(False), kex, str(count), str(at_once)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the light client failed on {server.name}: {done.stderr}")
    return json.loads(done.stdout)

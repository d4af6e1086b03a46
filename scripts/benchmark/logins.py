"""A light SSH client (libssh2 by ssh2-python): logs in so many times, a few at once, each up to an open SFTP channel.

    logins.py PORT USER KEYFILE COUNT

Ends with 0 when every login got that far. What it costs itself is little beside a server's part."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

from ssh2.session import LIBSSH2_METHOD_KEX, Session

AT_ONCE = 4


def login(port, user, key):
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        session = Session()
        session.method_pref(LIBSSH2_METHOD_KEX, b"curve25519-sha256")
        session.handshake(line)
        session.userauth_publickey_fromfile(user, key, "")
        session.sftp_init()
        session.disconnect()


def main():
    port, user, key, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(login, port, user, key) for _ in range(count)]:
            done.result()


if __name__ == "__main__":
    main()

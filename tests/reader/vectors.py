"""Runs the reader over a folder of vectors (docs/sealed-file.md §17) and compares each answer with the one it names.

    python3 vectors.py FOLDER
"""

import hashlib
import io
import sys
from pathlib import Path
from typing import Dict

from reader import (
    ARMOUR,
    Identity,
    Invalid,
    Opener,
    Passphrase,
    Refused,
    Sealed,
    SshIdentity,
    open_journal,
    open_note,
    parse_recipient,
)


def answer(header: Dict[str, str], data: bytes) -> str:
    """What the reader says of one vector: `ok` or the word of its refusal."""
    try:
        return KINDS[header["kind"]](header, data)
    except Refused as refused:
        return refused.word
    except Invalid:
        return "invalid"


def opener(header: Dict[str, str]) -> Opener:
    if "passphrase" in header:
        return Passphrase(header["passphrase"])
    if "ssh-identity" in header:
        return SshIdentity("\n".join((ARMOUR[0], header["ssh-identity"], ARMOUR[1])))
    return Identity(header["identity"])


def sealed(header: Dict[str, str], data: bytes) -> str:
    bucket_key = bytes.fromhex(header["bucket-key"]) if "bucket-key" in header else None
    opened = Sealed(io.BytesIO(data), opener(header), bucket_key)
    digest, size = hashlib.sha256(), 0
    for chunk in opened.chunks():
        digest.update(chunk)
        size += len(chunk)
    if (str(size), digest.hexdigest()) != (header.get("size"), header.get("sha256")):
        return f"other bytes: {size}, {digest.hexdigest()}"
    return "ok"


def journal(header: Dict[str, str], data: bytes) -> str:
    open_journal(data, bytes.fromhex(header["file-id"]), bytes.fromhex(header["journal-key"]))
    return "ok"


def waiting(header: Dict[str, str], data: bytes) -> str:
    open_note(data, bytes.fromhex(header["file-id"]), bytes.fromhex(header["journal-key"]))
    return "ok"


def recipient(_: Dict[str, str], data: bytes) -> str:
    parse_recipient(data.decode())
    return "ok"


def identity(header: Dict[str, str], data: bytes) -> str:
    found = Identity(data.decode())
    if header.get("recipient") != found.recipient:
        return f"another recipient: {found.recipient}"
    return "ok"


def ssh_identity(header: Dict[str, str], data: bytes) -> str:
    found = SshIdentity(data.decode())
    if header.get("recipient") != found.recipient:
        return f"another recipient: {found.recipient}"
    return "ok"


KINDS = {
    "sealed": sealed,
    "journal": journal,
    "waiting": waiting,
    "recipient": recipient,
    "identity": identity,
    "ssh-identity": ssh_identity,
}


def main(folder: Path) -> int:
    count = wrong = 0
    for path in sorted(folder.iterdir()):
        if path.suffix:
            continue  # README.md
        text, _, data = path.read_bytes().partition(b"\n\n")
        header = dict(line.split(": ", 1) for line in text.decode().split("\n"))
        got = answer(header, data)
        count += 1
        if got != header["expect"]:
            wrong += 1
            print(f"{path.name}: expected {header['expect']}, got {got}")
    print(f"{count} vectors, {wrong} wrong")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

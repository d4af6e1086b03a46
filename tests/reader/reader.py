"""A reader of the sealed file, version 1, that shares no code with sealdrop.

It was written from docs/sealed-file.md alone, and stands here to prove that the page is enough: section numbers below
are that page's. It needs Python 3.9 and the `cryptography` package, nothing else. It is a reference, not a tool for
hostile machines: Python cannot wipe a key from memory.

    python3 reader.py --identity FILE SEALED > PLAIN
"""

import argparse
import hashlib
import hmac
import io
import struct
import sys
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CHUNK = 65_536
RECORD = 4 + 12 + CHUNK + 16
REGION = 4_096
HEAD = 96
BODY = 8_192
ENVELOPE = BODY - HEAD
FOOTER = 32
SIZE_MAX = 2**46 - 1
TRAILER_MIN, TRAILER_MAX = 28, 1_048_576


class Refused(Exception):
    """Why a file does not open: one of the words of §10."""

    @property
    def word(self) -> str:
        return self.args[0]


class Invalid(Exception):
    """A text that is no recipient and no identity (§11)."""


# ---- §2 Notation


def derive(key: bytes, label: str, context: bytes) -> bytes:
    """`X(key, label, context)`: HKDF-Expand of 32 bytes, which is one HMAC."""
    info = b"sealdrop/v1/" + label.encode() + b"\0" + context
    return hmac.digest(key, info + b"\x01", "sha256")


def gcm_open(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Opens `nonce[12] ‖ ciphertext ‖ tag[16]`."""
    if len(sealed) < 28:
        raise Refused("damaged")
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], aad)
    except InvalidTag:
        raise Refused("damaged") from None


# ---- §5 Head


class Head(NamedTuple):
    core: bytes
    commit: bytes

    def fits(self, file_key: bytes) -> bool:
        return hmac.compare_digest(derive(file_key, "commit", self.core), self.commit)


def parse_head(data: bytes) -> Head:
    if len(data) < HEAD or data[:7] != b"SEALDRP":
        raise Refused("not-sealed")
    version, suite, chunk_log2, mode, zero = struct.unpack(">BHBB4s", data[7:16])
    if (version, suite, chunk_log2) != (1, 1, 16):
        raise Refused("version")
    if mode > 2 or any(zero):
        raise Refused("malformed")
    return Head(data[:64], data[64:HEAD])


# ---- §6 Envelope

HPKE, SHRED_WRAP = 1, 0x00FF
P256, X25519 = 0x0010, 0x0020
ENC_LEN = {P256: 65, X25519: 32}


class Stanza(NamedTuple):
    type: int
    key_id: bytes
    body: bytes

    @property
    def kem(self) -> int:
        """Of an HPKE stanza; 0, which is none, where the body has no room for it."""
        return int.from_bytes(self.body[:2], "big") if len(self.body) >= 2 else 0


def parse_envelope(area: bytes) -> List[Stanza]:
    env_len = int.from_bytes(area[:4], "big")
    if env_len > ENVELOPE - 8 or any(area[8 + env_len :]):
        raise Refused("malformed")
    return parse_stanzas(area[8 : 8 + env_len])


def parse_stanzas(data: bytes) -> List[Stanza]:
    stanzas = []
    while data:
        if len(data) < 14:
            raise Refused("malformed")
        kind, key_id, length = struct.unpack(">H8sI", data[:14])
        if length > len(data) - 14 or len(stanzas) == 64:
            raise Refused("malformed")
        stanzas.append(Stanza(kind, key_id, data[14 : 14 + length]))
        data = data[14 + length :]
    for stanza in stanzas:
        if stanza.type == HPKE and stanza.kem in ENC_LEN:
            check_hpke(stanza)
        if stanza.type == SHRED_WRAP and (len(stanzas) > 1 or len(stanza.body) <= 28):
            raise Refused("malformed")
    return stanzas


def check_hpke(stanza: Stanza) -> None:
    body = stanza.body
    if body[2:6] != b"\x00\x01\x00\x02" or len(body) != 6 + ENC_LEN[stanza.kem] + 48:
        raise Refused("malformed")


def shred_unwrap(stanzas: List[Stanza], head: Head, bucket_key: bytes) -> List[Stanza]:
    """Takes the shred wrap off (§6.3), for one who holds the bucket's key."""
    if len(stanzas) != 1 or stanzas[0].type != SHRED_WRAP:
        raise Refused("not-shred-wrapped")
    wrap = stanzas[0]
    aad = head.core + head.commit + struct.pack(">H", wrap.type) + wrap.key_id
    inner = gcm_open(derive(bucket_key, "shred", head.core), wrap.body, aad)
    try:
        stanzas = parse_stanzas(inner)
    except Refused:
        raise Refused("damaged") from None  # Seen with a key only.
    if any(stanza.type == SHRED_WRAP for stanza in stanzas):
        raise Refused("damaged")
    return stanzas


def unwrap(stanzas: List[Stanza], head: Head, identity: "Identity") -> bytes:
    """The file key, by the first stanza that yields one which fits COMMIT."""
    if not stanzas:
        raise Refused("unfinished")
    if stanzas[0].type == SHRED_WRAP:
        raise Refused("shred-wrapped")
    mine = [s for s in stanzas if (s.type, s.kem, s.key_id) == (HPKE, identity.kem, identity.key_id)]
    if not mine:
        raise Refused("not-for-this-identity")
    for stanza in mine:
        enc = stanza.body[6:-48]
        aad = head.commit + struct.pack(">H", stanza.type) + stanza.key_id
        try:
            key = hpke_open(identity, enc, b"sealdrop/v1/hpke\0" + head.core, aad, stanza.body[6 + len(enc) :])
        except (InvalidTag, ValueError):
            continue
        if head.fits(key):
            return key
    raise Refused("damaged")


# ---- RFC 9180, single-shot OpenBase with HKDF-SHA256 and AES-256-GCM


def labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + suite + label + ikm, "sha256")


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    # One block of HKDF-Expand: nothing here is longer than 32 bytes.
    block = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info + b"\x01"
    return hmac.digest(prk, block, "sha256")[:length]


def hpke_open(identity: "Identity", enc: bytes, info: bytes, aad: bytes, sealed: bytes) -> bytes:
    kem = struct.pack(">H", identity.kem)
    # Decap, §4.1.
    suite = b"KEM" + kem
    prk = labeled_extract(suite, b"", b"eae_prk", identity.exchange(enc))
    secret = labeled_expand(suite, prk, b"shared_secret", enc + identity.public, 32)
    # KeySchedule in base mode, §5.1: no psk.
    suite = b"HPKE" + kem + b"\x00\x01" + b"\x00\x02"
    psk_id_hash = labeled_extract(suite, b"", b"psk_id_hash", b"")
    context = b"\x00" + psk_id_hash + labeled_extract(suite, b"", b"info_hash", info)
    prk = labeled_extract(suite, secret, b"secret", b"")
    key = labeled_expand(suite, prk, b"key", context, 32)
    nonce = labeled_expand(suite, prk, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, sealed, aad)


# ---- §8 Trailer and footer


class Footer(NamedTuple):
    size: int
    trailer_len: int
    raw: bytes


def parse_footer(raw: bytes, length: int) -> Footer:
    size, trailer_len, zero, magic = struct.unpack(">QI12s8s", raw)
    if magic != b"SEALDEND":
        raise Refused("length")
    if any(zero) or size > SIZE_MAX or not TRAILER_MIN <= trailer_len <= TRAILER_MAX:
        raise Refused("malformed")
    if length != BODY + size // CHUNK * RECORD + size % CHUNK + 32 + trailer_len + FOOTER:
        raise Refused("length")
    return Footer(size, trailer_len, raw)


def parse_fields(data: bytes, many: Tuple[int, ...] = ()) -> Dict[int, List[bytes]]:
    """Fields by tag, which ascend; only the tags in `many` may stand more than once."""
    fields: Dict[int, List[bytes]] = {}
    last = -1
    while data:
        if len(data) < 6:
            raise Refused("damaged")
        tag, length = struct.unpack(">HI", data[:6])
        if length > len(data) - 6 or tag < last or (tag == last and tag not in many):
            raise Refused("damaged")
        fields.setdefault(tag, []).append(data[6 : 6 + length])
        data, last = data[6 + length :], tag
    return fields


def number(value: bytes, length: int = 8) -> int:
    if len(value) != length:
        raise Refused("damaged")
    return int.from_bytes(value, "big")


def text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("damaged") from None


def fixed(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise Refused("damaged")
    return value


def parse_generations(value: bytes) -> Dict[int, int]:
    if len(value) % 12 or len(value) > REGION * 12:
        raise Refused("damaged")
    pairs = list(struct.iter_unpack(">QI", value))
    indices = [index for index, _ in pairs]
    if indices != sorted(set(indices)) or not all(1 <= generation <= 65_536 for _, generation in pairs):
        raise Refused("damaged")
    return dict(pairs)


class Trailer(NamedTuple):
    name: bytes
    mtime: Optional[int]
    sender: Optional[str]
    recipients: List[str]
    sha256: bytes
    opened_at: int
    sealed_at: int
    server: Optional[str]
    generations: Dict[int, int]
    md5: Optional[bytes]
    sha1: Optional[bytes]


def parse_trailer(data: bytes) -> Trailer:
    fields = parse_fields(data, many=(4,))
    if not {1, 5, 6, 7} <= fields.keys():
        raise Refused("damaged")

    def optional(tag, parse, absent=None):
        return parse(fields[tag][0]) if tag in fields else absent

    return Trailer(
        name=fields[1][0],
        mtime=optional(2, number),
        sender=optional(3, text),
        recipients=[text(value) for value in fields.get(4, [])],
        sha256=fixed(fields[5][0], 32),
        opened_at=number(fields[6][0]),
        sealed_at=number(fields[7][0]),
        server=optional(8, text),
        generations=optional(9, parse_generations, {}),
        md5=optional(10, lambda value: fixed(value, 16)),
        sha1=optional(11, lambda value: fixed(value, 20)),
    )


# ---- §9 Reading, in its order


class Sealed:
    """A sealed file, open: head, envelope, footer and trailer are checked, the records as they are read."""

    def __init__(self, file: BinaryIO, identity: "Identity", bucket_key: Optional[bytes] = None):
        self.file = file
        length = file.seek(0, io.SEEK_END)
        # 1. Head and envelope.
        header = self._read(0, min(length, BODY))
        self.head = parse_head(header)
        if length < BODY:
            raise Refused("length")
        stanzas = parse_envelope(header[HEAD:])
        # 2. The file key.
        if bucket_key is not None:
            stanzas = shred_unwrap(stanzas, self.head, bucket_key)
        self.file_key = unwrap(stanzas, self.head, identity)
        # 3. The footer.
        footer = parse_footer(self._read(length - FOOTER, FOOTER), length)
        self.size = footer.size
        # 4. The trailer.
        sealed = self._read(length - FOOTER - footer.trailer_len, footer.trailer_len)
        aad = self.head.core + self.head.commit + footer.raw
        self.trailer = parse_trailer(gcm_open(derive(self.file_key, "trailer", self.head.core), sealed, aad))
        if any(index > self.size // CHUNK for index in self.trailer.generations):
            raise Refused("damaged")

    def _read(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        data = self.file.read(length)
        if len(data) != length:
            raise Refused("length")  # It became shorter while it was read.
        return data

    def record(self, index: int) -> bytes:
        """5. The plaintext of one record (§7)."""
        last = self.size // CHUNK
        final = index == last
        sealed = self._read(BODY + index * RECORD, 32 + self.size % CHUNK if final else RECORD)
        generation = self.trailer.generations.get(index, 0)
        if int.from_bytes(sealed[:4], "big") != generation:
            raise Refused("damaged")
        key = derive(self.file_key, "gcm", self.head.core + struct.pack(">Q", index // REGION))
        return gcm_open(key, sealed[4:], struct.pack(">QIB", index, generation, final))

    def chunks(self) -> Iterator[bytes]:
        """The whole plaintext. What was given out stands only if this comes to its end."""
        digest = hashlib.sha256()
        for index in range(self.size // CHUNK + 1):
            chunk = self.record(index)
            digest.update(chunk)
            yield chunk
        # 6. The digest.
        if not hmac.compare_digest(digest.digest(), self.trailer.sha256):
            raise Refused("damaged")


# ---- §11 Recipients and identities as text

BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def bech32_polymod(values: List[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> bit & 1:
                check ^= generator
    return check


def bech32_decode(encoded: str, prefix: str) -> bytes:
    if encoded not in (encoded.lower(), encoded.upper()):
        raise Invalid("mixed case")
    hrp, found, data = encoded.lower().rpartition("1")
    if not found or hrp != prefix or len(data) < 6 or any(letter not in BECH32 for letter in data):
        raise Invalid("not this kind of text")
    values = [BECH32.index(letter) for letter in data]
    expanded = [ord(letter) >> 5 for letter in hrp] + [0] + [ord(letter) & 31 for letter in hrp]
    if bech32_polymod(expanded + values) != 1:
        raise Invalid("mistyped")
    bits = "".join(f"{value:05b}" for value in values[:-6])
    whole = len(bits) // 8 * 8
    if len(bits) - whole > 4 or "1" in bits[whole:]:
        raise Invalid("bits left over")
    return bytes(int(bits[at : at + 8], 2) for at in range(0, whole, 8))


def bech32_encode(prefix: str, data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    check = bech32_polymod(expanded + values + [0] * 6) ^ 1
    values += [check >> 5 * (5 - at) & 31 for at in range(6)]
    return prefix + "1" + "".join(BECH32[value] for value in values)


def parse_recipient(encoded: str) -> Tuple[int, bytes]:
    """The KEM and the public key as HPKE serialises it."""
    data = bech32_decode(encoded, "sealdrop")
    kem, public = int.from_bytes(data[:2], "big"), data[2:]
    if kem == X25519 and len(public) == 32:
        return kem, public
    if kem == P256 and len(public) == 33:
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        except ValueError:
            raise Invalid("not a point") from None
        return kem, point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    raise Invalid("unknown KEM, or a key of another length")


class Identity:
    def __init__(self, encoded: str):
        data = bech32_decode(encoded, "sealdrop-identity-")
        self.kem, private = int.from_bytes(data[:2], "big"), data[2:]
        if self.kem not in ENC_LEN or len(private) != 32:
            raise Invalid("unknown KEM, or a key of another length")
        if self.kem == P256:
            scalar = int.from_bytes(private, "big")
            if not 0 < scalar < P256_ORDER:
                raise Invalid("not a scalar")
            self._p256 = ec.derive_private_key(scalar, ec.SECP256R1())
            point = self._p256.public_key()
            self.public = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            compressed = point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        else:
            if private[0] & 7 or private[31] & 0xC0 != 0x40:
                raise Invalid("not clamped")
            self._x25519 = x25519.X25519PrivateKey.from_private_bytes(private)
            self.public = compressed = self._x25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        kem = struct.pack(">H", self.kem)
        self.recipient = bech32_encode("sealdrop", kem + compressed)
        self.key_id = hashlib.sha256(kem + self.public).digest()[:8]

    def exchange(self, enc: bytes) -> bytes:
        """The Diffie-Hellman secret with `enc`; ValueError where that is no public key."""
        if self.kem == X25519:
            return self._x25519.exchange(x25519.X25519PublicKey.from_public_bytes(enc))
        if enc[0] != 4:
            raise ValueError("not uncompressed")
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), enc)
        return self._p256.exchange(ec.ECDH(), point)


def parse_identity_file(data: str) -> List[Identity]:
    lines = (line.strip() for line in data.splitlines())
    identities = [Identity(line) for line in lines if line and not line.startswith("#")]
    if not identities:
        raise Invalid("no identity in it")
    return identities


# ---- §12 An upload in progress


def open_journal(data: bytes, file_id: bytes, journal_key: bytes) -> Dict[int, bytes]:
    """The journal without the nine bytes that stand before it on disk."""
    fields = open_beside(data, b"SEALJNL", "journal", file_id, journal_key, {1, 2, 3, 4, 5, 6, 10, 11})
    fixed(fields[2], 32)
    length = number(fields[3]) * CHUNK + len(fields[4])
    parse_generations(fields.get(7, b""))
    if 9 in fields:
        number(fields[9], 4)
    number(fields[10]), number(fields[11])
    # Form and state of the midstate are for whoever knows that form; another hashes the records again.
    if len(fields[4]) >= CHUNK or not fields[5] or number(fields[6]) > length:
        raise Refused("damaged")
    if 8 in fields and int.from_bytes(fixed(fields[8], 40)[:8], "big") != length:
        raise Refused("damaged")
    durable, anchor = number(fields[16]) if 16 in fields else 0, fields.get(17)
    if anchor is not None and len(anchor) < 9:
        raise Refused("damaged")
    if not (int.from_bytes(anchor[:8], "big") if anchor else 0) <= durable <= number(fields[3]):
        raise Refused("damaged")
    return fields


def open_note(data: bytes, file_id: bytes, journal_key: bytes) -> Dict[int, bytes]:
    """The note of an upload that waits (§12.1)."""
    fields = open_beside(data, b"SEALWTG", "waiting", file_id, journal_key, {1, 2, 3, 4, 6, 7, 9, 10})
    fixed(fields[2], 32), fixed(fields[4], 32)
    for tag in (3, 6, 7, 10):
        number(fields[tag])
    if 5 in fields:
        number(fields[5], 4)
    text(fields[9]), text(fields.get(8, b""))
    return fields


def open_beside(
    data: bytes, magic: bytes, label: str, file_id: bytes, journal_key: bytes, required: Set[int]
) -> Dict[int, bytes]:
    if len(data) < 8 or data[:7] != magic:
        raise Refused("not-sealed")
    if data[7] != 1:
        raise Refused("version")
    opened = gcm_open(derive(journal_key, label, file_id), data[8:], data[:8] + file_id)
    fields = {tag: values[0] for tag, values in parse_fields(opened).items()}
    if not required <= fields.keys():
        raise Refused("damaged")
    return fields


def main() -> int:
    parser = argparse.ArgumentParser(description="Opens a sealed file to standard output.")
    parser.add_argument("--identity", required=True, metavar="FILE")
    parser.add_argument("sealed", metavar="SEALED")
    options = parser.parse_args()
    try:
        with open(options.identity, encoding="utf-8") as file:
            identities = parse_identity_file(file.read())
        with open(options.sealed, "rb") as file:
            refusal = Refused("not-for-this-identity")
            for identity in identities:
                try:
                    opened = Sealed(file, identity)
                    break
                except Refused as error:
                    refusal = error
                    if error.word != "not-for-this-identity":
                        raise
            else:
                raise refusal
            for chunk in opened.chunks():
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    except (Refused, Invalid, OSError, UnicodeDecodeError) as error:
        print(f"{options.sealed}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

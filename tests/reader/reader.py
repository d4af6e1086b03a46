"""A reader of the sealed file, version 1, that shares no code with sealdrop.

It was written from docs/sealed-file.md alone, and stands here to prove that the page is enough: section numbers below
are that page's. It needs Python 3.9 and the `cryptography` package, nothing else (ML-KEM is in mlkem.py). It is a reference, not a tool for
hostile machines: Python cannot wipe a key from memory.

    python3 reader.py --identity FILE SEALED > PLAIN
    python3 reader.py --passphrase-file FILE SEALED > PLAIN
"""

import argparse
import hashlib
import hmac
import io
import struct
import sys
import unicodedata
from base64 import b64decode, b64encode
from typing import BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple, Union

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import mlkem

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

HPKE, PASSPHRASE, SSH, SHRED_WRAP = 1, 2, 5, 0x00FF
P256, X25519, MLKEM768_P256, X_WING = 0x0010, 0x0020, 0x0050, 0x647A
ENC_LEN = {P256: 65, X25519: 32, MLKEM768_P256: 1153, X_WING: 1120}
HMAC_SHA512 = 2


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
        if stanza.type == PASSPHRASE:
            check_passphrase(stanza)
        if stanza.type == SSH and len(stanza.body) != 80:
            raise Refused("malformed")
        if stanza.type == SHRED_WRAP and (len(stanzas) > 1 or len(stanza.body) <= 28):
            raise Refused("malformed")
    if sum(stanza.type == PASSPHRASE for stanza in stanzas) > 1:
        raise Refused("malformed")
    return stanzas


def check_passphrase(stanza: Stanza) -> None:
    body = stanza.body
    if body[:1] != bytes([HMAC_SHA512]):
        return  # Another function: skipped.
    if len(body) != 97 or stanza.key_id != bytes(8):
        raise Refused("malformed")
    if not 100_000 <= int.from_bytes(body[1:5], "big") <= 10_000_000:
        raise Refused("malformed")


def check_hpke(stanza: Stanza) -> None:
    body = stanza.body
    if body[2:6] != b"\x00\x01\x00\x02" or len(body) != 6 + ENC_LEN[stanza.kem] + 48:
        raise Refused("malformed")


def shred_leaf(bucket_key: bytes, file_id: bytes) -> bytes:
    """The leaf of a file in what there is of a bucket's tree."""
    parts = [bucket_key[at : at + 49] for at in range(0, len(bucket_key), 49)]
    number = int.from_bytes(file_id, "big")
    for part in parts:
        depth, prefix, key = part[0], int.from_bytes(part[1:17], "big"), part[17:]
        if number >> (128 - depth) == prefix >> (128 - depth):
            for level in range(depth, 128):
                key = derive(key, "shred-tree", bytes([number >> (127 - level) & 1]))
            return key
    raise Refused("damaged")  # The file was shredded.


def shred_unwrap(stanzas: List[Stanza], head: Head, bucket_key: bytes) -> List[Stanza]:
    """Takes the shred wrap off (§6.3), for one who holds the bucket's key."""
    if len(stanzas) != 1 or stanzas[0].type != SHRED_WRAP:
        raise Refused("not-shred-wrapped")
    wrap = stanzas[0]
    aad = head.core + head.commit + struct.pack(">H", wrap.type) + wrap.key_id
    inner = gcm_open(derive(shred_leaf(bucket_key, head.core[16:32]), "shred", head.core), wrap.body, aad)
    try:
        stanzas = parse_stanzas(inner)
    except Refused:
        raise Refused("damaged") from None  # Seen with a key only.
    if any(stanza.type == SHRED_WRAP for stanza in stanzas):
        raise Refused("damaged")
    return stanzas


def unwrap(stanzas: List[Stanza], head: Head, opener: "Opener") -> bytes:
    """The file key, by the first stanza that yields one which fits COMMIT."""
    if not stanzas:
        raise Refused("unfinished")
    if stanzas[0].type == SHRED_WRAP:
        raise Refused("shred-wrapped")
    mine = [stanza for stanza in stanzas if opener.is_for(stanza)]
    if not mine:
        raise Refused("not-for-this-identity")
    for stanza in mine:
        try:
            key = opener.open(stanza, head)
        except (InvalidTag, ValueError):
            continue
        if head.fits(key):
            return key
    raise Refused("damaged")


class Passphrase:
    """§6.2"""

    def __init__(self, words: str):
        self._words = unicodedata.normalize("NFC", words).encode()

    def is_for(self, stanza: Stanza) -> bool:
        return stanza.type == PASSPHRASE and stanza.body[:1] == bytes([HMAC_SHA512])

    def open(self, stanza: Stanza, head: Head) -> bytes:
        iterations, salt, sealed = stanza.body[1:5], stanza.body[5:37], stanza.body[37:]
        salt = b"sealdrop/v1/passphrase\0" + salt
        kek = hashlib.pbkdf2_hmac("sha512", self._words, salt, int.from_bytes(iterations, "big"), 32)
        aad = head.core + head.commit + struct.pack(">H", stanza.type) + stanza.key_id
        return AESGCM(kek).decrypt(sealed[:12], sealed[12:], aad)


# ---- RFC 9180, single-shot OpenBase with HKDF-SHA256 and AES-256-GCM


def labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + suite + label + ikm, "sha256")


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    # One block of HKDF-Expand: nothing here is longer than 32 bytes.
    block = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info + b"\x01"
    return hmac.digest(prk, block, "sha256")[:length]


def dhkem(kem: int, secret: bytes, enc: bytes, public: bytes) -> bytes:
    """Decap, §4.1, from the Diffie-Hellman on."""
    suite = b"KEM" + struct.pack(">H", kem)
    prk = labeled_extract(suite, b"", b"eae_prk", secret)
    return labeled_expand(suite, prk, b"shared_secret", enc + public, 32)


def hpke_open(kem_id: int, secret: bytes, info: bytes, aad: bytes, sealed: bytes) -> bytes:
    kem = struct.pack(">H", kem_id)
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

    def __init__(self, file: BinaryIO, identity: "Opener", bucket_key: Optional[bytes] = None):
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
    """The KEM and the public key as HPKE serialises it; of an SSH key, 0 and what SSH encodes (§6.3)."""
    if encoded.startswith("ssh-"):
        return 0, parse_ssh_recipient(encoded)
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
    ek, rest = public[: mlkem.EK_LEN], public[mlkem.EK_LEN :]
    if (kem, len(rest)) in ((MLKEM768_P256, 65), (X_WING, 32)) and mlkem.valid_ek(ek):
        if kem == MLKEM768_P256:
            try:
                p256_point(rest)
            except ValueError:
                raise Invalid("not a point") from None
        return kem, public
    raise Invalid("unknown KEM, or a key of another length")


def p256_point(data: bytes) -> ec.EllipticCurvePublicKey:
    if data[0] != 4:
        raise ValueError("not uncompressed")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def p256_key(private: bytes) -> ec.EllipticCurvePrivateKey:
    scalar = int.from_bytes(private, "big")
    if not 0 < scalar < P256_ORDER:
        raise Invalid("not a scalar")
    return ec.derive_private_key(scalar, ec.SECP256R1())


def raw(public: x25519.X25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


class Identity:
    def __init__(self, encoded: str):
        data = bech32_decode(encoded, "sealdrop-identity-")
        self.kem, private = int.from_bytes(data[:2], "big"), data[2:]
        if self.kem not in ENC_LEN or len(private) != 32:
            raise Invalid("unknown KEM, or a key of another length")
        uncompressed = (Encoding.X962, PublicFormat.UncompressedPoint)
        # What the KEM makes of an `enc`; ValueError where that is no public key.
        self._decap: Callable[[bytes], bytes]
        if self.kem == P256:
            key = p256_key(private)
            self.public = key.public_key().public_bytes(*uncompressed)
            text = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
            self._decap = lambda enc: dhkem(P256, key.exchange(ec.ECDH(), p256_point(enc)), enc, self.public)
        elif self.kem == X25519:
            if private[0] & 7 or private[31] & 0xC0 != 0x40:
                raise Invalid("not clamped")
            self.public = text = raw(x25519.X25519PrivateKey.from_private_bytes(private).public_key())
            self._decap = lambda enc: dhkem(X25519, x25519_exchange(private, enc), enc, self.public)
        else:  # §6.1.1
            expanded = hashlib.shake_256(private).digest(64 + 128)
            pq = mlkem.Key(expanded[:32], expanded[32:64])
            if self.kem == MLKEM768_P256:
                numbers = (expanded[at : at + 32] for at in range(64, 192, 32))
                key = p256_key(next(n for n in numbers if 0 < int.from_bytes(n, "big") < P256_ORDER))
                share = key.public_key().public_bytes(*uncompressed)
                exchange = lambda other: key.exchange(ec.ECDH(), p256_point(other))
                label = b"MLKEM768-P256"
            else:
                curve = expanded[64:96]
                share = raw(x25519.X25519PrivateKey.from_private_bytes(curve).public_key())
                exchange = lambda other: x25519_exchange(curve, other, zeros=True)
                label = bytes.fromhex("5c2e2f2f5e5c")
            self.public = text = pq.ek + share

            def decap(enc: bytes) -> bytes:
                ct, other = enc[: mlkem.CT_LEN], enc[mlkem.CT_LEN :]
                secret = exchange(other)
                return hashlib.sha3_256(pq.decapsulate(ct) + secret + other + share + label).digest()

            self._decap = decap
        kem = struct.pack(">H", self.kem)
        self.recipient = bech32_encode("sealdrop", kem + text)
        self.key_id = hashlib.sha256(kem + self.public).digest()[:8]

    def is_for(self, stanza: Stanza) -> bool:
        return (stanza.type, stanza.kem, stanza.key_id) == (HPKE, self.kem, self.key_id)

    def open(self, stanza: Stanza, head: Head) -> bytes:
        enc, sealed = stanza.body[6:-48], stanza.body[-48:]
        aad = head.commit + struct.pack(">H", stanza.type) + stanza.key_id
        return hpke_open(self.kem, self._decap(enc), b"sealdrop/v1/hpke\0" + head.core, aad, sealed)


def x25519_exchange(private: bytes, other: bytes, zeros: bool = False) -> bytes:
    try:
        # ValueError where the secret is zeros.
        return x25519.X25519PrivateKey.from_private_bytes(private).exchange(x25519.X25519PublicKey.from_public_bytes(other))
    except ValueError:
        if zeros:
            return bytes(32)
        raise


# ---- §6.3 and §11: SSH keys

ED25519_P = 2**255 - 19
ED25519_D = -121665 * pow(121666, -1, ED25519_P) % ED25519_P
ARMOUR = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"


def ssh_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def read_ssh_string(data: bytes) -> Tuple[bytes, bytes]:
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < 4 or len(data) < end:
        raise Invalid("cut")
    return data[4:end], data[end:]


def ed25519_point(encoded: bytes) -> None:
    """Refuses what is no canonical point, or one of small order."""
    p, y = ED25519_P, int.from_bytes(encoded, "little") & 2**255 - 1
    if y >= p:
        raise Invalid("not canonical")
    xx = (y * y - 1) * pow(ED25519_D * y * y + 1, -1, p) % p
    x = pow(xx, (p + 3) // 8, p)
    if x * x % p != xx:
        x = x * pow(2, (p - 1) // 4, p) % p
    if x * x % p != xx or (x == 0 and encoded[31] >> 7):
        raise Invalid("not a point")
    # Eight times a point of small order, and of no other, is the neutral one: three doublings.
    for _ in range(3):
        k = ED25519_D * x * x * y * y % p
        x, y = 2 * x * y * pow(1 + k, -1, p) % p, (y * y + x * x) * pow(1 - k, -1, p) % p
    if (x, y) == (0, 1):
        raise Invalid("small order")


def parse_ssh_recipient(text: str) -> bytes:
    words = text.split(" ", 2)
    try:
        blob = b64decode(words[1], validate=True)
    except (IndexError, ValueError):
        raise Invalid("not base64") from None
    if words[0] != "ssh-ed25519" or b64encode(blob).decode() != words[1]:
        raise Invalid("another type, or another base64")
    kind, rest = read_ssh_string(blob)
    point, rest = read_ssh_string(rest)
    if kind != b"ssh-ed25519" or len(point) != 32 or rest:
        raise Invalid("not an ed25519 key")
    ed25519_point(point)
    return blob


class SshIdentity:
    """An OpenSSH private key that is not encrypted: `cryptography` decrypts others only with a module more."""

    def __init__(self, text: str):
        lines = text.strip().splitlines()
        if (lines[0], lines[-1]) != ARMOUR:
            raise Invalid("not an OpenSSH private key")
        try:
            data = b64decode("".join(lines[1:-1]), validate=True)
        except ValueError:
            raise Invalid("not base64") from None
        if not data.startswith(b"openssh-key-v1\0"):
            raise Invalid("another form")
        cipher, rest = read_ssh_string(data[15:])
        _, rest = read_ssh_string(rest)
        _, rest = read_ssh_string(rest)
        if cipher != b"none" or rest[:4] != b"\0\0\0\1":
            raise Invalid("encrypted, or several keys in one")
        self.blob, rest = read_ssh_string(rest[4:])
        private, rest = read_ssh_string(rest)
        kind, secret = read_ssh_string(private[8:])
        _, secret = read_ssh_string(secret)
        pair, _ = read_ssh_string(secret)
        if kind != b"ssh-ed25519" or len(pair) != 64 or private[:4] != private[4:8] or rest:
            raise Invalid("not an ed25519 key")
        seed = pair[:32]
        public = raw(ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key())
        if self.blob != ssh_string(b"ssh-ed25519") + ssh_string(public):
            raise Invalid("the public key is not that of the seed")
        scalar = bytearray(hashlib.sha512(seed).digest()[:32])
        scalar[0] &= 248
        scalar[31] = scalar[31] & 127 | 64
        self._scalar = bytes(scalar)
        self.recipient = "ssh-ed25519 " + b64encode(self.blob).decode()
        self.key_id = hashlib.sha256(self.blob).digest()[:8]

    def is_for(self, stanza: Stanza) -> bool:
        return (stanza.type, stanza.key_id) == (SSH, self.key_id)

    def open(self, stanza: Stanza, head: Head) -> bytes:
        enc, sealed = stanza.body[:32], stanza.body[32:]
        own = raw(x25519.X25519PrivateKey.from_private_bytes(self._scalar).public_key())
        secret = dhkem(X25519, x25519_exchange(self._scalar, enc), enc, own)
        aad = head.commit + struct.pack(">H", stanza.type) + stanza.key_id
        return hpke_open(X25519, secret, b"sealdrop/v1/ssh-ed25519\0" + self.blob + head.core, aad, sealed)


Opener = Union[Identity, SshIdentity, Passphrase]


def parse_identity_file(data: str) -> List[Opener]:
    if data.lstrip().startswith(ARMOUR[0]):
        return [SshIdentity(data)]
    lines = (line.strip() for line in data.splitlines())
    identities: List[Opener] = [Identity(line) for line in lines if line and not line.startswith("#")]
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
    parser.add_argument("--identity", metavar="FILE")
    parser.add_argument("--passphrase-file", metavar="FILE")
    parser.add_argument("sealed", metavar="SEALED")
    options = parser.parse_args()
    try:
        identities: List[Opener] = []
        if options.identity:
            with open(options.identity, encoding="utf-8") as file:
                identities += parse_identity_file(file.read())
        if options.passphrase_file:
            with open(options.passphrase_file, encoding="utf-8") as file:
                identities.append(Passphrase(file.readline().rstrip("\r\n")))
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

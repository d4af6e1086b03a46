"""ML-KEM-768 (FIPS 203) for one who decapsulates: the section and algorithm numbers are that standard's.

The `cryptography` package has it in no version that is everywhere yet, so it is written out here, on hashlib alone. Slow, and
not constant in time: a reference for a reader that proves a page, nothing more.
"""

import hashlib
from typing import List

Q, N, K = 3329, 256, 3
EK_LEN, CT_LEN = 1184, 1088


def _bit_reversed(value: int) -> int:
    return int(f"{value:07b}"[::-1], 2)


ZETAS = [pow(17, _bit_reversed(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * _bit_reversed(i) + 1, Q) for i in range(128)]

Poly = List[int]


def _encode(poly: Poly, bits: int) -> bytes:  # Algorithm 5
    number = sum(value << bits * i for i, value in enumerate(poly))
    return number.to_bytes(32 * bits, "little")


def _decode(data: bytes, bits: int) -> Poly:  # Algorithm 6, without the reduction
    number = int.from_bytes(data, "little")
    return [number >> bits * i & (1 << bits) - 1 for i in range(N)]


def _compress(poly: Poly, bits: int) -> Poly:  # §4.2.1
    return [((value << bits) + Q // 2) // Q % (1 << bits) for value in poly]


def _decompress(poly: Poly, bits: int) -> Poly:
    return [(value * Q + (1 << bits - 1)) >> bits for value in poly]


def _ntt(poly: Poly) -> Poly:  # Algorithm 9
    f, i, length = list(poly), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            for j in range(start, start + length):
                t = ZETAS[i] * f[j + length] % Q
                f[j], f[j + length] = (f[j] + t) % Q, (f[j] - t) % Q
            i += 1
        length //= 2
    return f


def _ntt_inverse(poly: Poly) -> Poly:  # Algorithm 10
    f, i, length = list(poly), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            for j in range(start, start + length):
                t = f[j]
                f[j], f[j + length] = (t + f[j + length]) % Q, ZETAS[i] * (f[j + length] - t) % Q
            i -= 1
        length *= 2
    return [value * 3303 % Q for value in f]


def _multiply(a: Poly, b: Poly) -> Poly:  # Algorithms 11 and 12
    out = []
    for i in range(128):
        a0, a1, b0, b1 = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
        out += [(a0 * b0 + a1 * b1 * GAMMAS[i]) % Q, (a0 * b1 + a1 * b0) % Q]
    return out


def _add(a: Poly, b: Poly) -> Poly:
    return [(x + y) % Q for x, y in zip(a, b)]


def _sum_of_products(a: List[Poly], b: List[Poly]) -> Poly:
    out = [0] * N
    for x, y in zip(a, b):
        out = _add(out, _multiply(x, y))
    return out


def _sample_ntt(seed: bytes) -> Poly:  # Algorithm 7
    stream, out, at = hashlib.shake_128(seed).digest(1344), [], 0
    while len(out) < N:
        a, b, c = stream[at : at + 3]  # 1,344 bytes give 896 candidates: too few once in 2^100.
        out += [value for value in (a + 256 * (b % 16), b // 16 + 16 * c) if value < Q]
        at += 3
    return out[:N]


def _sample_cbd(data: bytes) -> Poly:  # Algorithm 8, η = 2
    bits = [data[i // 8] >> i % 8 & 1 for i in range(4 * N)]
    return [(bits[4 * i] + bits[4 * i + 1] - bits[4 * i + 2] - bits[4 * i + 3]) % Q for i in range(N)]


def _noise(seed: bytes, number: int) -> Poly:
    return _sample_cbd(hashlib.shake_256(seed + bytes([number])).digest(128))


def _matrix(rho: bytes) -> List[List[Poly]]:
    return [[_sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]


def valid_ek(ek: bytes) -> bool:  # §7.2
    return len(ek) == EK_LEN and all(
        value < Q for i in range(K) for value in _decode(ek[384 * i : 384 * (i + 1)], 12)
    )


class Key:
    """A decapsulation key from its seed."""

    def __init__(self, d: bytes, z: bytes):  # Algorithms 13 and 16
        hashed = hashlib.sha3_512(d + bytes([K])).digest()
        rho, sigma = hashed[:32], hashed[32:]
        a = _matrix(rho)
        self._s = [_ntt(_noise(sigma, i)) for i in range(K)]
        e = [_ntt(_noise(sigma, K + i)) for i in range(K)]
        t = [_add(_sum_of_products(a[i], self._s), e[i]) for i in range(K)]
        self.ek = b"".join(_encode(poly, 12) for poly in t) + rho
        self._z = z

    def decapsulate(self, ct: bytes) -> bytes:  # Algorithms 15 and 18
        u = [_decompress(_decode(ct[320 * i : 320 * (i + 1)], 10), 10) for i in range(K)]
        v = _decompress(_decode(ct[320 * K :], 4), 4)
        product = _ntt_inverse(_sum_of_products(self._s, [_ntt(poly) for poly in u]))
        message = _encode(_compress([(x - y) % Q for x, y in zip(v, product)], 1), 1)
        hashed = hashlib.sha3_512(message + hashlib.sha3_256(self.ek).digest()).digest()
        if _encrypt(self.ek, message, hashed[32:]) == ct:
            return hashed[:32]
        return hashlib.shake_256(self._z + ct).digest(32)


def _encrypt(ek: bytes, message: bytes, randomness: bytes) -> bytes:  # Algorithm 14
    t = [_decode(ek[384 * i : 384 * (i + 1)], 12) for i in range(K)]
    a = _matrix(ek[384 * K :])
    y = [_ntt(_noise(randomness, i)) for i in range(K)]
    u = []
    for i in range(K):
        column = [a[j][i] for j in range(K)]
        u.append(_add(_ntt_inverse(_sum_of_products(column, y)), _noise(randomness, K + i)))
    v = _add(_ntt_inverse(_sum_of_products(t, y)), _noise(randomness, 2 * K))
    v = _add(v, _decompress(_decode(message, 1), 1))
    return b"".join(_encode(_compress(poly, 10), 10) for poly in u) + _encode(_compress(v, 4), 4)

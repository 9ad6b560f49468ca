"""The block formats of GGUF read number by number, as ggml's documentation has them."""

from __future__ import annotations

import numpy as np


def half(data: bytes) -> np.float32:
    return np.frombuffer(data, np.float16)[0].astype(np.float32)


def q8_0(block: bytes) -> list[float]:
    return [half(block[:2]) * q for q in np.frombuffer(block[2:], np.int8).tolist()]


def q4_0(block: bytes) -> list[float]:
    d, q = half(block[:2]), block[2:]
    return [d * ((x & 15) - 8) for x in q] + [d * ((x >> 4) - 8) for x in q]


def q4_1(block: bytes) -> list[float]:
    d, m, q = half(block[:2]), half(block[2:4]), block[4:]
    return [d * (x & 15) + m for x in q] + [d * (x >> 4) + m for x in q]


def scale_and_min(j: int, packed: bytes) -> tuple[int, int]:
    """The j-th of eight 6-bit scales and minima in 12 bytes."""
    if j < 4:
        return packed[j] & 63, packed[j + 4] & 63
    return (
        (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4,
        (packed[j + 4] >> 4) | (packed[j] >> 6) << 4,
    )


def q4_k(block: bytes) -> list[float]:
    d, low, packed, q = half(block[:2]), half(block[2:4]), block[4:16], block[16:]
    values = []
    for j in range(8):
        scale, least = scale_and_min(j, packed)
        for x in q[j // 2 * 32 : j // 2 * 32 + 32]:
            values.append(d * scale * (x >> 4 if j % 2 else x & 15) - low * least)
    return values


def q5_k(block: bytes) -> list[float]:
    d, low, packed, high, q = (half(block[:2]), half(block[2:4]), block[4:16], block[16:48],
                               block[48:])  # fmt: skip
    values = []
    for j in range(8):
        scale, least = scale_and_min(j, packed)
        for i, x in enumerate(q[j // 2 * 32 : j // 2 * 32 + 32]):
            number = (x >> 4 if j % 2 else x & 15) + 16 * (high[i] >> j & 1)
            values.append(d * scale * number - low * least)
    return values


def q6_k(block: bytes) -> list[float]:
    low, high, d = block[:128], block[128:192], half(block[208:])
    scales = np.frombuffer(block[192:208], np.int8).tolist()
    values = []
    for part in range(2):
        for group in range(4):
            for i in range(32):
                x = low[64 * part + 32 * (group % 2) + i]
                nibble = x >> 4 if group > 1 else x & 15
                number = (nibble | (high[32 * part + i] >> 2 * group & 3) << 4) - 32
                values.append(d * scales[8 * part + 2 * group + i // 16] * number)
    return values


READERS = {"Q8_0": q8_0, "Q4_0": q4_0, "Q4_1": q4_1, "Q4_K": q4_k, "Q5_K": q5_k, "Q6_K": q6_k}

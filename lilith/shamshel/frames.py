"""Messages of a jail program on its two descriptors. The module stands alone: it runs inside."""

from __future__ import annotations

import os

_IN, _OUT = 3, 4


def read_exactly(size: int) -> bytes:
    """Read `size` bytes. Raises `EOFError` when the supervisor is gone."""
    parts = bytearray()
    while len(parts) < size:
        raw = os.read(_IN, min(size - len(parts), 1 << 20))
        if not raw:
            raise EOFError
        parts += raw
    return bytes(parts)


def read_frame() -> bytes:
    """Wait for the next message."""
    return read_exactly(int.from_bytes(read_exactly(4), "big"))


def write_frame(raw: bytes) -> None:
    """Send one message."""
    view = memoryview(len(raw).to_bytes(4, "big") + raw)
    while view:
        view = view[os.write(_OUT, view) :]

"""Messages between the caller's process, the zygote and the supervisors: all of them trusted."""

from __future__ import annotations

import marshal
import socket
from typing import Any

MAX_MESSAGE = 1 << 30


class Closed(Exception):
    """The other side is gone."""


def send(link: socket.socket, message: dict[str, Any]) -> None:
    """Send one message. Raises `Closed`."""
    raw = marshal.dumps(message)
    try:
        link.sendall(len(raw).to_bytes(4, "big") + raw)
    except OSError as error:
        raise Closed(str(error)) from None


def _exactly(link: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        try:
            raw = link.recv(min(size - len(parts), 1 << 20))
        except OSError as error:
            raise Closed(str(error)) from None
        if not raw:
            raise Closed("closed")
        parts += raw
    return bytes(parts)


def receive(link: socket.socket) -> dict[str, Any]:
    """Wait for one message. Raises `Closed`."""
    size = int.from_bytes(_exactly(link, 4), "big")
    if size > MAX_MESSAGE:
        raise Closed("message too large")
    message: dict[str, Any] = marshal.loads(_exactly(link, size))
    return message

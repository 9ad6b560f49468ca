"""Strict plain data: the only values that cross between a jail and the trusted side.

Allowed are the exact types None, bool, int, float, complex, str, bytes, list, tuple, dict, set and
frozenset; those types themselves; and range, bytearray, Decimal, Fraction, Counter, OrderedDict,
defaultdict and deque, which are rebuilt from plain parts. A subclass is refused, since it may
override any comparison. Depth and size are bounded. The module stands alone: it is also run
inside the jail.
"""

from __future__ import annotations

import sys
from typing import Any

MAX_DEPTH = 64
MAX_BYTES = 4 << 20
MAX_ITEMS = 1 << 18
_MANY_KEYS = 256
_MAX_INT_DIGITS = 1 << 18  # hexadecimal


_TAGS: dict[type, bytes] = {list: b"L", tuple: b"T", set: b"S", frozenset: b"Z", dict: b"D"}
_TYPES: dict[str, type] = {
    t.__name__: t
    for t in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, type(None))
}


class NotPlainData(Exception):
    """A value, or bytes, outside of plain data."""


# Types from the library, by tag: (module, name). Looked up only where the module is loaded:
# a value of such a type can not exist before.
_LIBRARY = {
    "Decimal": "decimal",
    "Fraction": "fractions",
    "Counter": "collections",
    "OrderedDict": "collections",
    "defaultdict": "collections",
    "deque": "collections",
}


def _library_parts(value: Any) -> tuple[str, Any] | None:
    kind = type(value)
    module = sys.modules.get(_LIBRARY.get(kind.__name__, ""))
    if module is None or getattr(module, kind.__name__, None) is not kind:
        return None
    if kind.__name__ == "Decimal":
        return "Decimal", str(value)
    if kind.__name__ == "Fraction":
        return "Fraction", (value.numerator, value.denominator)
    if kind.__name__ == "deque":
        return "deque", (list(value), value.maxlen)
    return kind.__name__, [(key, item) for key, item in value.items()]


def _distinct(keys: list[Any]) -> list[Any]:
    """Refuse keys built to share one hash: a dict of them takes quadratic time."""
    if len(keys) > _MANY_KEYS:
        hashes = sorted(map(hash, keys))
        if any(map(int.__eq__, hashes, hashes[_MANY_KEYS:])):
            raise NotPlainData("too many keys of one hash")
    return keys


def _build(name: str, parts: Any) -> Any:
    if name == "Decimal" and type(parts) is str:
        from decimal import Decimal

        return Decimal(parts)
    if name == "Fraction" and type(parts) is tuple:
        from fractions import Fraction

        if max(part.bit_length() for part in parts) > 1 << 14:
            raise NotPlainData("a fraction too large")
        return Fraction(*parts)
    import collections

    if name == "deque" and type(parts) is tuple:
        return collections.deque(*parts)
    if name in ("Counter", "OrderedDict", "defaultdict") and type(parts) is list:
        made: dict[Any, Any] = getattr(collections, name)()
        _distinct([key for key, _ in parts])
        for key, item in parts:
            made[key] = item
        return made
    raise NotPlainData(f"unknown type {name!r}")


class _Encoder:
    def __init__(self, handles: Any = None) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.handles = handles

    def put(self, raw: bytes) -> None:
        self.size += len(raw)
        if self.size > MAX_BYTES:
            raise NotPlainData(f"larger than {MAX_BYTES >> 20} MiB")
        self.parts.append(raw)

    def text(self, tag: bytes, raw: bytes) -> None:
        self.put(b"%c%d:" % (tag, len(raw)))
        self.put(raw)

    def value(self, value: Any, depth: int) -> None:
        kind = type(value)
        if depth > MAX_DEPTH:
            raise NotPlainData(f"nested deeper than {MAX_DEPTH}")
        if value is None:
            self.put(b"n")
        elif kind is bool:
            self.put(b"t" if value else b"f")
        elif kind is int:
            self.text(b"i", b"%x" % value)
        elif kind is float:
            self.text(b"d", value.hex().encode())
        elif kind is complex:
            self.text(b"c", b"%s,%s" % (value.real.hex().encode(), value.imag.hex().encode()))
        elif kind is str:
            self.text(b"s", value.encode("utf-8", "surrogatepass"))
        elif kind is bytes:
            self.text(b"b", value)
        else:
            self.compound(value, kind, depth)

    def compound(self, value: Any, kind: type, depth: int) -> None:
        tag = _TAGS.get(kind)
        if tag is not None:
            self.put(b"%c%d:" % (tag, len(value)))
            items = value.items() if kind is dict else value
            for item in items:
                if kind is dict:
                    self.value(item[0], depth + 1)
                    self.value(item[1], depth + 1)
                else:
                    self.value(item, depth + 1)
            return
        parts: Any
        if kind is range:
            name, parts = "range", (value.start, value.stop, value.step)
        elif kind is bytearray:
            name, parts = "bytearray", bytes(value)
        elif kind is type and _TYPES.get(getattr(value, "__name__", "")) is value:
            name, parts = "type", getattr(value, "__name__", "")
        elif self.handles is not None and (number := self.handles(value)) is not None:
            self.text(b"h", b"%x" % number)
            return
        else:
            found = _library_parts(value)
            if found is None:
                raise NotPlainData(f"a value of type {kind.__name__[:80]!r} is not plain data")
            name, parts = found
        self.text(b"X", name.encode())
        self.value(parts, depth + 1)


def encode(value: Any, handles: Any = None) -> bytes:
    """Return `value` as bytes. Raises `NotPlainData` when it is not plain, too deep or too large.

    `handles`, when given, is asked for a handle's number for each value that is not plain; it
    answers None to refuse.
    """
    encoder = _Encoder(handles)
    encoder.value(value, 0)
    return b"".join(encoder.parts)


class _Decoder:
    def __init__(self, raw: bytes, handles: Any) -> None:
        self.raw = raw
        self.at = 0
        self.items = 0
        self.handles = handles

    def count(self) -> int:
        end = self.raw.find(b":", self.at, self.at + 12)
        digits = self.raw[self.at : end] if end > 0 else b""
        if not digits.isdigit():
            raise NotPlainData("malformed length")
        self.at = end + 1
        return int(digits)

    def take(self) -> bytes:
        size = self.count()
        if size > len(self.raw) - self.at:
            raise NotPlainData("cut short")
        self.at += size
        return self.raw[self.at - size : self.at]

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise NotPlainData(f"nested deeper than {MAX_DEPTH}")
        self.items += 1
        if self.items > MAX_ITEMS:
            raise NotPlainData(f"more than {MAX_ITEMS} items")
        tag = self.raw[self.at : self.at + 1]
        self.at += 1
        if tag in (b"n", b"t", b"f"):
            return {b"n": None, b"t": True, b"f": False}[tag]
        if tag in (b"i", b"d", b"c", b"s", b"b", b"h"):
            return self.scalar(tag, self.take())
        if tag == b"X":
            return self.library(depth)
        if tag in (b"L", b"T", b"S", b"Z", b"D") and tag:
            return self.compound(tag, depth)
        raise NotPlainData("unknown tag")

    def scalar(self, tag: bytes, raw: bytes) -> Any:
        if tag == b"s":
            return raw.decode("utf-8", "surrogatepass")
        if tag == b"b":
            return raw
        text = raw.decode("ascii")
        if tag == b"i":
            if len(text) > _MAX_INT_DIGITS:
                raise NotPlainData("an integer too large")
            return int(text, 16)
        if tag == b"d":
            return float.fromhex(text)
        if tag == b"h":
            if self.handles is None:
                raise NotPlainData("an object where plain data was due")
            return self.handles(int(text, 16))
        real, imaginary = text.split(",")
        return complex(float.fromhex(real), float.fromhex(imaginary))

    def library(self, depth: int) -> Any:
        name = self.take().decode("ascii")
        parts = self.value(depth + 1)
        if name == "range" and type(parts) is tuple:
            return range(*parts)
        if name == "bytearray" and type(parts) is bytes:
            return bytearray(parts)
        if name == "type" and type(parts) is str and parts in _TYPES:
            return _TYPES[parts]
        return _build(name, parts)

    def compound(self, tag: bytes, depth: int) -> Any:
        size = self.count()
        if tag == b"D":
            pairs = [(self.value(depth + 1), self.value(depth + 1)) for _ in range(size)]
            _distinct([key for key, _ in pairs])
            return dict(pairs)
        items = [self.value(depth + 1) for _ in range(size)]
        if tag in (b"S", b"Z"):
            _distinct(items)
        return {b"L": list, b"T": tuple, b"S": set, b"Z": frozenset}[tag](items)


def decode(raw: bytes, handles: Any = None) -> Any:
    """Return the value that `raw` holds. Raises `NotPlainData` for anything malformed.

    `handles`, when given, turns a handle's number into what stands for the object here.
    """
    if len(raw) > MAX_BYTES:
        raise NotPlainData(f"larger than {MAX_BYTES >> 20} MiB")
    decoder = _Decoder(raw, handles)
    try:
        value = decoder.value(0)
    except NotPlainData:
        raise
    except Exception as error:  # a hostile sender may offer any malformed part
        raise NotPlainData(f"malformed: {type(error).__name__}") from None
    if decoder.at != len(raw):
        raise NotPlainData("bytes left over")
    return value

"""The header of a GGUF file, read with every length checked before it is believed.

A file of others is untrusted: a count, a length or an offset in it may be anything. All of them are
compared with what is left of the file before memory is taken or a loop is run, so a damaged header
costs at most time and memory in proportion to the file's size.

Layout: magic, version, number of tensors, number of keys; the keys with their values; one record a
tensor; padding; the tensors. All numbers are little-endian here (the specification of GGUF,
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from lilith.interop.gguf_metadata import Metadata, Value
from lilith.interop.weights import ImportFailed

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
ALIGNMENT_KEY = "general.alignment"

_FLOAT32, _BOOL, _STRING, _ARRAY = 6, 7, 8, 9
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4",
    7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_SCALAR_STRUCTS = {kind: struct.Struct(code) for kind, code in {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q",
    12: "<d",
}.items()}  # fmt: skip
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

# More than any model has; a larger count is damage, however large the file.
_MOST_KEYS = 65_536
_MOST_TENSORS = 65_536
_MOST_STRINGS = 4_194_304  # in all arrays together
_LONGEST_NAME = 65_535  # bytes of a key or of a tensor's name
_MOST_DIMENSIONS = 4
_LEAST_KEY_BYTES = 8 + 4 + 1  # an empty name, a type, the smallest value
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8  # an empty name, no dimensions, a type, an offset


@dataclass(frozen=True)
class TensorRecord:
    """Where a tensor lies: ``shape`` is [out, in] as numpy has it, ``start`` counts from 0."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    bytes: int


@dataclass(frozen=True)
class Header:
    """Metadata by key (arrays of numbers are views of the file) and tensors by name."""

    version: int
    metadata: Metadata
    tensors: dict[str, TensorRecord]


def read_header(data: mmap.mmap | bytes, where: str) -> Header:
    """Read the header of a GGUF file that is mapped into memory.

    Args:
      data: the whole file.
      where: what errors call it.

    Raises:
      ImportFailed: this is no GGUF file of version 2 or 3, or it is damaged or cut short.
    """
    cursor = _Cursor(data, where)
    version = _read_version(cursor)
    tensor_count = cursor.count("tensors", _MOST_TENSORS, _LEAST_TENSOR_BYTES)
    key_count = cursor.count("keys", _MOST_KEYS, _LEAST_KEY_BYTES)
    metadata: dict[str, Value] = {}
    for i in range(key_count):
        key = cursor.name(f"metadata key {i}")
        if key in metadata:
            raise cursor.damaged(f"the metadata key {key!r} appears twice")
        metadata[key] = cursor.value(key)
    records = [_read_record(cursor, i) for i in range(tensor_count)]
    tensors = _place(records, _alignment(metadata, cursor), cursor)
    return Header(version, Metadata(metadata, where), tensors)


def _read_version(cursor: _Cursor) -> int:
    magic = bytes(cursor.data[:4])
    if magic != MAGIC:
        raise ImportFailed(f"{cursor.where} is not a GGUF file: {_what_it_is(cursor.data)}")
    cursor.at = len(MAGIC)
    version = cursor.number(4, "the version")
    if version in VERSIONS:
        return version
    if version & 0xFFFF == 0 and version:
        raise ImportFailed(
            f"{cursor.where} is a GGUF file in big-endian byte order; convert it with llama.cpp's "
            "gguf_convert_endian.py, or fetch the little-endian one"
        )
    raise ImportFailed(
        f"{cursor.where} is a GGUF file of version {version}; LILITH reads versions 2 and 3: "
        "convert the model again with a current llama.cpp"
    )


def _what_it_is(data: mmap.mmap | bytes) -> str:
    """What a file with another magic looks like, and what to do."""
    start = bytes(data[:512])
    text = start.lstrip().lower()
    if not start:
        return "it is empty; download it again"
    if start.startswith(b"PK\x03\x04"):
        return "it is a zip archive (a wheel, or weights of PyTorch); unpack it, or use safetensors"
    if len(start) > 8 and start[8:9] == b"{" and _U64.unpack(start[:8])[0] < len(data):
        return "it is a safetensors file; name the folder that it lies in, beside its config.json"
    if start[:4] in (b"lmgg", b"tjgg", b"fmgg", b"algg"):
        return "it is a GGML file of before GGUF; convert the model again with a current llama.cpp"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html")):
        return "it is a web page, perhaps an error of the download; download the file again"
    if start.startswith(b"\x1f\x8b"):
        return "it is compressed with gzip; unpack it"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "it is a pickle, which can run code when it is opened; use safetensors or GGUF"
    if start[:1] == b"{":
        return "it is JSON; name the .gguf file of the model"
    return f"it starts with {start[:4]!r} in place of {MAGIC!r}; download it again"


class _Cursor:
    """A place in the file that never passes its end."""

    def __init__(self, data: mmap.mmap | bytes, where: str) -> None:
        self.data, self.where = data, where
        self.at = 0
        self._size = len(data)
        self._strings = 0

    def damaged(self, what: str) -> ImportFailed:
        return ImportFailed(f"{self.where} is damaged: {what}; download it again")

    def need(self, size: int, what: str) -> None:
        """The next ``size`` bytes exist."""
        left = self._size - self.at
        if size > left:
            raise ImportFailed(
                f"{self.where} is cut short or damaged: {what} takes {size} bytes at byte "
                f"{self.at}, and the file ends {left} bytes later; download it again"
            )

    def number(self, size: int, what: str) -> int:
        self.need(size, what)
        form = _U32 if size == 4 else _U64
        (number,) = form.unpack_from(self.data, self.at)
        self.at += size
        return int(number)

    def count(self, what: str, most: int, least_bytes: int) -> int:
        """How many records follow somewhere, each of at least ``least_bytes``."""
        count = self.number(8, f"the number of {what}")
        if count > most:
            raise self.damaged(f"its header counts {count} {what}, and no model has over {most}")
        self.need(count * least_bytes, f"a header of {count} {what}")
        return count

    def text(self, what: str) -> str:
        length = self.number(8, f"the length of {what}")
        self.need(length, f"the text of {what}")
        start, self.at = self.at, self.at + length
        try:
            return self.data[start : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged(f"{what} is not UTF-8") from None

    def name(self, what: str) -> str:
        name = self.text(what)
        if not 0 < len(name) <= _LONGEST_NAME:
            raise self.damaged(f"the name of {what} has {len(name)} characters")
        return name

    def value(self, key: str) -> Value:
        kind = self.number(4, f"the type of {key!r}")
        if kind == _STRING:
            return self.text(repr(key))
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise self.damaged(f"{key!r} has a value of the unknown type {kind}")
        form = _SCALAR_STRUCTS[kind]
        self.need(form.size, f"the value of {key!r}")
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        if kind == _BOOL:
            if value > 1:
                raise self.damaged(f"{key!r} is a truth value of {value}")
            return bool(value)
        # The decimal number that was meant: 1e-05 in place of 9.999999747378752e-06.
        return float(str(np.float32(value))) if kind == _FLOAT32 else value

    def _array(self, key: str) -> list[str] | np.ndarray:
        kind = self.number(4, f"the type of the items of {key!r}")
        length = self.number(8, f"the length of {key!r}")
        if kind == _STRING:
            self._strings += length
            if self._strings > _MOST_STRINGS:
                raise self.damaged(f"its arrays hold over {_MOST_STRINGS} strings, up to {key!r}")
            self.need(length * 8, f"the array {key!r} of {length} strings")
            return self._strings_of(key, length)
        if kind not in _SCALARS:
            raise self.damaged(f"the array {key!r} has items of the unknown type {kind}")
        form = np.dtype(_SCALARS[kind])
        self.need(length * form.itemsize, f"the array {key!r} of {length} numbers")
        values = np.frombuffer(self.data, form, length, self.at)
        self.at += values.nbytes
        return values.astype(bool) if kind == _BOOL else values

    def _strings_of(self, key: str, length: int) -> list[str]:
        # Vocabularies hold hundreds of thousands: text() a string would take seconds.
        data, at, size = self.data, self.at, self._size
        unpack = _U64.unpack_from
        strings = []
        for i in range(length):
            if at + 8 > size or at + 8 + (count := unpack(data, at)[0]) > size:
                self.at = at
                self.text(f"item {i} of {key!r}")  # says what is wrong
            at += 8
            try:
                strings.append(data[at : at + count].decode("utf-8"))
            except UnicodeDecodeError:
                raise self.damaged(f"item {i} of {key!r} is not UTF-8") from None
            at += count
        self.at = at
        return strings


def _read_record(cursor: _Cursor, i: int) -> tuple[str, int, tuple[int, ...], int]:
    """One tensor's name, type, shape (outermost first) and offset among the tensors."""
    name = cursor.name(f"tensor {i}")
    dimensions = cursor.number(4, f"the dimensions of {name!r}")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise cursor.damaged(f"the tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.number(8, f"the shape of {name!r}") for _ in range(dimensions))[::-1]
    kind = cursor.number(4, f"the type of {name!r}")
    return name, kind, shape, cursor.number(8, f"the offset of {name!r}")


def _alignment(metadata: dict[str, Value], cursor: _Cursor) -> int:
    value: Any = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    if type(value) is not int or value < 8 or value & (value - 1) or value > 1 << 20:
        raise cursor.damaged(f"{ALIGNMENT_KEY} is {value!r}, and not a power of two from 8 up")
    return value


def _place(
    records: list[tuple[str, int, tuple[int, ...], int]], alignment: int, cursor: _Cursor
) -> dict[str, TensorRecord]:
    """The tensors with their places in the file, all inside it and none over another."""
    start = (cursor.at + alignment - 1) // alignment * alignment
    tensors: dict[str, TensorRecord] = {}
    for name, number, shape, offset in records:
        if name in tensors:
            raise cursor.damaged(f"the tensor {name!r} appears twice")
        if offset % alignment:
            raise cursor.damaged(
                f"the tensor {name!r} starts at {offset}, not aligned to {alignment} bytes"
            )
        kind = _kind(name, number, cursor)
        size = _bytes_of(name, kind, shape, cursor)
        cursor.at = start + offset
        cursor.need(size, f"the tensor {name!r}")
        tensors[name] = TensorRecord(name, kind, shape, start + offset, size)
    end, previous = start, ""
    for record in sorted(tensors.values(), key=lambda record: record.start):
        if record.start < end:
            raise cursor.damaged(f"the tensors {previous!r} and {record.name!r} overlap")
        end, previous = record.start + record.bytes, record.name
    return tensors


def _kind(name: str, number: int, cursor: _Cursor) -> GGMLQuantizationType:
    try:
        return GGMLQuantizationType(number)
    except ValueError:
        raise ImportFailed(
            f"{cursor.where}: the tensor {name!r} has the unknown type {number}; the file is newer "
            "than LILITH's gguf package (update it) or damaged"
        ) from None


def _bytes_of(
    name: str, kind: GGMLQuantizationType, shape: tuple[int, ...], cursor: _Cursor
) -> int:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if min(shape) < 1:
        raise cursor.damaged(f"the tensor {name!r} has the shape {list(shape)}")
    if shape[-1] % block:
        raise cursor.damaged(
            f"the tensor {name!r} has rows of {shape[-1]}, which the blocks of {block} of its type "
            f"{kind.name} do not divide"
        )
    return math.prod(shape) // block * block_bytes


def open_file(path: Path) -> mmap.mmap:
    """Map a file into memory, to read.

    Raises:
      ImportFailed: it is no file, is empty or can not be opened.
    """
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise ImportFailed(f"{path} is not a GGUF file: {_what_it_is(b'')}") from None
    except OSError as error:
        raise ImportFailed(f"{path} can not be read: {error.strerror or error}") from None

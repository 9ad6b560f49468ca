"""The corpus on disk: texts, tokens, and folders that are either whole or absent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lilith.data.report import DataError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


def key_of(*parts: Any) -> str:
    """16 hexadecimal digits that change when any of the plain-data ``parts`` does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def in_batches(documents: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """The documents in lists of about ``size`` bytes, in order."""
    batch: list[bytes] = []
    count = 0
    for document in documents:
        batch.append(document)
        count += len(document)
        if count >= size:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def stage(cache: Path, name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder ``name-key`` of the cache, built by ``build(folder)`` if it is not there.

    It is built under another name and renamed when whole, so a folder that is there can be used.
    Of several processes that ask at once, one builds and the others wait for it.

    Raises:
      DataError: the cache can not be written, for want of space or of permission.
    """
    folder = cache / f"{name}-{key}"
    if folder.is_dir():
        return folder
    building = cache / f".building-{name}-{key}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".lock-{name}-{key}"):
            if not folder.is_dir():
                shutil.rmtree(building, ignore_errors=True)  # of a process that was killed
                building.mkdir()
                build(building)
                os.replace(building, folder)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        if error.errno not in _DISK_ERRORS:
            raise
        raise DataError(
            f"the data cache {cache} can not be written: {error}; free some space, or set "
            "data.cache to a folder on another disk"
        ) from None
    return folder


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with open(file, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class StreamWriter:
    """Items of one element type, one after another in a file, and where each begins."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = (folder / "items.bin").open("wb")
        self._offsets = [0]

    def add(self, data: bytes | np.ndarray) -> None:
        """Append one item; offsets count bytes of bytes and elements of an array."""
        self._file.write(data if isinstance(data, bytes) else data.tobytes())
        self._offsets.append(self._offsets[-1] + len(data))

    def close(self) -> None:
        """Finish the file and write the offsets."""
        self._file.close()
        np.save(self._folder / "offsets.npy", np.array(self._offsets, np.int64))


class Texts:
    """Documents that a :class:`StreamWriter` wrote as UTF-8 bytes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "items.bin"
        self.offsets: np.ndarray = np.load(folder / "offsets.npy")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[bytes]:
        with open(self._file, "rb") as file:
            for size in np.diff(self.offsets).tolist():
                yield file.read(size)

    def get(self, indices: np.ndarray) -> Iterator[bytes]:
        """The documents of ``indices``, in that order."""
        with open(self._file, "rb") as file:
            for index in indices.tolist():
                file.seek(self.offsets[index])
                yield file.read(self.offsets[index + 1] - self.offsets[index])


def write_json(file: Path, content: Any) -> None:
    """Write plain data as JSON."""
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(file: Path) -> Any:
    """Read plain data from JSON."""
    return json.loads(file.read_text(encoding="utf-8"))

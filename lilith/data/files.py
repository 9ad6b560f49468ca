"""Finding files and reading them as text, with a reason for each that can not be."""

from __future__ import annotations

import fnmatch
import glob
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lilith.data.report import AbsentSource
from lilith.storage import in_words, is_local, open_remote, remote, sizes

_NOT_A_SOURCE = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_VARIABLE = re.compile(r"\$\{?(\w+)")


@dataclass(frozen=True)
class Document:
    """One text, the unit that is kept, skipped, or put on one side of the split."""

    text: str
    name: str


@dataclass(frozen=True)
class Skipped:
    """A document that was left out, and why in a word or two."""

    reason: str
    name: str


def expand(path: str) -> str:
    """``path`` with ``~`` and ``$VARIABLES`` filled in.

    Raises:
      AbsentSource: a variable is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    unset = _VARIABLE.search(expanded)
    if unset:
        raise AbsentSource(
            f"the path {path!r} uses the environment variable {unset.group(1)}, which is not set"
        )
    return expanded


def find_files(path: str, wanted: Callable[[str], bool]) -> list[Path]:
    """Files at ``path``, sorted: itself, all ``wanted`` names below a folder, or a glob's matches.

    Folders that a glob matches are searched too; ``**`` matches any depth. Hidden folders, caches
    and installed packages inside a folder are passed by. Nothing there gives an empty list.
    ``path`` may be in a bucket (``gs://``), and then the files are.

    Raises:
      StorageError: the bucket can not be read.
    """
    if not is_local(path):
        return sorted(_find_remote(path, wanted))
    roots = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    found: set[Path] = set()
    for root in roots:
        found.update(walk(root, wanted) if os.path.isdir(root) else [Path(root)])
    return sorted(found)


def walk(root: str, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """Files below ``root`` with a ``wanted`` name; see :func:`find_files`."""
    for folder, subfolders, names in os.walk(root):
        # A folder with pyvenv.cfg is a virtual environment: its packages are not this tree's.
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".")
            and name not in _NOT_A_SOURCE
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        ]
        for name in names:
            if wanted(name):
                yield Path(folder, name)


def _find_remote(path: str, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """What :func:`find_files` finds in a bucket, from one listing."""
    parts = path.removeprefix("gs://").split("/")
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    folder, pattern = remote("gs://" + "/".join(parts[:fixed])), parts[fixed:]
    with in_words(path, "read"):
        names = list(sizes(folder))
        if not pattern and not names and folder.exists():
            yield folder
    environments = {name.rpartition("/")[0] for name in names if name.endswith("/pyvenv.cfg")}
    for name in names:
        inside = name.split("/")
        for depth in range(len(inside) + 1):
            if not _matches(inside[:depth], pattern):
                continue
            below = inside[depth:-1]  # folders inside the one that is searched
            passed_by = any(part.startswith(".") or part in _NOT_A_SOURCE for part in below) or any(
                "/".join(inside[: depth + i + 1]) in environments for i in range(len(below))
            )
            if depth == len(inside) or (wanted(inside[-1]) and not passed_by):
                yield folder / name
                break


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path's parts are a glob's, with ``**`` for any number of folders."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (not hidden and _matches(parts[1:], pattern))
    fits = fnmatch.fnmatchcase(parts[0], pattern[0])
    return fits and not hidden and _matches(parts[1:], pattern[1:])


def size_and_time(file: Path) -> tuple[int, int]:
    """Bytes of a file, and when it changed: nanoseconds, or in a bucket seconds, since 1970.

    Raises:
      OSError: there is no such file.
      StorageError: the bucket can not be read.
    """
    if is_local(file):
        stat = os.stat(file)
        return stat.st_size, stat.st_mtime_ns
    with in_words(file, "read"):
        found = remote(file).stat()
    return found.length, found.mtime


def suffix(name: str) -> str:
    """Lower-case file suffix, looking through ``.gz``: ``.txt`` for ``a.TXT.gz``."""
    name = name.lower()
    return os.path.splitext(name.removesuffix(".gz"))[1]


def open_lines(file: Path) -> IO[bytes]:
    """A plain or gzip file for reading bytes."""
    packed = file.suffix == ".gz"
    if is_local(file):
        return io.BufferedReader(gzip.open(file)) if packed else open(file, "rb")
    stream = open_remote(remote(file))
    return io.BufferedReader(gzip.GzipFile(fileobj=stream)) if packed else stream


def read_text(file: Path, name: str) -> str | Skipped:
    """The text of a plain or gzip file; a byte-order mark is dropped.

    An unreadable, damaged, binary or wrongly encoded file gives :class:`Skipped`.
    """
    try:
        with open_lines(file) as stream:
            data = stream.read()
    except (OSError, EOFError, zlib.error):
        return Skipped("unreadable", name)
    if b"\0" in data[:8192]:
        return Skipped("binary", name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Skipped("not UTF-8", name)

"""Finding files and reading them as text, with a reason for each that can not be."""

from __future__ import annotations

import glob
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lilith.data.report import AbsentSource

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
    """
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


def suffix(name: str) -> str:
    """Lower-case file suffix, looking through ``.gz``: ``.txt`` for ``a.TXT.gz``."""
    name = name.lower()
    return os.path.splitext(name.removesuffix(".gz"))[1]


def open_lines(file: Path) -> IO[bytes]:
    """A plain or gzip file for reading bytes."""
    return io.BufferedReader(gzip.open(file)) if file.suffix == ".gz" else open(file, "rb")


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

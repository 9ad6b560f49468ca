"""Text files, and the documentation that installed packages carry."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from lilith.data.files import Document, Skipped, read_text, suffix, walk

TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".markdown", ".rst", ".tex"})
_DOCUMENTATION = frozenset({".txt", ".md", ".rst"})
_METADATA = frozenset({"METADATA", "PKG-INFO"})
_PACKING_LISTS = frozenset({"top_level.txt", "entry_points.txt", "sources.txt", "requires.txt"})
_MIN_LETTERS = 0.7  # of the characters that are not white: below are tables of numbers
_MIN_PROSE_LINES = 0.3  # of the lines have at least five words: below are lists of names


def is_text_name(name: str) -> bool:
    """Whether a file in a folder of texts is one of them."""
    return suffix(name) in TEXT_SUFFIXES


def read_texts(files: Iterable[Path], limit: int) -> Iterator[Document | Skipped]:
    """Text files as documents, one each; those over ``limit`` bytes in several, see `cut`."""
    for file in files:
        text = read_text(file, str(file))
        if isinstance(text, Skipped):
            yield text
        else:
            yield from cut(text, str(file), limit)


def cut(text: str, name: str, limit: int) -> Iterator[Document]:
    """``text`` in documents of at most ``limit`` bytes, cut after a blank line, line or character.

    Joined, the documents are the text.
    """
    if len(text) * 4 <= limit or len(text.encode(errors="surrogatepass")) <= limit:
        yield Document(text, name)
        return
    start, part = 0, 0
    while start < len(text):
        end = _within(text, start, limit)
        if end < len(text):
            for mark in ("\n\n", "\n"):
                # Not before the middle, so that a stray early line does not make a tiny part.
                found = text.rfind(mark, start + (end - start) // 2, end)
                if found >= 0:
                    end = found + len(mark)
                    break
        part += 1
        yield Document(text[start:end], f"{name} part {part}")
        start = end


def _within(text: str, start: int, limit: int) -> int:
    """The last end for which ``text[start:end]`` has at most ``limit`` bytes; beyond start."""
    data = text[start : start + limit].encode(errors="surrogatepass")[:limit]
    return start + max(1, len(data.decode(errors="ignore")))


def package_files() -> list[Path]:
    """Documentation of the installed packages: metadata, and .md, .rst and .txt files."""
    roots = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}

    def wanted(name: str) -> bool:
        lower = name.lower()
        return name in _METADATA or (
            os.path.splitext(lower)[1] in _DOCUMENTATION and lower not in _PACKING_LISTS
        )

    found = {file for root in roots for file in walk(root, wanted)}
    return sorted(file for file in found if not _is_test_data(file))


def read_package_docs(files: Iterable[Path], limit: int) -> Iterator[Document | Skipped]:
    """Package documentation as documents; tables and word lists are skipped as not prose."""
    for file in files:
        text = read_text(file, str(file))
        if isinstance(text, Skipped):
            yield text
            continue
        if file.name in _METADATA:
            text = _description(text)
        if text.strip() and not is_prose(text):
            yield Skipped("not prose", str(file))
        else:
            yield from cut(text, str(file), limit)


def is_prose(text: str) -> bool:
    """Whether a text reads as sentences rather than as numbers or a list of names."""
    solid = "".join(text.split())
    lines = [line for line in text.splitlines() if line.strip()]
    wordy = sum(len(line.split()) >= 5 for line in lines)
    letters = len(re.findall(r"[^\W\d_]", solid))
    return letters >= _MIN_LETTERS * len(solid) and wordy >= _MIN_PROSE_LINES * len(lines)


def _description(metadata: str) -> str:
    """The long description of a package: what follows the headers."""
    return metadata.partition("\n\n")[2].lstrip("\n")


def _is_test_data(file: Path) -> bool:
    return any(part in ("tests", "test", "testdata", "test_data") for part in file.parts)

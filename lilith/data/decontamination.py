"""Conversations that overlap with evaluation texts, found by n-grams of words.

A word is a run of letters, digits or underscores, in lower case; punctuation and white space do not
count. Two texts overlap if they share ``n`` words in a row. A text of fewer than ``n`` words has no
n-gram: it is compared whole, with the other side's texts of fewer than ``n`` words.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lilith.data.files import Skipped, expand, find_files, read_text, suffix
from lilith.data.report import DataError

_WORD = re.compile(r"\w+")
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".txt", ".md", ".csv", ".tsv")
NGRAM = 13


def words(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation."""
    return _WORD.findall(text.lower())


class Decontamination:
    """What evaluation files hold, to be kept out of training.

    Texts are taken from JSON lines and JSON (every string at any depth, so fields and conversations
    alike), CSV and TSV (every cell) and plain text (every line). A text of a single word (a label,
    an identifier, "yes") says nothing and is passed by.

    Args:
      paths: files, folders or globs; ``~`` and ``$VARIABLES`` are filled in.
      n: words of an n-gram.
      fields: take only the strings below these keys of JSON objects; (): all.

    Attributes:
      files: how many texts of each evaluation file are compared with.

    Raises:
      DataError: nothing is at a path, or a file can not be read or holds no text.
    """

    def __init__(
        self, paths: Sequence[str | Path], *, n: int = NGRAM, fields: Sequence[str] = ()
    ) -> None:
        if n < 1:
            raise DataError(f"the n-grams of decontamination have {n} words; take 1 or more")
        self.n, self._fields = n, frozenset(fields)
        self._names: list[str] = []
        self._found: dict[bytes, int] = {}  # hash of an n-gram: a bit for each file that has it
        self.files: dict[str, int] = {}
        for path in paths:
            found = find_files(expand(str(path)), lambda name: suffix(name) in _SUFFIXES)
            if not found:
                raise DataError(
                    f"there is no evaluation file at {str(path)!r}; correct the path of "
                    "decontamination"
                )
            for file in found:
                self._add(file)

    def overlaps(self, texts: Iterable[str]) -> list[str]:
        """The evaluation files that any of the texts overlaps with, in the order given."""
        bits = 0
        for text in texts:
            for gram in self._grams(words(text)):
                bits |= self._found.get(gram, 0)
        return [name for i, name in enumerate(self._names) if bits >> i & 1]

    def _add(self, file: Path) -> None:
        if str(file) in self.files:
            return
        bit = 1 << len(self._names)
        count = 0
        for text in _texts(file, self._fields):
            said = words(text)
            if len(said) < 2:
                continue
            count += 1
            for gram in self._grams(said):
                self._found[gram] = self._found.get(gram, 0) | bit
        if not count:
            below = f" below {', '.join(sorted(self._fields))}" if self._fields else ""
            raise DataError(
                f"the evaluation file {file} holds no text{below} to compare with; correct the "
                "path or the fields of decontamination"
            )
        self._names.append(str(file))
        self.files[str(file)] = count

    def _grams(self, said: list[str]) -> Iterator[bytes]:
        """Hashes of the n-grams of words; of a shorter text the one of its whole."""
        # A shorter text has fewer words than any n-gram, so that the two never have one hash.
        for i in range(max(1, len(said) - self.n + 1) if said else 0):
            gram = " ".join(said[i : i + self.n])
            yield hashlib.blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _texts(file: Path, fields: frozenset[str]) -> Iterator[str]:
    """The texts of an evaluation file."""
    content = read_text(file, str(file))
    if isinstance(content, Skipped):
        raise DataError(f"the evaluation file {file} can not be read: it is {content.reason}")
    kind = suffix(file.name)
    if kind in (".jsonl", ".ndjson", ".json"):
        for value in _values(content, kind, file):
            yield from strings(value, fields, not fields)
    elif kind in (".csv", ".tsv"):
        lines = io.StringIO(content)
        # Quotation marks are text in files of tabs.
        tabs = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        for row in tabs if kind == ".tsv" else csv.reader(lines):
            yield from row
    else:
        yield from content.splitlines()


def _values(content: str, kind: str, file: Path) -> Iterator[Any]:
    """The JSON values of a file: its one, or one a line."""
    if kind == ".json":
        try:
            yield json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DataError(f"the evaluation file {file} is not valid JSON: {error}") from None
        return
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{file}:{number}: this line of an evaluation file is not valid JSON: {error}"
                ) from None


def strings(value: Any, fields: frozenset[str] = frozenset(), wanted: bool = True) -> Iterator[str]:
    """The texts within a JSON value that are wanted: all, or those below one of the keys."""
    if isinstance(value, str):
        if wanted:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, fields, wanted)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, fields, wanted or key in fields)

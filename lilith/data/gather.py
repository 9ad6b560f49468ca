"""The first stage of preparing: documents read, duplicates dropped, sides chosen, texts stored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lilith.config import DataConfig
from lilith.data.files import Document, Skipped
from lilith.data.report import PrepareReport, SourceReport
from lilith.data.sources import Source
from lilith.data.store import StreamWriter, write_json

Progress = Callable[[int, int, str], None]  # done, total, what is being done

VALIDATION = "validation"  # folder of the held-out texts, beside source-0, source-1, ...
_DIGEST = 16  # bytes
_PRUNE_AT = 8  # times the cap: held-out candidates kept in memory before the last are let go


def source_folder(index: int) -> str:
    """Folder of the training texts of the config's source ``index``."""
    return f"source-{index}"


def content_digest(text: str) -> bytes:
    """Hash of a text with every run of white space made one space: what duplicates share."""
    normal = " ".join(text.split())
    return hashlib.blake2b(normal.encode(), digest_size=_DIGEST).digest()


def is_held_out(digest: bytes, fraction: float) -> bool:
    """Whether a document is for validation: its hash alone decides, so it never changes sides."""
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


@dataclass(frozen=True)
class _HeldOut:
    digest: bytes
    data: bytes
    source: int


class _Validation:
    """The held-out documents with the lowest hashes, as many as fit under a cap of bytes.

    Reading order does not matter: a document of over the cap is never taken, and the others are
    taken by hash until the first that does not fit.
    """

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._candidates: list[_HeldOut] = []
        self._bytes = 0

    def add(self, held_out: _HeldOut) -> None:
        if len(held_out.data) > self._cap:
            return
        self._candidates.append(held_out)
        self._bytes += len(held_out.data)
        if self._bytes > _PRUNE_AT * self._cap:
            self._candidates = self.chosen()
            self._bytes = sum(len(item.data) for item in self._candidates)

    def chosen(self) -> list[_HeldOut]:
        chosen, room = [], self._cap
        for item in sorted(self._candidates, key=lambda item: item.digest):
            room -= len(item.data)
            if room < 0:
                break
            chosen.append(item)
        return chosen


def gather(
    sources: Sequence[Source | SourceReport], data: DataConfig, folder: Path, progress: Progress
) -> None:
    """Read every source and write its texts, a report, and a digest of all that was kept.

    Args:
      sources: in the order of the config; a report stands for a source that is absent.
      folder: an existing empty folder; gets ``source-I`` for each source, ``validation``,
        ``report.json`` and ``content.json``.
    """
    gathering = _Gathering(data)
    reports, contents = [], []
    total = sum(len(source.files) for source in sources if isinstance(source, Source))
    done = 0
    for index, source in enumerate(sources):
        writer = StreamWriter(folder / source_folder(index))
        if isinstance(source, Source):
            progress(done, total, f"reading {source.config.name}")
            report, content = gathering.read(source, index, writer)
            done += len(source.files)
        else:
            report, content = source, ""
        writer.close()
        reports.append(report)
        contents.append(content)
    progress(done, total, "documents read")
    contents.append(_write_validation(gathering.validation.chosen(), folder / VALIDATION, reports))
    unused = gathering.held_out - sum(report.validation_documents for report in reports)
    write_json(folder / "report.json", PrepareReport(reports, unused).to_dict())
    write_json(folder / "content.json", contents)


class _Gathering:
    """What has been seen so far, over all sources."""

    def __init__(self, data: DataConfig) -> None:
        self.validation = _Validation(data.validation_kilobytes * 1024)
        self.held_out = 0
        self._fraction = data.validation_fraction
        self._seen: set[bytes] = set()

    def read(self, source: Source, index: int, writer: StreamWriter) -> tuple[SourceReport, str]:
        """Write a source's training texts; its report and a digest of what was written."""
        report = SourceReport(source.config.name, source.config.kind)
        content = hashlib.sha256()
        for document, raw in _kept(source, report):
            digest = content_digest(document.text)
            if digest in self._seen:
                report.skip("duplicate", document.name)
                continue
            self._seen.add(digest)
            if is_held_out(digest, self._fraction):
                self.held_out += 1
                self.validation.add(_HeldOut(digest, raw, index))
                continue
            writer.add(raw)
            content.update(len(raw).to_bytes(8, "big") + raw)
            report.documents += 1
            report.bytes += len(raw)
        return report, content.hexdigest()


def _write_validation(
    chosen: Iterable[_HeldOut], folder: Path, reports: Sequence[SourceReport]
) -> str:
    writer = StreamWriter(folder)
    content = hashlib.sha256()
    for item in chosen:
        writer.add(item.data)
        content.update(len(item.data).to_bytes(8, "big") + item.data)
        reports[item.source].validation_documents += 1
        reports[item.source].validation_bytes += len(item.data)
    writer.close()
    return content.hexdigest()


def _kept(source: Source, report: SourceReport) -> Iterator[tuple[Document, bytes]]:
    """Documents with any text and their UTF-8 bytes, up to the source's ``max_megabytes``.

    The others are counted in ``report``.
    """
    megabytes = source.config.max_megabytes
    room = math.inf if megabytes is None else megabytes * 1e6
    for document in source.documents():
        if isinstance(document, Skipped):
            report.skip(document.reason, document.name)
            continue
        if not document.text or document.text.isspace():
            report.skip("empty", document.name)
            continue
        try:
            raw = document.text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold
            report.skip("not UTF-8", document.name)
            continue
        room -= len(raw)
        if room < 0:
            return
        yield document, raw

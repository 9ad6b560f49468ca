"""Where documents come from: one reader for each kind of source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lilith.config import DataConfig, SourceConfig
from lilith.data import code, prose, records
from lilith.data.files import Document, Skipped, expand, find_files, size_and_time
from lilith.data.report import AbsentSource


@dataclass(frozen=True)
class Source:
    """An open source: the files it depends on, and its documents in a fixed order."""

    config: SourceConfig
    files: tuple[Path, ...]
    documents: Callable[[], Iterator[Document | Skipped]]

    def signature(self) -> str:
        """Changes when a file comes, goes, or changes its size or time of change."""
        digest = hashlib.sha256()
        for file in self.files:
            try:
                entry = [str(file), *size_and_time(file)]
            except OSError:
                entry = [str(file), -1, -1]
            digest.update(json.dumps(entry).encode())
        return digest.hexdigest()


def open_source(config: SourceConfig, data: DataConfig) -> Source:
    """Find what a source reads, without reading it.

    Raises:
      AbsentSource: nothing is there, or a ``$VARIABLE`` of the path is not set.
      DataError: a language or split is unknown.
    """
    limit = data.max_document_kilobytes * 1024
    path = expand(config.path)
    field = config.text_field
    read: Callable[[], Iterator[Document | Skipped]]
    if config.kind == "stdlib":
        files = code.stdlib_files()
        read = partial(code.read_code, files, limit)
    elif config.kind == "package_docs":
        files = prose.package_files()
        read = partial(prose.read_package_docs, files, limit)
    elif config.kind == "code":
        files = find_files(path, code.language_filter(config.languages))
        read = partial(code.read_code, files, limit)
    elif config.kind == "text":
        files = find_files(path, prose.is_text_name)
        read = partial(prose.read_texts, files, limit)
    elif config.kind == "jsonl":
        files = find_files(path, records.is_jsonl_name)
        read = partial(records.read_jsonl, files, field, limit)
    elif config.kind == "array_record":
        files = find_files(path, records.is_array_record_name)
        read = partial(records.read_array_records, files, field, limit)
    else:
        builder = records.open_tfds(config, path)
        files = sorted(Path(builder.data_dir).iterdir()) if builder is not None else []
        read = partial(records.read_tfds, builder, config, limit)
    if not files:
        raise AbsentSource(_nothing_found(config, path))
    return Source(config, tuple(files), read)


def _nothing_found(config: SourceConfig, path: str) -> str:
    if config.kind == "tfds":
        what = (
            f"no dataset {path!r} is prepared in ArrayRecord format; prepare it with "
            "tfds.builder(name, file_format='array_record').download_and_prepare(), or give the "
            "folder that holds its dataset_info.json"
        )
    elif config.kind in ("stdlib", "package_docs"):
        what = "this Python installation has no such files"
    else:
        what = f"{path!r} holds no {config.kind} files; correct the path"
    return f"no corpus found for data source {config.name!r}: {what}"

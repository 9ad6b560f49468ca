"""Records inside files: JSON lines, ArrayRecord shards, TensorFlow Datasets."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lilith.config import SourceConfig
from lilith.data.files import Document, Skipped, open_lines, suffix
from lilith.data.prose import cut
from lilith.data.report import DataError
from lilith.storage import is_local, local_copy

_READ_AT_ONCE = 1024  # records


def is_jsonl_name(name: str) -> bool:
    """Whether a file in a folder holds JSON lines."""
    return suffix(name) in (".jsonl", ".ndjson")


def is_array_record_name(name: str) -> bool:
    """Whether a file in a folder is an ArrayRecord shard (``name.array_record-00000-of-00004``)."""
    return ".array_record" in name or suffix(name) == ".arrayrecord"


def read_jsonl(files: Iterable[Path], field: str, limit: int) -> Iterator[Document | Skipped]:
    """One document a line: the text under ``field`` of its JSON object; blank lines are passed by.

    A damaged file gives its whole lines up to the damage, then one :class:`Skipped`.
    """
    for file in files:
        number = 0
        try:
            with open_lines(file) as stream:
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        yield from _read_json(line, field, f"{file}:{number}", limit)
        except (OSError, EOFError, zlib.error):
            yield Skipped("unreadable", f"{file} after line {number}")


def read_array_records(
    files: Iterable[Path], field: str, limit: int
) -> Iterator[Document | Skipped]:
    """One document a record: UTF-8 text, or a JSON object with the text under ``field``.

    A damaged shard gives the records before the damage, then one :class:`Skipped`.
    """
    for file in files:
        try:
            for i, record in enumerate(_array_records(file)):
                name = f"{file}#{i}"
                if record.lstrip().startswith(b"{"):
                    yield from _read_json(record, field, name, limit, text_if_not_json=True)
                else:
                    yield from _decoded(record, name, limit)
        except (RuntimeError, IndexError, OSError):  # what the module makes of a damaged file
            yield Skipped("unreadable", str(file))


def _array_records(file: Path) -> Iterator[bytes]:
    from array_record.python import array_record_module

    with local_copy(file) as copy:
        reader = array_record_module.ArrayRecordReader(str(copy))
        count = reader.num_records()
        for start in range(0, count, _READ_AT_ONCE):
            yield from reader.read(list(range(start, min(start + _READ_AT_ONCE, count))))
        reader.close()  # raises if the file was damaged


def open_tfds(config: SourceConfig, path: str) -> Any:
    """The TFDS builder of a folder with a prepared dataset, or of a name; None if there is none.

    Raises:
      DataError: the builder's dataset has not been prepared in ArrayRecord format, or it is in a
        bucket.
    """
    import tensorflow_datasets as tfds

    if not is_local(path):
        raise DataError(
            f"data source {config.name!r} of kind 'tfds' is {path}, and such a dataset is mapped "
            "into memory: copy it to every host, and name its folder there"
        )
    try:
        if Path(path, "dataset_info.json").is_file():
            builder = tfds.builder_from_directory(path)
        else:
            builder = tfds.builder(path, file_format="array_record")
    except tfds.core.registered.DatasetNotFoundError:
        return None
    if not Path(builder.data_dir).is_dir():
        return None
    if config.split not in builder.info.splits:
        raise DataError(
            f"data source {config.name!r}: the dataset at {builder.data_dir} has no split "
            f"{config.split!r}; it has {', '.join(builder.info.splits) or 'none'}"
        )
    return builder


def read_tfds(builder: Any, config: SourceConfig, limit: int) -> Iterator[Document | Skipped]:
    """One document an example: the text feature ``text_field``."""
    examples = builder.as_data_source(split=config.split)
    for i in range(len(examples)):
        name = f"{builder.info.full_name}/{config.split}#{i}"
        value = examples[i].get(config.text_field)
        if isinstance(value, bytes):
            yield from _decoded(value, name, limit)
        elif isinstance(value, str):
            yield from cut(value, name, limit)
        else:
            yield Skipped(f"without {config.text_field!r}", name)


def _read_json(
    line: bytes, field: str, name: str, limit: int, *, text_if_not_json: bool = False
) -> Iterator[Document | Skipped]:
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        yield Skipped("not UTF-8", name)
        return
    except ValueError:
        if text_if_not_json:
            yield from _decoded(line, name, limit)
        else:
            yield Skipped("bad record", name)
        return
    value = record.get(field) if isinstance(record, Mapping) else None
    if isinstance(value, str):
        yield from cut(value, name, limit)
    else:
        yield Skipped(f"without {field!r}", name)


def _decoded(data: bytes, name: str, limit: int) -> Iterator[Document | Skipped]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        yield Skipped("not UTF-8", name)
    else:
        yield from cut(text, name, limit)

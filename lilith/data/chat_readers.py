"""Files of conversations, in the shapes that are common, to one kind of record.

Shapes (``auto`` tells them by their keys; one file holds one shape):

- ``messages``: ``{"messages": [{"role", "content"}], "tools"}``, OpenAI's; of LILITH's generators;
- ``sharegpt``: ``{"conversations": [{"from", "value"}]}``;
- ``alpaca``: ``{"instruction", "input", "output"}``;
- ``dolly``: ``{"instruction", "context", "response"}``;
- ``lilith``: ``{"instruction", "context", "output", "metadata": {"difficulty", "domain",
  "requires_tools"}}``;
- ``prompt_response``: ``{"prompt", "response"}``, also with ``completion``, or ``question`` and
  ``answer`` (GSM8K);
- ``prompt``: ``{"prompt"}``, ``{"question"}`` or ``{"transcript"}`` (of a red team) alone, where no
  answer is needed;
- ``preference``: ``{"prompt", "chosen", "rejected"}``: the chosen answer is learnt, the rejected
  one stays in the metadata;
- ``hh``: the same two as transcripts "\\n\\nHuman: ...\\n\\nAssistant: ...";
- ``oasst``: a tree of replies, nested or in rows with ``parent_id``; see
  :mod:`lilith.data.chat_trees`;
- ``cot``: lines of question, answer and reasoning with tabs between them (FLAN's ``.tsv``).

An input or context is written below its instruction, an empty line between them. A ``system`` or
``system_prompt`` is the system message of a conversation that has none, pairs in ``history`` are
turns before an instruction. All other fields are metadata.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lilith.config import nearest
from lilith.data.chat import ConversationError, check_conversation
from lilith.data.chat_report import ChatReport, RecordError
from lilith.data.chat_shapes import Parsed, parse, shape_of
from lilith.data.chat_trees import parse_tree, trees_of
from lilith.data.files import expand, find_files, open_lines, suffix
from lilith.data.report import DataError
from lilith.tokenizer.chat_template import ChatTemplateError

SHAPES = (
    "auto", "messages", "sharegpt", "alpaca", "dolly", "lilith", "prompt_response", "prompt",
    "preference", "hh", "oasst", "cot",
)  # fmt: skip
ON_ERROR = ("stop", "skip")
_LINES = (".jsonl", ".ndjson")
_SUFFIXES = (*_LINES, ".json", ".tsv")


@dataclass(frozen=True)
class ConversationRecord:
    """One conversation of a file.

    Attributes:
      messages: ``{"role", "content"}``, and ``tool_calls`` where there are.
      tools: JSON descriptions of the tools that the assistant may call, or None.
      metadata: everything else that the record says.
      where: "file:line", or "file[index]" for a JSON list.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    where: str = ""


def read_conversations(
    path: str | Path,
    *,
    shape: str = "auto",
    on_error: str = "stop",
    report: ChatReport | None = None,
    unanswered: bool = False,
) -> ConversationReader:
    """The conversations of a file, of all such files below a folder, or of a glob's matches.

    Files are JSON lines (``.jsonl``, ``.ndjson``), a JSON list (``.json``), or ``.tsv`` of shape
    "cot", each plain or ``.gz``. ``~`` and ``$VARIABLES`` in the path are filled in.

    Args:
      shape: see the module's text; "auto": each file's own.
      on_error: "stop" at the first bad record, or "skip" it and count it.
      report: what to count in; None: one of its own, ``.report`` of what is returned.
      unanswered: take conversations without any answer too, as prompts.

    Returns:
      An iterator of :class:`ConversationRecord`, lazy; errors come while iterating.

    Raises:
      DataError: no file is there, an argument has no such value; while iterating, a file is empty
        or can not be read, or a record is bad (on_error "stop"); file and line are named.
    """
    report = ChatReport() if report is None else report
    return ConversationReader(path, shape, on_error, report, unanswered)


class ConversationReader:
    """What :func:`read_conversations` returns: an iterator with a ``report``."""

    def __init__(
        self, path: str | Path, shape: str, on_error: str, report: ChatReport, unanswered: bool
    ) -> None:
        for name, value, known in (("shape", shape, SHAPES), ("on_error", on_error, ON_ERROR)):
            if value not in known:
                raise DataError(
                    f"{name} is {value!r}{nearest(str(value), known)}; known: {', '.join(known)}"
                )
        self.report = report
        self._shape, self._skip, self._unanswered = shape, on_error == "skip", unanswered
        self._files = find_files(expand(str(path)), lambda name: suffix(name) in _SUFFIXES)
        if not self._files:
            raise DataError(
                f"{str(path)!r} holds no file of conversations ({', '.join(_SUFFIXES)}, or .gz of "
                "them); correct the path"
            )
        self._records = self._read_all()

    def __iter__(self) -> ConversationReader:
        return self

    def __next__(self) -> ConversationRecord:
        return next(self._records)

    def _read_all(self) -> Iterator[ConversationRecord]:
        for file in self._files:
            self.report.files += 1
            before = self.report.read
            yield from self._read(file)
            if self.report.read == before:
                self._fail(RecordError("empty file", f"{file} is empty: it holds no conversation"))

    def _read(self, file: Path) -> Iterator[ConversationRecord]:
        shape = "cot" if self._is_columns(file) else self._shape
        rows: list[tuple[str, Mapping[str, Any]]] = []  # of trees, which a whole file makes
        for where, value in self._values(file):
            if isinstance(value, RecordError):
                self._fail(value, where)
                continue
            try:
                shape = self._shape_of(value, shape)
            except RecordError as error:
                self._fail(error, where)
                continue
            if shape == "oasst_rows":
                rows.append((where, value))
            else:
                yield from self._record(where, value, shape)
        trees, errors = trees_of(rows)
        self.report.read -= len(rows) - len(errors)  # a tree is one record, its rows are not
        for lost in errors:
            self._fail(lost)
        for where, tree in trees:
            self.report.read += 1
            yield from self._record(where, tree, "oasst")

    def _values(self, file: Path) -> Iterator[tuple[str, Any]]:
        """Of each record where it stands, and its JSON value or what is wrong."""
        try:
            yield from self._numbered(file)
        except (OSError, EOFError, zlib.error) as error:
            self.report.read += 1
            yield str(file), RecordError("unreadable", f"the file can not be read on: {error}")

    def _numbered(self, file: Path) -> Iterator[tuple[str, Any]]:
        columns = self._is_columns(file)
        whole = _whole(file) if suffix(file.name) == ".json" and not columns else None
        if whole is not None:
            for i, value in enumerate(whole):
                self.report.read += 1
                yield f"{file}[{i}]", value
            return
        with open_lines(file) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    self.report.read += 1
                    yield f"{file}:{number}", _value(line, columns)

    def _is_columns(self, file: Path) -> bool:
        return self._shape == "cot" or (self._shape == "auto" and suffix(file.name) == ".tsv")

    def _shape_of(self, value: Any, shape: str) -> str:
        """The shape of a record in a file whose records before it have ``shape``, or "auto"."""
        if shape == "cot":
            return shape
        if not isinstance(value, Mapping):
            raise RecordError(
                "wrong type", f"the record is a {type(value).__name__}; expected a JSON object"
            )
        found = shape_of(value)
        rows = found == "oasst_rows"
        if self._shape != "auto":
            return "oasst_rows" if self._shape == "oasst" and rows else self._shape
        if found is None:
            raise RecordError(
                "unknown shape",
                f"a record with the fields {', '.join(map(repr, list(value)[:8]))} has no shape "
                f"that is known ({', '.join(SHAPES[1:])})",
            )
        if shape not in ("auto", found):
            raise RecordError(
                "mixed shapes",
                f"the record has the shape {found}, those before it in the file have {shape}; "
                "keep shapes in files of their own",
            )
        return found

    def _record(self, where: str, value: Any, shape: str) -> Iterator[ConversationRecord]:
        try:
            messages, tools, metadata = _parsed(value, shape)
            check_conversation(messages, answered=not self._unanswered)
        except ConversationError as error:
            self._fail(RecordError(error.reason, str(error)), where)
        except ChatTemplateError as error:
            self._fail(RecordError("wrong type", str(error)), where)
        except RecordError as error:
            self._fail(error, where)
        else:
            yield ConversationRecord(messages, tools, metadata, where)

    def _fail(self, error: RecordError, where: str = "") -> None:
        """Stop with an error, or count it."""
        message = f"{where}: {error}" if where else str(error)
        if not self._skip:
            raise RecordError(error.reason, message) from None
        self.report.skip(error.reason, message)


def _parsed(value: Any, shape: str) -> Parsed:
    if shape == "cot":
        question, answer, reasoning = value
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
        return messages, None, {"reasoning": reasoning}
    return parse_tree(value) if shape == "oasst" else parse(value, shape)


def _value(line: bytes, columns: bool) -> Any:
    """What a line holds: a JSON value, or its three columns; or what is wrong with it."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return RecordError(
            "not UTF-8", f"byte {error.start + 1} of the line is not UTF-8; convert the file"
        )
    if columns:
        cells = [column.replace("\\n", "\n") for column in text.rstrip("\r\n").split("\t")]
        if len(cells) == 3:
            return cells
        return RecordError(
            "malformed line",
            f"{len(cells)} columns; expected question, answer and reasoning with tabs between",
        )
    try:
        return json.loads(text)
    except RecursionError:
        return RecordError("malformed JSON", "the JSON is nested too deeply")
    except json.JSONDecodeError as error:
        return RecordError(
            "malformed JSON", f"this is not valid JSON: {error.msg} (column {error.colno})"
        )
    except ValueError as error:  # a number of thousands of digits
        return RecordError("malformed JSON", f"this is not valid JSON: {error}")


def _whole(file: Path) -> list[Any] | None:
    """The records of a JSON file; None if it holds JSON lines under another name."""
    with open_lines(file) as stream:
        data = stream.read()
    first = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if first == b"{" and len(data.split(b"\n", 2)) > 1:
        head = data.split(b"\n", 1)[0]
        if not isinstance(_value(head, False), RecordError):
            return None
    if not data.strip():
        return []
    value = _value(data, False)
    if isinstance(value, RecordError):
        return [_in_whole(value, data)]
    return value if isinstance(value, list) else [value]


def _in_whole(error: RecordError, data: bytes) -> RecordError:
    """The error of a JSON file, with the line that it is in."""
    try:
        json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as wrong:
        message = f"line {wrong.lineno}: this is not valid JSON: {wrong.msg} (column {wrong.colno})"
        return RecordError(error.reason, message)
    except (ValueError, RecursionError):
        pass
    return error

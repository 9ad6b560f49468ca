"""From records to rows: reasoning kept or not, evaluation texts out, one side chosen, packed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lilith.config import nearest
from lilith.data.chat import ConversationError, Rendered, check_conversation, render_conversation
from lilith.data.chat_readers import ON_ERROR, ConversationReader, ConversationRecord
from lilith.data.chat_reasoning import REASONING_FIELDS, with_reasoning, without_reasoning
from lilith.data.chat_report import ChatReport, RecordError
from lilith.data.chat_rows import ChatCorpus, pack_conversations
from lilith.data.decontamination import Decontamination, strings
from lilith.data.gather import content_digest, is_held_out
from lilith.data.report import DataError
from lilith.tokenizer import Tokenizer, TokenizerError
from lilith.tokenizer.chat_template import ChatTemplate, ChatTemplateError

TOO_LONG = ("drop", "truncate")
LONGER_THAN_A_ROW = "longer than a row"  # a reason that is counted, whatever on_error says


def prepare_chats(
    records: Iterable[ConversationRecord],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    length: int,
    too_long: str = "drop",
    chain_of_thought: bool = True,
    decontaminate: Decontamination | None = None,
    validation_fraction: float = 0.0,
    seed: int = 0,
    on_error: str = "stop",
    report: ChatReport | None = None,
) -> ChatCorpus:
    """Render conversations, leave out what must not be trained on, split, and pack.

    Args:
      records: from :func:`lilith.data.chat_readers.read_conversations`, or made elsewhere.
      length: tokens a row. A conversation may have one more, since the last is only a target.
      too_long: what becomes of a longer one: "drop" it, or "truncate" it after the last answer
        that fits (dropped where none does). Both are counted.
      chain_of_thought: whether reasoning is learnt or left out; see
        :mod:`lilith.data.chat_reasoning`.
      decontaminate: the evaluation texts that no conversation may overlap with.
      validation_fraction: share of conversations held out, chosen by a hash of their content, so
        that neither their order nor the others matter.
      seed: of the training rows' order.
      on_error: "stop" at the first conversation that can not be rendered, or "skip" and count it.
      report: what to count in; None: the reader's own, where ``records`` is one.

    Raises:
      DataError: a conversation can not be used (on_error "stop"), nothing is left to train on, or
        an argument has no such value.
    """
    check_choice("too_long", too_long, TOO_LONG)
    check_arguments(length, on_error, validation_fraction)
    if report is None:
        report = records.report if isinstance(records, ConversationReader) else ChatReport()
    rendering = _Rendering(tokenizer, template, length, too_long, chain_of_thought, report)
    train, validation = _Side(), dict[str, _Side]()
    for number, record in enumerate(records, 1):
        if not record.where:
            record = replace(record, where=f"conversation {number}")
        if decontaminate and is_contaminated(record, decontaminate, report):
            continue
        try:
            rendered = rendering.rendered(record)
        except RecordError as error:
            if on_error == "stop" and error.reason != LONGER_THAN_A_ROW:
                raise
            report.skip(error.reason, str(error))
            continue
        if is_held_out(conversation_digest(record.messages), validation_fraction):
            validation.setdefault(_domain(record), _Side()).add(record, rendered)
        else:
            train.add(record, rendered)
    return _packed(tokenizer, train, validation, report, length, seed)


@dataclass
class _Side:
    """Conversations of one side of the split."""

    chats: list[Rendered] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    domains: dict[str, int] = field(default_factory=dict)

    def add(self, record: ConversationRecord, rendered: Rendered) -> None:
        self.chats.append(rendered)
        self.names.append(record.where)
        domain = _domain(record)
        self.domains[domain] = self.domains.get(domain, 0) + 1


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise :class:`DataError` unless the argument ``name`` has one of the known values."""
    if value not in known:
        raise DataError(
            f"{name} is {value!r}{nearest(str(value), known)}; known: {', '.join(known)}"
        )


def check_arguments(length: int, on_error: str, fraction: float) -> None:
    """Raise :class:`DataError` for what no preparation can do."""
    check_choice("on_error", on_error, ON_ERROR)
    if length < 1:
        raise DataError(f"length is {length}; a row needs at least one token")
    if not 0 <= fraction < 1:
        raise DataError(f"validation_fraction is {fraction}; it must be at least 0 and below 1")


@contextlib.contextmanager
def errors_named(where: str) -> Iterator[None]:
    """What goes wrong in rendering a conversation, as a :class:`RecordError` that names it."""
    try:
        yield
    except ConversationError as error:
        raise RecordError(error.reason, f"{where}: {error}") from None
    except ChatTemplateError as error:
        raise RecordError("not renderable", f"{where}: {error}") from None
    except TokenizerError as error:
        raise RecordError("not encodable", f"{where}: {error}") from None


@dataclass(frozen=True)
class _Rendering:
    """How records become tokens; see :func:`prepare_chats`."""

    tokenizer: Tokenizer
    template: ChatTemplate
    length: int
    too_long: str
    chain_of_thought: bool
    report: ChatReport

    def rendered(self, record: ConversationRecord) -> Rendered:
        """The conversation as tokens that fit a row; RecordError where there are none."""
        with errors_named(record.where):
            check_conversation(record.messages)
            if self.chain_of_thought:
                messages = with_reasoning(record.messages, record.metadata)
            else:
                messages = without_reasoning(record.messages)
            whole = self._render(messages, record)
            fitting = whole if self._fits(whole) else self._shortened(messages, whole, record)
        if fitting is None:
            raise RecordError(
                LONGER_THAN_A_ROW,
                f"{record.where}: {len(whole.ids):,} tokens, and a row has room for "
                f"{self.length + 1:,}",
            )
        return fitting

    def _render(self, messages: list[dict[str, Any]], record: ConversationRecord) -> Rendered:
        return render_conversation(messages, self.tokenizer, self.template, tools=record.tools)

    def _fits(self, rendered: Rendered) -> bool:
        return len(rendered.ids) <= self.length + 1

    def _shortened(
        self, messages: list[dict[str, Any]], whole: Rendered, record: ConversationRecord
    ) -> Rendered | None:
        """The conversation up to the last answer with which it fits, if it may be cut."""
        if self.too_long == "truncate":
            for last, end in reversed(whole.turn_ends):
                if end > self.length + 1:
                    continue
                shorter = self._render(messages[: last + 1], record)
                if self._fits(shorter):  # with the white space that follows the turn's end
                    self.report.truncated += 1
                    return shorter
        return None


def is_contaminated(
    record: ConversationRecord, decontaminate: Decontamination, report: ChatReport
) -> bool:
    """Whether a conversation overlaps with an evaluation text; if so it is counted."""
    files = decontaminate.overlaps(_texts(record))
    for file in files:
        report.contaminated[file] = report.contaminated.get(file, 0) + 1
    if files:
        report.skip("overlaps with an evaluation file", f"{record.where} with {files[0]}")
    return bool(files)


def _packed(
    tokenizer: Tokenizer,
    train: _Side,
    validation: Mapping[str, _Side],
    report: ChatReport,
    length: int,
    seed: int,
) -> ChatCorpus:
    """Both sides as rows, and the report's figures of them."""
    held_out_count = sum(len(side.chats) for side in validation.values())
    left_out = sum(report.skipped.values())
    # A reader has counted what it read; records from elsewhere are counted here.
    report.read = max(report.read, len(train.chats) + held_out_count + left_out)
    if not train.chats:
        raise DataError(
            f"none of {report.read:,} conversations is left to train on: {held_out_count:,} are "
            f"held out, {left_out:,} left out; " + "; ".join(report.lines()[1:])
        )
    pad = tokenizer.pad_id
    rows = pack_conversations(train.chats, length, pad, train.names)
    held_out = {
        domain: pack_conversations(side.chats, length, pad, side.names)
        for domain, side in sorted(validation.items())
    }
    report.train, report.train_domains = len(train.chats), train.domains
    report.validation = {domain: len(side.chats) for domain, side in sorted(validation.items())}
    report.rows, report.tokens, report.length = len(rows), rows.tokens, length
    report.trained_tokens = rows.trained_tokens
    return ChatCorpus(tokenizer, rows, held_out, report, seed)


def _domain(record: ConversationRecord) -> str:
    return str(record.metadata.get("domain") or "all")


def conversation_digest(messages: Iterable[Mapping[str, Any]]) -> bytes:
    """Hash of what a conversation says, whatever else its messages carry."""
    said = [[m.get("role"), m.get("content"), m.get("tool_calls")] for m in messages]
    return content_digest(json.dumps(said, sort_keys=True))


def _texts(record: ConversationRecord) -> list[str]:
    """All texts of a conversation: contents, reasoning, arguments of tool calls."""
    texts = []
    for fields in (*record.messages, record.metadata):
        for name in ("content", *REASONING_FIELDS):
            if isinstance(fields.get(name), str):
                texts.append(fields[name])
        if fields.get("tool_calls"):
            texts += strings(fields["tool_calls"])
    return texts

"""Preferences: two conversations with a shared beginning, of which one is the better.

A record is one of :mod:`lilith.data.chat_readers` with a ``rejected`` side in its metadata; its
``margin`` and ``label`` are read from there too. Learnt are the answers that follow the messages
that both sides share, and a side ends where its last answer's turn does, as an answer that a model
samples ends: white space that a template writes after that is left off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lilith.data.chat import Rendered, render_conversation
from lilith.data.chat_prepare import (
    LONGER_THAN_A_ROW,
    check_arguments,
    conversation_digest,
    errors_named,
    is_contaminated,
)
from lilith.data.chat_readers import ConversationReader, ConversationRecord
from lilith.data.chat_report import ChatReport, RecordError
from lilith.data.chat_shapes import rejected_side
from lilith.data.decontamination import Decontamination
from lilith.data.gather import is_held_out
from lilith.data.pairs import Pair, PairCorpus, PairReport, PairRows
from lilith.data.report import DataError
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import ChatTemplate

Message = Mapping[str, Any]


def prepare_pairs(
    records: Iterable[ConversationRecord],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    length: int,
    on_error: str = "stop",
    validation_fraction: float = 0.0,
    seed: int = 0,
    decontaminate: Decontamination | None = None,
    report: ChatReport | None = None,
) -> PairCorpus:
    """Render both sides of each record, leave out what must not be trained on, and split.

    Args:
      records: from :func:`lilith.data.chat_readers.read_conversations`, or made elsewhere:
        ``messages`` end with the chosen answer, ``metadata["rejected"]`` is the other side as
        :func:`lilith.data.chat_shapes.rejected_side` takes it. ``metadata["label"]`` is the
        probability that the chosen side is the better (default 1), ``metadata["margin"]`` by how
        much (0 or more, default 0).
      length: inputs of a row. A pair with a side of more than ``length + 1`` tokens is left out
        and counted, whatever ``on_error``.
      on_error: "stop" at the first pair that can not be used, or "skip" and count it: no rejected
        side, equal sides, a side without an answer, different prompts, a margin or label that is
        no number in its range, or what can not be rendered.
      validation_fraction: share of pairs held out, chosen by a hash of the messages that both
        sides share, so that all pairs of one prompt are on one side.
      seed: of the training pairs' order.
      decontaminate: the evaluation texts that neither side may overlap with.
      report: what to count in; None: the reader's own, where ``records`` is one.

    Raises:
      DataError: a pair can not be used (on_error "stop"), nothing is left to train on, or an
        argument has no such value.
    """
    check_arguments(length, on_error, validation_fraction)
    if report is None:
        report = records.report if isinstance(records, ConversationReader) else PairReport()
    rendering = _Rendering(tokenizer, template, length)
    split = _Split()
    for number, record in enumerate(records, 1):
        if not record.where:
            record = replace(record, where=f"pair {number}")
        try:
            sides = _Sides.of(record)
            if decontaminate and is_contaminated(sides.texts(), decontaminate, report):
                continue
            pair = rendering.rendered(sides)
        except RecordError as error:
            if on_error == "stop" and error.reason != LONGER_THAN_A_ROW:
                raise
            report.skip(error.reason, str(error))
            continue
        digest = conversation_digest(record.messages[: sides.shared])
        split.add(_domain(record), pair, is_held_out(digest, validation_fraction))
    return split.corpus(tokenizer, report, length, seed)


@dataclass
class _Split:
    """Pairs to train on and pairs held out, by domain."""

    train: dict[str, list[Pair]] = field(default_factory=dict)
    validation: dict[str, list[Pair]] = field(default_factory=dict)

    def add(self, domain: str, pair: Pair, held_out: bool) -> None:
        side = self.validation if held_out else self.train
        side.setdefault(domain, []).append(pair)

    def corpus(
        self, tokenizer: Tokenizer, report: ChatReport, length: int, seed: int
    ) -> PairCorpus:
        """Both sides as rows, and the report's figures of them."""
        train = list(itertools.chain.from_iterable(self.train.values()))
        held_out_count = sum(map(len, self.validation.values()))
        left_out = sum(report.skipped.values())
        # A reader has counted what it read; records from elsewhere are counted here.
        report.read = max(report.read, len(train) + held_out_count + left_out)
        if not train:
            raise DataError(
                f"none of {report.read:,} pairs is left to train on: {held_out_count:,} are held "
                f"out, {left_out:,} left out; " + "; ".join(report.lines()[1:])
            )
        rows = PairRows(train, length)
        held_out = {
            domain: PairRows(pairs, length) for domain, pairs in sorted(self.validation.items())
        }
        report.train = len(train)
        report.train_domains = {domain: len(pairs) for domain, pairs in self.train.items()}
        report.validation = {domain: len(pairs) for domain, pairs in held_out.items()}
        report.rows, report.tokens, report.length = 2 * len(rows), rows.tokens, length
        report.trained_tokens = rows.trained_tokens
        return PairCorpus(tokenizer, rows, held_out, report, seed)


@dataclass(frozen=True)
class _Sides:
    """A record's two conversations, checked against each other.

    Attributes:
      shared: how many messages both begin with.
    """

    record: ConversationRecord
    rejected: list[dict[str, Any]]
    shared: int
    label: float
    margin: float

    @classmethod
    def of(cls, record: ConversationRecord) -> _Sides:
        """The sides of a record; RecordError, with its place, where they make no pair."""
        try:
            chosen, other = record.messages, record.metadata.get("rejected")
            if other is None:
                raise RecordError(
                    "no rejected side",
                    "the record has no field 'rejected'; a preference needs both sides",
                )
            rejected = rejected_side(chosen, other)
            _check_answer(chosen, "chosen")
            _check_answer(rejected, "rejected")
            shared = _shared(chosen, rejected)
            label = _number(record, "label", 1.0, 1.0, "a probability, from 0 to 1")
            margin = _number(record, "margin", 0.0, math.inf, "a number of 0 or more")
        except RecordError as error:
            raise RecordError(error.reason, f"{record.where}: {error}") from None
        return cls(record, rejected, shared, label, margin)

    def texts(self) -> ConversationRecord:
        """A record that says all that either side says, once."""
        return replace(self.record, messages=[*self.record.messages, *self.rejected[self.shared :]])


@dataclass(frozen=True)
class _Rendering:
    """How pairs become tokens; see :func:`prepare_pairs`."""

    tokenizer: Tokenizer
    template: ChatTemplate
    length: int

    def rendered(self, sides: _Sides) -> Pair:
        """Both sides as tokens that fit a row; RecordError where there are none."""
        record = sides.record
        chosen = self._side(record.messages, sides)
        rejected = self._side(sides.rejected, sides)
        if np.array_equal(chosen.ids, rejected.ids):
            raise _equal_sides(f"{record.where}: both sides become the same tokens")
        longest = max(len(chosen.ids), len(rejected.ids))
        if longest > self.length + 1:
            raise RecordError(
                LONGER_THAN_A_ROW,
                f"{record.where}: a side of {longest:,} tokens, and a row has room for "
                f"{self.length + 1:,}",
            )
        return Pair(chosen, rejected, sides.label, sides.margin)

    def _side(self, messages: Sequence[Message], sides: _Sides) -> Rendered:
        """A side up to the end of its last answer; learnt is what follows the shared messages."""
        with errors_named(sides.record.where):
            whole = render_conversation(
                messages, self.tokenizer, self.template, tools=sides.record.tools
            )
        end = whole.turn_ends[-1][1]
        shared = max((end for i, end in whole.turn_ends if i < sides.shared), default=0)
        mask = whole.mask[:end] & (np.arange(end) >= shared)
        mask[0] = False  # nothing comes before a first token to predict it from
        return Rendered(whole.ids[:end], mask, whole.turn_ends)


def _check_answer(messages: Sequence[Message], name: str) -> None:
    """Raise unless a side ends with an assistant's answer."""
    last: Message = messages[-1] if messages else {"role": "nobody"}
    answers = (last.get("content") or "").strip() or last.get("tool_calls")
    if last["role"] != "assistant" or not answers:
        what = "an empty answer" if last["role"] == "assistant" else f"a message of {last['role']}"
        raise RecordError(
            "no answer", f"the {name} side ends with {what}; it must end with an answer to compare"
        )


def _shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """How many messages both sides begin with; an answer of each must follow."""
    said = [
        [(m["role"], m.get("content"), m.get("tool_calls")) for m in side]
        for side in (chosen, rejected)
    ]
    if said[0] == said[1]:
        raise _equal_sides("the chosen and the rejected side say the same")
    least = min(map(len, said))
    shared = next((i for i in range(least) if said[0][i] != said[1][i]), least)
    if shared == least or not chosen[shared]["role"] == rejected[shared]["role"] == "assistant":
        raise RecordError(
            "different prompts",
            f"the two sides part at messages[{shared}], which is not an answer of both; they must "
            "have one prompt",
        )
    return shared


def _equal_sides(message: str) -> RecordError:
    return RecordError("equal sides", f"{message}; such a pair prefers nothing")


def _number(
    record: ConversationRecord, name: str, default: float, most: float, expected: str
) -> float:
    """A figure of the record from 0 to ``most``; the default where it has none."""
    value = record.metadata.get(name)
    if value is None:
        return default
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (0 <= value <= most and math.isfinite(value)):
        raise RecordError(f"{name} out of range", f"{name} is {value!r}; expected {expected}")
    return float(value)


def _domain(record: ConversationRecord) -> str:
    """The name under which a pair is counted and judged."""
    return str(record.metadata.get("domain") or record.metadata.get("subset") or "all")

"""Prompts that a policy answers: the beginnings of conversations, as token ids, in seeded order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lilith.data.chat import prompt_ids
from lilith.data.chat_prepare import (
    check_choice,
    conversation_digest,
    errors_named,
    is_contaminated,
)
from lilith.data.chat_readers import ON_ERROR, ConversationReader, ConversationRecord
from lilith.data.chat_report import ChatReport, RecordError
from lilith.data.decontamination import Decontamination
from lilith.data.gather import is_held_out
from lilith.data.report import DataError
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import ChatTemplate

ANSWERED = ("first", "last")  # which answer of a conversation the policy gives instead


@dataclass(frozen=True)
class ChatPrompt:
    """What a policy answers.

    Attributes:
      ids: token ids, with what begins an answer.
      messages: the same as messages; tools: described to the policy, or None.
      check: what the record says that an answer can be verified against.
      domain: the record's, "all" where it has none.
      where: file and line.
    """

    ids: tuple[int, ...]
    messages: tuple[Mapping[str, Any], ...]
    tools: Sequence[Mapping[str, Any]] | None = None
    check: Mapping[str, Any] = field(default_factory=dict)
    domain: str = "all"
    where: str = ""


@dataclass(frozen=True)
class PromptSet:
    """Prompts to learn from and prompts held out.

    Attributes:
      train: in the order of their files; :meth:`order` shuffles them.
      held_out: never trained on.
      report: what was kept and left out.
    """

    train: tuple[ChatPrompt, ...]
    held_out: tuple[ChatPrompt, ...]
    report: ChatReport

    def order(self, seed: int, start: int, count: int) -> list[int]:
        """Numbers of ``count`` training prompts from position ``start`` of an endless order.

        Every prompt comes once in each pass, and each pass is shuffled anew by seed and pass, so
        that a position alone tells what comes next.
        """
        size = len(self.train)
        found: list[int] = []
        while len(found) < count:
            turn, at = divmod(start + len(found), size)
            shuffled = np.random.default_rng([seed, turn]).permutation(size)
            found += shuffled[at : at + count - len(found)].tolist()
        return found


def prepare_prompts(
    records: Iterable[ConversationRecord],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    longest: int,
    answered: str = "first",
    on_error: str = "stop",
    validation_fraction: float = 0.0,
    decontaminate: Decontamination | None = None,
    report: ChatReport | None = None,
) -> PromptSet:
    """The prompts of conversations: all before their first answer, or before their last.

    Args:
      longest: tokens that a prompt may have: the context less room for an answer. Longer ones are
        left out and counted.
      answered: "first" or "last": which answer the policy gives instead.
      on_error: "stop" at the first record that has no prompt, or "skip" and count it.
      validation_fraction: share held out, by a hash of the prompt's content.

    Raises:
      DataError: a record can not be used (on_error "stop"), nothing is left to train on, or an
        argument has no such value.
    """
    check_choice("answered", answered, ANSWERED)
    check_choice("on_error", on_error, ON_ERROR)
    if longest < 1:
        raise DataError(
            f"prompts may have {longest} tokens: the context has no room for them beside the "
            "answers; allow shorter answers"
        )
    if report is None:
        report = records.report if isinstance(records, ConversationReader) else ChatReport()
    sides: tuple[list[ChatPrompt], list[ChatPrompt]] = ([], [])
    for record in records:
        if decontaminate is not None and is_contaminated(record, decontaminate, report):
            continue
        try:
            prompt = _prompt(record, tokenizer, template, answered, longest)
        except RecordError as error:
            if on_error == "stop" and error.reason != _LONG:
                raise
            report.skip(error.reason, str(error))
            continue
        held_out = is_held_out(conversation_digest(prompt.messages), validation_fraction)
        sides[held_out].append(prompt)
    train, held = sides
    report.read = max(report.read, len(train) + len(held) + sum(report.skipped.values()))
    if not train:
        raise DataError(
            f"none of {report.read:,} conversations gives a prompt to train on: {len(held):,} are "
            f"held out; {'; '.join(report.lines()[1:]) or 'the files hold no others'}"
        )
    report.train, report.validation = len(train), {"all": len(held)} if held else {}
    return PromptSet(tuple(train), tuple(held), report)


_LONG = "prompt longer than the context less an answer"


def _prompt(
    record: ConversationRecord,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    answered: str,
    longest: int,
) -> ChatPrompt:
    roles = [message["role"] for message in record.messages]
    answers = [i for i, role in enumerate(roles) if role == "assistant"]
    end = len(roles) if not answers else answers[0] if answered == "first" else answers[-1]
    before = record.messages[:end]
    if not before or before[-1]["role"] not in ("user", "tool"):
        raise RecordError(
            "no prompt",
            f"{record.where}: nothing that a user or a tool says comes before the answer; prompts "
            "need a message of role user",
        )
    with errors_named(record.where):
        ids = prompt_ids(before, tokenizer, template, tools=record.tools)
    if len(ids) > longest:
        raise RecordError(
            _LONG, f"{record.where}: {len(ids):,} tokens, and there is room for {longest:,}"
        )
    check = record.metadata.get("check")
    return ChatPrompt(
        tuple(ids), tuple(before), record.tools, check if isinstance(check, Mapping) else {},
        str(record.metadata.get("domain") or "all"), record.where,
    )  # fmt: skip
